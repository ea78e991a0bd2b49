//! What belongs to the payload's user: the unit's directories and the credentials.
#![expect(
    clippy::disallowed_methods,
    reason = "the launcher is a program of its own, without the library's root handle"
)]

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, fchown};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{CWD, Mode, OFlags, fstat, mkdirat, openat};
use rustix::io::Errno;

use crate::config::Owner;
use crate::hint::Hinted;

/// Makes each of `directories` where it is missing and gives it, not what is in it, to `owner`.
///
/// The unit cannot do this for a payload that is not root: its user is the image's, and `User=` knows only the
/// host's; without `User=` systemd gives a StateDirectory= that is not root's, and all in it, back to root at
/// each start.
pub(crate) fn claim(directories: &[PathBuf], owner: Owner) -> Result<()> {
    directories.iter().try_for_each(|directory| {
        descend(directory)
            .and_then(|handle| give(&handle, owner))
            .with_context(|| format!("giving `{}` to user {}", directory.display(), owner.uid))
            .hint("it must be a directory, not a link, and be reached through directories of root")
    })
}

/// Opens `directory`, an absolute path, and makes what is missing of it.
///
/// Links are followed only where none but root can have made them: a payload that owns a directory could
/// otherwise have one of the host's given to it at the next start.
fn descend(directory: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut names = directory.components().peekable();
    if names.next() != Some(Component::RootDir) {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            "it is no absolute path",
        ));
    }
    let mut here = openat(CWD, "/", flags, Mode::empty())?;
    while let Some(name) = names.next() {
        let Component::Normal(name) = name else {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "it is no plain path",
            ));
        };
        let found = fstat(&here)?;
        let safe = found.st_uid == 0 && found.st_mode & 0o022 == 0;
        let link = if safe && names.peek().is_some() {
            OFlags::empty()
        } else {
            OFlags::NOFOLLOW
        };
        match mkdirat(&here, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => here = openat(&here, name, flags | link, Mode::empty())?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(here)
}

/// Changes the owner of an open file where it differs.
fn give(handle: &OwnedFd, owner: Owner) -> io::Result<()> {
    let found = fstat(handle)?;
    if (found.st_uid, found.st_gid) == (owner.uid, owner.gid) {
        return Ok(());
    }
    fchown(handle, Some(owner.uid), Some(owner.gid))
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
        give(&fs::File::open(target)?.into(), owner)
    };
    copy().with_context(|| format!("copying the credentials to `{}`", target.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

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
    fn directories_are_made_and_links_of_others_refused() {
        let base = tempfile::tempdir().unwrap();
        let place = |name: &str| base.path().join(name);
        claim(&[place("a/b"), place("a/b")], me()).unwrap();
        assert_eq!(place("a/b").metadata().unwrap().mode(), 0o40755);
        symlink(place("a"), place("link")).unwrap();
        fs::write(place("file"), "").unwrap();
        fs::create_dir(place("open")).unwrap();
        fs::set_permissions(place("open"), fs::Permissions::from_mode(0o777)).unwrap();
        symlink(place("a"), place("open/link")).unwrap();
        let cases = [
            (place("link"), "Not a directory (os error 20)"),
            (place("open/link/b"), "Not a directory (os error 20)"),
            (place("file"), "Not a directory (os error 20)"),
            (place("a/../b"), "it is no plain path"),
            ("a".into(), "it is no absolute path"),
        ];
        for (path, reason) in cases {
            let error = claim(std::slice::from_ref(&path), me()).unwrap_err();
            let expected = format!("giving `{}` to user {}: {reason}", path.display(), me().uid);
            assert_eq!(format!("{error:#}"), expected);
            assert_eq!(crate::hint::hints(&error).len(), 1);
        }
    }
}
