//! What is wrong with a file: told from what the layer's list of entries says that it should be.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use crate::store::object::{Meta, Sum};
use crate::store::verify::content::hash_as;

/// What is wrong with a file or an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Defect {
    /// It is not there.
    Missing,
    /// Nothing belongs there.
    Extra,
    /// It is empty and should not be.
    Truncated,
    /// Its content is another.
    Content,
    /// It is no file, or no directory, as it should be.
    Type,
    /// Its user or group is another.
    Owner,
    /// Its permission bits are others.
    Mode,
    /// Its extended attributes are others.
    Xattrs,
    /// It cannot be read.
    Unreadable,
    /// The kernel does not vouch for it, as it should.
    Unsealed,
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "missing",
            Self::Extra => "does not belong there",
            Self::Truncated => "truncated",
            Self::Content => "wrong content",
            Self::Type => "wrong type",
            Self::Owner => "wrong owner",
            Self::Mode => "wrong mode",
            Self::Xattrs => "wrong extended attributes",
            Self::Unreadable => "unreadable",
            Self::Unsealed => "not sealed by fs-verity",
        })
    }
}

/// What a look at an object found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) defects: Vec<Defect>,
    pub(crate) detail: Vec<String>,
}

impl Finding {
    pub(crate) fn new(defect: Defect, detail: impl Into<String>) -> Self {
        let mut found = Self::default();
        found.add(defect, detail);
        found
    }

    pub(crate) fn add(&mut self, defect: Defect, detail: impl Into<String>) {
        let detail = detail.into();
        self.defects.push(defect);
        if !detail.is_empty() {
            self.detail.push(detail);
        }
    }
}

/// Tells what is wrong with the file at `path` whose checksum is not `sum`, when it is known what it should be.
pub(crate) fn diagnose(path: &Path, sum: Sum, expected: Option<&Meta>) -> Option<Finding> {
    let found = Meta::of(path).ok()?;
    let Some(expected) = expected else {
        let empty = std::fs::symlink_metadata(path).is_ok_and(|s| s.is_file() && s.size() == 0);
        return Some(if empty {
            Finding::new(Defect::Truncated, "it is empty")
        } else {
            Finding::new(Defect::Content, "its content, owner, mode or attributes")
        });
    };
    let mut finding = compare(&found, expected);
    if finding.defects.contains(&Defect::Type) {
        return Some(finding);
    }
    if found.target != expected.target {
        finding.add(Defect::Content, "it points elsewhere");
    } else if hash_as(path, expected, &mut |_| {}).ok() != Some(sum) {
        let size = std::fs::symlink_metadata(path).map_or(0, |stat| stat.size());
        if size == 0 {
            finding.add(Defect::Truncated, "it is empty");
        } else {
            finding.add(
                Defect::Content,
                format!("{size} bytes that are not the image's"),
            );
        }
    }
    Some(finding)
}

/// What differs in type, owner, mode and extended attributes.
pub(crate) fn compare(found: &Meta, expected: &Meta) -> Finding {
    let mut finding = Finding::default();
    if found.mode & 0o170_000 != expected.mode & 0o170_000 {
        finding.add(
            Defect::Type,
            format!(
                "a {}, should be a {}",
                kind(found.mode),
                kind(expected.mode)
            ),
        );
        return finding;
    }
    if (found.uid, found.gid) != (expected.uid, expected.gid) {
        finding.add(
            Defect::Owner,
            format!(
                "owner {}:{}, should be {}:{}",
                found.uid, found.gid, expected.uid, expected.gid
            ),
        );
    }
    if found.mode != expected.mode {
        finding.add(
            Defect::Mode,
            format!(
                "mode {:04o}, should be {:04o}",
                found.mode & 0o7777,
                expected.mode & 0o7777
            ),
        );
    }
    if found.xattrs != expected.xattrs {
        finding.add(
            Defect::Xattrs,
            format!(
                "extended attributes {}, should be {}",
                names(found),
                names(expected)
            ),
        );
    }
    finding
}

fn kind(mode: u32) -> &'static str {
    match mode & 0o170_000 {
        0o100_000 => "file",
        0o040_000 => "directory",
        0o120_000 => "symbolic link",
        _ => "special file",
    }
}

fn names(meta: &Meta) -> String {
    let names: Vec<_> = meta
        .xattrs
        .iter()
        .map(|(name, value)| {
            let value = if value.len() > 16 {
                format!("{} bytes", value.len())
            } else {
                crate::hash::hex(value)
            };
            format!("{}={value}", String::from_utf8_lossy(name))
        })
        .collect();
    if names.is_empty() {
        return "none".to_owned();
    }
    names.join(",")
}
