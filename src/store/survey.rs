//! What the store has: each ref with the objects that it reaches, and what writers left behind.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::root::{Kind, Link, Root};
use crate::store::object::Sum;
use crate::store::reach::{Objects, Reached};
use crate::store::refs::{self, IMAGES, KEPT, LAYERS, PENDING, digest};
use crate::store::repo::Repo;
use crate::store::unsynced::MARK;
use crate::store::{REPO, is_made, metadata};

/// What libostree keeps of its own among its temporary files.
const CACHE: &str = "cache";

/// The store as it lies on disk.
pub struct Survey<'a> {
    pub(crate) root: &'a Root,
    /// `None` when there is no store yet.
    pub(crate) repo: Option<Repo>,
    pub(crate) objects: Objects<'a>,
    pub(crate) images: Vec<Image>,
    pub(crate) layers: Vec<Layer>,
    /// What other refs reach.
    pub(crate) others: Reached,
    /// What a writer that was cut short left: files that nothing refers to.
    pub(crate) leftovers: Vec<(PathBuf, Link)>,
}

/// An image's ref.
pub(crate) struct Image {
    /// Of the manifest, `sha256:HEX`.
    pub(crate) digest: String,
    /// As it was last asked for; empty when another version of bedplate stored it.
    pub(crate) reference: String,
    /// By diff_id, `sha256:HEX`; `None` when another version of bedplate stored it.
    pub(crate) layers: Option<BTreeSet<String>>,
    /// Whether it was pulled to be kept.
    pub(crate) kept: bool,
    pub(crate) reached: Reached,
}

/// A layer's ref.
pub(crate) struct Layer {
    pub(crate) diff_id: String,
    /// Its ref is that of an import which is not finished.
    pub(crate) is_pending: bool,
    pub(crate) reached: Reached,
}

impl<'a> Survey<'a> {
    /// Looks at the whole store. Takes no lock: what changes meanwhile may look like a fault.
    pub fn take(root: &'a Root) -> Result<Self> {
        let mut leftovers = Vec::new();
        let objects = Objects::list(root, &mut |path, link| {
            if is_temporary(path) {
                leftovers.push((Path::new("objects").join(path), *link));
            }
        })?;
        let mut survey = Self {
            root,
            repo: None,
            objects,
            images: Vec::new(),
            layers: Vec::new(),
            others: Reached::default(),
            leftovers,
        };
        survey.list_temporary()?;
        if is_made(root)? {
            survey.list_refs()?;
        }
        Ok(survey)
    }

    fn list_refs(&mut self) -> Result<()> {
        let path = self.root.outside(REPO);
        let listing = || format!("listing the refs of the store `{}`", path.display());
        let repo = Repo::open(&path).with_context(listing)?;
        // By name: images come before what says that they are kept.
        for (name, commit) in refs::list(&repo, None).with_context(listing)? {
            self.add(&name, &commit);
        }
        self.repo = Some(repo);
        Ok(())
    }

    fn add(&mut self, name: &str, commit: &str) {
        let mut reached = Reached::default();
        let pending = digest(PENDING, name);
        if let Some(digest) = digest(IMAGES, name) {
            let image = self.image(digest, commit);
            self.images.push(image);
        } else if let Some(digest) = digest(KEPT, name) {
            let kept = self.images.iter_mut().find(|image| image.digest == digest);
            if let Some(image) = kept {
                image.kept = true;
                // Another commit, if it was asked for by another reference since. A ref that names none keeps it too.
                if Sum::parse(commit).is_ok() {
                    self.objects.reach(commit, &mut image.reached);
                }
            } else {
                let image = self.image(digest, commit);
                self.images.push(Image {
                    kept: true,
                    ..image
                });
            }
        } else if let Some(diff_id) = digest(LAYERS, name).or(pending.clone()) {
            self.objects.reach(commit, &mut reached);
            self.layers.push(Layer {
                diff_id,
                is_pending: pending.is_some(),
                reached,
            });
        } else {
            self.objects.reach(commit, &mut self.others);
        }
    }

    fn image(&mut self, digest: String, commit: &str) -> Image {
        let mut reached = Reached::default();
        self.objects.reach(commit, &mut reached);
        // A commit that cannot be read is among the faults.
        let stored = self
            .objects
            .commit(commit)
            .and_then(|bytes| metadata::image(commit, &bytes));
        let stored = stored.ok().flatten();
        let reference = stored.as_ref().map(|image| image.reference.to_string());
        Image {
            digest,
            reference: reference.unwrap_or_default(),
            layers: stored.map(|image| image.diff_ids.iter().map(ToString::to_string).collect()),
            kept: false,
            reached,
        }
    }

    /// What a writer has in work, or left when it was cut short.
    fn list_temporary(&mut self) -> Result<()> {
        let (root, tmp) = (self.root, Path::new(REPO).join("tmp"));
        for name in root.list(&tmp)? {
            let below = Path::new("tmp").join(&name);
            match root.link_at(tmp.join(&name))? {
                _ if name == CACHE => {}
                Some(link) if link.kind == Kind::Dir => {
                    root.walk(tmp.join(&name), &mut |path, link| {
                        self.leftovers.push((below.join(path), *link));
                    })?;
                }
                found => self.leftovers.extend(found.map(|link| (below, link))),
            }
        }
        let mark = root.link_at(Path::new(REPO).join(MARK))?;
        self.leftovers.extend(mark.map(|link| (MARK.into(), link)));
        Ok(())
    }

    /// The inode of every object.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.objects.all().iter().map(|(_, link)| link)
    }

    /// What writers that were cut short, or are at work, have put beside the objects.
    pub fn leftovers(&self) -> impl Iterator<Item = &Link> {
        self.leftovers.iter().map(|(_, link)| link)
    }
}

/// The names under which libglnx prepares a file.
fn is_temporary(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    name.starts_with(b"tmp.") || name.starts_with(b".")
}
