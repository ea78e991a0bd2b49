//! Images where they come from: a reference as the operator writes it, and an image that has been opened.
//!
//! Everything a registry, a signature policy or an archive format has to say is said by skopeo, which runs as a
//! child; nothing here parses what containers/image parses.

pub mod access;
mod explain;
mod knock;
mod mirrors;
mod nested;
mod opening;
pub mod platform;
pub(crate) mod policy;
mod proxied;
mod proxy;
pub mod reference;
pub mod remote;
pub mod resolve;
pub(crate) mod retry;
mod session;
pub mod settings;
mod stream;
mod turn;

/// For the environment of skopeo. By default Go's collector begins at a heap of 4 MiB, which skopeo has before it has
/// read its command line, and goes through it several times until a manifest is there: a tenth of such a command's
/// time. The heap is a few MiB whatever is read; with this it may grow to five times that.
const COLLECTOR: (&str, &str) = ("GOGC", "400");
