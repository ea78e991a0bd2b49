//! What the operator may set of the store: `[store]` of bedplate.toml.

use std::fmt;

use serde::{Deserialize, Deserializer};

/// The units of a size, each 1024 times the one before it.
const SUFFIXES: [&str; 5] = ["", "K", "M", "G", "T"];

/// `[store]`, with what holds where nothing is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How content is kept from changing while it is used.
    pub integrity: Integrity,
    /// How many bytes one layer may have when it is unpacked: decompression bombs end here.
    pub layer_limit: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            integrity: Integrity::None,
            layer_limit: 32 << 30,
        }
    }
}

/// What protects a generation's files while its container runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Integrity {
    /// The rootfs is a tree of hard links to the store's objects; `verify` finds what has changed.
    None,
    /// The tree is an EROFS image, the objects are its data: names, owners and modes cannot change.
    Composefs,
    /// As composefs, with fs-verity on each object: reading a changed byte is an I/O error.
    Verity,
    /// The strongest of these that works here.
    Auto,
}

impl fmt::Display for Integrity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Composefs => "composefs",
            Self::Verity => "verity",
            Self::Auto => "auto",
        })
    }
}

/// `[store]` as one file has it: what is absent leaves the weaker files' word.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Section {
    integrity: Option<Integrity>,
    #[serde(default, deserialize_with = "size")]
    layer_limit: Option<u64>,
}

impl Settings {
    /// The limit as it is written: in the greatest unit in which it is a whole number.
    pub fn layer_limit_text(&self) -> String {
        let (mut number, mut power) = (self.layer_limit, 0);
        while power + 1 < SUFFIXES.len() && number > 0 && number.is_multiple_of(1024) {
            number /= 1024;
            power += 1;
        }
        format!("{number}{}", SUFFIXES[power])
    }

    /// These settings with a file's over them.
    pub fn overridden_by(self, section: &Section) -> Self {
        Self {
            integrity: section.integrity.unwrap_or(self.integrity),
            layer_limit: section.layer_limit.unwrap_or(self.layer_limit),
        }
    }
}

/// Bytes as a number, or with one of systemd's suffixes K, M, G, T to the base of 1024 (systemd.syntax(7)).
fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(u64),
        Text(String),
    }
    let text = match Written::deserialize(deserializer)? {
        Written::Number(bytes) => return Ok(Some(bytes)),
        Written::Text(text) => text,
    };
    let digits = text.trim_end_matches(|c: char| c.is_ascii_uppercase());
    let power = SUFFIXES.iter().position(|s| *s == &text[digits.len()..]);
    let bytes = power.zip(digits.parse::<u64>().ok());
    bytes
        .and_then(|(power, number)| number.checked_mul(1 << (10 * power)))
        .map(Some)
        .ok_or_else(|| {
            serde::de::Error::custom(format!(
                "`{text}` is no size: a number of bytes, or one with K, M, G or T, such as \"32G\""
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_lie_over_one_another() {
        let section = |text: &str| toml::from_str::<Section>(text);
        let set = Settings::default()
            .overridden_by(&section("integrity = \"auto\"\nlayer_limit = \"2M\"").unwrap())
            .overridden_by(&section("layer_limit = 1024").unwrap());
        assert_eq!(
            set,
            Settings {
                integrity: Integrity::Auto,
                layer_limit: 1024
            }
        );
        for wrong in ["\"2MB\"", "\"\"", "\"G\"", "\"99999999999T\"", "-1"] {
            assert!(
                section(&format!("layer_limit = {wrong}")).is_err(),
                "{wrong}"
            );
        }
    }
}
