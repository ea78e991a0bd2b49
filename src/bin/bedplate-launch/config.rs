//! The generation's config.json, and its completion for one start.
//!
//! It is kept as a JSON value: what this program does not know passes through untouched and in its order.
#![expect(
    clippy::disallowed_methods,
    reason = "the launcher is a program of its own, without the library's root handle"
)]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};

use crate::environment::Pids;
use crate::hint::Hinted;

/// The file's name, in a generation and in a bundle.
pub(crate) const FILE: &str = "config.json";

/// An OCI runtime configuration with an absolute root file system.
pub(crate) struct Config(Value);

/// The user that the payload starts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    /// Its user id.
    pub(crate) uid: u32,
    /// Its group id.
    pub(crate) gid: u32,
}

impl Config {
    /// Reads `generation`'s.
    pub(crate) fn read(generation: &Path) -> Result<Self> {
        let path = generation.join(FILE);
        fs::read(&path)
            .map_err(anyhow::Error::from)
            .and_then(|bytes| Self::parse(&bytes, generation))
            .with_context(|| format!("reading `{}`", path.display()))
    }

    /// The configuration in `bytes`. It will be used from another directory: its root is taken from `generation`.
    fn parse(bytes: &[u8], generation: &Path) -> Result<Self> {
        let value: Value = serde_json::from_slice(bytes)?;
        if !value.pointer("/process").is_some_and(Value::is_object) {
            return Err(anyhow!("it has no `process`"));
        }
        if value.get("linux").is_some_and(|linux| !linux.is_object()) {
            return Err(anyhow!("`linux` is no object"));
        }
        let mut config = Self(value);
        let root = generation.join(config.root()?);
        let root = root
            .to_str()
            .ok_or_else(|| anyhow!("`{}` is not UTF-8", root.display()))?;
        config.set_root(root);
        Ok(config)
    }

    /// The user of `process`; root when it names none.
    pub(crate) fn owner(&self) -> Owner {
        let id = |pointer| {
            self.0
                .pointer(pointer)
                .and_then(Value::as_u64)
                .and_then(|id| u32::try_from(id).ok())
        };
        Owner {
            uid: id("/process/user/uid").unwrap_or(0),
            gid: id("/process/user/gid").unwrap_or(0),
        }
    }

    /// Whether a security module is to give the payload a label or profile of its own.
    pub(crate) fn is_relabelled(&self) -> bool {
        let is_set = |pointer| {
            let label = self.0.pointer(pointer).and_then(Value::as_str);
            label.is_some_and(|label| !label.is_empty())
        };
        is_set("/process/selinuxLabel") || is_set("/process/apparmorProfile")
    }

    /// The process ids that the payload sees.
    pub(crate) fn pids(&self) -> Pids {
        let namespaces = self
            .0
            .pointer("/linux/namespaces")
            .and_then(Value::as_array);
        let new = |space: &Value| {
            space["type"] == "pid" && space.get("path").is_none_or(|path| path == "")
        };
        if namespaces.is_some_and(|all| all.iter().any(new)) {
            Pids::Private
        } else {
            Pids::Foreign
        }
    }

    /// The variables of `process`, `NAME=VALUE` each.
    pub(crate) fn environment(&self) -> Vec<String> {
        let entries = self.0.pointer("/process/env").and_then(Value::as_array);
        entries
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    }

    /// Sets the variables of `process`.
    pub(crate) fn set_environment(&mut self, variables: &[String]) {
        self.0["process"]["env"] = json!(variables);
    }

    /// Where its root file system lies.
    pub(crate) fn root(&self) -> Result<&str> {
        let root = self.0.pointer("/root/path").and_then(Value::as_str);
        root.ok_or_else(|| anyhow!("it has no `root.path`"))
    }

    /// Sets the same.
    pub(crate) fn set_root(&mut self, path: &str) {
        self.0["root"]["path"] = json!(path);
    }

    /// Whether mounts are to pass to it from the host, or both ways.
    pub(crate) fn passes_mounts(&self) -> bool {
        let propagation = self.0.pointer("/linux/rootfsPropagation");
        propagation
            .and_then(Value::as_str)
            .is_some_and(|kind| kind.ends_with("shared") || kind.ends_with("slave"))
    }

    /// Sets the payload's cgroup.
    pub(crate) fn set_cgroup(&mut self, path: &str) {
        self.0["linux"]["cgroupsPath"] = json!(path);
    }

    /// Leaves out the mounts at `optional` whose source `exists` denies.
    pub(crate) fn drop_absent(&mut self, optional: &[PathBuf], exists: impl Fn(&Path) -> bool) {
        let Some(mounts) = self.0.get_mut("mounts").and_then(Value::as_array_mut) else {
            return;
        };
        mounts.retain(|mount| {
            let path = |key: &str| mount.get(key).and_then(Value::as_str).map(Path::new);
            let asked = path("destination")
                .is_some_and(|place| optional.iter().any(|other| other == place));
            !asked || path("source").is_none_or(&exists)
        });
    }

