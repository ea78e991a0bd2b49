//! Refs: what each is called, and the one place that sets them.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use ostree::{Repo, RepoListRefsExtFlags, gio};

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

/// The refs of this kind, or all, by name, each with its commit.
pub(crate) fn list(repo: &Repo, kind: Option<&str>) -> Result<BTreeMap<String, String>> {
    let refs = repo.list_refs_ext(kind, RepoListRefsExtFlags::NONE, gio::Cancellable::NONE)?;
    Ok(refs.into_iter().collect())
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
