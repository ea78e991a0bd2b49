//! The OCI runtime that starts a container: which program, and how it is called.
//!
//! A unit names its runtime by absolute path. Only paths made of `[A-Za-z0-9._/+-]` are taken, so that the path
//! means the same in a unit, in JSON and in a shell.

mod version;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;

use crate::exec;
use crate::hint::Hinted;
use crate::name::ContainerName;
use crate::root::{Kind, Root};

/// Where a host root that is not the running one keeps its programs.
const DIRECTORIES: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// A runtime of the target host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// Its absolute path on the target host.
    pub path: PathBuf,
    /// Which one it is.
    pub kind: RuntimeKind,
}

/// The runtimes whose ways are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeKind {
    /// crun.
    Crun,
    /// runc.
    Runc,
    /// Any other that keeps to the OCI command line.
    Other,
}

/// What a runtime says of a container: the state of OCI's runtime specification.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct State {
    /// `created`, `running`, `stopped`, or of the runtime's own.
    pub status: String,
    /// The payload's process id on the host; 0 when it has ended.
    #[serde(default)]
    pub pid: u32,
}

impl Runtime {
    /// The runtimes looked for, the preferred one first.
    pub const KNOWN: [&str; 2] = ["crun", "runc"];

    /// The runtime that `wanted` names, or the first of crun and runc that `root` has. On the running host it is asked
    /// for its version.
    ///
    /// `wanted` is a name looked up in the search path, or an absolute path of the target host.
    pub fn choose(wanted: Option<&str>, root: &Root) -> Result<Self> {
        let runtime = Self::look_for(wanted, root)?;
        if root.is_host() {
            runtime.version()?;
        }
        Ok(runtime)
    }

    fn look_for(wanted: Option<&str>, root: &Root) -> Result<Self> {
        let Some(wanted) = wanted else {
            return Self::KNOWN
                .iter()
                .find_map(|name| look_up(name, root).transpose())
                .transpose()?
                .ok_or_else(|| anyhow!("the host has no OCI runtime: neither `crun` nor `runc`"))
                .hint("install the package `crun` or `runc`, or name another: `bedplate install --runtime PATH`")
                .map(Self::at);
        };
        check_alphabet(wanted)?;
        if wanted.starts_with('/') {
            let path = PathBuf::from(wanted);
            if runs(&path, root)? {
                return Ok(Self::at(path));
            }
            return Err(anyhow!(
                "the OCI runtime `{wanted}` is no executable file of the host"
            ))
            .hint("install it, or name another: `bedplate install --runtime PATH`");
        }
        if wanted.contains('/') {
            bail!("the OCI runtime `{wanted}` is neither a name nor an absolute path");
        }
        look_up(wanted, root)?
            .ok_or_else(|| anyhow!("the host has no OCI runtime `{wanted}`"))
            .hint(format!(
                "install the package `{wanted}`, or name another: `bedplate install --runtime PATH`"
            ))
            .map(Self::at)
    }

    /// The runtime at a path that is known to be one.
    fn at(path: PathBuf) -> Self {
        let kind = match path.file_name().and_then(|name| name.to_str()) {
            Some("crun") => RuntimeKind::Crun,
            Some("runc") => RuntimeKind::Runc,
            _ => RuntimeKind::Other,
        };
        Self { path, kind }
    }

    /// The words that run a command in the started container; the command's own words follow.
    pub fn exec_argv(&self, name: &ContainerName) -> Vec<String> {
        self.argv(name, &["exec".to_owned(), name.to_string()])
    }

    /// The words that run the process of a file in the started container.
    pub fn exec_process_argv(&self, name: &ContainerName, file: &str) -> Vec<String> {
        let process = format!("--process={file}");
        self.argv(name, &["exec".to_owned(), process, name.to_string()])
    }

    /// What the runtime says of the container; `None` when it knows of none, as before a start and after the end.
    pub fn state(&self, name: &ContainerName, root: &Root) -> Result<Option<State>> {
        if root
            .kind(Path::new(&state_dir(name)).join(name.as_str()))?
            .is_none()
        {
            return Ok(None);
        }
        let asking = || format!("asking `{}` for the state of `{name}`", self.path.display());
        let argv = self.argv(name, &["state".to_owned(), name.to_string()]);
        let said = exec::Program::new(&self.path).args(&argv[1..]).run();
        serde_json::from_str(&said.with_context(asking)?)
            .with_context(asking)
            .map(Some)
    }

