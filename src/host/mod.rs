//! The host beside its units: the files that images bring to it, owned by record, and its processes.

mod files;
pub mod processes;

pub use files::{Found, OwnedContent, OwnedFile, checksum};
