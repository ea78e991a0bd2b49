//! Checksums, and bytes as the hexadecimal text in which they are written.
//!
//! By OpenSSL's functions of one algorithm each, which use the processor's instructions: those that take the algorithm
//! as an argument (`EVP_*`, and `SHA256()` in one call) look for a provider first, which costs every command 2 ms.

use anyhow::{Context, Result};
use openssl::sha;

/// A checksum of what comes in pieces.
pub(crate) enum Hasher {
    /// SHA-256.
    Sha256(sha::Sha256),
    /// SHA-384.
    Sha384(sha::Sha384),
    /// SHA-512.
    Sha512(sha::Sha512),
}

impl Hasher {
    /// Adds a piece.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha384(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The checksum, as hexadecimal text.
    pub(crate) fn finish(self) -> String {
        match self {
            Self::Sha256(hasher) => hex(&hasher.finish()),
            Self::Sha384(hasher) => hex(&hasher.finish()),
            Self::Sha512(hasher) => hex(&hasher.finish()),
        }
    }
}

/// The SHA-256 of what is at hand.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hasher = sha::Sha256::new();
    hasher.update(bytes);
    hasher.finish()
}

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

/// The bytes that hexadecimal text stands for.
pub(crate) fn unhex(text: &str) -> Result<Vec<u8>> {
    let mut bytes = vec![0; text.len() / 2];
    unhex_into(text, &mut bytes).with_context(|| format!("`{text}` is not hexadecimal"))?;
    Ok(bytes)
}

/// The same, into as many bytes as it must be; `None` when it is not.
pub(crate) fn unhex_into(text: &str, bytes: &mut [u8]) -> Option<()> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks();
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = value(*high)? << 4 | value(*low)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-2, appendix B.1, C.1 and D.1: the message `abc`.
    #[test]
    fn the_standards_examples() {
        let hashers = [
            (Hasher::Sha256(sha::Sha256::new()), "ba7816bf", "f20015ad"),
            (Hasher::Sha384(sha::Sha384::new()), "cb00753f", "34c825a7"),
            (Hasher::Sha512(sha::Sha512::new()), "ddaf35a1", "a54ca49f"),
        ];
        for (mut hasher, start, end) in hashers {
            hasher.update(b"a");
            hasher.update(b"bc");
            let sum = hasher.finish();
            assert!(sum.starts_with(start) && sum.ends_with(end), "{sum}");
        }
        assert!(hex(&sha256(b"abc")).starts_with("ba7816bf8f01cfea"));
    }
}
