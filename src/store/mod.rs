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
mod link;
mod merge;
mod metadata;
pub(crate) mod object;
mod objects;
pub mod prune;
mod queue;
mod reach;
mod refs;
pub(crate) mod repair;
pub mod settings;
pub(crate) mod space;
pub mod survey;
pub(crate) mod tree;
mod unsynced;
pub mod usage;
pub(crate) mod verify;

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use containers_image_proxy::oci_spec::image::{Digest, ImageConfiguration, ImageManifest};
use ostree::gio::{self, prelude::InputStreamExtManual};
use ostree::{MutableTree, Repo, RepoMode};

pub use crate::store::checkout::Checkout;

use crate::image::platform::Platform;
use crate::image::reference::ImageRef;
use crate::root::{Kind, Root};
use crate::store::entry::Entry;
use crate::store::object::Sum;
use crate::store::objects::Objects;
use crate::store::settings::Settings;

/// Where the repository lies in the host root.
pub(crate) const REPO: &str = "/var/lib/bedplate/repo";

/// What libostree would write; see [`Store::open`].
const CONFIG: &[u8] = b"[core]\nrepo_version=1\nmode=bare\n";

/// Whether there is a repository: `objects` is what libostree makes last. One that a crash left half made is none.
pub(crate) fn is_made(root: &Root) -> Result<bool> {
    Ok(root.kind(Path::new(REPO).join("objects"))? == Some(Kind::Dir))
}

/// The repository.
pub struct Store {
    repo: Repo,
    objects: Objects,
    path: PathBuf,
    settings: Settings,
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
        let repo = Repo::new_for_path(&path);
        if !is_made(root)? {
            // On disk before the rest, or a power cut could leave a repository that cannot be opened.
            root.replace(Path::new(REPO).join("config"), CONFIG, 0o644)?;
        }
        // Completes a repository that a crash left half made, and opens it.
        repo.create(RepoMode::Bare, gio::Cancellable::NONE)
            .with_context(opening)?;
        Ok(Self {
            objects: Objects::open(&path).with_context(opening)?,
            repo,
            path,
            settings,
        })
    }

    /// The root's repository for those who only look: nothing is made. `None` when there is none yet.
    pub fn existing(root: &Root, settings: Settings) -> Result<Option<Self>> {
        if !is_made(root)? {
            return Ok(None);
        }
        let path = root.outside(REPO);
        let opening = || format!("opening the store `{}`", path.display());
        let repo = Repo::new_for_path(&path);
        repo.open(gio::Cancellable::NONE).with_context(opening)?;
        Ok(Some(Self {
            objects: Objects::open(&path).with_context(opening)?,
            repo,
            path,
            settings,
        }))
    }

    /// The image with this manifest, if the store has it.
    pub fn find(&self, manifest_digest: &Digest) -> Result<Option<StoredImage>> {
        let looking = || format!("looking for the image {manifest_digest}");
        let name = refs::name(refs::IMAGES, manifest_digest);
        let found = self.repo.resolve_rev(&name, true);
        let Some(commit) = found.with_context(looking)? else {
            return Ok(None);
        };
        metadata::image(&self.repo, &commit).with_context(looking)
    }

    /// The manifest of an image, in OCI's form.
    pub fn manifest(&self, image: &StoredImage) -> Result<ImageManifest> {
        let reading = || format!("reading the manifest of `{}`", image.reference);
        metadata::manifest(&self.repo, &image.commit).with_context(reading)
    }

    /// Forgets the image. Its layers stay until the store is pruned; one that is not there is fine.
    pub fn remove_image(&self, manifest_digest: &Digest) -> Result<()> {
        let name = refs::name(refs::IMAGES, manifest_digest);
        let removing = || format!("removing the image {manifest_digest}");
        let found = self.repo.resolve_rev(&name, true);
        if found.with_context(removing)?.is_none() {
            return Ok(());
        }
        refs::set(&self.repo, &name, None).with_context(removing)
    }

    /// The entries of a layer that is in the store; one stored in another format counts as missing.
    fn layer_entries(&self, diff_id: &Digest) -> Result<Option<Vec<Entry>>> {
        match self.layer(diff_id)? {
            Some(name) => self.entries_of(&name),
            None => Ok(None),
        }
    }

    /// The ref of a layer that the store has.
    fn layer(&self, diff_id: &Digest) -> Result<Option<String>> {
        let name = refs::name(refs::LAYERS, diff_id);
        if self.repo.resolve_rev(&name, true)?.is_some() {
            return Ok(Some(name));
        }
        let name = refs::name(refs::PENDING, diff_id);
        let pending = refs::list(&self.repo, Some(refs::PENDING))?;
        // A power cut may have left zeros of it.
        let is_whole = pending.get(&name).is_some_and(|c| Sum::parse(c).is_ok());
        Ok(is_whole.then_some(name))
    }

    fn entries_of(&self, layer: &str) -> Result<Option<Vec<Entry>>> {
        let (object, _) = MutableTree::from_commit(&self.repo, layer)?.lookup(commit::ENTRIES)?;
        let object = object.context("it has no list of entries")?;
        let (stream, _, _) = self.repo.load_file(&object, gio::Cancellable::NONE)?;
        let mut bytes = Vec::new();
        stream
            .context("its list of entries is no file")?
            .into_read()
            .read_to_end(&mut bytes)
            .context("reading its entries")?;
        entry::deserialize(&bytes, Path::new(layer))
    }
}
