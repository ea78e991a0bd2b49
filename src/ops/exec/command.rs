//! Whether a command can be run at all. The runtimes tell it each in its own way, and not by their exit status.

use std::path::{Path, PathBuf};

use anyhow::Result;
use containers_image_proxy::oci_spec::runtime::Process;

use crate::root::{Kind, Root};

/// A command that is not there, or that cannot be run.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct CannotRun {
    why: String,
    /// As a shell exits: 126 for what cannot be run, 127 for what is not found.
    pub status: u8,
}

/// Refuses what cannot be run. What cannot be decided from outside is left to the runtime.
pub(super) fn check(container: &Root, process: &Process) -> Result<()> {
    let cwd = process.cwd();
    if container.leads_to_dir(cwd).unwrap_or(Some(true)) != Some(true) {
        return refuse(
            126,
            format!("the container has no directory `{}`", cwd.display()),
        );
    }
    let command = process.args().as_ref().and_then(|args| args.first());
    let command = command.map_or("", String::as_str);
    let mut there = false;
    for path in candidates(process, command) {
        match container.leads_to(&path) {
            Ok(None) => {}
            Ok(Some((Kind::File, mode))) if mode & 0o111 == 0 => there = true,
            Ok(Some((Kind::Dir, _))) => there |= command.contains('/'),
            Ok(Some(_)) | Err(_) => return Ok(()),
        }
    }
    if there {
        return refuse(126, format!("`{command}` is no program"));
    }
    refuse(127, format!("the container has no command `{command}`"))
}

/// Where execvp(3) would look.
fn candidates(process: &Process, command: &str) -> Vec<PathBuf> {
    if command.contains('/') {
        return vec![process.cwd().join(command)];
    }
    let env = process.env().as_deref().unwrap_or_default();
    let path = env.iter().find_map(|entry| entry.strip_prefix("PATH="));
    let dirs = path.unwrap_or_default().split(':');
    dirs.filter(|_| !command.is_empty())
        .map(|dir| process.cwd().join(Path::new(dir)).join(command))
        .collect()
}

fn refuse(status: u8, why: String) -> Result<()> {
    Err(CannotRun { why, status }.into())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests build a rootfs")]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn what_cannot_run_is_told_as_a_shell_does() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        fs::create_dir_all(at("usr/bin/dir")).unwrap();
        fs::write(at("usr/bin/ls"), "").unwrap();
        fs::set_permissions(at("usr/bin/ls"), PermissionsExt::from_mode(0o755)).unwrap();
        fs::write(at("usr/bin/data"), "").unwrap();
        symlink("/usr/bin", at("bin")).unwrap();
        symlink("/usr/bin/sh", at("usr/bin/sh")).unwrap();
        // Every host has it, the container has not.
        symlink("../../../../../../usr/bin/id", at("usr/bin/env")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        let status = |command: &str, cwd: &str| {
            let mut process = Process::default();
            process
                .set_args(Some(vec![command.to_owned()]))
                .set_cwd(cwd.into())
                .set_env(Some(vec!["PATH=/sbin:/bin".to_owned()]));
            let refused = check(&root, &process).err();
            refused.map(|error| error.downcast_ref::<CannotRun>().unwrap().status)
        };
        for (command, expected) in [
            ("ls", None),
            ("/bin/ls", None),
            ("bin/ls", None),
            ("data", Some(126)),
            ("/bin/dir", Some(126)),
            ("dir", Some(127)),
            ("nothing", Some(127)),
            ("/nothing", Some(127)),
            ("", Some(127)),
            ("env", Some(127)),
            // A link to itself: the runtime says what it makes of that.
            ("sh", None),
        ] {
            assert_eq!(status(command, "/"), expected, "{command}");
        }
        assert_eq!(status("./ls", "/bin"), None);
        assert_eq!(status("ls", "/nowhere"), Some(126));
    }
}