    /// Adds a bind mount, after all others.
    pub(crate) fn bind(&mut self, source: &str, destination: &str, options: &[&str]) -> Result<()> {
        let mounts = self
            .0
            .as_object_mut()
            .ok_or_else(|| anyhow!("it is no object"))?
            .entry("mounts");
        let mounts = mounts
            .or_insert_with(|| json!([]))
            .as_array_mut()
            .ok_or_else(|| anyhow!("`mounts` is no list"))?;
        mounts.push(json!({ "destination": destination, "type": "bind", "source": source, "options": options }));
        Ok(())
    }

    /// Writes it into the bundle `directory`, readable by root alone: the environment may hold secrets.
    pub(crate) fn write(&self, directory: &Path) -> Result<()> {
        let path = directory.join(FILE);
        let write = || -> Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&path)?;
            Ok(file.write_all(&serde_json::to_vec(&self.0)?)?)
        };
        write()
            .with_context(|| format!("writing `{}`", path.display()))
            .hint("the unit needs RuntimeDirectory=bedplate/NAME")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text.as_bytes(), Path::new("/g/1")).unwrap()
    }

    #[test]
    fn a_start_completes_what_it_knows_and_keeps_the_rest() {
        let mut config = config(
            r#"{"ociVersion":"1.0.2","zeta":1,"root":{"path":"rootfs","readonly":true},
                "process":{"args":["/x"],"env":["A=1"],"user":{"uid":64,"gid":65}},
                "mounts":[{"destination":"/etc/hosts","source":"/etc/hosts"},{"destination":"/etc/machine-id","source":"/none"},
                          {"destination":"/data","source":"/none"},{"destination":"/run","type":"tmpfs"}],
                "linux":{"namespaces":[{"type":"mount"},{"type":"pid"}]},"alpha":{}}"#,
        );
        assert_eq!(config.owner(), Owner { uid: 64, gid: 65 });
        assert_eq!(config.environment(), ["A=1"]);
        config.set_environment(&["A=2".into()]);
        config.set_cgroup("/system.slice/a.service/container");
        let optional = ["/etc/hosts", "/etc/machine-id", "/run"].map(PathBuf::from);
        config.drop_absent(&optional, |source| source != Path::new("/none"));
        config
            .bind("/run/systemd/notify", "/run/notify", &["bind"])
            .unwrap();
        assert_eq!(
            config.0.to_string(),
            concat!(
                r#"{"ociVersion":"1.0.2","zeta":1,"root":{"path":"/g/1/rootfs","readonly":true},"#,
                r#""process":{"args":["/x"],"env":["A=2"],"user":{"uid":64,"gid":65}},"#,
                r#""mounts":[{"destination":"/etc/hosts","source":"/etc/hosts"},{"destination":"/data","source":"/none"},"#,
                r#"{"destination":"/run","type":"tmpfs"},"#,
                r#"{"destination":"/run/notify","type":"bind","source":"/run/systemd/notify","options":["bind"]}],"#,
                r#""linux":{"namespaces":[{"type":"mount"},{"type":"pid"}],"cgroupsPath":"/system.slice/a.service/container"},"#,
                r#""alpha":{}}"#
            )
        );
    }

    #[test]
    fn process_ids_are_private_in_a_namespace_of_its_own() {
        let cases = [
            (r#"[{"type":"mount"},{"type":"pid"}]"#, Pids::Private),
            (r#"[{"type":"pid","path":""}]"#, Pids::Private),
            (r#"[{"type":"pid","path":"/proc/7/ns/pid"}]"#, Pids::Foreign),
            (r#"[{"type":"mount"}]"#, Pids::Foreign),
        ];
        for (namespaces, pids) in cases {
            let text = format!(
                r#"{{"root":{{"path":"r"}},"process":{{}},"linux":{{"namespaces":{namespaces}}}}}"#
            );
            assert_eq!(config(&text).pids(), pids, "{namespaces}");
        }
        assert_eq!(
            config(r#"{"root":{"path":"/r"},"process":{}}"#).owner(),
            Owner { uid: 0, gid: 0 }
        );
    }

    #[test]
    fn what_no_runtime_could_use_is_refused() {
        for (text, message) in [
            ("[]", "it has no `process`"),
            (r#"{"process":1}"#, "it has no `process`"),
            (r#"{"process":{}}"#, "it has no `root.path`"),
            (r#"{"process":{},"root":{}}"#, "it has no `root.path`"),
            (r#"{"process":{},"linux":3}"#, "`linux` is no object"),
        ] {
            let error = Config::parse(text.as_bytes(), Path::new("/g"))
                .err()
                .unwrap();
            assert_eq!(error.to_string(), message);
        }
    }
}
