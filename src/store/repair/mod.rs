//! Bringing damaged objects back: from what is here if it verifies, else from the layers that hold them.
//!
//! An object is written anew beside the old one and takes its place by a rename: a process that has the old file
//! open or mapped keeps it. Nothing is taken that has not the checksum.

pub(crate) mod place;
pub(crate) mod scratch;
pub(crate) mod source;
pub(crate) mod write;
