//! What a file has besides its content: permission bits, owner, extended attributes.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno;

use crate::root::Root;

/// Extended attributes by name, access control lists among them.
pub type Attributes = BTreeMap<String, Vec<u8>>;

/// What a file or directory has besides its content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Permission bits, setuid, setgid and sticky included.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// Extended attributes.
    pub attributes: Attributes,
}

/// xattr(7): no value and no list of names is longer.
const LONGEST: usize = 64 << 10;

impl Root {
    /// The metadata of the file or directory at `path`.
    pub fn metadata(&self, path: impl AsRef<Path>) -> Result<Metadata> {
        let path = path.as_ref();
        let looking = || format!("looking at `{}`", path.display());
        let file = self.open_to_dress(path).with_context(looking)?;
        let stat = rustix::fs::fstat(&file).with_context(looking)?;
        Ok(Metadata {
            mode: stat.st_mode & 0o7777,
            owner: (stat.st_uid, stat.st_gid),
            attributes: attributes(&file).with_context(looking)?,
        })
    }

    /// Gives the file or directory at `path` this metadata, and returns once that is on disk.
    pub fn dress(&self, path: impl AsRef<Path>, metadata: &Metadata) -> Result<()> {
        let path = path.as_ref();
        let dressing = || format!("setting owner and mode of `{}`", path.display());
        let file = self.open_to_dress(path).with_context(dressing)?;
        dress(&file, metadata).with_context(dressing)?;
        rustix::fs::fsync(&file).with_context(dressing)
    }

    pub(super) fn open_to_dress(&self, path: &Path) -> Result<OwnedFd, Errno> {
        // What is neither file nor directory must not hold us up.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.open_at(path, flags)
    }
}

/// The owner first: the kernel takes setuid bits and capabilities from a file that changes hands.
pub(super) fn dress(file: impl AsFd, metadata: &Metadata) -> Result<(), Errno> {
    let (uid, gid) = metadata.owner;
    rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(metadata.mode))?;
    for (name, value) in &metadata.attributes {
        rustix::fs::fsetxattr(&file, name, value, XattrFlags::empty())?;
    }
    Ok(())
}

fn attributes(file: impl AsFd) -> Result<Attributes, Errno> {
    let mut buffer = vec![0; LONGEST];
    let length = match rustix::fs::flistxattr(&file, &mut buffer[..]) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => 0,
        Err(e) => return Err(e),
    };
    let names = String::from_utf8_lossy(&buffer[..length]).into_owned();
    let mut found = Attributes::new();
    for name in names.split_terminator('\0') {
        let length = rustix::fs::fgetxattr(&file, name, &mut buffer[..])?;
        found.insert(name.to_owned(), buffer[..length].to_owned());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_set() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let metadata = Metadata {
            mode: 0o4750,
            owner: (12, 13),
            attributes: [("user.note".to_owned(), b"mine".to_vec())].into(),
        };
        root.restore("/f", b"x", &metadata).unwrap();
        assert_eq!(root.metadata("/f").unwrap(), metadata);
        root.create_dir_all("/d", 0o755).unwrap();
        root.dress("/d", &metadata).unwrap();
        assert_eq!(root.metadata("/d").unwrap(), metadata);
    }
}
