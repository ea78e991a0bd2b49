//! Images where they come from: a reference as the operator writes it, and an image that has been opened.
//!
//! Everything a registry, a signature policy or an archive format has to say is said by skopeo, which runs as a
//! child; nothing here parses what containers/image parses.

pub mod reference;
pub mod remote;
mod stream;
