//! Checking what the store holds: every object against its checksum, every rootfs against the tree it came from.
//!
//! `inspect` follows the store's metadata from the refs down and makes the `inventory`, `content`
//! hashes the files, `defect` tells what is wrong with one, `rootfs` compares a checkout. Nothing here writes.

pub(crate) mod content;
pub(crate) mod defect;
mod inspect;
pub(crate) mod inventory;
pub(crate) mod rootfs;
