//! What makes a directory an OSTree repository of mode bare, as libostree's tools know it.
#![expect(
    clippy::disallowed_methods,
    reason = "the store owns what lies in its own private directories"
)]

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Its config.
pub(crate) const CONFIG: &[u8] = b"[core]\nrepo_version=1\nmode=bare\n";

/// What libostree makes besides, in its order: it calls a repository what has the last of them.
const DIRECTORIES: [&str; 9] = [
    "tmp",
    "extensions",
    "state",
    "refs",
    "refs/heads",
    "refs/mirrors",
    "refs/remotes",
    "tmp/cache",
    OBJECTS,
];

/// The directory of the objects.
pub(crate) const OBJECTS: &str = "objects";

/// A repository.
#[derive(Debug)]
pub(crate) struct Repo {
    path: PathBuf,
}

impl Repo {
    /// Opens the repository at `path`, which has its config. What else is missing is made.
    pub(crate) fn complete(path: &Path) -> Result<Self> {
        let repo = Self::open(path)?;
        for name in DIRECTORIES {
            let dir = path.join(name);
            match fs::create_dir(&dir) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => made.with_context(|| format!("making `{}`", dir.display()))?,
            }
        }
        Ok(repo)
    }

    /// Opens the repository at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let config = path.join("config");
        let reading = || format!("reading `{}`", config.display());
        let text = fs::read_to_string(&config).with_context(reading)?;
        let value = |key: &str| {
            let lines = text.lines().filter_map(|line| line.split_once('='));
            let mut values = lines.filter(|(found, _)| found.trim() == key);
            values.next().map(|(_, value)| value.trim())
        };
        if (value("repo_version"), value("mode")) != (Some("1"), Some("bare")) {
            return (|| bail!("it is no repository of mode bare"))().with_context(reading);
        }
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ostree::{RepoMode, gio};

    use super::*;

    fn names(dir: &Path) -> BTreeSet<String> {
        let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
        entries
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn it_is_as_libostree_makes_it() {
        let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let none = gio::Cancellable::NONE;
        ostree::Repo::new_for_path(theirs.path())
            .create(RepoMode::Bare, none)
            .unwrap();
        fs::write(ours.path().join("config"), CONFIG).unwrap();
        Repo::complete(ours.path()).unwrap();
        for dir in ["", "refs", "tmp"] {
            let (ours, theirs) = (ours.path().join(dir), theirs.path().join(dir));
            assert_eq!(names(&ours), names(&theirs), "{dir}");
        }
        Repo::open(theirs.path()).unwrap();
        ostree::Repo::new_for_path(ours.path()).open(none).unwrap();
        fs::write(ours.path().join("config"), "[core]\nmode=archive-z2\n").unwrap();
        assert!(Repo::open(ours.path()).is_err());
    }
}
