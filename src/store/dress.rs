//! Owner, attributes, mode and time of what has been made: objects, and directories and copies in a rootfs.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{self, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::store::object::Meta;

/// As libostree dates its objects: 1970-01-01 00:00 UTC.
pub(crate) const EPOCH: Timestamps = Timestamps {
    last_access: ZERO,
    last_modification: ZERO,
};
const ZERO: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// Gives a file or a directory what it has not. A change of the owner takes away setuid and file capabilities, a write
/// takes away capabilities: hence the order, and nothing is written after. Each change that is none would be a write to the
/// inode, through the file system's journal.
pub(crate) fn dress(at: impl AsFd, meta: &Meta) -> io::Result<()> {
    let is = fs::fstat(&at)?;
    let is_theirs = is_owned(&is, meta);
    if !is_theirs {
        let (uid, gid) = owner(meta);
        fs::fchown(&at, Some(uid), Some(gid))?;
    }
    for (name, value) in &meta.xattrs {
        fs::fsetxattr(&at, name.as_slice(), value, XattrFlags::empty())
            .map_err(|errno| refused(name, value, errno))?;
    }
    // An access control list among the attributes changes the mode.
    if !is_theirs || !meta.xattrs.is_empty() || is.st_mode != meta.mode {
        fs::fchmod(&at, Mode::from_raw_mode(meta.mode))?;
    }
    Ok(fs::futimens(&at, &EPOCH)?)
}

/// Whom it is to belong to.
pub(crate) fn owner(meta: &Meta) -> (Uid, Gid) {
    (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid))
}

/// Whether it does.
pub(crate) fn is_owned(is: &Stat, meta: &Meta) -> bool {
    (is.st_uid, is.st_gid) == (meta.uid, meta.gid)
}

/// What the error says of an attribute that the file system does not take.
pub(crate) const SETTING: &str = "setting the extended attribute";

/// By its number alone it would be taken for another fault: ext4 says that it has no room, whatever is free.
fn refused(name: &[u8], value: &[u8], errno: Errno) -> io::Error {
    let (name, size) = (String::from_utf8_lossy(name), value.len());
    let text = format!("{SETTING} `{name}` of {size} bytes: {errno}");
    io::Error::new(errno.kind(), text)
}
