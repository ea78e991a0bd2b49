//! Names that cannot be built invalid: containers, units, generations.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a text is no name.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{what} `{text}` {why}")]
pub struct NameError {
    what: &'static str,
    text: String,
    why: &'static str,
}

/// The name of an installed system container: also its unit's prefix, its directory and its OCI container id.
///
/// Letters, digits, `.`, `_` and `-`, beginning with a letter or a digit, at most 64 bytes: the part of
/// systemd.unit(5)'s alphabet that is a plain file name and a valid id for every OCI runtime.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerName(String);

impl ContainerName {
    /// The container's main unit, `NAME.service`.
    pub fn service(&self) -> UnitName {
        self.unit("service")
    }

    /// One of the container's units: `NAME.` and a unit type that is known to be valid.
    pub fn unit(&self, kind: &'static str) -> UnitName {
        UnitName(format!("{}.{kind}", self.0))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContainerName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = |why| {
            Err(NameError {
                what: "container name",
                text: text.to_owned(),
                why,
            })
        };
        if text.is_empty() {
            return wrong("is empty");
        }
        if text.len() > 64 {
            return wrong("is longer than 64 characters");
        }
        if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return wrong("must begin with a letter or a digit");
        }
        if !text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        {
            return wrong("may hold only letters, digits, `.`, `_` and `-`");
        }
        if UNIT_TYPES
            .iter()
            .any(|t| text.strip_suffix(t).is_some_and(|p| p.ends_with('.')))
        {
            return wrong("ends like a unit; leave the unit type out");
        }
        Ok(Self(text.to_owned()))
    }
}

/// The unit types of systemd.unit(5).
const UNIT_TYPES: [&str; 11] = [
    "service",
    "socket",
    "target",
    "timer",
    "path",
    "mount",
    "automount",
    "swap",
    "slice",
    "scope",
    "device",
];

/// The full name of a systemd unit, as systemd.unit(5) defines it.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct UnitName(String);

impl UnitName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The unit that mounts at an absolute path, named as systemd-escape(1) `--path --suffix=mount` does it.
    pub fn mount(path: &Path) -> Result<Self, NameError> {
        let path = path.to_string_lossy();
        let escaped = |(at, byte): (usize, u8)| match byte {
            b'/' => "-".to_owned(),
            b'.' if at == 0 => "\\x2e".to_owned(),
            b':' | b'_' | b'.' => char::from(byte).to_string(),
            _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            _ => format!("\\x{byte:02x}"),
        };
        let bytes = path.trim_matches('/').bytes().enumerate();
        let name: String = bytes.map(escaped).collect();
        format!("{name}.mount").parse()
    }

    /// Whether it is a unit that mounts a file system.
    pub fn is_mount(&self) -> bool {
        self.is_a("mount")
    }

    /// Whether it is a timer.
    pub fn is_timer(&self) -> bool {
        self.is_a("timer")
    }

    fn is_a(&self, kind: &str) -> bool {
        let found = self.0.rsplit_once('.');
        found.is_some_and(|(_, found)| found == kind)
    }

    /// Whether it is a service.
    pub fn is_service(&self) -> bool {
        self.0.ends_with(".service")
    }

    /// The name without its type: `etcd` of `etcd.service`.
    pub fn stem(&self) -> &str {
        self.0.rsplit_once('.').map_or(&self.0, |(stem, _)| stem)
    }
}

impl FromStr for UnitName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = |why| {
            Err(NameError {
                what: "unit name",
                text: text.to_owned(),
                why,
            })
        };
        let Some((stem, kind)) = text.rsplit_once('.') else {
            return wrong("has no unit type such as `.service`");
        };
        if stem.is_empty() || !UNIT_TYPES.contains(&kind) {
            return wrong("is not a stem and a unit type such as `.service`");
        }
        if text.len() > 255 {
            return wrong("is longer than 255 characters");
        }
        if !text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c))
        {
            return wrong("may hold only letters, digits and `:-_.\\@`");
        }
        Ok(Self(text.to_owned()))
    }
}

/// The number of one immutable deployment of a container, counted from 1.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "u32", into = "u32")]
pub struct Generation(u32);

impl Generation {
    /// The first generation of a container.
    pub const FIRST: Self = Self(1);

    /// The generation after this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl TryFrom<u32> for Generation {
    type Error = NameError;

    fn try_from(number: u32) -> Result<Self, NameError> {
        if number == 0 {
            return Err(NameError {
                what: "generation",
                text: "0".to_owned(),
                why: "does not exist: generations count from 1",
            });
        }
        Ok(Self(number))
    }
}

impl FromStr for Generation {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let number: u32 = text.parse().map_err(|_| NameError {
            what: "generation",
            text: text.to_owned(),
            why: "is not a number",
        })?;
        Self::try_from(number)
    }
}

impl From<Generation> for u32 {
    fn from(generation: Generation) -> Self {
        generation.0
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

macro_rules! text_name {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}

text_name!(ContainerName);
text_name!(UnitName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_names() {
        for good in ["etcd", "a", "9p", "kube-apiserver", "cri.o", "x_1"] {
            assert_eq!(good.parse::<ContainerName>().unwrap().as_str(), good);
        }
        for (bad, why) in [
            ("", "container name `` is empty"),
            (
                "-x",
                "container name `-x` must begin with a letter or a digit",
            ),
            (
                "a/b",
                "container name `a/b` may hold only letters, digits, `.`, `_` and `-`",
            ),
            (
                "a@b",
                "container name `a@b` may hold only letters, digits, `.`, `_` and `-`",
            ),
            (
                "etcd.service",
                "container name `etcd.service` ends like a unit; leave the unit type out",
            ),
        ] {
            assert_eq!(bad.parse::<ContainerName>().unwrap_err().to_string(), why);
        }
        assert!("a".repeat(65).parse::<ContainerName>().is_err());
    }

    #[test]
    fn unit_names() {
        let unit: UnitName = "getty@tty1.service".parse().unwrap();
        assert_eq!(unit.stem(), "getty@tty1");
        assert!("nounit".parse::<UnitName>().is_err());
        assert!("a.conf".parse::<UnitName>().is_err());
        assert!("a b.service".parse::<UnitName>().is_err());
        // As `systemd-escape --path --suffix=mount` has them.
        for (path, name) in [
            ("/srv/x_1.a:b", "srv-x_1.a:b.mount"),
            ("/a-b/é", "a\\x2db-\\xc3\\xa9.mount"),
            ("/.a/.b", "\\x2ea-.b.mount"),
        ] {
            let unit = UnitName::mount(Path::new(path)).unwrap();
            assert_eq!(unit.as_str(), name);
            assert!(unit.is_mount());
        }
        assert!(UnitName::mount(Path::new(&"-".repeat(70))).is_err());
    }

    #[test]
    fn generations_count_from_one() {
        assert!("0".parse::<Generation>().is_err());
        assert_eq!(Generation::FIRST.next().to_string(), "2");
    }
}
