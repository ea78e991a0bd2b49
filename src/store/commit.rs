//! Directories and commits as objects (ostree-core.h: `OSTREE_TREE_GVARIANT_FORMAT`, `OSTREE_COMMIT_GVARIANT_FORMAT`).
//!
//! A layer's commit has two things in its root: `entries`, what the layer says, and `objects`, one directory that names
//! each of its files by checksum, so that none is pruned while the layer is known. An image's commit is its merged
//! tree.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use containers_image_proxy::oci_spec::image::Digest;
use rustix::fs::FileType;

use crate::store::entry::{Attributes, Node};
use crate::store::gvariant::{Tuples, dict, frame, pad, string, tuple};
use crate::store::layer::Layer;
use crate::store::list;
use crate::store::merge::Tree;
use crate::store::object::{Kind, Sum, dirmeta};
use crate::store::objects::Objects;
use crate::store::tree::Root;

/// The name of a layer's list of entries.
pub(crate) const ENTRIES: &str = "entries";

/// The name of the directory with a layer's files.
const OBJECTS: &str = "objects";

/// The names in a directory, added in the order of their bytes.
#[derive(Default)]
pub(crate) struct Names {
    files: Tuples,
    dirs: Tuples,
}

impl Names {
    /// Adds a file object.
    pub(crate) fn file(&mut self, name: &str, object: Sum) {
        self.files.push(&[&string(name), object.bytes()]);
    }

    /// Adds a directory.
    pub(crate) fn dir(&mut self, name: &str, dir: Root) {
        let members: [&[u8]; 3] = [&string(name), dir.tree.bytes(), dir.meta.bytes()];
        self.dirs.push(&members);
    }

    /// The object.
    pub(crate) fn bytes(self) -> Vec<u8> {
        tuple(&[&self.files.done(), &self.dirs.done()])
    }

    /// Writes the object; its checksum.
    fn write(self, objects: &Objects) -> Result<Sum> {
        objects.write_metadata(Kind::DirTree, &self.bytes())
    }
}

/// A directory's metadata, as an object.
pub(crate) fn dirmeta_of(attributes: &Attributes) -> Result<Vec<u8>> {
    let mode = FileType::Directory.as_raw_mode() | attributes.mode;
    let xattrs = attributes.plain_xattrs()?;
    Ok(dirmeta(attributes.uid, attributes.gid, mode, &xattrs))
}

/// Commits a layer that has been read; the commit's checksum.
pub(crate) fn layer(objects: &Objects, layer: &Layer, diff_id: &Digest) -> Result<String> {
    let mut files = BTreeSet::new();
    for entry in &layer.entries {
        if let Node::File { object, .. } | Node::Symlink { object, .. } = &entry.node {
            files.insert(*object);
        }
    }
    let mut held = Names::default();
    for file in files {
        held.file(&file.to_string(), file);
    }
    let private = Attributes {
        mode: 0o700,
        ..Attributes::default()
    };
    let meta = objects.write_metadata(Kind::DirMeta, &dirmeta_of(&private)?)?;
    let held = Root {
        tree: held.write(objects)?,
        meta,
    };
    let list = list::serialize(diff_id.as_ref(), &layer.entries)?;
    let list = objects.write(&list::meta(), &list)?;
    let mut top = Names::default();
    top.file(ENTRIES, list);
    top.dir(OBJECTS, held);
    let tree = top.write(objects)?;
    write(objects, Root { tree, meta }, &dict(&[]))
}

/// Commits an image's merged tree with its metadata, an `a{sv}`; the commit's checksum.
pub(crate) fn image(objects: &Objects, tree: &Tree, metadata: &[u8]) -> Result<String> {
    let root = tree.write(objects).context("writing the directories")?;
    write(objects, root, metadata)
}

/// Writes a commit. It has no time and no parent: equal content is one commit.
fn write(objects: &Objects, root: Root, metadata: &[u8]) -> Result<String> {
    let commit = objects.write_metadata(Kind::Commit, &commit(root, metadata))?;
    Ok(commit.to_string())
}

/// The bytes of a commit.
fn commit(root: Root, metadata: &[u8]) -> Vec<u8> {
    let mut body = metadata.to_vec();
    let metadata_ends = body.len();
    // No parent, nothing related, an empty subject and an empty body; no time, which has no offset.
    body.extend_from_slice(&string(""));
    let subject_ends = body.len();
    body.extend_from_slice(&string(""));
    let body_ends = body.len();
    pad(&mut body);
    body.extend_from_slice(&0_u64.to_be_bytes());
    body.extend_from_slice(root.tree.bytes());
    let tree_ends = body.len();
    body.extend_from_slice(root.meta.bytes());
    let ends = [
        tree_ends,
        body_ends,
        subject_ends,
        metadata_ends,
        metadata_ends,
        metadata_ends,
    ];
    frame(body, &ends)
}

#[cfg(test)]
mod tests {
    use ostree::glib::prelude::ToVariant;
    use ostree::glib::{Variant, VariantDict};

    use super::*;

    #[test]
    fn a_commit_is_as_glib_has_it() {
        for length in [None, Some(0), Some(100), Some(230), Some(70_000)] {
            let metadata = VariantDict::new(None);
            if let Some(length) = length {
                metadata.insert("text", "x".repeat(length));
            }
            let metadata = metadata.end();
            let no_related: Vec<(String, Vec<u8>)> = Vec::new();
            let expected = Variant::tuple_from_iter([
                metadata.clone(),
                Vec::<u8>::new().to_variant(),
                no_related.to_variant(),
                "".to_variant(),
                "".to_variant(),
                0_u64.to_variant(),
                vec![1_u8; 32].to_variant(),
                vec![2_u8; 32].to_variant(),
            ]);
            let root = Root {
                tree: Sum::new(&[1; 32]).unwrap(),
                meta: Sum::new(&[2; 32]).unwrap(),
            };
            let ours = commit(root, metadata.data());
            assert_eq!(ours, expected.data(), "{length:?}");
        }
    }
}
