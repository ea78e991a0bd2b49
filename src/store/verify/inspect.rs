//! The metadata of images and layers, read from their refs down: which files there must be, and what of the
//! metadata itself is damaged.
//!
//! A directory that is damaged is known from the layers' lists of entries as long as these are whole: written anew
//! into a private repository it has the same checksum, so that what lies below it is checked as well.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result};
use containers_image_proxy::oci_spec::image::Digest;

use crate::hash::sha256;
use crate::store::commit::ENTRIES;
use crate::store::object::{Kind, Object, Sum};
use crate::store::refs::{self, IMAGES};
use crate::store::repair::scratch::Scratch;
use crate::store::tree::{self, Root};
use crate::store::verify::content::{check, read};
use crate::store::verify::defect::{Defect, Finding};
use crate::store::verify::inventory::{BadRef, Damage, Inventory, Known, Node, Owner, Wanted};
use crate::store::{Store, metadata};

impl Store {
    /// Reads the metadata of these images and of their layers.
    pub(crate) fn inspect(&self, wanted: &[Wanted]) -> Result<Inventory> {
        let mut inspector = Inspector {
            store: self,
            found: Inventory::default(),
            layers: HashMap::new(),
        };
        for image in wanted {
            if !inspector.found.images.contains_key(&image.digest) {
                inspector.image(image)?;
            }
        }
        Ok(inspector.found)
    }

    /// The manifests of all images in the store.
    pub(crate) fn image_digests(&self) -> Result<Vec<Digest>> {
        let found = refs::list(&self.repo, Some(IMAGES));
        let found = found.context("listing the images of the store")?;
        let digest = |name: &str| refs::digest(IMAGES, name)?.parse().ok();
        Ok(found.keys().filter_map(|name| digest(name)).collect())
    }
}

struct Inspector<'a> {
    store: &'a Store,
    found: Inventory,
    /// The tree of each layer.
    layers: HashMap<Digest, usize>,
}

