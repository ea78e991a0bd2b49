//! What of the store nobody needs, and its removal: refs first, on disk, then the objects that only they reached.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use schemars::JsonSchema;
use serde::Serialize;

use crate::hint::Hinted;
use crate::root::{Gone, Kind};
use crate::store::object::{self, Object};
use crate::store::reach::{Reached, lies_at};
use crate::store::survey::{Image, Layer, Survey};
use crate::store::{REPO, refs};

/// An image that nobody needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct GoneImage {
    /// As it was last asked for.
    pub image: String,
    /// Of the manifest.
    pub digest: String,
    /// Bytes on disk that this frees.
    pub bytes: u64,
}

/// A layer that no needed image has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct GoneLayer {
    /// Of its tar stream.
    pub diff_id: String,
    /// Whether the import that brought it was cut short.
    pub pending: bool,
    /// Bytes on disk that this frees, beside what its images do.
    pub bytes: u64,
}

/// Files of one kind that go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Count {
    /// How many.
    pub count: u64,
    /// Bytes on disk that this frees.
    pub bytes: u64,
}

impl Count {
    /// Counts one more.
    pub fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

/// What of the store nobody needs.
#[derive(Debug, Default)]
pub struct Unneeded {
    /// Images.
    pub images: Vec<GoneImage>,
    /// Layers.
    pub layers: Vec<GoneLayer>,
    /// Objects that no ref reached.
    pub loose: Count,
    /// What writers that were cut short left.
    pub temporary: Count,
    /// Everything that goes.
    objects: Vec<Object>,
    files: Vec<(PathBuf, Kind)>,
}

impl Unneeded {
    /// Whether everything is needed.
    pub fn is_nothing(&self) -> bool {
        self.images.is_empty()
            && self.layers.is_empty()
            && self.objects.is_empty()
            && self.files.is_empty()
    }
}

impl Survey<'_> {
    /// What goes when only these images, by manifest digest, and those that are kept are needed. Fails when what
    /// they need cannot be known.
    pub fn unneeded(&self, needed: &BTreeSet<String>, gone: &mut Gone) -> Result<Unneeded> {
        for digest in needed {
            if !self.images.iter().any(|image| image.digest == *digest) {
                return damaged(&format!("the image {digest} is missing"));
            }
        }
        let (stay, go): (Vec<&Image>, Vec<&Image>) = self
            .images
            .iter()
            .partition(|image| image.kept || needed.contains(&image.digest));
        let wanted: BTreeSet<&String> = stay
            .iter()
            .flat_map(|i| i.layers.iter().flatten())
            .collect();
        // Of an image that another version of bedplate stored the layers are not known: all stay.
        let unknown = stay.iter().any(|image| image.layers.is_none());
        let (layers, gone_layers): (Vec<&Layer>, Vec<&Layer>) = self
            .layers
            .iter()
            .partition(|layer| !layer.is_pending && (unknown || wanted.contains(&layer.diff_id)));
        let reached = stay.iter().map(|image| &image.reached);
        let reached: Vec<&Reached> = reached
            .chain(layers.iter().map(|layer| &layer.reached))
            .chain([&self.others])
            .collect();
        if let Some(fault) = reached.iter().flat_map(|r| &r.faults).next() {
            return damaged(fault);
        }
        let mut taken: Vec<bool> = vec![false; self.objects.all().len()];
        for reached in reached {
            mark(&mut taken, &reached.marks);
        }
        Ok(self.take_rest(taken, (&go, &gone_layers), gone))
    }

