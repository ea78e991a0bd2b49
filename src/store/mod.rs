//! The store: images and their layers in an OSTree repository of mode bare.
//!
//! ```text
//! /var/lib/bedplate/repo/            0700
//!   refs/heads/bedplate/
//!     layer/sha256-HEX               by diff_id: objects/ (the layer's own files), entries (what they are)
//!     image/sha256-HEX               by manifest digest: the merged tree; metadata: reference, digests, manifest, config
//!     pending/sha256-HEX             a layer that may not be on disk yet
//!     kept/sha256-HEX                the same commit, of an image that stays whether or not it is installed
//!   objects/                         one object per distinct file: content, owner, mode and extended attributes
//! ```
//!
//! Layers are laid over one another in memory, from their lists of entries; files are written once, when their layer
//! is read. What is here is what was verified: blobs by skopeo, tar streams by their diff_id. Writers hold the lock
//! of [`crate`]'s state; nothing here takes it.

mod archive;
mod checkout;
mod commit;
pub mod composefs;
mod dress;
mod entry;
mod exports;
mod fetch;
mod gvariant;
mod import;
mod inflate;
mod kept;
mod layer;
mod limits;
mod link;
mod list;
mod merge;
mod metadata;
pub(crate) mod object;
mod objects;
pub mod prune;
mod queue;
mod reach;
mod refs;
pub(crate) mod repair;
mod repo;
pub mod settings;
pub(crate) mod space;
mod sum;
pub mod survey;
pub(crate) mod tree;
mod unsynced;
pub mod usage;
pub(crate) mod verify;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use containers_image_proxy::oci_spec::image::{Digest, ImageConfiguration, ImageManifest};

pub use crate::store::checkout::{Begun, Checkout};

use crate::image::platform::Platform;
use crate::image::reference::ImageRef;
use crate::root::{self, Root};
use crate::store::entry::Entry;
use crate::store::merge::Tree;
use crate::store::object::Kind;
use crate::store::objects::Objects;
use crate::store::repo::{CONFIG, OBJECTS, Repo};
use crate::store::settings::Settings;

/// Where the repository lies in the host root.
pub(crate) const REPO: &str = "/var/lib/bedplate/repo";

/// Whether there is a repository: `objects` is what is made last. One that a crash left half made is none.
pub(crate) fn is_made(root: &Root) -> Result<bool> {
    Ok(root.kind(Path::new(REPO).join(OBJECTS))? == Some(root::Kind::Dir))
}

/// The repository.
pub struct Store {
    repo: Repo,
    objects: Objects,
    path: PathBuf,
    settings: Settings,
    /// Lists of entries that were read before it was known which will be needed, by diff_id.
    ahead: Mutex<HashMap<Digest, Arc<Vec<Entry>>>>,
}

/// An image of which every file is in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredImage {
    /// As it was last asked for.
    pub reference: ImageRef,
    /// Of what the reference named: an index, or the manifest itself.
    pub index_digest: Digest,
    /// Of the manifest for the platform.
    pub manifest_digest: Digest,
    /// For which it was asked.
    pub platform: Platform,
    /// The image's config.
    pub config: ImageConfiguration,
    /// The digest of each layer's tar stream, lowest first.
    pub diff_ids: Vec<Digest>,
    /// Checksum of the commit that holds the merged tree.
    pub commit: String,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.path.display())
    }
}

impl Store {
    /// Opens the root's repository, which is made if it is missing.
    pub fn open(root: &Root, settings: Settings) -> Result<Self> {
        let path = root.outside(REPO);
        let opening = || format!("opening the store `{}`", path.display());
        root.create_dir_all("/var/lib", 0o755)?;
        root.create_dir_all(REPO, 0o700)?;
        if !is_made(root)? {
            // On disk before the rest, or a power cut could leave a repository that cannot be opened.
            root.replace(Path::new(REPO).join("config"), CONFIG, 0o644)?;
        }
        // Completes a repository that a crash left half made, and opens it.
        let repo = Repo::complete(&path).with_context(opening)?;
        Ok(Self {
            objects: Objects::open(&path).with_context(opening)?,
            repo,
            path,
            settings,
            ahead: Mutex::default(),
        })
    }

    /// The root's repository for those who only look: nothing is made. `None` when there is none yet.
    pub fn existing(root: &Root, settings: Settings) -> Result<Option<Self>> {
        if !is_made(root)? {
            return Ok(None);
        }
        let path = root.outside(REPO);
        let opening = || format!("opening the store `{}`", path.display());
        Ok(Some(Self {
            repo: Repo::open(&path).with_context(opening)?,
            objects: Objects::open(&path).with_context(opening)?,
            path,
            settings,
            ahead: Mutex::default(),
        }))
    }

