//! Runtime integrity: a generation's tree as an EROFS image whose files are the repository's objects, as composefs has it.
//!
//! ```text
//! containers/NAME/1/tree.erofs   names, owners, modes, links, attributes; of each file the path of its object
//!                   tree/        where it is mounted
//!                   rootfs/      where overlayfs joins it with the repository's objects/: what the container sees
//! ```
//! The image cannot be written to, whoever tries; what it says of a file (owner, mode, attributes) is what counts,
//! not what the object has. With [`Protection::Verity`] it also holds each object's fs-verity digest, overlayfs opens
//! no object with another one (`verity=require`), and the kernel checks every block that is read of objects and image.
//! What is left is somebody with root's rights who replaces the image as a whole: its SHA-256 is in the generation's
//! record, and `verify` compares.
//!
//! The writer is our own (`erofs`, `inode`): libostree has one since 2024 only, Debian 12 no `mkcomposefs`, and the
//! `composefs` crate makes a file's path and its digest from one id, so that it would need a second store of hard
//! links named by digest, which prune and repair would have to keep in step. Of that project the safe fs-verity
//! ioctls are used.

mod erofs;
mod inode;
mod probe;
mod tree;
mod verity;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, anyhow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::hash::hex;
use crate::hint::Hinted;
use crate::store::object::{Kind, relative_path};
use crate::store::{Checkout, REPO, Store, StoredImage, object, tree as object_tree};

pub use probe::{Findings, Reason};

/// What keeps a generation's files from changing while its container runs.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Protection {
    /// Nothing but that it is not written to: the rootfs is a tree of hard links to the store's objects.
    #[default]
    None,
    /// The tree is an image that cannot be written to.
    Composefs,
    /// So are the files: reading a byte that has changed is an I/O error.
    Verity,
}

impl Protection {
    /// Whether the tree is an image.
    pub fn is_image(self) -> bool {
        self != Self::None
    }
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Composefs => "composefs",
            Self::Verity => "verity",
        })
    }
}

/// A tree's image, not on disk yet.
#[derive(Debug)]
pub struct Composed {
    /// Its bytes.
    pub image: Vec<u8>,
    /// Whether it is to be sealed with fs-verity, as the objects are.
    pub verity: bool,
}

impl Composed {
    /// The image's SHA-256, in hexadecimal.
    pub fn checksum(&self) -> String {
        hex(&crate::hash::sha256(&self.image))
    }
}

/// What overlayfs is told, of a tree mounted at `tree` and the objects at `objects`.
pub fn mount_options(tree: &Path, objects: &Path, verity: bool) -> String {
    let mut options = format!(
        "ro,nodev,lowerdir={}::{},metacopy=on,redirect_dir=on",
        tree.display(),
        objects.display()
    );
    if verity {
        options.push_str(",verity=require");
    }
    options
}

/// Where the target host has the repository's objects.
pub fn objects_dir() -> std::path::PathBuf {
    Path::new(REPO).join("objects")
}

/// Seals a file with fs-verity; one that is sealed already is left as it is.
pub fn seal(path: &Path) -> Result<()> {
    verity::seal(path).map(drop)
}

/// Whether a file is sealed with fs-verity, or needs no seal: a link, an empty file, one that is not there.
pub(crate) fn is_sealed(path: &Path) -> bool {
    let found = path.symlink_metadata();
    let has_content = found.is_ok_and(|found| found.is_file() && found.len() > 0);
    !has_content || matches!(verity::measure(path), Ok(Some(_)))
}

impl Store {
    /// Makes the image of a checkout, with what was added to it. With verity, every object that it leads to is
    /// hashed and sealed first.
    pub fn compose(
        &self,
        image: &StoredImage,
        checkout: &Checkout,
        verity: bool,
    ) -> Result<Composed> {
        let composing = || format!("making an image of the tree of `{}`", image.reference);
        let sealed = if verity {
            Some(self.seal_objects(&image.commit).with_context(composing)?)
        } else {
            None
        };
        let tree = tree::read(
            &self.objects,
            &image.commit,
            checkout.dir(),
            sealed.as_ref(),
        );
        let image = tree
            .and_then(|tree| erofs::image(&tree))
            .with_context(composing)?;
        Ok(Composed { image, verity })
    }

    /// Seals what of an image's files is not sealed, as those that were brought back.
    pub(crate) fn seal(&self, commit: &str) -> Result<()> {
        self.seal_objects(commit).map(drop)
    }

    /// Seals the files of a commit; their digests by checksum. A file that is not sealed yet is hashed first: damage
    /// must not become what the kernel vouches for.
    fn seal_objects(&self, commit: &str) -> Result<HashMap<String, verity::Digest>> {
        let mut found = HashSet::new();
        object_tree::traverse(&self.objects, commit, &mut found).context("listing its objects")?;
        let files = found.into_iter().filter(|object| object.kind == Kind::File);
        let mut files: Vec<String> = files.map(|object| object.sum.to_string()).collect();
        files.sort();
        let (next, sealed) = (AtomicUsize::new(0), Mutex::new(HashMap::new()));
        let objects = self.path.join("objects");
        let work = || -> Result<()> {
            while let Some(checksum) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                let path = objects.join(relative_path(checksum, Kind::File));
                if let Some(digest) = seal_object(&path, checksum)? {
                    let mut sealed = sealed
                        .lock()
                        .map_err(|_| anyhow!("another thread ended in the middle"))?;
                    sealed.insert(checksum.clone(), digest);
                }
            }
            Ok(())
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|_| Err(anyhow!("a thread ended in the middle")))
            })
        })?;
        sealed
            .into_inner()
            .map_err(|_| anyhow!("a thread ended in the middle"))
    }
}

/// The digest of a sealed object; `None` for what has no content to seal.
fn seal_object(path: &Path, checksum: &str) -> Result<Option<verity::Digest>> {
    let sealing = || format!("sealing the object {checksum}");
    let found = path.symlink_metadata().with_context(sealing)?;
    if !found.is_file() || found.len() == 0 {
        return Ok(None);
    }
    if let Some(digest) = verity::measure(path).with_context(sealing)? {
        return Ok(Some(digest));
    }
    let is = object::checksum(path).with_context(sealing)?;
    if is != checksum {
        return Err(anyhow!("its content has changed: it is {is} now"))
            .with_context(sealing)
            .hint("`bedplate repair` brings damaged files back");
    }
    verity::seal(path).map(Some).with_context(sealing)
}

#[cfg(test)]
mod tests;
