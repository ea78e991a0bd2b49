//! Removing below a root; links are removed, never followed.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::root::descent::Descent;
use crate::root::{DIR_FLAGS, Kind, Root, temporary};

impl Root {
    /// Removes the file or link; says whether there was one.
    pub fn remove_file(&self, path: impl AsRef<Path>) -> Result<bool> {
        self.unlink(path.as_ref(), AtFlags::empty())
    }

    /// Removes what a [`Root::replace`] or [`Root::point`] of this path left that was cut short.
    pub fn remove_temporary(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        match path.file_name() {
            Some(name) => self
                .remove_file(path.with_file_name(temporary(name)))
                .map(drop),
            None => Ok(()),
        }
    }

    /// Removes the directory if it is empty; says whether it is gone.
    pub fn remove_empty_dir(&self, path: impl AsRef<Path>) -> Result<bool> {
        self.unlink(path.as_ref(), AtFlags::REMOVEDIR)
    }

    fn unlink(&self, path: &Path, flags: AtFlags) -> Result<bool> {
        let removing = || format!("removing `{}`", path.display());
        let (dir, name) = match self.parent(path) {
            Ok(found) => found,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(false),
            Err(e) => return Err(e).with_context(removing),
        };
        match rustix::fs::unlinkat(&dir, &name, flags) {
            Ok(()) => {
                rustix::fs::fsync(&dir).with_context(removing)?;
                Ok(true)
            }
            Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
            Err(e) => Err(e).with_context(removing),
        }
    }

    /// Removes the directory and all below it; one that is not there is fine.
    pub fn remove_tree(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let Some(dir) = self.unlink_tree(path)? else {
            return Ok(());
        };
        rustix::fs::fsync(&dir).with_context(|| format!("removing `{}`", path.display()))
    }

    /// As [`Root::remove_tree`], but a power cut may bring it back: for what the next command sweeps away again.
    pub fn discard_tree(&self, path: impl AsRef<Path>) -> Result<()> {
        self.unlink_tree(path.as_ref()).map(|_| ())
    }

    /// Removes it; the directory that it was in.
    fn unlink_tree(&self, path: &Path) -> Result<Option<OwnedFd>> {
        let removing = || format!("removing `{}`", path.display());
        match self.kind(path)? {
            None => return Ok(None),
            Some(Kind::Dir) => {}
            Some(_) => bail!("removing `{}`: it is no directory", path.display()),
        }
        let (dir, name) = self.parent(path).with_context(removing)?;
        remove_tree_at(&dir, &name).with_context(removing)?;
        Ok(Some(dir))
    }
}

fn remove_tree_at(dir: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
    let top = rustix::fs::openat(dir, name, DIR_FLAGS | OFlags::NOFOLLOW, Mode::empty())?;
    let mut at = Descent::new(top);
    // Each directory that was entered, with what is left in it.
    let mut left = vec![(name.to_owned(), at.names()?.into_iter())];
    while let Some((_, names)) = left.last_mut() {
        match names.next() {
            Some((name, FileType::Directory)) => {
                at.enter(&name)?;
                left.push((name, at.names()?.into_iter()));
            }
            Some((name, _)) => rustix::fs::unlinkat(&at.dir, &name, AtFlags::empty())?,
            None => {
                if let Some((name, _)) = left.pop()
                    && !left.is_empty()
                {
                    at.leave()?;
                    rustix::fs::unlinkat(&at.dir, &name, AtFlags::REMOVEDIR)?;
                }
            }
        }
    }
    rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)
}
