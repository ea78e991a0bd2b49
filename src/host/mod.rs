//! What reaches the host beside units: the files of an image's `hostfs/`, owned by record.

mod files;

pub use files::{Found, OwnedContent, OwnedFile, checksum};
