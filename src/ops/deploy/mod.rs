//! What `install`, `update`, `rollback` and `uninstall` share: a generation rendered for this host, what it brings
//! to the host beside its units, what stands against it, and the switch of running containers to it.

pub(crate) mod clash;
pub mod diff;
mod given;
pub(crate) mod health;
pub mod host_files;
pub(crate) mod incoming;
pub(crate) mod prepared;
mod probe;
pub(crate) mod protection;
pub(crate) mod rendering;
mod running;
pub(crate) mod secrets;
pub(crate) mod switch;
pub(crate) mod verify;
pub(crate) mod work;

use std::path::{Path, PathBuf};

use crate::name::UnitName;
use crate::ops::ordering::UNIT_DIR;
use crate::render::files::RenderedFile;
use crate::state::Record;

pub(crate) use crate::ops::deploy::given::SetGiven;
pub(crate) use crate::ops::deploy::incoming::Incoming;
pub(crate) use crate::ops::deploy::prepared::{Prepared, Preparing};
pub(crate) use crate::ops::deploy::rendering::{Again, again, built_ins};

/// A generation that is about to be live, as far as the host is concerned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Coming<'a> {
    pub(crate) record: &'a Record,
    /// Its units with their texts, the service first.
    pub(crate) units: &'a [(UnitName, String)],
    /// Files for the host, tmpfiles.d lines among them.
    pub(crate) host_files: &'a [RenderedFile],
    /// The directories that the launcher gives to this user.
    pub(crate) gives: (u32, &'a [PathBuf]),
    /// It lies on disk with its record: what it owns is said there.
    pub(crate) kept: bool,
}

/// Where a unit of ours lies.
pub(crate) fn unit_path(unit: &UnitName) -> PathBuf {
    Path::new(UNIT_DIR).join(unit.as_str())
}
