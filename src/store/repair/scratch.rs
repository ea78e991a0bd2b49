//! A private repository in which what the store has lost is made anew: equal content has the same checksum.
#![expect(clippy::disallowed_methods, reason = "a private directory")]

use std::io::Read;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result};
use containers_image_proxy::oci_spec::image::Digest;
use tempfile::TempDir;

use crate::hash::sha256;
use crate::image::remote::RemoteImage;
use crate::store::commit::{self, ENTRIES};
use crate::store::entry::Entry;
use crate::store::layer::{self, Layer};
use crate::store::limits::Limits;
use crate::store::merge::Tree;
use crate::store::metadata;
use crate::store::object::{Kind, Object, Sum};
use crate::store::objects::Objects;
use crate::store::queue::{Queue, with_writers};
use crate::store::repair::write::PRIVATE;
use crate::store::repo::{CONFIG, Repo};
use crate::store::tree;

/// The repository; gone when dropped.
pub(crate) struct Scratch {
    dir: TempDir,
    objects: Objects,
}

impl Scratch {
    /// An empty one, for metadata.
    pub(crate) fn new() -> Result<Self> {
        Self::make(tempfile::tempdir())
    }

    /// An empty one on the file system of `parent`, for whole layers.
    pub(crate) fn below(parent: &Path) -> Result<Self> {
        let mut dir = tempfile::Builder::new();
        Self::make(dir.prefix(PRIVATE).tempdir_in(parent))
    }

    fn make(dir: std::io::Result<TempDir>) -> Result<Self> {
        let making = "making a private repository";
        let dir = dir.context(making)?;
        std::fs::write(dir.path().join("config"), CONFIG).context(making)?;
        Repo::complete(dir.path()).context(making)?;
        let objects = Objects::open(dir.path())?;
        Ok(Self { dir, objects })
    }

    /// Writes a layer's metadata and list.
    pub(crate) fn layer(&self, entries: Vec<Entry>, diff_id: &Digest) -> Result<()> {
        let layer = Layer {
            entries,
            ..Layer::default()
        };
        commit::layer(&self.objects, &layer, diff_id)?;
        Ok(())
    }

    /// Writes the metadata of an image of these layers, lowest first.
    pub(crate) fn image(&self, lists: &[Vec<Entry>]) -> Result<()> {
        merged(lists)?.write(&self.objects)?;
        Ok(())
    }

    /// Writes the commit of an image of these layers, lowest first; returns it.
    pub(crate) fn image_commit(&self, image: &RemoteImage, lists: &[Vec<Entry>]) -> Result<String> {
        commit::image(&self.objects, &merged(lists)?, &metadata::write(image)?)
    }

    /// The metadata objects that were written here.
    pub(crate) fn objects(&self) -> Result<Vec<Object>> {
        let mut found = Vec::new();
        let objects = self.dir.path().join("objects");
        for dir in std::fs::read_dir(&objects)? {
            for file in std::fs::read_dir(dir?.path())? {
                let path = file?.path();
                let object = path.strip_prefix(&objects).ok().and_then(Object::of_path);
                found.extend(object.filter(|object| object.kind != Kind::File));
            }
        }
        Ok(found)
    }

    /// Reads a layer's blob whole: its files too are written here. Returns the layer's commit.
    pub(crate) fn fetched(&self, blob: impl Read, diff_id: &Digest, limit: u64) -> Result<String> {
        let writers = thread::available_parallelism().map_or(1, usize::from);
        let limits = Limits::new(limit);
        let read = |queue: &Queue| layer::read(queue, blob, diff_id, &limits);
        let layer = with_writers(&self.objects, writers, read)?;
        commit::layer(&self.objects, &layer, diff_id)
    }

    /// The object of the list of entries in a layer's commit.
    pub(crate) fn list(&self, commit: &str) -> Result<Option<Sum>> {
        let kind = Kind::Commit;
        let sum = Sum::parse(commit)?;
        let Some(bytes) = self.read(Object { kind, sum }) else {
            return Ok(None);
        };
        let (kind, sum) = (Kind::DirTree, tree::commit(&bytes)?.root.tree);
        let Some(bytes) = self.read(Object { kind, sum }) else {
            return Ok(None);
        };
        let files = tree::dirtree(&bytes)?.files.into_iter();
        Ok(files
            .filter(|(name, _)| name == ENTRIES)
            .map(|(_, sum)| sum)
            .next())
    }

    /// Where an object would lie.
    pub(crate) fn object_path(&self, object: Object) -> PathBuf {
        self.dir.path().join("objects").join(object.path())
    }

    /// A metadata object that was written here.
    pub(crate) fn read(&self, object: Object) -> Option<Vec<u8>> {
        let bytes = std::fs::read(self.object_path(object)).ok()?;
        (Sum::new(&sha256(&bytes)).ok()? == object.sum).then_some(bytes)
    }
}

/// The tree of an image of these layers.
fn merged(lists: &[Vec<Entry>]) -> Result<Tree> {
    let mut tree = Tree::default();
    for list in lists {
        tree.apply(list)?;
    }
    Ok(tree)
}
