//! Where the files of what is checked are looked at.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use tempfile::TempDir;

use crate::config;
use crate::hint::Hinted;
use crate::image::platform::Platform;
use crate::name::ContainerName;
use crate::ops::Host;
use crate::ops::fetching::{self, Pull};
use crate::ops::images::Wanted;
use crate::ops::lint::{Request, Subject};
use crate::render::users::Users;
use crate::root::{self, Root};
use crate::store::{Store, StoredImage};

/// The id of a user of whom only the name is known.
pub(super) const NAMELESS: u32 = 1000;

/// The command of an image of which only the contract is known.
pub(super) const COMMAND: &str = "the-command-of-the-image";

/// What is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An image.
    Image,
    /// The root file system of one, unpacked.
    Rootfs,
    /// A directory with `exports/` in it, from which an image is built.
    Context,
    /// The `/exports` of an image.
    Exports,
}

/// What is checked, at hand.
pub(super) struct Opened {
    pub(super) kind: Kind,
    /// What a container of it would be called.
    pub(super) name: ContainerName,
    /// The image; of a directory, what stands for it.
    pub(super) image: StoredImage,
    files: Files,
    /// Holds the store that was made for this; gone when dropped.
    _scratch: Option<TempDir>,
}

enum Files {
    /// The directory that `/exports` lies in.
    Dir(Root, PathBuf),
    /// `/exports` and the users of an image, and where the rest is.
    Stored(TempDir, Box<Store>),
}

impl Opened {
    pub(super) fn open(host: &Host, request: &Request) -> Result<Self> {
        let checking = || format!("checking `{}`", request.subject);
        match &request.subject {
            Subject::Dir(dir) => directory(dir),
            Subject::Image(wanted) => image(host, request, wanted),
        }
        .with_context(checking)
    }

    /// The directory in which `exports/` lies.
    pub(super) fn exports(&self) -> &Path {
        match &self.files {
            Files::Dir(_, path) => path,
            Files::Stored(sketch, _) => sketch.path(),
        }
    }

    /// Of an image.
    pub(super) fn digest(&self) -> Option<String> {
        let is_image = self.kind == Kind::Image;
        is_image.then(|| self.image.manifest_digest.to_string())
    }

    /// The users, where `/etc/passwd` is known.
    pub(super) fn users(&self) -> Result<Option<Users>> {
        match self.kind {
            Kind::Context | Kind::Exports => Ok(None),
            Kind::Image | Kind::Rootfs => Users::read(self.exports()).map(Some),
        }
    }

    /// What lies at a path of the image and its permission bits; `None` when there is nothing.
    pub(super) fn leads_to(&self, path: &Path) -> Result<Option<(root::Kind, u32)>> {
        match &self.files {
            Files::Dir(root, _) => root.leads_to(path),
            Files::Stored(_, store) => store.leads_to(&self.image, path),
        }
    }

    /// Whether the files of the image are known.
    pub(super) fn has_files(&self) -> bool {
        matches!(self.kind, Kind::Image | Kind::Rootfs)
    }

    /// Where what the image says of itself stands.
    pub(super) fn config_file(&self) -> &'static str {
        match self.kind {
            Kind::Image => "the image's configuration",
            _ => crate::contract::survey::MANIFEST,
        }
    }
}

fn directory(given: &Path) -> Result<Opened> {
    let dir = given.canonicalize().context("looking for the directory")?;
    let is_exports = dir.file_name() == Some("exports".as_ref());
    let (kind, base) = if dir.join("exports").is_dir() {
        let is_rootfs = dir.join("usr").is_dir() || dir.join("etc/passwd").exists();
        let kind = if is_rootfs {
            Kind::Rootfs
        } else {
            Kind::Context
        };
        (kind, dir)
    } else if let (true, Some(above)) = (is_exports, dir.parent()) {
        (Kind::Exports, above.to_owned())
    } else if dir.join("oci-layout").exists() || dir.join("index.json").exists() {
        let layout: Result<_> = Err(anyhow!("it is an OCI layout, not the files of an image"));
        return layout.hint(format!("give it as `oci:{}:TAG`", given.display()));
    } else {
        let nothing: Result<_> = Err(anyhow!(
            "it has no directory `exports`, and is not called so"
        ));
        return nothing
            .hint("give the directory that an image is built from, or its unpacked root");
    };
    let name = base.file_name().and_then(|name| name.to_str());
    let name = name.and_then(|name| name.parse().ok());
    Ok(Opened {
        kind,
        name: match name {
            Some(name) => name,
            None => "container".parse()?,
        },
        image: unknown(&base)?,
        files: Files::Dir(Root::open(&base)?, base),
        _scratch: None,
    })
}

/// What stands for the image of a directory.
fn unknown(dir: &Path) -> Result<StoredImage> {
    let digest = format!("sha256:{}", "0".repeat(64));
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": { "Entrypoint": [COMMAND] },
        "rootfs": { "type": "layers", "diff_ids": [] },
    });
    // A path may hold what no reference may.
    let reference = format!("dir:{}", dir.display());
    Ok(StoredImage {
        reference: reference.parse().or_else(|_| "dir:/image".parse())?,
        index_digest: digest.parse()?,
        manifest_digest: digest.parse()?,
        platform: Platform::default(),
        config: serde_json::from_value(config).context("making a configuration")?,
        diff_ids: Vec::new(),
        commit: String::new(),
    })
}

/// An image of the store, or else of its source: then it is fetched into a store of its own, which goes at the end.
fn image(host: &Host, request: &Request, wanted: &Wanted) -> Result<Opened> {
    let config = config::load(host.root)?;
    let store = Store::existing(host.root, config.store)?;
    let found = wanted.find(store.as_ref());
    let (store, image, scratch) = match (found, store, wanted) {
        (Ok(image), Some(store), _) => (store, image, None),
        (_, _, Wanted::Image(reference)) => {
            let scratch = tempfile::Builder::new()
                .prefix("bedplate-lint-")
                .tempdir_in("/var/tmp")
                .context("making a directory for the image")?;
            let root = Root::open(scratch.path())?;
            let store = Store::open(&root, config.store)?;
            let alone = Host {
                root: &root,
                systemd: host.systemd,
                report: host.report,
            };
            let access = request.access.with_network(config.network);
            let found = fetching::find(&alone, &store, &access, reference, Pull::Always)?;
            let image = found.into_store(&alone, &store)?;
            (store, image, Some(scratch))
        }
        (found, None, _) => {
            return Err(found.err().unwrap_or_else(|| anyhow!("there is no store")));
        }
        (Err(error), _, Wanted::Digest(_)) => return Err(error),
    };
    let name = image.reference.suggested_name();
    let name = name.and_then(|name| name.parse().ok());
    Ok(Opened {
        kind: Kind::Image,
        name: match name {
            Some(name) => name,
            None => "container".parse()?,
        },
        files: Files::Stored(store.sketch(&image)?, Box::new(store)),
        image,
        _scratch: scratch,
    })
}
