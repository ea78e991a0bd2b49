//! What the store must have for its images, and what of that is damaged.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use containers_image_proxy::oci_spec::image::Digest;

use crate::store::entry::{self, Entry};
use crate::store::object::{Meta, Object, Sum};
use crate::store::repair::scratch::Scratch;
use crate::store::verify::content::{check, read};
use crate::store::verify::defect::Finding;
use crate::store::{Store, StoredImage, list, refs};

/// What a tree is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    /// An image, by its manifest.
    Image(Digest),
    /// A layer, by its diff_id.
    Layer(Digest),
}

impl Owner {
    /// Its ref.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Image(digest) => refs::name(refs::IMAGES, digest),
            Self::Layer(digest) => refs::name(refs::LAYERS, digest),
        }
    }
}

/// What lies at a path of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Node {
    /// A directory with the object of its attributes.
    Dir(Sum),
    /// A file or link.
    File(Sum),
}

/// A tree as far as it is known.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) owner: Owner,
    /// By path, that of the root is empty.
    pub(crate) nodes: BTreeMap<String, Node>,
    /// Directories of which nothing can be known.
    pub(crate) unknown: Vec<String>,
}

/// A damaged object of metadata, or a damaged list of entries.
#[derive(Debug)]
pub(crate) struct Damage {
    pub(crate) finding: Finding,
    /// Trees by number, and the paths in them.
    pub(crate) places: Vec<(usize, String)>,
    /// Its bytes are in the private repository.
    pub(crate) rebuilt: bool,
}

/// A ref that names no commit.
#[derive(Debug)]
pub(crate) struct BadRef {
    pub(crate) tree: usize,
    pub(crate) finding: Finding,
    /// The commit that it should name, if that is there.
    pub(crate) commit: Option<String>,
}

/// An image that is to be looked at.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) digest: Digest,
    /// Its commit as it was when it was installed, for a ref that is lost.
    pub(crate) commit: String,
}

/// What the store must have.
#[derive(Default)]
pub(crate) struct Inventory {
    pub(crate) trees: Vec<Known>,
    /// Each image with what is known of it, and its trees: its own first, then its layers', lowest first.
    pub(crate) images: HashMap<Digest, (Option<StoredImage>, Vec<usize>)>,
    pub(crate) dirmetas: HashMap<Sum, Meta>,
    pub(crate) damaged: BTreeMap<Object, Damage>,
    pub(crate) refs: Vec<BadRef>,
    /// The object of each layer's list of entries.
    pub(crate) lists: HashMap<Digest, Sum>,
    pub(crate) scratch: Option<Scratch>,
}

impl Inventory {
    /// Whether all metadata is whole.
    pub(crate) fn is_whole(&self) -> bool {
        self.damaged.is_empty() && self.refs.is_empty()
    }

    /// The attributes that the layers' lists give the objects, and the target of a link.
    pub(crate) fn expected(&self, store: &Store, sums: &[Sum]) -> HashMap<Sum, Meta> {
        let mut found = HashMap::new();
        let wanted: HashSet<Sum> = sums.iter().copied().collect();
        for diff_id in self.lists.keys() {
            for entry in self.list(store, diff_id).unwrap_or_default() {
                if let Some((sum, meta)) = entry_meta(&entry)
                    && wanted.contains(&sum)
                {
                    found.insert(sum, meta);
                }
            }
        }
        // What the store itself writes.
        for sum in self.lists.values() {
            if wanted.contains(sum) {
                found.insert(*sum, Meta::plain(0, 0, 0o100_600));
            }
        }
        found
    }

    /// A layer's entries, if its list is there and whole.
    pub(crate) fn list(&self, store: &Store, diff_id: &Digest) -> Option<Vec<Entry>> {
        let sum = *self.lists.get(diff_id)?;
        let path = store.object_path(Object::file(sum));
        if check(&path, sum, &mut |_| {}).is_some() {
            return None;
        }
        let bytes = read(&path).ok()?;
        list::deserialize(&bytes, Path::new(&refs::name(refs::LAYERS, diff_id))).ok()?
    }
}

/// What an entry says of its object.
pub(crate) fn entry_meta(entry: &Entry) -> Option<(Sum, Meta)> {
    let (entry::Node::File { object, .. } | entry::Node::Symlink { object, .. }) = &entry.node
    else {
        return None;
    };
    Some((*object, entry.node.meta().ok()??))
}
