//! The checksum of an object: 32 bytes in memory and in OSTree's objects, hexadecimal text in names and lists.

use std::fmt;

use anyhow::{Context, Result};
use openssl::sha::Sha256;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::hash::{hex, sha256, unhex_into};

/// The checksum of an object; the default, all zeros, is that of none.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Sum([u8; 32]);

impl Sum {
    /// From the bytes.
    pub(crate) fn new(bytes: &[u8]) -> Result<Self> {
        let bytes = bytes.try_into().context("a checksum of another length")?;
        Ok(Self(bytes))
    }

    /// Of an object that is no file.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(sha256(bytes))
    }

    /// Of what has been hashed.
    pub(crate) fn hashed(hasher: Sha256) -> Self {
        Self(hasher.finish())
    }

    /// From hexadecimal text.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut bytes = [0; 32];
        unhex_into(text, &mut bytes).with_context(|| format!("`{text}` is no checksum"))?;
        Ok(Self(bytes))
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl Serialize for Sum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Sum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text)
    }
}

/// Reads a checksum where it stands.
struct Text;

impl Visitor<'_> for Text {
    type Value = Sum;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a checksum in hexadecimal")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Sum, E> {
        Sum::parse(text).map_err(E::custom)
    }
}

impl fmt::Debug for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