    /// What nobody has taken goes with the first that has it.
    fn take_rest(
        &self,
        mut taken: Vec<bool>,
        (images, layers): (&[&Image], &[&Layer]),
        gone: &mut Gone,
    ) -> Unneeded {
        let mut unneeded = Unneeded::default();
        let all = self.objects.all();
        let mut take = |marks: &[bool], count: &mut Count| {
            for (((name, link), taken), _) in
                all.iter().zip(&mut taken).zip(marks).filter(|(_, m)| **m)
            {
                if !std::mem::replace(taken, true) {
                    unneeded.objects.push(*name);
                    count.add(gone.add(link));
                }
            }
        };
        for image in images {
            let mut count = Count::default();
            take(&image.reached.marks, &mut count);
            unneeded.images.push(GoneImage {
                image: image.reference.clone(),
                digest: image.digest.clone(),
                bytes: count.bytes,
            });
        }
        for layer in layers {
            let mut count = Count::default();
            take(&layer.reached.marks, &mut count);
            unneeded.layers.push(GoneLayer {
                diff_id: layer.diff_id.clone(),
                pending: layer.is_pending,
                bytes: count.bytes,
            });
        }
        take(&vec![true; all.len()], &mut unneeded.loose);
        for (path, link) in &self.leftovers {
            unneeded.temporary.add(gone.add(link));
            unneeded.files.push((path.clone(), link.kind));
        }
        unneeded
    }

    /// Removes it. The caller holds the writers' lock, under which the survey was taken. Cut short anywhere, what is
    /// needed is whole and the rest goes next time.
    pub fn remove(&self, unneeded: &Unneeded) -> Result<()> {
        // An image that has lost its layers could not be repaired: images first.
        let images = unneeded.images.iter().map(|image| &image.digest);
        self.remove_refs(refs::IMAGES, images)?;
        for (kind, pending) in [(refs::PENDING, true), (refs::LAYERS, false)] {
            let layers = unneeded.layers.iter().filter(|l| l.pending == pending);
            self.remove_refs(kind, layers.map(|layer| &layer.diff_id))?;
        }
        // A commit without its trees is a fault to libostree, trees without a commit are nothing: commits first.
        let is_commit = |name: &&Object| name.kind == object::Kind::Commit;
        let mut dirs = BTreeSet::new();
        for name in unneeded.objects.iter().filter(is_commit) {
            self.delete(*name)?;
            dirs.extend(lies_at(*name).parent().map(Path::to_owned));
        }
        for dir in dirs {
            self.root.sync_dir(dir)?;
        }
        for name in unneeded.objects.iter().filter(|name| !is_commit(name)) {
            self.delete(*name)?;
        }
        // Directories after what lies in them.
        for (path, kind) in unneeded.files.iter().rev() {
            let path = Path::new(REPO).join(path);
            match kind {
                Kind::Dir => self.root.remove_empty_dir(path)?,
                _ => self.root.remove_file(path)?,
            };
        }
        Ok(())
    }

    /// Removes an object, without waiting for the disk each time.
    #[expect(
        clippy::disallowed_methods,
        reason = "the store owns what lies in its own private directories"
    )]
    fn delete(&self, object: Object) -> Result<()> {
        let path = lies_at(object);
        std::fs::remove_file(self.root.outside(&path))
            .with_context(|| format!("removing `{}`", path.display()))
    }

    fn remove_refs<'d>(&self, kind: &str, digests: impl Iterator<Item = &'d String>) -> Result<()> {
        let mut removed = false;
        for digest in digests {
            if let Some(repo) = &self.repo {
                refs::set(repo, &refs::name(kind, digest), None)?;
            }
            removed = true;
        }
        if removed {
            // A ref that came back after a power cut would refer to what is gone.
            let dir = Path::new(REPO).join(refs::HEADS).join(kind);
            self.root.sync_dir(dir)?;
        }
        Ok(())
    }
}

fn mark(taken: &mut [bool], marks: &[bool]) {
    for (taken, mark) in taken.iter_mut().zip(marks) {
        *taken |= mark;
    }
}

fn damaged<T>(fault: &str) -> Result<T> {
    Err(anyhow!("the store is damaged: {fault}"))
        .context("looking for what nobody needs")
        .hint("`bedplate repair` brings back what is missing; until then nothing of the store is removed")
}
