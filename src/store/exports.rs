//! What an image says about itself, looked at without checking it out and without writing to the store: a private
//! copy of its `/exports` and of its users, and what lies at a path of it.
#![expect(
    clippy::disallowed_methods,
    reason = "the copy is private and lies outside the host root"
)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use tempfile::TempDir;

use crate::store::object::{Kind, Meta, Sum, relative_path};
use crate::store::tree::{self, DirTree, Root};
use crate::store::{Store, StoredImage};

const EXPORTS: &str = "exports";

/// More than what any valid contract holds: 64 MiB for the host, and eight texts of 1 MiB.
const BYTES_MAX: u64 = 80 * 1024 * 1024;
/// The same for files and directories.
const ENTRIES_MAX: u64 = 20_000;

/// As many links as the kernel follows.
const LINKS_MAX: u32 = 40;

/// What lies at a path.
enum Lookup {
    Dir,
    /// The object, and what it is.
    File(PathBuf, Meta),
}

/// What has been counted so far.
#[derive(Default)]
struct Count {
    bytes: u64,
    entries: u64,
}

impl Count {
    fn check(&self) -> Result<()> {
        if self.bytes > BYTES_MAX || self.entries > ENTRIES_MAX {
            bail!("it is larger than a contract can be");
        }
        Ok(())
    }
}

impl Store {
    /// A directory with the image's `/exports` in it; `None` when it has none. Gone when dropped.
    pub fn exports(&self, image: &StoredImage) -> Result<Option<TempDir>> {
        let reading = || format!("reading `/{EXPORTS}` of `{}`", image.reference);
        self.copy_exports(image).with_context(reading)
    }

    fn copy_exports(&self, image: &StoredImage) -> Result<Option<TempDir>> {
        let commit = tree::commit(&self.objects.read(&image.commit, Kind::Commit)?)?;
        let mut top = self.names(commit.root)?;
        top.files.retain(|(name, _)| name == EXPORTS);
        top.dirs.retain(|(name, _)| name == EXPORTS);
        let private = tempfile::tempdir().context("making a private directory")?;
        if let Some((_, dir)) = top.dirs.first() {
            let at = private.path().join(EXPORTS);
            self.copy_dir(*dir, &at, &mut Count::default())?;
        } else if let Some((name, _)) = top.files.first() {
            bail!("`/{name}` is no directory");
        } else {
            return Ok(None);
        }
        Ok(Some(private))
    }

    /// As [`Store::exports`], with the image's `/etc/passwd` and `/etc/group` beside it; always a directory.
    pub fn sketch(&self, image: &StoredImage) -> Result<TempDir> {
        let private = match self.exports(image)? {
            Some(private) => private,
            None => tempfile::tempdir().context("making a private directory")?,
        };
        fs::create_dir(private.path().join("etc"))?;
        for path in ["etc/passwd", "etc/group"] {
            let copying = || format!("reading `/{path}` of `{}`", image.reference);
            if let Some(Lookup::File(object, _)) = self.lookup(image, path).with_context(copying)? {
                let size = fs::metadata(&object).with_context(copying)?.len();
                if size > BYTES_MAX {
                    return Err(anyhow!("it has {size} bytes")).with_context(copying);
                }
                let to = private.path().join(path);
                fs::copy(&object, to).with_context(copying)?;
            }
        }
        Ok(private)
    }

    /// What lies at a path of the image, links followed inside it, and its permission bits; nothing there is `None`.
    pub fn leads_to(
        &self,
        image: &StoredImage,
        path: &Path,
    ) -> Result<Option<(crate::root::Kind, u32)>> {
        let looking = || format!("looking for `{}` in `{}`", path.display(), image.reference);
        let path = path.to_str().with_context(looking)?;
        Ok(match self.lookup(image, path).with_context(looking)? {
            None => None,
            Some(Lookup::Dir) => Some((crate::root::Kind::Dir, 0o755)),
            Some(Lookup::File(_, meta)) => Some((crate::root::Kind::File, meta.mode & 0o7777)),
        })
    }

    fn lookup(&self, image: &StoredImage, path: &str) -> Result<Option<Lookup>> {
        let commit = tree::commit(&self.objects.read(&image.commit, Kind::Commit)?)?;
        let words = |path: &str| -> Vec<String> {
            let words = path.split('/').rev().filter(|word| !word.is_empty());
            words.map(str::to_owned).collect()
        };
        let (mut dirs, mut rest, mut links) = (vec![commit.root], words(path), 0);
        while let Some(name) = rest.pop() {
            match name.as_str() {
                "." => continue,
                ".." => {
                    // The root's parent is the root.
                    dirs.truncate(dirs.len().saturating_sub(1).max(1));
                    continue;
                }
                _ => {}
            }
            let names = self.names(dirs.last().copied().unwrap_or(commit.root))?;
            if let Some((_, dir)) = names.dirs.into_iter().find(|(dir, _)| *dir == name) {
                dirs.push(dir);
                continue;
            }
            let Some((_, sum)) = names.files.into_iter().find(|(file, _)| *file == name) else {
                return Ok(None);
            };
            let object = relative_path(&sum.to_string(), Kind::File);
            let object = self.objects.path().join(object);
            let meta = Meta::of(&object)?;
            let Some(target) = &meta.target else {
                return Ok(rest.is_empty().then_some(Lookup::File(object, meta)));
            };
            links += 1;
            if links > LINKS_MAX {
                return Ok(None);
            }
            if target.starts_with('/') {
                dirs.truncate(1);
            }
            rest.extend(words(target));
        }
        Ok(Some(Lookup::Dir))
    }

    fn names(&self, dir: Root) -> Result<DirTree> {
        let bytes = self.objects.read(&dir.tree.to_string(), Kind::DirTree)?;
        tree::dirtree(&bytes)
    }

    /// Copies a directory with owners and modes, but without extended attributes, which not every file system has.
    fn copy_dir(&self, dir: Root, at: &Path, count: &mut Count) -> Result<()> {
        let names = self.names(dir)?;
        count.entries += (names.files.len() + names.dirs.len()) as u64;
        count.check()?;
        fs::create_dir(at)?;
        for (name, sum) in &names.files {
            self.copy_object(sum, &at.join(name), count)
                .with_context(|| format!("copying `{name}`"))?;
        }
        for (name, below) in names.dirs {
            self.copy_dir(below, &at.join(name), count)?;
        }
        let meta = self.objects.read(&dir.meta.to_string(), Kind::DirMeta)?;
        dress(at, &tree::dirmeta(&meta)?)
    }

    /// Copies a file, unless with it there would be more than a contract can hold.
    fn copy_object(&self, sum: &Sum, at: &Path, count: &mut Count) -> Result<()> {
        let object = relative_path(&sum.to_string(), Kind::File);
        let object = self.objects.path().join(object);
        let meta = Meta::of(&object)?;
        count.bytes += fs::symlink_metadata(&object)?.len();
        count.check()?;
        if let Some(target) = &meta.target {
            symlink(target, at)?;
            return Ok(lchown(at, Some(meta.uid), Some(meta.gid))?);
        }
        fs::copy(&object, at)?;
        dress(at, &meta)
    }
}

fn dress(at: &Path, meta: &Meta) -> Result<()> {
    chown(at, Some(meta.uid), Some(meta.gid))?;
    Ok(fs::set_permissions(
        at,
        fs::Permissions::from_mode(meta.mode & 0o7777),
    )?)
}
