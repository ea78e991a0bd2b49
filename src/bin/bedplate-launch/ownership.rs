//! What belongs to the payload's user: the unit's directories and the credentials.
#![expect(
    clippy::disallowed_methods,
    reason = "the launcher is a program of its own, without the library's root handle"
)]

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::OFlags;

use crate::config::Owner;
use crate::hint::Hinted;

/// Gives each of `directories` itself, not what is in it, to `owner`.
pub(crate) fn claim(directories: &[PathBuf], owner: Owner) -> Result<()> {
    directories.iter().try_for_each(|directory| {
        give(directory, owner)
            .with_context(|| format!("giving `{}` to user {}", directory.display(), owner.uid))
            .hint("it must be a directory, not a link, that the unit makes (StateDirectory= and its like)")
    })
}

/// Opens the directory without following a link and changes its owner where it differs.
fn give(directory: &Path, owner: Owner) -> io::Result<()> {
    let flags = (OFlags::DIRECTORY | OFlags::NOFOLLOW).bits().cast_signed();
    let handle = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(directory)?;
    let found = handle.metadata()?;
    if (found.uid(), found.gid()) == (owner.uid, owner.gid) {
        return Ok(());
    }
    fchown(&handle, Some(owner.uid), Some(owner.gid))
}

/// Copies the credentials in `source`, which only root can read, to `target`, where only `owner` can.
///
/// `target` lies in a unit's RuntimeDirectory, a tmpfs that systemd removes when the unit has stopped.
pub(crate) fn copy(source: &Path, target: &Path, owner: Owner) -> Result<()> {
    let copy = || -> io::Result<()> {
        match fs::remove_dir_all(target) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => fs::DirBuilder::new().mode(0o700).create(target)?,
        }
        for entry in fs::read_dir(source)? {
            let entry = entry?;
            // Credentials are a flat directory of files, systemd.exec(5).
            if entry.file_type()?.is_file() {
                let mut to = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o400)
                    .open(target.join(entry.file_name()))?;
                io::copy(&mut fs::File::open(entry.path())?, &mut to)?;
                fchown(&to, Some(owner.uid), Some(owner.gid))?;
            }
        }
        // Last: until here nobody else could put anything into it.
        give(target, owner)
    };
    copy().with_context(|| format!("copying the credentials to `{}`", target.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn me() -> Owner {
        Owner {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        }
    }

    #[test]
    fn credentials_are_copied_anew_each_time() {
        let base = tempfile::tempdir().unwrap();
        let (source, target) = (base.path().join("s"), base.path().join("t"));
        fs::create_dir(&source).unwrap();
        fs::write(source.join("key"), "secret").unwrap();
        copy(&source, &target, me()).unwrap();
        fs::rename(source.join("key"), source.join("other")).unwrap();
        copy(&source, &target, me()).unwrap();
        assert_eq!(fs::read_to_string(target.join("other")).unwrap(), "secret");
        assert!(!target.join("key").exists());
        assert_eq!(target.metadata().unwrap().mode(), 0o40700);
        assert_eq!(target.join("other").metadata().unwrap().mode(), 0o100_400);
    }

    #[test]
    fn only_a_real_directory_is_given_away() {
        let base = tempfile::tempdir().unwrap();
        let link = base.path().join("link");
        symlink(base.path(), &link).unwrap();
        claim(&[base.path().to_owned()], me()).unwrap();
        for path in [link, base.path().join("none")] {
            let error = claim(std::slice::from_ref(&path), me()).unwrap_err();
            let text = format!("{error:#}");
            let start = format!("giving `{}` to user {}: ", path.display(), me().uid);
            assert!(text.starts_with(&start), "{text}");
            assert_eq!(crate::hint::hints(&error).len(), 1);
        }
    }
}