impl Inspector<'_> {
    fn image(&mut self, wanted: &Wanted) -> Result<()> {
        let digest = &wanted.digest;
        let at = self.begin(Owner::Image(digest.clone()));
        let mut trees = vec![at];
        let mut stored = None;
        if let Some((sum, commit)) = self.commit(at, &wanted.commit) {
            // Their lists are what a damaged tree of the image is made of.
            stored = metadata::read(&sum, &commit.metadata)?;
            for diff_id in stored.iter().flat_map(|image| &image.diff_ids) {
                trees.push(self.layer(diff_id));
            }
            self.found
                .images
                .insert(digest.clone(), (stored.clone(), trees.clone()));
            self.walk(at, commit.root);
        }
        self.found.images.insert(digest.clone(), (stored, trees));
        Ok(())
    }

    fn layer(&mut self, diff_id: &Digest) -> usize {
        if let Some(known) = self.layers.get(diff_id) {
            return *known;
        }
        let at = self.begin(Owner::Layer(diff_id.clone()));
        self.layers.insert(diff_id.clone(), at);
        if let Some((_, commit)) = self.commit(at, "") {
            self.walk(at, commit.root);
        }
        at
    }

    fn begin(&mut self, owner: Owner) -> usize {
        self.found.trees.push(Known {
            owner,
            nodes: BTreeMap::new(),
            unknown: Vec::new(),
        });
        self.found.trees.len() - 1
    }

    /// The commit that the tree's ref names.
    fn commit(&mut self, at: usize, recorded: &str) -> Option<(String, tree::Commit)> {
        let name = self.found.trees[at].owner.name();
        let finding = match refs::resolve(&self.store.repo, &name) {
            Ok(Some(commit)) => return self.read_commit(at, &commit),
            Ok(None) => Finding::new(Defect::Missing, ""),
            Err(error) => Finding::new(Defect::Content, error.to_string()),
        };
        let commit = Sum::parse(recorded).ok().filter(|sum| {
            let kind = Kind::Commit;
            self.read(Object { kind, sum: *sum }).is_ok()
        });
        let commit = commit.map(|sum| sum.to_string());
        self.found.refs.push(BadRef {
            tree: at,
            finding,
            commit: commit.clone(),
        });
        if let Some(commit) = commit {
            return self.read_commit(at, &commit);
        }
        self.found.trees[at].unknown.push(String::new());
        None
    }

    fn read_commit(&mut self, at: usize, commit: &str) -> Option<(String, tree::Commit)> {
        let kind = Kind::Commit;
        let sum = Sum::parse(commit).ok()?;
        let read = self
            .bytes(Object { kind, sum }, at, "")
            .and_then(|bytes| tree::commit(&bytes).ok());
        if read.is_none() {
            self.found.trees[at].unknown.push(String::new());
        }
        Some((commit.to_owned(), read?))
    }

    fn walk(&mut self, at: usize, root: Root) {
        let mut left = vec![(String::new(), root)];
        while let Some((path, dir)) = left.pop() {
            self.attributes(at, &path, dir.meta);
            let object = Object {
                kind: Kind::DirTree,
                sum: dir.tree,
            };
            let read = self.bytes(object, at, &path);
            let Some(tree) = read.and_then(|bytes| tree::dirtree(&bytes).ok()) else {
                self.found.trees[at].unknown.push(path);
                continue;
            };
            let below = |name: &str| join(&path, name);
            for (name, sum) in tree.files {
                if path.is_empty() && name == ENTRIES {
                    self.entries(at, sum);
                }
                let node = Node::File(sum);
                self.found.trees[at].nodes.insert(below(&name), node);
            }
            left.extend(tree.dirs.into_iter().map(|(name, dir)| (below(&name), dir)));
        }
    }

    fn attributes(&mut self, at: usize, path: &str, sum: Sum) {
        self.found.trees[at]
            .nodes
            .insert(path.to_owned(), Node::Dir(sum));
        let object = Object {
            kind: Kind::DirMeta,
            sum,
        };
        if self.found.dirmetas.contains_key(&sum) && !self.found.damaged.contains_key(&object) {
            return;
        }
        let read = self.bytes(object, at, path);
        if let Some(meta) = read.and_then(|bytes| tree::dirmeta(&bytes).ok()) {
            self.found.dirmetas.insert(sum, meta);
        }
    }

    /// The layer's list of entries.
    fn entries(&mut self, at: usize, sum: Sum) {
        let Owner::Layer(diff_id) = &self.found.trees[at].owner else {
            return;
        };
        self.found.lists.insert(diff_id.clone(), sum);
        let object = Object::file(sum);
        let path = self.store.object_path(object);
        if let Some(finding) = check(&path, sum, &mut |_| {}) {
            self.note(object, at, ENTRIES, finding);
        }
    }

    /// A metadata object's bytes: the store's, or the same made anew.
    fn bytes(&mut self, object: Object, at: usize, path: &str) -> Option<Vec<u8>> {
        let finding = match self.read(object) {
            Ok(bytes) => return Some(bytes),
            Err(finding) => finding,
        };
        self.note(object, at, path, finding);
        let mut bytes = self.rebuilt(object);
        if bytes.is_none() {
            self.rebuild(at);
            bytes = self.rebuilt(object);
        }
        if let Some(damage) = self.found.damaged.get_mut(&object) {
            damage.rebuilt |= bytes.is_some();
        }
        bytes
    }

    fn note(&mut self, object: Object, at: usize, path: &str, finding: Finding) {
        let damage = self.found.damaged.entry(object).or_insert(Damage {
            finding,
            places: Vec::new(),
            rebuilt: false,
        });
        damage.places.push((at, path.to_owned()));
    }

    fn read(&self, object: Object) -> Result<Vec<u8>, Finding> {
        let path = self.store.object_path(object);
        let bytes = match read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Finding::new(Defect::Missing, ""));
            }
            Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
                return Err(Finding::new(Defect::Type, "no file"));
            }
            Err(error) => return Err(Finding::new(Defect::Unreadable, error.to_string())),
        };
        match Sum::new(&sha256(&bytes)) {
            Ok(sum) if sum == object.sum => Ok(bytes),
            _ if bytes.is_empty() => Err(Finding::new(Defect::Truncated, "it is empty")),
            _ => Err(Finding::new(Defect::Content, "")),
        }
    }

    fn rebuilt(&self, object: Object) -> Option<Vec<u8>> {
        self.found.scratch.as_ref()?.read(object)
    }

    /// Makes the metadata of a tree anew from the lists of entries, if these are whole.
    fn rebuild(&mut self, at: usize) {
        let owner = self.found.trees[at].owner.clone();
        if self.found.scratch.is_none() {
            self.found.scratch = Scratch::new().ok();
        }
        let list = |diff_id: &Digest| self.found.list(self.store, diff_id);
        let Some(scratch) = &self.found.scratch else {
            return;
        };
        let made = match &owner {
            Owner::Layer(diff_id) => list(diff_id).map(|list| scratch.layer(list, diff_id)),
            Owner::Image(digest) => self.found.images.get(digest).and_then(|(stored, _)| {
                let lists = stored.as_ref()?.diff_ids.iter().map(list);
                Some(scratch.image(&lists.collect::<Option<Vec<_>>>()?))
            }),
        };
        if let Some(Err(error)) = made {
            tracing::debug!("making the metadata of {owner:?} anew: {error:#}");
        }
    }
}

fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() {
        name.to_owned()
    } else {
        format!("{dir}/{name}")
    }
}
