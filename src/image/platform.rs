//! For which machines an image is: operating system, architecture and variant, in the words of the OCI image index.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A kind of machine, displayed as `linux/arm64` or `linux/arm/v7`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

/// A text that names no platform.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "`{0}` is no platform: write it in lower-case letters and digits, such as `linux`, `arm64`, `v8`"
)]
pub struct PlatformError(String);

/// Names that uname(1) has for what OCI calls otherwise.
const ALIASES: &[(&str, &str)] = &[
    ("x86_64", "amd64"),
    ("aarch64", "arm64"),
    ("x86", "386"),
    ("i686", "386"),
    ("powerpc64", "ppc64le"),
    ("loongarch64", "loong64"),
];

impl Platform {
    /// The one that is meant where some of it is said and the rest is this machine's.
    pub fn given(
        os: Option<&str>,
        architecture: Option<&str>,
        variant: Option<&str>,
    ) -> Result<Self, PlatformError> {
        let here = Self::default();
        let platform = Self {
            os: os.map_or(here.os, str::to_owned),
            architecture: architecture.map_or(here.architecture, |name| oci_name(name).to_owned()),
            variant: variant.map(str::to_owned),
        };
        let variant = platform.variant.iter();
        for part in [&platform.os, &platform.architecture]
            .into_iter()
            .chain(variant)
        {
            let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.';
            if part.is_empty() || !part.chars().all(known) {
                return Err(PlatformError(part.clone()));
            }
        }
        Ok(platform)
    }

    /// Whether programs for it run on this machine.
    pub fn runs_here(&self) -> bool {
        let here = Self::default();
        self.os == here.os && self.architecture == here.architecture
    }

    /// Whether an image whose config says this of itself is for it. A config may say nothing.
    pub(crate) fn takes(&self, os: &str, architecture: &str) -> bool {
        (os.is_empty() || os == self.os)
            && (architecture.is_empty() || architecture == self.architecture)
    }

    /// Whether it is this one; a variant counts if both have one.
    pub(crate) fn is(&self, os: &str, architecture: &str, variant: Option<&str>) -> bool {
        let same = match (&self.variant, variant) {
            (Some(wanted), Some(variant)) => wanted == variant,
            _ => true,
        };
        same && os == self.os && architecture == self.architecture
    }

    /// skopeo's options for it; none where it would choose so by itself.
    pub(crate) fn args(&self) -> Vec<String> {
        if *self == Self::default() {
            return Vec::new();
        }
        let mut args = vec![
            format!("--override-os={}", self.os),
            format!("--override-arch={}", self.architecture),
        ];
        args.extend(
            self.variant
                .iter()
                .map(|variant| format!("--override-variant={variant}")),
        );
        args
    }
}

/// This machine's.
impl Default for Platform {
    fn default() -> Self {
        Self {
            os: "linux".to_owned(),
            architecture: oci_name(std::env::consts::ARCH).to_owned(),
            variant: None,
        }
    }
}

fn oci_name(architecture: &str) -> &str {
    let alias = ALIASES.iter().find(|(other, _)| *other == architecture);
    alias.map_or(architecture, |(_, name)| name)
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|v| write!(f, "/{v}"))
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, '/');
        Self::given(parts.next(), Some(parts.next().unwrap_or("")), parts.next())
    }
}

impl TryFrom<String> for Platform {
    type Error = PlatformError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Platform> for String {
    fn from(platform: Platform) -> Self {
        platform.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_this_machines() {
        let here = Platform::default();
        assert_eq!(Platform::given(None, None, None), Ok(here.clone()));
        assert!(here.runs_here() && here.args().is_empty());
        let other = Platform::given(None, Some("s390x"), None).unwrap();
        assert_eq!(other.to_string(), "linux/s390x");
        assert!(!other.runs_here() && other.takes("linux", "") && !other.takes("linux", "arm"));
        assert_eq!(
            other.args(),
            ["--override-os=linux", "--override-arch=s390x"]
        );
        assert!(
            !Platform::given(Some("freebsd"), None, None)
                .unwrap()
                .runs_here()
        );
        let variant = Platform::given(None, None, Some("v9")).unwrap();
        assert!(variant.runs_here() && variant != here);
    }

    #[test]
    fn platforms_round_trip() {
        for (text, shown) in [
            ("linux/arm64", "linux/arm64"),
            ("linux/aarch64/v8", "linux/arm64/v8"),
            ("linux/arm/v7", "linux/arm/v7"),
        ] {
            let platform: Platform = text.parse().unwrap();
            assert_eq!(platform.to_string(), shown);
            assert_eq!(shown.parse(), Ok(platform));
        }
        for (text, wrong) in [
            ("linux", ""),
            ("", ""),
            ("Linux/arm64", "Linux"),
            ("linux/arm 64", "arm 64"),
            ("linux/arm/v7/x", "v7/x"),
        ] {
            let error = text.parse::<Platform>().unwrap_err();
            assert_eq!(error, PlatformError(wrong.to_owned()));
        }
    }
}
