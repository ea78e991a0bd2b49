//! Owner, attributes, mode and time of what has been made: objects, and directories and copies in a rootfs.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{self, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};

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
        fs::fsetxattr(&at, name.as_slice(), value, XattrFlags::empty())?;
    }
    fs::fchmod(&at, Mode::from_raw_mode(meta.mode))?;
    Ok(fs::futimens(&at, &EPOCH)?)
}
