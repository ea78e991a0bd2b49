//! Owner, attributes, mode and time of what has been made: objects, and directories and copies in a rootfs.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{self, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
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

/// Whom it belongs to.
pub(crate) fn owner(meta: &Meta) -> (Uid, Gid) {
    (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid))
}

/// Gives a file or a directory all of it; without an owner, the one that it has is right. A change of the owner takes
/// away setuid and file capabilities, a write takes away capabilities: hence the order, and nothing is written after.
pub(crate) fn dress(at: impl AsFd, owner: Option<(Uid, Gid)>, meta: &Meta) -> io::Result<()> {
    if let Some((uid, gid)) = owner {
        fs::fchown(&at, Some(uid), Some(gid))?;
    }
    for (name, value) in &meta.xattrs {
        fs::fsetxattr(&at, name.as_slice(), value, XattrFlags::empty())
            .map_err(|errno| refused(name, value, errno))?;
    }
    fs::fchmod(&at, Mode::from_raw_mode(meta.mode))?;
    Ok(fs::futimens(&at, &EPOCH)?)
}

/// What the error says of an attribute that the file system does not take.
pub(crate) const SETTING: &str = "setting the extended attribute";

/// By its number alone it would be taken for another fault: ext4 says that it has no room, whatever is free.
fn refused(name: &[u8], value: &[u8], errno: Errno) -> io::Error {
    let (name, size) = (String::from_utf8_lossy(name), value.len());
    let text = format!("{SETTING} `{name}` of {size} bytes: {errno}");
    io::Error::new(errno.kind(), text)
}
