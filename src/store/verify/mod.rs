//! Checking what the store holds: every object against its checksum, every rootfs against the tree it came from.
//!
//! `inspect` follows the store's metadata from the refs down and makes the `inventory`, `content`
//! hashes the files, `defect` tells what is wrong with one, `rootfs` compares a checkout. Nothing here writes.

pub(crate) mod content;
pub(crate) mod defect;
mod inspect;
pub(crate) mod inventory;
pub(crate) mod rootfs;

use anyhow::{Context, Result};
use ostree::{Repo, gio};

use crate::root::Root;
use crate::store::objects::Objects;
use crate::store::settings::Settings;
use crate::store::{REPO, Store, is_made};

impl Store {
    /// Opens the root's repository as it is; `None` when there is none.
    pub(crate) fn look(root: &Root, settings: Settings) -> Result<Option<Self>> {
        let path = root.outside(REPO);
        if !is_made(root)? {
            return Ok(None);
        }
        let repo = Repo::new_for_path(&path);
        repo.open(gio::Cancellable::NONE)
            .with_context(|| format!("opening the store `{}`", path.display()))?;
        Ok(Some(Self {
            objects: Objects::open(&path)?,
            repo,
            path,
            settings,
        }))
    }
}
