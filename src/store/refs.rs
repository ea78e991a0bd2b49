//! Refs: what each is called, and the one place that reads and sets them.
#![expect(
    clippy::disallowed_methods,
    reason = "the store owns what lies in its own private directories"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::store::object::Sum;
use crate::store::repo::Repo;

/// Refs of images, by manifest digest.
pub(crate) const IMAGES: &str = "bedplate/image";

/// The same of those that an operator wants kept.
pub(crate) const KEPT: &str = "bedplate/kept";

/// Refs of layers, by diff_id.
pub(crate) const LAYERS: &str = "bedplate/layer";

/// The same of those that may not be on disk yet.
pub(crate) const PENDING: &str = "bedplate/pending";

/// Where they lie in the repository.
pub(crate) const HEADS: &str = "refs/heads";

/// Where the next content of a ref is prepared. Writers hold the lock: one name is enough.
const TEMPORARY: &str = "tmp/bedplate-ref";

/// The ref of this kind for a digest, which may have a colon, as a ref may not.
pub(crate) fn name(kind: &str, digest: impl AsRef<str>) -> String {
    format!("{kind}/{}", digest.as_ref().replacen(':', "-", 1))
}

/// The digest for which a ref of this kind is called so.
pub(crate) fn digest(kind: &str, name: &str) -> Option<String> {
    let component = name.strip_prefix(kind)?.strip_prefix('/')?;
    Some(component.replacen('-', ":", 1))
}

/// The refs of this kind, or all, by name, each with the commit that it names, whether or not that is one.
pub(crate) fn list(repo: &Repo, kind: Option<&str>) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let top = repo.path().join(HEADS);
    list_below(&top, kind.unwrap_or_default(), &mut found)?;
    if kind.is_none() {
        // Not ours, but what they reach is somebody's.
        let top = repo.path().join("refs");
        for others in ["remotes", "mirrors"] {
            list_below(&top, others, &mut found)?;
        }
    }
    Ok(found)
}

fn list_below(top: &Path, dir: &str, found: &mut BTreeMap<String, String>) -> Result<()> {
    let path = top.join(dir);
    let listing = || format!("listing `{}`", path.display());
    let entries = match fs::read_dir(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(listing)?,
    };
    for entry in entries {
        let entry = entry.with_context(listing)?;
        let file_name = entry.file_name();
        // What has another name was not written here, nor by libostree; or it is being written.
        let Some(file_name) = file_name.to_str().filter(|name| !name.starts_with('.')) else {
            continue;
        };
        let name = match dir {
            "" => file_name.to_owned(),
            dir => format!("{dir}/{file_name}"),
        };
        if entry.file_type().with_context(listing)?.is_dir() {
            list_below(top, &name, found)?;
        } else if let Some(commit) = read(&entry.path())? {
            found.insert(name, commit);
        }
    }
    Ok(())
}

/// The commit that a ref names; `None` when there is no such ref.
pub(crate) fn resolve(repo: &Repo, name: &str) -> Result<Option<String>> {
    let commit = read(&path(repo, name))?;
    if let Some(commit) = &commit {
        Sum::parse(commit).with_context(|| format!("reading the ref `{name}`"))?;
    }
    Ok(commit)
}

/// Lets a ref name a commit, or removes it.
pub(crate) fn set(repo: &Repo, name: &str, commit: Option<&str>) -> Result<()> {
    let Some(commit) = commit else {
        return match fs::remove_file(path(repo, name)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.with_context(|| format!("removing the ref `{name}`")),
        };
    };
    let next = Next::new(repo, name, commit)?;
    next.sync()?;
    next.put()
}

/// A ref's next content, which must be on disk before it takes the ref's place.
#[must_use]
pub(crate) struct Next {
    name: String,
    file: File,
    temporary: PathBuf,
    place: PathBuf,
}

