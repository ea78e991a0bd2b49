//! What belongs to the payload's user: the unit's directories and the credentials.
#![expect(
    clippy::disallowed_methods,
    reason = "the launcher is a program of its own, without the library's root handle"
)]

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{fchown, lchown};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags, fstat, mkdirat, openat, statvfs};
use rustix::io::Errno;
use rustix::mount::{
    FsPickFlags, MountFlags, fsconfig_reconfigure, fsconfig_set_flag, fspick, mount_remount,
};

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

/// Gives the credentials in `directory`, which systemd has put there for root, to `owner`, as systemd does for a
/// `User=` of the host. They stay where they are, in memory that is never swapped; a copy would lie elsewhere.
pub(crate) fn hand_over(directory: &Path, owner: Owner) -> Result<()> {
    let hand_over = || -> io::Result<()> {
        let flags = statvfs(directory)?.f_flag;
        if !flags.contains(StatVfsMountFlags::RDONLY) {
            return give_all(directory, owner);
        }
        let mounted = mount_flags(flags);
        mount_remount(directory, mounted - MountFlags::RDONLY, c"")?;
        let given = give_sealed(directory, owner);
        mount_remount(directory, mounted, c"")?;
        given
    };
    hand_over().with_context(|| format!("giving the credentials to user {}", owner.uid))
}

/// The same where not the mount alone may be read-only, but the file system too: systemd 258 makes it so.
fn give_sealed(directory: &Path, owner: Owner) -> io::Result<()> {
    match give_all(directory, owner) {
        Err(error) if error.raw_os_error() == Some(Errno::ROFS.raw_os_error()) => {}
        given => return given,
    }
    let file_system = fspick(CWD, directory, FsPickFlags::FSPICK_CLOEXEC)?;
    fsconfig_set_flag(&file_system, "rw")?;
    fsconfig_reconfigure(&file_system)?;
    let given = give_all(directory, owner);
    fsconfig_set_flag(&file_system, "ro")?;
    fsconfig_reconfigure(&file_system)?;
    given
}

/// The files of a flat directory, and then itself.
fn give_all(directory: &Path, owner: Owner) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        lchown(entry?.path(), Some(owner.uid), Some(owner.gid))?;
    }
    give(&fs::File::open(directory)?.into(), owner)
}

/// The flags by which a mount stays as it is when it is mounted anew.
fn mount_flags(is: StatVfsMountFlags) -> MountFlags {
    /// `ST_NOSYMFOLLOW`, which no library has a name for.
    const NOSYMFOLLOW: u64 = 0x2000;
    let mut flags = MountFlags::BIND;
    for (found, flag) in [
        (StatVfsMountFlags::RDONLY.bits(), MountFlags::RDONLY),
        (StatVfsMountFlags::NOSUID.bits(), MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV.bits(), MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC.bits(), MountFlags::NOEXEC),
        (StatVfsMountFlags::RELATIME.bits(), MountFlags::RELATIME),
        (StatVfsMountFlags::NOATIME.bits(), MountFlags::NOATIME),
        (NOSYMFOLLOW, MountFlags::NOSYMFOLLOW),
    ] {
        flags.set(flag, is.bits() & found != 0);
    }
    flags
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
    fn credentials_are_given_where_they_lie() {
        if me().uid != 0 {
            return;
        }
        let base = tempfile::tempdir().unwrap();
        let place = base.path().join("credentials");
        fs::create_dir(&place).unwrap();
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        let flags = flags | MountFlags::NOSYMFOLLOW;
        // The mount is read-only, and then the file system as well.
        for (kind, sealed) in [("ramfs", false), ("ramfs", true), ("tmpfs", true)] {
            rustix::mount::mount(kind, &place, kind, flags, c"mode=0700").unwrap();
            fs::write(place.join("key"), "secret").unwrap();
            if sealed {
                mount_remount(&place, flags | MountFlags::RDONLY, c"").unwrap();
            }
            mount_remount(&place, flags | MountFlags::BIND | MountFlags::RDONLY, c"").unwrap();
            let before = statvfs(&place).unwrap().f_flag;
            let given = hand_over(&place, Owner { uid: 7, gid: 8 });
            let found = [&place, &place.join("key")].map(|path| {
                let found = path.metadata().unwrap();
                (found.uid(), found.gid())
            });
            let after = statvfs(&place).unwrap().f_flag;
            // What would have been left writable.
            mount_remount(&place, flags | MountFlags::BIND, c"").unwrap();
            let writable = fs::write(place.join("new"), "").is_ok();
            rustix::mount::unmount(&place, rustix::mount::UnmountFlags::empty()).unwrap();
            given.unwrap();
            assert_eq!(found, [(7, 8); 2]);
            assert_eq!(before, after);
            assert!(before.contains(StatVfsMountFlags::RDONLY | StatVfsMountFlags::NOEXEC));
            assert_eq!(writable, !sealed, "{kind}");
        }
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
