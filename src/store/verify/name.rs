//! What an object is called, and a plain file's attributes.

use std::fmt;

use crate::store::object::{Kind, Meta, relative_path};
use crate::store::tree::Sum;

/// An object's name. Displays as libostree's tools have it: `CHECKSUM.dirtree`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Object {
    pub(crate) kind: Kind,
    pub(crate) sum: Sum,
}

impl Object {
    pub(crate) fn file(sum: Sum) -> Self {
        Self {
            kind: Kind::File,
            sum,
        }
    }

    /// Its path below `objects/`.
    pub(crate) fn path(self) -> String {
        relative_path(&self.sum.to_string(), self.kind)
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path().replacen('/', "", 1))
    }
}

/// The attributes of what has no extended ones; `mode` with the type.
pub(crate) fn plain(uid: u32, gid: u32, mode: u32) -> Meta {
    Meta {
        uid,
        gid,
        mode,
        xattrs: Vec::new(),
        target: None,
    }
}