impl Next {
    /// Writes it beside the refs. One at a time.
    pub(crate) fn new(repo: &Repo, name: &str, commit: &str) -> Result<Self> {
        let temporary = repo.path().join(TEMPORARY);
        let write = || {
            let mut file = File::create(&temporary)?;
            file.write_all(format!("{commit}\n").as_bytes())?;
            Ok::<_, std::io::Error>(file)
        };
        Ok(Self {
            file: write().with_context(|| writing(name))?,
            name: name.to_owned(),
            place: path(repo, name),
            temporary,
        })
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_data().with_context(|| writing(&self.name))
    }

    /// Lets the ref have it.
    pub(crate) fn put(self) -> Result<()> {
        put(&self.temporary, &self.place).with_context(|| writing(&self.name))
    }
}

/// Gives a ref another name.
pub(crate) fn rename(repo: &Repo, from: &str, to: &str) -> Result<()> {
    put(&path(repo, from), &path(repo, to)).with_context(|| writing(to))
}

fn writing(name: &str) -> String {
    format!("writing the ref `{name}`")
}

/// Moves a file to a ref's place, whose directory is made when it is missing.
fn put(from: &Path, place: &Path) -> std::io::Result<()> {
    match fs::rename(from, place) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        renamed => return renamed,
    }
    if let Some(dir) = place.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::rename(from, place)
}

fn path(repo: &Repo, name: &str) -> PathBuf {
    repo.path().join(HEADS).join(name)
}

/// What a ref's file says.
fn read(path: &Path) -> Result<Option<String>> {
    match fs::read(path) {
        // A power cut may have left zeros.
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes).replace('\0', "\u{fffd}");
            Ok(Some(text.trim_end().to_owned()))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading `{}`", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use ostree::{RepoListRefsExtFlags, gio};

    use super::*;
    use crate::store::repo::CONFIG;

    #[test]
    fn a_ref_tells_its_digest() {
        let found = name(LAYERS, "sha256:12-3");
        assert_eq!(found, "bedplate/layer/sha256-12-3");
        assert_eq!(digest(LAYERS, &found).unwrap(), "sha256:12-3");
        assert_eq!(digest(IMAGES, &found), None);
        assert_eq!(digest("bedplate/lay", &found), None);
    }

    #[test]
    fn libostree_knows_them() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("config"), CONFIG).unwrap();
        let repo = Repo::complete(place.path()).unwrap();
        let none = gio::Cancellable::NONE;
        let theirs = ostree::Repo::new_for_path(place.path());
        theirs.open(none).unwrap();
        let (one, two) = ("01".repeat(32), "02".repeat(32));
        let (a, b) = (name(LAYERS, "sha256:a"), name(PENDING, "sha256:b"));
        set(&repo, &a, Some(&one)).unwrap();
        set(&repo, &b, Some(&one)).unwrap();
        set(&repo, &b, Some(&two)).unwrap();
        theirs
            .set_ref_immediate(None, "other", Some(&two), none)
            .unwrap();
        let flags = RepoListRefsExtFlags::NONE;
        let known: BTreeMap<_, _> = theirs
            .list_refs_ext(None, flags, none)
            .unwrap()
            .into_iter()
            .collect();
        assert_eq!(list(&repo, None).unwrap(), known);
        assert_eq!(known[&b], two);
        assert_eq!(
            list(&repo, Some(LAYERS)).unwrap(),
            BTreeMap::from([(a.clone(), one.clone())])
        );
        assert_eq!(resolve(&repo, &a).unwrap().unwrap(), one);
        rename(&repo, &b, &a).unwrap();
        assert_eq!(resolve(&repo, &a).unwrap().unwrap(), two);
        set(&repo, &a, None).unwrap();
        set(&repo, &a, None).unwrap();
        assert_eq!(resolve(&repo, &a).unwrap(), None);
        fs::write(path(&repo, &a), "no checksum\n").unwrap();
        assert!(resolve(&repo, &a).is_err());
        assert_eq!(list(&repo, Some(LAYERS)).unwrap()[&a], "no checksum");
        assert!(
            fs::read_dir(place.path().join("tmp"))
                .unwrap()
                .all(|entry| entry.unwrap().file_name() == "cache")
        );
    }
}
