//! Images where they come from: a reference as the operator writes it, and an image that has been opened.
//!
//! Everything a registry, a signature policy or an archive format has to say is said by skopeo, which runs as a
//! child; nothing here parses what containers/image parses.

pub mod access;
mod explain;
mod knock;
mod mirrors;
mod nested;
pub mod platform;
pub(crate) mod policy;
mod proxy;
pub mod reference;
pub mod remote;
pub mod resolve;
pub(crate) mod retry;
mod session;
pub mod settings;
mod stream;
mod turn;

/// Bytes as hexadecimal text, as digests are written.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(DIGITS[usize::from(digit)].into());
        }
    }
    text
}
