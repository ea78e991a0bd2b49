//! Host files with their checksums: what is ours, and whether the operator has changed it.

use std::path::{Path, PathBuf};

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::hash::{hex, sha256};
use crate::root::{Kind, Root};

/// A file, link or directory that a container brought to the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OwnedFile {
    /// Where it lies.
    pub path: PathBuf,
    /// What was written there.
    #[serde(flatten)]
    pub content: OwnedContent,
    /// It was laid beside a file that the operator had changed, for them to look at and to take away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub aside: bool,
}

/// What was written at a path, as far as it must be known again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OwnedContent {
    /// A file with the SHA-256 of its content, in hexadecimal.
    Sha256(String),
    /// A symbolic link with its target.
    Link(PathBuf),
    /// A directory with its permission bits.
    Dir(u32),
}

/// How an owned file is found later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// As it was written.
    Unchanged,
    /// The operator changed it: it is theirs now.
    Changed,
    /// It is gone.
    Absent,
}

impl OwnedContent {
    /// The content of a file.
    pub fn of_file(content: &[u8]) -> Self {
        Self::Sha256(checksum(content))
    }
}

impl OwnedFile {
    /// Looks at the host.
    pub fn look(&self, root: &Root) -> Result<Found> {
        let path: &Path = &self.path;
        let same = match (root.kind(path)?, &self.content) {
            (None, _) => return Ok(Found::Absent),
            (Some(Kind::File), OwnedContent::Sha256(sum)) => root
                .read(path)?
                .is_some_and(|content| checksum(&content) == *sum),
            (Some(Kind::Link), OwnedContent::Link(target)) => {
                root.link_target(path)?.as_ref() == Some(target)
            }
            (Some(Kind::Dir), OwnedContent::Dir(_)) => true,
            _ => false,
        };
        Ok(if same {
            Found::Unchanged
        } else {
            Found::Changed
        })
    }
}

/// The SHA-256 of a content, in hexadecimal.
pub fn checksum(content: &[u8]) -> String {
    hex(&sha256(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_no_longer_ours() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        root.replace("/f", b"one", 0o644).unwrap();
        let owned = OwnedFile {
            path: "/f".into(),
            content: OwnedContent::of_file(b"one"),
            aside: false,
        };
        assert_eq!(owned.look(&root).unwrap(), Found::Unchanged);
        root.replace("/f", b"two", 0o644).unwrap();
        assert_eq!(owned.look(&root).unwrap(), Found::Changed);
        root.remove_file("/f").unwrap();
        assert_eq!(owned.look(&root).unwrap(), Found::Absent);
        let text = toml::to_string(&owned).unwrap();
        assert_eq!(toml::from_str::<OwnedFile>(&text).unwrap(), owned);
    }
}
