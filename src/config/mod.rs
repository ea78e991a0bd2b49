//! The operator's settings, layered as the UAPI configuration files specification says.
//!
//! `files` finds the files that count, `table` is what there is to set, documented; here one becomes the other. A
//! later file's setting replaces an earlier one's, and where each comes from is kept.

mod files;
mod table;
pub mod update;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::config::update::{Section as UpdateSection, Setting as Window, Update};
use crate::contract::parse;
use crate::contract::values::Origin;
use crate::hint::Hinted;
use crate::image::settings::{Section as NetworkSection, Settings as Network};
use crate::name::ContainerName;
use crate::order::HostRoles;
use crate::root::Root;
use crate::store::settings::{Section, Settings};

pub use crate::config::files::Passed;
pub use crate::config::table::{Documented, Setting, documented};

/// Every setting.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// `[roles]`: units of this host that play a role, over the built-in table.
    pub roles: HostRoles,
    /// `[store]`: how images are kept.
    pub store: Settings,
    /// `[network]`: how images are fetched.
    pub network: Network,
    /// `[update]`: when containers are updated by themselves.
    pub update: Update,
}

/// The settings, and where they come from.
#[derive(Debug)]
pub struct Layered {
    /// What holds.
    pub config: Config,
    /// The files that were read, weakest first.
    pub files: Vec<PathBuf>,
    /// The files that do not count, each with why.
    pub passed: Vec<Passed>,
    /// The file that has the last word on a setting, by `SECTION.KEY`.
    origins: BTreeMap<String, PathBuf>,
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
    #[serde(default)]
    update: UpdateSection,
    #[serde(default)]
    schedules: BTreeMap<ContainerName, String>,
    #[serde(default)]
    windows: BTreeMap<ContainerName, Window>,
}

/// Reads the settings of a host root.
pub fn load(root: &Root) -> Result<Config> {
    layers(root).map(|layered| layered.config)
}

/// As [`load`], with where each setting comes from.
pub fn layers(root: &Root) -> Result<Layered> {
    let found = files::find(root)?;
    let mut layered = Layered {
        config: Config::default(),
        files: Vec::new(),
        passed: found.passed,
        origins: BTreeMap::new(),
    };
    for path in found.counting {
        let reading = || format!("reading `{}`", path.display());
        let text = root.read_text(&path)?;
        let text = text
            .with_context(reading)
            .hint("it is a link to nothing: remove it, or point it at `/dev/null` to mask files of its name")?;
        let file: File = parse::document(&text)
            .with_context(reading)
            .hint(table::hint())?;
        layered.config.lay(file);
        let tables: BTreeMap<String, toml::Table> = parse::document(&text).with_context(reading)?;
        for (section, keys) in &tables {
            for key in keys.keys() {
                let name = format!("{section}.{key}");
                layered.origins.insert(name, path.clone());
            }
        }
        layered.files.push(path);
    }
    Ok(layered)
}

impl Config {
    /// Puts a file over what there is.
    fn lay(&mut self, file: File) {
        if let Some(roles) = file.roles {
            self.roles = std::mem::take(&mut self.roles).overridden_by(roles);
        }
        self.store = self.store.overridden_by(&file.store);
        self.network = self.network.overridden_by(&file.network);
        self.update.lay(file.update, file.schedules, file.windows);
    }
}

impl Layered {
    /// Every setting, by name: the documented ones, and each role.
    pub fn settings(&self) -> Vec<Setting> {
        let mut settings = table::settings(&self.config);
        for setting in &mut settings {
            if let Some(path) = self.origins.get(&setting.name) {
                setting.value.origin = Origin::File(path.clone());
            }
        }
        settings
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::hint;

    fn root_with(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        for (path, text) in files {
            root.create_dir_all(Path::new(path).parent().unwrap(), 0o755)
                .unwrap();
            root.replace(path, text.as_bytes(), 0o644).unwrap();
        }
        (dir, root)
    }

    #[test]
    fn files_are_layered() {
        let (_dir, root) = root_with(&[]);
        assert_eq!(load(&root).unwrap(), Config::default());
        let (_dir, root) = root_with(&[
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
        ]);
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
        // An empty file masks as well.
        let mask = "/etc/bedplate/bedplate.conf.d/10.conf";
        root.replace(mask, b"", 0o644).unwrap();
        let roles = load(&root).unwrap().roles;
        assert_eq!(roles, expected("dns = [\"a.service\"]"));
    }

    #[test]
    fn each_setting_knows_its_file() {
        let drop_in = "/run/bedplate/bedplate.conf.d/50-net.conf";
        let main = "/etc/bedplate/bedplate.toml";
        let (_dir, root) = root_with(&[
            (
                main,
                "[store]\nlayer_limit = 1024\n[network]\ntimeout = \"5min\"\n[roles]\netcd = []",
            ),
            (drop_in, "network.timeout = \"3s\""),
        ]);
        let layered = layers(&root).unwrap();
        assert_eq!(layered.files, [Path::new(main), Path::new(drop_in)]);
        let shown: Vec<_> = layered
            .settings()
            .into_iter()
            .map(|s| (s.name, s.value.data.to_string(), s.value.origin.to_string()))
            .collect();
        let shown: Vec<_> = shown
            .iter()
            .map(|(n, d, o)| [n.as_str(), d.as_str(), o.as_str()])
            .collect();
        let cri = "containerd.service,crio.service,docker.service,cri-docker.service";
        assert_eq!(
            shown,
            [
                ["network.timeout", "3s", drop_in],
                ["roles.cri", cri, "default"],
                ["roles.etcd", "", main],
                ["roles.network-online", "network-online.target", "default"],
                ["store.integrity", "none", "default"],
                ["store.layer_limit", "1K", main],
                ["update.authfile", "/etc/bedplate/auth.json", "default"],
                ["update.schedule", "daily", "default"],
                ["update.window", "", "default"],
            ]
        );
    }

    #[test]
    fn a_wrong_setting_is_an_error() {
        let path = "/etc/bedplate/bedplate.toml";
        for (text, error) in [
            (
                "\n[rolls]\n",
                "line 2: unknown key `rolls`; did you mean `roles`?",
            ),
            (
                "[store]\nintegrety = \"none\"",
                "line 2: unknown key `integrety`; did you mean `integrity`?",
            ),
            (
                "[store]\nintegrity = \"some\"",
                "line 2: expected `none` or `composefs` or `verity` or `auto`, found `some`",
            ),
            (
                "[network]\n\ntimeout = \"1h\"",
                "line 3: `1h` is no time: 1 second to 1 day, such as \"60s\" or \"5min\"",
            ),
            ("roles = 3", "line 1: expected a map, found integer `3`"),
        ] {
            let (_dir, root) = root_with(&[(path, text)]);
            let found = load(&root).unwrap_err();
            assert_eq!(format!("{found:#}"), format!("reading `{path}`: {error}"));
            assert_eq!(
                hint::hints(&found)[0].0,
                "the settings are `network.timeout`, `roles.ROLE`, `schedules.NAME`, `store.integrity`, \
                 `store.layer_limit`, `update.authfile`, `update.schedule`, `update.window`, `windows.NAME`: \
                 see bedplate.toml(5)"
            );
        }
    }
}
