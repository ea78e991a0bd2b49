//! Going down a tree and up again with one directory open, however deep it is: a process may have 1,024 files open.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::root::DIR_FLAGS;

/// A directory, and the way back up.
pub(super) struct Descent {
    pub(super) dir: OwnedFd,
    /// Those above it, as they were when they were left.
    above: Vec<Stat>,
}

impl Descent {
    /// From here down.
    pub(super) fn new(dir: OwnedFd) -> Self {
        Self {
            dir,
            above: Vec::new(),
        }
    }

    /// Goes down into a directory; a link is not followed.
    pub(super) fn enter(&mut self, name: &OsStr) -> Result<(), Errno> {
        let flags = DIR_FLAGS | OFlags::NOFOLLOW;
        let below = rustix::fs::openat(&self.dir, name, flags, Mode::empty())?;
        self.above.push(rustix::fs::fstat(&self.dir)?);
        self.dir = below;
        Ok(())
    }

    /// Goes back up. Where somebody has moved the directory meanwhile, its `..` is not where this came from.
    pub(super) fn leave(&mut self) -> Result<(), Errno> {
        let dir = rustix::fs::openat(&self.dir, "..", DIR_FLAGS, Mode::empty())?;
        let found = rustix::fs::fstat(&dir)?;
        let inode = |stat: &Stat| (stat.st_dev, stat.st_ino);
        if self.above.pop().as_ref().map(inode) != Some(inode(&found)) {
            return Err(Errno::STALE);
        }
        self.dir = dir;
        Ok(())
    }

    /// The names in the directory, as [`names`] has them.
    pub(super) fn names(&self) -> Result<Vec<(OsString, FileType)>, Errno> {
        names(&self.dir)
    }
}

/// The names in a directory but its own and that of the one above, and what they are as far as the file system says it.
pub(super) fn names(dir: impl AsFd) -> Result<Vec<(OsString, FileType)>, Errno> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push((name.to_owned(), entry.file_type()));
        }
    }
    Ok(names)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests look from outside")]
mod tests {
    use rustix::fs::CWD;

    use super::*;

    #[test]
    fn the_way_back_is_the_way_down() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        std::fs::create_dir_all(path("a/b")).unwrap();
        std::fs::create_dir(path("elsewhere")).unwrap();
        std::os::unix::fs::symlink("a", path("link")).unwrap();
        let top = rustix::fs::openat(CWD, place.path(), DIR_FLAGS, Mode::empty()).unwrap();
        let mut at = Descent::new(top);
        assert!(at.enter("link".as_ref()).is_err());
        at.enter("a".as_ref()).unwrap();
        at.enter("b".as_ref()).unwrap();
        at.leave().unwrap();
        assert_eq!(at.names().unwrap().len(), 1);
        at.enter("b".as_ref()).unwrap();
        std::fs::rename(path("a/b"), path("elsewhere/b")).unwrap();
        assert_eq!(at.leave(), Err(Errno::STALE));
    }
}
