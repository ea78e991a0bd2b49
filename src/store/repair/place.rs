//! Paths of a rootfs put right. Its directories are entered without following any link: whoever damaged it must
//! not lead us out of it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::store::Store;
use crate::store::dress::dress;
use crate::store::object::{Meta, Object, Sum};
use crate::store::repair::write::make_file;
use crate::store::verify::content::{check, open};
use crate::store::verify::inventory::{Known, Node};
use crate::store::verify::rootfs::is_empty_target;

/// A rootfs being put right.
pub(crate) struct Place<'a> {
    pub(crate) store: &'a Store,
    pub(crate) rootfs: PathBuf,
}

impl Place<'_> {
    /// The directory that holds `path`, and the last component.
    fn parent<'p>(&self, path: &'p str) -> io::Result<(OwnedFd, &'p str)> {
        let (dir, name) = path.rsplit_once('/').unwrap_or((".", path));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, &self.rootfs, flags | OFlags::NOFOLLOW, Mode::empty())?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let fd = rustix::fs::openat2(root, dir, flags, Mode::empty(), resolve)?;
        Ok((fd, name))
    }

    /// Whether the file at `path` is the store's object.
    pub(crate) fn is_object(&self, path: &str, sum: Sum) -> bool {
        let object = self.store.object_path(Object::file(sum));
        let (Ok((dir, name)), Ok(object)) = (self.parent(path), rustix::fs::lstat(&object)) else {
            return false;
        };
        rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|found| (found.st_dev, found.st_ino) == (object.st_dev, object.st_ino))
    }

    /// Whether what lies at `path` is neither the damaged object, by its device and inode, nor equal to the whole one.
    pub(crate) fn is_foreign(&self, path: &str, sum: Sum, damaged: Option<&(u64, u64)>) -> bool {
        let Ok((dir, name)) = self.parent(path) else {
            return false;
        };
        let Ok(found) = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) else {
            return false;
        };
        damaged != Some(&(found.st_dev, found.st_ino))
            && check(&self.rootfs.join(path), sum, &mut |_| {}).is_some()
    }

    /// Whether a mount target lies at `path`, as staging makes one for a file.
    pub(crate) fn is_empty_target(&self, path: &str) -> bool {
        let found = self.rootfs.join(path).symlink_metadata();
        found.is_ok_and(|stat| is_empty_target(&stat))
    }

    /// Gives what lies at `path` another name, `to`, which must not exist and lie on the same file system: something
    /// is about to take its place.
    pub(crate) fn keep(&self, path: &str, to: &Path) -> Result<()> {
        let keeping = || format!("keeping `{path}` of `{}`", self.rootfs.display());
        let (dir, name) = self.parent(path).with_context(keeping)?;
        match rustix::fs::linkat(&dir, name, CWD, to, AtFlags::empty()) {
            // It has as many names as a file may have.
            Err(Errno::MLINK) => self.set_aside(path, to),
            linked => linked.with_context(keeping),
        }
    }

    /// Puts the object at `path`, over a file or link that is there.
    pub(crate) fn file(&self, path: &str, sum: Sum) -> Result<()> {
        let placing = || format!("putting `{path}` into `{}`", self.rootfs.display());
        let object = self.store.object_path(Object::file(sum));
        let private = self.store.private()?;
        let temporary = private.path().join("file");
        let linked = rustix::fs::linkat(CWD, &object, CWD, &temporary, AtFlags::empty());
        match linked {
            // As a checkout does: a file may have only so many names (ext4: 65,000).
            Err(Errno::MLINK) => {
                let meta = Meta::of(&object).with_context(placing)?;
                let mut content: Box<dyn io::Read> = match meta.target {
                    Some(_) => Box::new(io::empty()),
                    None => Box::new(open(&object).with_context(placing)?),
                };
                make_file(&temporary, &meta, &mut content).with_context(placing)?;
            }
            linked => linked.with_context(placing)?,
        }
        let (dir, name) = self.parent(path).with_context(placing)?;
        rustix::fs::renameat(CWD, &temporary, &dir, name).with_context(placing)?;
        rustix::fs::fsync(&dir).with_context(placing)
    }

    /// Gives a directory its attributes; it is made if it is missing.
    pub(crate) fn directory(&self, path: &str, meta: &Meta) -> Result<()> {
        let placing = || format!("putting `{path}` into `{}`", self.rootfs.display());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = if path.is_empty() {
            match rustix::fs::mkdir(&self.rootfs, Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error).with_context(placing),
            }
            rustix::fs::openat(CWD, &self.rootfs, flags, Mode::empty()).with_context(placing)?
        } else {
            let (dir, name) = self.parent(path).with_context(placing)?;
            match rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error).with_context(placing),
            }
            rustix::fs::fsync(&dir).with_context(placing)?;
            rustix::fs::openat(&dir, name, flags, Mode::empty()).with_context(placing)?
        };
        let set = || -> Result<()> {
            let at = if path.is_empty() {
                self.rootfs.clone()
            } else {
                self.rootfs.join(path)
            };
            for (name, _) in Meta::of(&at)?.xattrs {
                rustix::fs::fremovexattr(&fd, name.as_slice())?;
            }
            dress(&fd, meta)?;
            Ok(rustix::fs::fsync(&fd)?)
        };
        set().with_context(placing)
    }

    /// Puts what the tree has at `path`, and below it, where nothing is.
    pub(crate) fn restore(
        &self,
        path: &str,
        tree: &Known,
        attributes: &dyn Fn(&Sum) -> Option<Meta>,
    ) -> Result<()> {
        let below = format!("{path}/");
        let whole = tree
            .nodes
            .iter()
            .filter(|(at, _)| path.is_empty() || at.as_str() == path || at.starts_with(&below));
        for (at, node) in whole {
            match node {
                Node::File(sum) => self.file(at, *sum)?,
                Node::Dir(sum) => {
                    let meta = attributes(sum)
                        .ok_or_else(|| anyhow!("the attributes of `{at}` are not known"))?;
                    self.directory(at, &meta)?;
                }
            }
        }
        Ok(())
    }

    /// Moves what lies at `path` to `to`, which must not exist and lie on the same file system.
    pub(crate) fn set_aside(&self, path: &str, to: &Path) -> Result<()> {
        let moving = || format!("moving `{path}` out of `{}`", self.rootfs.display());
        let (dir, name) = self.parent(path).with_context(moving)?;
        rustix::fs::renameat(&dir, name, CWD, to).with_context(moving)?;
        rustix::fs::fsync(&dir).with_context(moving)
    }
}