    /// The image with this manifest, if the store has it.
    pub fn find(&self, manifest_digest: &Digest) -> Result<Option<StoredImage>> {
        let looking = || format!("looking for the image {manifest_digest}");
        let name = refs::name(refs::IMAGES, manifest_digest);
        let Some(commit) = refs::resolve(&self.repo, &name).with_context(looking)? else {
            return Ok(None);
        };
        self.image_of(&commit).with_context(looking)
    }

    /// The manifest of an image, in OCI's form.
    pub fn manifest(&self, image: &StoredImage) -> Result<ImageManifest> {
        let reading = || format!("reading the manifest of `{}`", image.reference);
        let commit = self.objects.read(&image.commit, Kind::Commit);
        let manifest = commit.and_then(|bytes| metadata::manifest(&bytes));
        manifest.with_context(reading)
    }

    /// Forgets the image. Its layers stay until the store is pruned; one that is not there is fine.
    pub fn remove_image(&self, manifest_digest: &Digest) -> Result<()> {
        let name = refs::name(refs::IMAGES, manifest_digest);
        let removing = || format!("removing the image {manifest_digest}");
        refs::set(&self.repo, &name, None).with_context(removing)
    }

    /// The entries of a layer that is in the store; one stored in another format counts as missing.
    fn layer_entries(&self, diff_id: &Digest) -> Result<Option<Vec<Entry>>> {
        match self.layer(diff_id)? {
            Some(name) => self.entries_of(&name),
            None => Ok(None),
        }
    }

    /// The same, if need be as they were read ahead.
    fn known_entries(&self, diff_id: &Digest) -> Result<Option<Arc<Vec<Entry>>>> {
        let ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entries) = ahead.get(diff_id) {
            return Ok(Some(Arc::clone(entries)));
        }
        drop(ahead);
        Ok(self.layer_entries(diff_id)?.map(Arc::new))
    }

    /// The tree of an image, from its layers' entries, which need not be read again; `None` if one is missing.
    ///
    /// Only of layers that are on disk: of others it is not known yet whether a power cut has torn them.
    fn tree_ahead(&self, image: &StoredImage) -> Result<Option<Tree>> {
        let mut tree = Tree::default();
        for diff_id in &image.diff_ids {
            let name = refs::name(refs::LAYERS, diff_id);
            let is_there = refs::resolve(&self.repo, &name)?.is_some();
            let Some(entries) = is_there
                .then(|| self.entries_of(&name))
                .transpose()?
                .flatten()
            else {
                return Ok(None);
            };
            tree.apply(&entries)?;
            let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
            ahead.insert(diff_id.clone(), Arc::new(entries));
        }
        Ok(Some(tree))
    }

    /// The ref of a layer that the store has.
    fn layer(&self, diff_id: &Digest) -> Result<Option<String>> {
        let name = refs::name(refs::LAYERS, diff_id);
        if refs::resolve(&self.repo, &name)?.is_some() {
            return Ok(Some(name));
        }
        let name = refs::name(refs::PENDING, diff_id);
        // A power cut may have left zeros of it.
        let is_whole = matches!(refs::resolve(&self.repo, &name), Ok(Some(_)));
        Ok(is_whole.then_some(name))
    }

    fn entries_of(&self, layer: &str) -> Result<Option<Vec<Entry>>> {
        let reading = "reading its list of entries";
        let commit = refs::resolve(&self.repo, layer)?.context("it is gone")?;
        let top = tree::commit(&self.objects.read(&commit, Kind::Commit)?)?.root;
        let top = tree::dirtree(&self.objects.read(&top.tree.to_string(), Kind::DirTree)?)?;
        let list = top.files.iter().find(|(name, _)| name == commit::ENTRIES);
        let (_, list) = list.context("it has no list of entries")?;
        let bytes = self.objects.read(&list.to_string(), Kind::File);
        let bytes = bytes.context(reading)?;
        list::check(&bytes, *list).context(reading)?;
        list::deserialize(&bytes, Path::new(layer))
    }

    /// The image of a commit; `None` for another format.
    fn image_of(&self, commit: &str) -> Result<Option<StoredImage>> {
        metadata::image(commit, &self.objects.read(commit, Kind::Commit)?)
    }
}
