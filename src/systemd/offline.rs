//! A host root whose systemd is not running, as in an image build: `--root DIR`.

mod files;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::exec::{self, Program};
use crate::hint::Hinted;
use crate::name::UnitName;
use crate::root::{Kind, Root};
use crate::systemd::links::{self, LINKS};
use crate::systemd::wiring::Wiring;
use crate::systemd::{OLDEST, Relations, Systemd, UnitState};

/// Where systemd looks for unit files, strongest first, systemd.unit(5).
const UNIT_DIRS: [&str; 6] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/etc/systemd/system.attached",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// The unit files below a root, without a manager.
#[derive(Debug)]
pub struct Offline<'a> {
    root: &'a Root,
    version: u32,
}

impl<'a> Offline<'a> {
    /// The root's systemd. Its version is read from the name of its shared library; a root without one (systemd
    /// is installed later) is taken for the oldest supported, whose units every newer one understands.
    pub fn new(root: &'a Root) -> Result<Self> {
        Ok(Self {
            root,
            version: version(root)?.unwrap_or(OLDEST),
        })
    }

    /// Whether a link of an `[Install]` section leads to the unit: one in a directory of another unit's wants, or
    /// an alias.
    fn is_linked(&self, unit: &UnitName) -> Result<bool> {
        if !links::wanting(self.root, unit)?.is_empty() {
            return Ok(true);
        }
        for entry in self.root.list(LINKS)? {
            let alias = self.root.link_target(Path::new(LINKS).join(entry))?;
            if alias.is_some_and(|target| target.file_name() == Some(unit.as_str().as_ref())) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn systemctl(&self, verb: &str, units: &[UnitName]) -> Result<()> {
        let mut option = std::ffi::OsString::from("--root=");
        option.push(self.root.outside("/"));
        let done = Program::new("systemctl")
            .arg(option)
            .args(["--quiet", verb])
            .args(units.iter().map(UnitName::as_str))
            .run()
            .map(drop);
        if exec::find("systemctl").is_some() {
            return done;
        }
        done.hint("`--root` needs the `systemctl` of this machine: `apt-get install systemd`")
    }
}

impl Systemd for Offline<'_> {
    fn version(&self) -> u32 {
        self.version
    }

    fn is_running(&self) -> bool {
        false
    }

    fn reload(&self) -> Result<()> {
        Ok(())
    }

    fn enable(&self, units: &[UnitName]) -> Result<()> {
        self.systemctl("enable", units)
            .with_context(|| format!("enabling {}", names(units)))
    }

    fn disable(&self, units: &[UnitName]) -> Result<()> {
        self.systemctl("disable", units)
            .with_context(|| format!("disabling {}", names(units)))
    }

    fn start(&self, unit: &UnitName) -> Result<()> {
        bail!("starting {unit}: the systemd of a `--root` directory is not running")
    }

    fn stop(&self, _unit: &UnitName) -> Result<()> {
        Ok(())
    }

    fn state(&self, unit: &UnitName) -> Result<UnitState> {
        for dir in UNIT_DIRS {
            let path = format!("{dir}/{unit}");
            let Some(kind) = self.root.kind(&path)? else {
                continue;
            };
            let masked = kind == Kind::Link
                && self.root.link_target(&path)?.as_deref() == Some("/dev/null".as_ref());
            return Ok(UnitState {
                load: if masked { "masked" } else { "loaded" }.to_owned(),
                file: if self.is_linked(unit)? {
                    "enabled"
                } else {
                    "disabled"
                }
                .to_owned(),
                fragment: path,
                active: "inactive".to_owned(),
                ..UnitState::default()
            });
        }
        Ok(UnitState {
            load: "not-found".to_owned(),
            active: "inactive".to_owned(),
            ..UnitState::default()
        })
    }

    fn account(&self, _unit: &UnitName) -> String {
        String::new()
    }

    fn relations(&self, _unit: &UnitName) -> Result<Relations> {
        Ok(Relations::default())
    }

    fn wiring(&self, unit: &UnitName) -> Result<Wiring> {
        files::wiring(self.root, unit)
    }
}

fn names(units: &[UnitName]) -> String {
    let names: Vec<&str> = units.iter().map(UnitName::as_str).collect();
    names.join(", ")
}

/// The version of a root's systemd. Debian has its library in a directory of the architecture.
fn version(root: &Root) -> Result<Option<u32>> {
    let mut dirs = vec![PathBuf::from("/usr/lib/systemd"), "/lib/systemd".into()];
    for name in root.list("/usr/lib")? {
        if name.to_string_lossy().contains("-linux-") {
            dirs.push(Path::new("/usr/lib").join(name).join("systemd"));
        }
    }
    for dir in dirs {
        let names = root.list(dir)?;
        let mut versions = names
            .iter()
            .filter_map(|name| library_version(name.to_str()?));
        if let Some(found) = versions.next() {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The version in `libsystemd-shared-257.so` or `libsystemd-core-252.so`.
fn library_version(name: &str) -> Option<u32> {
    let rest = name
        .strip_prefix("libsystemd-shared-")
        .or_else(|| name.strip_prefix("libsystemd-core-"))?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_librarys() {
        assert_eq!(library_version("libsystemd-shared-257.so"), Some(257));
        assert_eq!(
            library_version("libsystemd-core-252.39-1~deb12u2.so"),
            Some(252)
        );
        assert_eq!(library_version("libsystemd.so.0"), None);
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert_eq!(version(&root).unwrap(), None);
        for (place, number) in [("x86_64-linux-gnu/systemd", 257), ("systemd", 256)] {
            let place = Path::new("/usr/lib").join(place);
            root.create_dir_all(&place, 0o755).unwrap();
            let library = place.join(format!("libsystemd-shared-{number}.so"));
            root.replace(library, b"", 0o644).unwrap();
            assert_eq!(version(&root).unwrap(), Some(number));
        }
    }
}
