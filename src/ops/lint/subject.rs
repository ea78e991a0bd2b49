//! What is to be checked, as it is named: a directory, or an image.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::image::reference::ReferenceError;
use crate::ops::images::Wanted;

/// A directory or an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A directory.
    Dir(PathBuf),
    /// An image.
    Image(Wanted),
}

/// A directory that is there is one, and so is what begins with `/` or `.`; all else is an image.
impl FromStr for Subject {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.starts_with(['/', '.']) || Path::new(text).is_dir() {
            return Ok(Self::Dir(text.into()));
        }
        text.parse().map(Self::Image)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dir(path) => path.display().fmt(f),
            Self::Image(wanted) => wanted.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_a_directory() {
        for dir in [".", "../x", "/x", "src"] {
            assert_eq!(dir.parse(), Ok(Subject::Dir(dir.into())));
        }
        for image in ["registry.example/x:1", "oci:src", "sha256:0123"] {
            let found: Subject = image.parse().unwrap();
            assert!(matches!(found, Subject::Image(_)), "{image}");
        }
        assert!("no-such-directory".parse::<Subject>().is_err());
    }
}
