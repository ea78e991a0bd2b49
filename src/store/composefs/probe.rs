//! What this host can do, found by doing it: an image of one file, mounted as the units will mount it and read.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use serde::Serialize;
use tempfile::TempDir;

use crate::exec::Program;
use crate::hint::Hinted;
use crate::root::Root;
use crate::store::composefs::{Protection, erofs, mount_options, tree, verity};
use crate::store::object::{Kind, relative_path};
use crate::store::settings::Integrity;

/// The content of the file that is read, and the object that it is: any name will do.
const CONTENT: &str = "bedplate tries what this host can do\n";
const OBJECT: &str = "0000";

/// Mounts end with the mount namespace, however this ends. mount(8) is what systemd runs for a mount unit.
const TRY: &str = r#"
set -e
echo "an EROFS image cannot be mounted"
mount -t erofs -o ro,nodev "$1/tree.erofs" "$1/tree"
echo "overlayfs cannot join an image with the store's files"
mount -t overlay -o "$2" bedplate "$1/rootfs"
echo "a file behind overlayfs cannot be read"
cat "$1/rootfs/file"
"#;

/// What the host can do, and why not more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Whether it could be tried: only on the running host.
    pub tried: bool,
    /// The strongest protection that works.
    pub strongest: Protection,
    /// Why each stronger one does not, the weakest first.
    pub reasons: Vec<Reason>,
}

/// Why a protection does not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// The protection.
    pub protection: Protection,
    /// What is in the way.
    pub reason: String,
    /// What helps, if something does.
    pub remedy: Option<String>,
}

impl Findings {
    /// Tries what the host can do, in a directory below `parent`, which must lie on the repository's file system.
    pub fn of(root: &Root, parent: &Path) -> Result<Self> {
        let mut findings = Self {
            tried: root.is_host(),
            strongest: Protection::None,
            reasons: Vec::new(),
        };
        for protection in [Protection::Composefs, Protection::Verity] {
            match why_not(root, parent, protection)? {
                None => findings.strongest = protection,
                Some((reason, remedy)) => {
                    findings.reasons.push(Reason {
                        protection,
                        reason,
                        remedy: remedy.map(str::to_owned),
                    });
                    break;
                }
            }
        }
        Ok(findings)
    }

    /// The protection that the setting means here; one that does not work is refused. What could not be tried is
    /// taken by its word, and never by `auto`.
    pub fn choose(&self, wanted: Integrity) -> Result<Protection> {
        let wanted = match wanted {
            Integrity::Auto => return Ok(self.strongest),
            Integrity::None => Protection::None,
            Integrity::Composefs => Protection::Composefs,
            Integrity::Verity => Protection::Verity,
        };
        let known = self.reasons.iter().filter(|_| self.tried);
        let in_the_way = { known }.find(|r| r.protection <= wanted);
        let Some(Reason { reason, remedy, .. }) = in_the_way else {
            return Ok(wanted);
        };
        let remedy = remedy.as_deref().map(|r| format!("{r}; or "));
        Err(anyhow!(
            "`integrity = \"{wanted}\"` does not work on this host: {reason}"
        ))
        .hint(format!(
            "{}set `integrity = \"auto\"` in `[store]` of bedplate.toml, which takes what works",
            remedy.unwrap_or_default()
        ))
    }

    /// Why there is no more than the strongest, a line each.
    pub fn lines(&self) -> Vec<String> {
        self.reasons
            .iter()
            .map(|r| format!("no {}: {}", r.protection, r.reason))
            .collect()
    }
}

type Hindrance = (String, Option<&'static str>);

/// What is in the way of a protection; `None` when it works.
fn why_not(root: &Root, parent: &Path, protection: Protection) -> Result<Option<Hindrance>> {
    if !root.is_host() {
        let reason = "what a `--root` directory's kernel will do cannot be tried";
        return Ok(Some((reason.to_owned(), None)));
    }
    let place = Path::new("/var/lib/bedplate/containers/x");
    if root.real(place)? != place {
        let reason = "`/var/lib/bedplate` is reached through a symbolic link, and systemd mounts nothing below one";
        return Ok(Some((
            reason.to_owned(),
            Some("bind-mount it there instead"),
        )));
    }
    let trying = || format!("trying `{protection}` below `{}`", parent.display());
    let dir = tempfile::Builder::new()
        .prefix(".try-")
        .tempdir_in(parent)
        .with_context(trying)?;
    if let Some(hindrance) = prepare(&dir, protection).with_context(trying)? {
        return Ok(Some(hindrance));
    }
    let at = dir.path();
    let options = mount_options(
        &at.join("tree"),
        &at.join("objects"),
        protection == Protection::Verity,
    );
    let output = Program::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            "--",
            "sh",
            "-c",
            TRY,
            "sh",
        ])
        .arg(at)
        .arg(options)
        .output()
        .with_context(trying)?;
    if output.success && output.stdout.ends_with(CONTENT) {
        return Ok(None);
    }
    let step = output
        .stdout
        .lines()
        .last()
        .unwrap_or("nothing can be mounted");
    let said = output.stderr.replace(&format!("{}/", at.display()), "");
    let said = said.lines().next().unwrap_or("no reason was given").trim();
    let remedy = "Linux 6.12 or later does it, with the modules `erofs` and `overlay`";
    Ok(Some((format!("{step}: {said}"), Some(remedy))))
}

/// Lays out what is mounted.
fn prepare(dir: &TempDir, protection: Protection) -> Result<Option<Hindrance>> {
    let root = Root::open(dir.path())?;
    let object = Path::new("/objects").join(relative_path(OBJECT, Kind::File));
    for place in ["/tree", "/rootfs", "/objects/00"] {
        root.create_dir_all(place, 0o755)?;
    }
    root.replace(&object, CONTENT.as_bytes(), 0o644)?;
    let digest = match protection {
        Protection::Verity => match verity::seal(&root.outside(&object)) {
            Ok(digest) => Some(digest),
            Err(error) => {
                let reason = format!("{}", error.root_cause());
                let remedy = "for ext4 `tune2fs -O verity DEVICE` does it; btrfs has it; the kernel needs CONFIG_FS_VERITY";
                return Ok(Some((reason, Some(remedy))));
            }
        },
        _ => None,
    };
    let image = erofs::image(&tree::sample(OBJECT, CONTENT.len() as u64, digest)?)?;
    root.replace("/tree.erofs", &image, 0o644)?;
    if protection == Protection::Verity {
        verity::seal(&root.outside("/tree.erofs"))?;
    }
    Ok(None)
}
