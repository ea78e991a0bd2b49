//! The operator's settings, layered as the UAPI configuration files specification says.
//!
//! The main file is the first of `/etc/bedplate/bedplate.toml`, `/run/…`, `/usr/lib/…`; over it come the drop-ins
//! `bedplate.conf.d/*.conf` of all three, by file name; of equal names the first directory's counts, and one that is
//! a link to `/dev/null` masks the others. A later file's setting replaces an earlier one's.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::hint::Hinted;
use crate::image::settings::{Section as NetworkSection, Settings as Network};
use crate::order::HostRoles;
use crate::root::Root;
use crate::store::settings::{Section, Settings};

/// Where settings lie, strongest first.
const DIRS: [&str; 3] = ["/etc/bedplate", "/run/bedplate", "/usr/lib/bedplate"];
const FILE: &str = "bedplate.toml";
const DROP_INS: &str = "bedplate.conf.d";

/// Every setting.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// `[roles]`: units of this host that play a role, over the built-in table.
    pub roles: HostRoles,
    /// `[store]`: how images are kept.
    pub store: Settings,
    /// `[network]`: how images are fetched.
    pub network: Network,
}

/// One file of settings.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    roles: Option<HostRoles>,
    #[serde(default)]
    store: Section,
    #[serde(default)]
    network: NetworkSection,
}

/// Reads the settings of a host root.
pub fn load(root: &Root) -> Result<Config> {
    let mut config = Config::default();
    for path in files(root)? {
        let reading = || format!("reading `{}`", path.display());
        let text = root.read_text(&path)?.unwrap_or_default();
        let file: File = toml::from_str(&text).with_context(reading).hint(
            "correct that file; its sections are `[roles]`, `[store]` and `[network]`: see docs/configuration.md",
        )?;
        if let Some(roles) = file.roles {
            config.roles = config.roles.overridden_by(roles);
        }
        config.store = config.store.overridden_by(&file.store);
        config.network = config.network.overridden_by(&file.network);
    }
    Ok(config)
}

/// The files that count, weakest first.
fn files(root: &Root) -> Result<Vec<PathBuf>> {
    let mut main = None;
    let mut drop_ins: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for dir in DIRS.map(Path::new) {
        let path = dir.join(FILE);
        if main.is_none() && root.kind(&path)?.is_some() {
            main = Some(path);
        }
        for name in root.list(dir.join(DROP_INS))? {
            if Path::new(&name).extension().is_some_and(|e| e == "conf") {
                let path = dir.join(DROP_INS).join(&name);
                drop_ins.entry(name).or_insert(path);
            }
        }
    }
    let found = main.into_iter().chain(drop_ins.into_values());
    found
        .filter_map(|path| match root.link_target(&path) {
            Ok(target) if target.as_deref() == Some(Path::new("/dev/null")) => None,
            Ok(_) => Some(Ok(path)),
            Err(error) => Some(Err(error)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_layered() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert_eq!(load(&root).unwrap(), Config::default());
        for (path, text) in [
            ("/usr/lib/bedplate/bedplate.toml", "[roles]\ncri = []"),
            (
                "/etc/bedplate/bedplate.toml",
                "[roles]\ndns = [\"a.service\"]",
            ),
            (
                "/usr/lib/bedplate/bedplate.conf.d/10.conf",
                "[roles]\nx = [\"a.service\"]",
            ),
            (
                "/etc/bedplate/bedplate.conf.d/10.conf",
                "[roles]\nx = [\"b.service\"]",
            ),
            (
                "/usr/lib/bedplate/bedplate.conf.d/20.conf",
                "[roles]\nx = [\"c.service\"]",
            ),
        ] {
            root.create_dir_all(Path::new(path).parent().unwrap(), 0o755)
                .unwrap();
            root.replace(path, text.as_bytes(), 0o644).unwrap();
        }
        let expected =
            |text: &str| HostRoles::default().overridden_by(toml::from_str(text).unwrap());
        assert_eq!(
            load(&root).unwrap().roles,
            expected("dns = [\"a.service\"]\nx = [\"c.service\"]")
        );
        let mask = "/etc/bedplate/bedplate.conf.d/20.conf";
        root.point(mask, Path::new("/dev/null")).unwrap();
        assert_eq!(
            load(&root).unwrap().roles,
            expected("dns = [\"a.service\"]\nx = [\"b.service\"]")
        );
    }

    #[test]
    fn a_wrong_setting_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        root.create_dir_all("/etc/bedplate", 0o755).unwrap();
        root.replace("/etc/bedplate/bedplate.toml", b"[rolls]\n", 0o644)
            .unwrap();
        let error = format!("{:#}", load(&root).unwrap_err());
        assert!(
            error.starts_with("reading `/etc/bedplate/bedplate.toml`: ")
                && error.contains("unknown field `rolls`"),
            "{error}"
        );
    }
}
