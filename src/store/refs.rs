//! Refs: what each is called, and the one place that lists and sets them.
//!
//! They are listed here and not by libostree, which reads none if one of them is not text: a pending one is written
//! without waiting for the disk, and a power cut may leave zeros of it.
#![expect(
    clippy::disallowed_methods,
    reason = "the store owns what lies in its own private directories"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ostree::gio::prelude::FileExt;
use ostree::{Repo, gio};

/// Refs of images, by manifest digest.
pub(crate) const IMAGES: &str = "bedplate/image";

/// The same of those that an operator wants kept.
pub(crate) const KEPT: &str = "bedplate/kept";

/// Refs of layers, by diff_id.
pub(crate) const LAYERS: &str = "bedplate/layer";

/// The same of those that may not be on disk yet.
pub(crate) const PENDING: &str = "bedplate/pending";

/// Where libostree keeps them in the repository.
pub(crate) const HEADS: &str = "refs/heads";

/// The ref of this kind for a digest, which may have a colon, as a ref may not.
pub(crate) fn name(kind: &str, digest: impl AsRef<str>) -> String {
    format!("{kind}/{}", digest.as_ref().replacen(':', "-", 1))
}

/// The digest for which a ref of this kind is called so.
pub(crate) fn digest(kind: &str, name: &str) -> Option<String> {
    let component = name.strip_prefix(kind)?.strip_prefix('/')?;
    Some(component.replacen('-', ":", 1))
}

/// The refs of this kind, or all, by name, each with its commit: what is no commit's checksum, too.
pub(crate) fn list(repo: &Repo, kind: Option<&str>) -> Result<BTreeMap<String, String>> {
    let dir = repo.path().path().context("the store has no path")?;
    let mut found = BTreeMap::new();
    if let Some(kind) = kind {
        list_below(&dir.join(HEADS), Path::new(kind), &mut found)?;
    } else {
        list_below(&dir.join(HEADS), Path::new(""), &mut found)?;
        // Not ours, but what they reach is somebody's.
        for others in ["remotes", "mirrors"] {
            list_below(&dir.join("refs"), Path::new(others), &mut found)?;
        }
    }
    Ok(found)
}

fn list_below(top: &Path, below: &Path, found: &mut BTreeMap<String, String>) -> Result<()> {
    let dir = top.join(below);
    let reading = |path: &Path| format!("reading the refs `{}`", path.display());
    let entries = match fs::read_dir(&dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| reading(&dir))?,
    };
    for entry in entries {
        let entry = entry.with_context(|| reading(&dir))?;
        let name: PathBuf = below.join(entry.file_name());
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            // What is being written; a ref is not called so.
            continue;
        }
        if entry.file_type().with_context(|| reading(&dir))?.is_dir() {
            list_below(top, &name, found)?;
            continue;
        }
        match fs::read(entry.path()) {
            // Removed since.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            content => {
                let content = content.with_context(|| reading(&entry.path()))?;
                // libostree takes no text with a NUL in it.
                let commit = String::from_utf8_lossy(&content).replace('\0', "\u{fffd}");
                let commit = commit.trim().to_owned();
                found.insert(name.to_string_lossy().into_owned(), commit);
            }
        }
    }
    Ok(())
}

/// Lets a ref name a commit, or removes it.
pub(crate) fn set(repo: &Repo, name: &str, commit: Option<&str>) -> Result<()> {
    let what = if commit.is_some() {
        "writing"
    } else {
        "removing"
    };
    repo.set_ref_immediate(None, name, commit, gio::Cancellable::NONE)
        .with_context(|| format!("{what} the ref `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ref_tells_its_digest() {
        let found = name(LAYERS, "sha256:12-3");
        assert_eq!(found, "bedplate/layer/sha256-12-3");
        assert_eq!(digest(LAYERS, &found).unwrap(), "sha256:12-3");
        assert_eq!(digest(IMAGES, &found), None);
        assert_eq!(digest("bedplate/lay", &found), None);
    }
}