    fn argv(&self, name: &ContainerName, words: &[String]) -> Vec<String> {
        let mut argv = vec![
            self.path.display().to_string(),
            "--root".to_owned(),
            state_dir(name),
        ];
        if self.kind == RuntimeKind::Crun {
            // As the launcher made it: the payload stays in the unit's own, delegated group.
            argv.push("--cgroup-manager=cgroupfs".to_owned());
        }
        argv.extend_from_slice(words);
        argv
    }
}

/// Where the runtime keeps what it knows of the container.
fn state_dir(name: &ContainerName) -> String {
    format!("/run/bedplate/{name}/oci")
}

/// Refuses what could mean something else in a unit.
fn check_alphabet(wanted: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._/+-".contains(c);
    if wanted.is_empty() || wanted.starts_with('-') || !wanted.chars().all(plain) {
        bail!(
            "the OCI runtime `{}` may hold only letters, digits, `.`, `_`, `/`, `+` and `-`",
            wanted.escape_debug()
        );
    }
    Ok(())
}

/// The path of the program called `name` on the target host.
pub(crate) fn look_up(name: &str, root: &Root) -> Result<Option<PathBuf>> {
    if root.is_host() {
        // A PATH with odd directories could hold a runtime that no unit can name.
        return Ok(exec::find(name).filter(|path| {
            path.to_str()
                .is_some_and(|path| check_alphabet(path).is_ok())
        }));
    }
    for directory in DIRECTORIES {
        let path = Path::new(directory).join(name);
        if runs(&path, root)? {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Whether `path` is a program of the target host. A link of another root is believed: it may lead through links
/// that only that root resolves.
fn runs(path: &Path, root: &Root) -> Result<bool> {
    Ok(match root.kind(path)? {
        Some(Kind::File) => exec::is_executable(&root.outside(path)),
        Some(Kind::Link) => !root.is_host() || exec::is_executable(path),
        _ => false,
    })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests build a host root")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn host(programs: &[&str]) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        for program in programs {
            let path = dir.path().join(program.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        }
        let root = Root::open(dir.path()).unwrap();
        (dir, root)
    }

    #[test]
    fn the_target_hosts_runtime_is_taken() {
        let (_dir, both) = host(&["/usr/bin/runc", "/usr/bin/crun", "/opt/kata"]);
        for (wanted, path, kind) in [
            (None, "/usr/bin/crun", RuntimeKind::Crun),
            (Some("runc"), "/usr/bin/runc", RuntimeKind::Runc),
            (Some("/opt/kata"), "/opt/kata", RuntimeKind::Other),
        ] {
            let path = PathBuf::from(path);
            let expected = Runtime { path, kind };
            assert_eq!(Runtime::choose(wanted, &both).unwrap(), expected);
        }
        let (_dir, only_runc) = host(&["/usr/sbin/runc"]);
        let chosen = Runtime::choose(None, &only_runc).unwrap();
        assert_eq!(chosen.path, Path::new("/usr/sbin/runc"));
    }

    #[test]
    fn what_is_no_runtime_is_refused() {
        let (_dir, empty) = host(&[]);
        for (wanted, message) in [
            (
                None,
                "the host has no OCI runtime: neither `crun` nor `runc`",
            ),
            (Some("youki"), "the host has no OCI runtime `youki`"),
            (
                Some("/opt/crun"),
                "the OCI runtime `/opt/crun` is no executable file of the host",
            ),
            (
                Some("bin/crun"),
                "the OCI runtime `bin/crun` is neither a name nor an absolute path",
            ),
            (
                Some("crun; x\n"),
                "the OCI runtime `crun; x\\n` may hold only letters, digits, `.`, `_`, `/`, `+` and `-`",
            ),
            (
                Some("-h"),
                "the OCI runtime `-h` may hold only letters, digits, `.`, `_`, `/`, `+` and `-`",
            ),
        ] {
            let error = Runtime::choose(wanted, &empty).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }
}
