//! Walking below a root: every name, and what its inode takes on disk. Links are not followed.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, FileType, Statx, StatxFlags};
use rustix::io::Errno;

use crate::root::descent::Descent;
use crate::root::{DIR_FLAGS, Kind, Root};

/// A file system and an inode of it.
pub type Inode = (u64, u64);

/// One name, and the inode that it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The inode.
    pub inode: Inode,
    /// What it is.
    pub kind: Kind,
    /// Bytes of content.
    pub size: u64,
    /// Bytes on disk, as du(1) counts them.
    pub disk: u64,
    /// How many names the inode has.
    pub names: u64,
}

/// Names that go, and so what their inodes leave free.
#[derive(Debug, Default)]
pub struct Gone(HashMap<Inode, u64>);

impl Gone {
    /// Another name goes. The bytes that this frees: those of the inode, when it was its last name.
    pub fn add(&mut self, link: &Link) -> u64 {
        *self.0.entry(link.inode).or_default() += 1;
        if self.frees(link) { link.disk } else { 0 }
    }

    /// Whether all names of the inode go. A directory has but one: the others are its own and its children's `..`.
    pub fn frees(&self, link: &Link) -> bool {
        let gone = self.0.get(&link.inode).copied().unwrap_or_default();
        gone > 0 && (link.kind == Kind::Dir || gone >= link.names)
    }
}

/// Receives each name below the directory of a walk, with its path relative to it.
type Visit<'a> = &'a mut dyn FnMut(&Path, &Link);

impl Root {
    /// Visits the directory, as the empty path, and all below it. Other file systems are not entered, and what
    /// vanishes meanwhile is left out; a directory that is not there has nothing to visit.
    pub fn walk(&self, path: impl AsRef<Path>, visit: Visit) -> Result<()> {
        let path = path.as_ref();
        let walking = || format!("looking through `{}`", path.display());
        let dir = match self.open_at(path, DIR_FLAGS) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(e) => return Err(e).with_context(walking),
        };
        let top = look(&dir, OsStr::new("")).with_context(walking)?;
        visit(Path::new(""), &top);
        let mut walk = Walk {
            device: top.inode.0,
            path: PathBuf::new(),
            visit,
        };
        walk.below(dir)
            .with_context(|| format!("looking through `{}`", path.join(walk.path).display()))
    }

    /// The name and its inode; nothing there is `None`.
    pub fn link_at(&self, path: impl AsRef<Path>) -> Result<Option<Link>> {
        let path = path.as_ref();
        let found = self.parent(path).and_then(|(dir, name)| look(&dir, &name));
        match found {
            Ok(link) => Ok(Some(link)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(e) => Err(e).with_context(|| format!("looking at `{}`", path.display())),
        }
    }
}

struct Walk<'a> {
    device: u64,
    path: PathBuf,
    visit: Visit<'a>,
}

impl Walk<'_> {
    /// On an error `path` is where it happened.
    fn below(&mut self, dir: OwnedFd) -> Result<(), Errno> {
        let mut at = Descent::new(dir);
        // All names of each directory first: what is visited may go.
        let mut left = vec![at.names()?.into_iter()];
        while let Some(names) = left.last_mut() {
            let Some((name, _)) = names.next() else {
                left.pop();
                if !left.is_empty() {
                    at.leave()?;
                    self.path.pop();
                }
                continue;
            };
            self.path.push(&name);
            if self.is_entered(&mut at, &name)? {
                left.push(at.names()?.into_iter());
            } else {
                self.path.pop();
            }
        }
        Ok(())
    }

    /// Visits a name; whether it is a directory that has been entered.
    fn is_entered(&mut self, at: &mut Descent, name: &OsStr) -> Result<bool, Errno> {
        let link = match look(&at.dir, name) {
            Err(Errno::NOENT) => return Ok(false),
            link => link?,
        };
        if link.inode.0 != self.device {
            return Ok(false);
        }
        (self.visit)(&self.path, &link);
        if link.kind != Kind::Dir {
            return Ok(false);
        }
        match at.enter(name) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(false),
            entered => entered.map(|()| true),
        }
    }
}

/// The name in the directory; the empty one is the directory itself.
fn look(dir: impl AsFd, name: &OsStr) -> Result<Link, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
    let wanted = StatxFlags::BASIC_STATS;
    Ok(link(&rustix::fs::statx(dir, name, flags, wanted)?))
}

fn link(found: &Statx) -> Link {
    let device = (u64::from(found.stx_dev_major) << 32) | u64::from(found.stx_dev_minor);
    Link {
        inode: (device, found.stx_ino),
        kind: Kind::of(FileType::from_raw_mode(found.stx_mode.into())),
        size: found.stx_size,
        disk: found.stx_blocks * 512,
        names: found.stx_nlink.into(),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests look from outside")]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_name_is_visited_once_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        root.create_dir_all("/a/b", 0o755).unwrap();
        std::fs::write(dir.path().join("a/f"), vec![1; 10_000]).unwrap();
        std::fs::hard_link(dir.path().join("a/f"), dir.path().join("a/b/g")).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("a/link")).unwrap();
        let mut found = BTreeMap::new();
        root.walk("/a", &mut |path, link| {
            assert!(found.insert(path.to_owned(), *link).is_none());
        })
        .unwrap();
        let paths: Vec<_> = found.keys().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(paths, ["", "b", "b/g", "f", "link"]);
        let file = found[Path::new("f")];
        assert_eq!(file, found[Path::new("b/g")]);
        assert_eq!((file.size, file.names, file.kind), (10_000, 2, Kind::File));
        assert!(file.disk >= 10_000, "{file:?}");
        assert_eq!(found[Path::new("link")].kind, Kind::Link);
        root.walk("/nothing", &mut |path, _| panic!("{}", path.display()))
            .unwrap();
    }
}
