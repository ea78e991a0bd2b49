//! Directories and commits as objects (ostree-core.h: `OSTREE_TREE_GVARIANT_FORMAT`, `OSTREE_COMMIT_GVARIANT_FORMAT`).
//!
//! A layer's commit has two things in its root: `entries`, what the layer says, and `objects`, one directory that names
//! each of its files by checksum, so that none is pruned while the layer is known. An image's commit is its merged
//! tree.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use containers_image_proxy::oci_spec::image::Digest;
use rustix::fs::FileType;

use crate::store::entry::{self, Attributes, Node, unhex};
use crate::store::gvariant::{array, dict, frame, pad, string, tuple};
use crate::store::layer::Layer;
use crate::store::merge::Tree;
use crate::store::object::{Kind, Meta, dirmeta};
use crate::store::objects::Objects;

/// The name of a layer's list of entries.
pub(crate) const ENTRIES: &str = "entries";

/// The name of the directory with a layer's files.
const OBJECTS: &str = "objects";

/// A directory as its parent knows it: the checksums of its two objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directory {
    /// Of the object with its names.
    pub(crate) tree: String,
    /// Of the object with its owner, mode and attributes.
    pub(crate) meta: String,
}

/// The names in a directory, added in the order of their bytes.
#[derive(Default)]
pub(crate) struct Names {
    files: Vec<Vec<u8>>,
    dirs: Vec<Vec<u8>>,
}

impl Names {
    /// Adds a file object.
    pub(crate) fn file(&mut self, name: &str, object: &str) -> Result<()> {
        self.files.push(tuple(&[&string(name), &unhex(object)?]));
        Ok(())
    }

    /// Adds a directory.
    pub(crate) fn dir(&mut self, name: &str, dir: &Directory) -> Result<()> {
        let (tree, meta) = (unhex(&dir.tree)?, unhex(&dir.meta)?);
        self.dirs.push(tuple(&[&string(name), &tree, &meta]));
        Ok(())
    }

    /// Writes the object; its checksum.
    pub(crate) fn write(self, objects: &Objects) -> Result<String> {
        let bytes = tuple(&[&array(self.files), &array(self.dirs)]);
        objects.write_metadata(Kind::DirTree, &bytes)
    }
}

/// Writes a directory's metadata; its checksum.
pub(crate) fn write_dirmeta(objects: &Objects, attributes: &Attributes) -> Result<String> {
    let mode = FileType::Directory.as_raw_mode() | attributes.mode;
    let xattrs = attributes.plain_xattrs()?;
    let bytes = dirmeta(attributes.uid, attributes.gid, mode, &xattrs);
    objects.write_metadata(Kind::DirMeta, &bytes)
}

/// Commits a layer that has been read; the commit's checksum.
pub(crate) fn layer(objects: &Objects, layer: &Layer, diff_id: &Digest) -> Result<String> {
    let mut files = BTreeSet::new();
    for entry in &layer.entries {
        if let Node::File { object, .. } | Node::Symlink { object, .. } = &entry.node {
            files.insert(object.as_str());
        }
    }
    let mut held = Names::default();
    for file in files {
        held.file(file, file)?;
    }
    let private = Attributes {
        mode: 0o700,
        ..Attributes::default()
    };
    let meta = write_dirmeta(objects, &private)?;
    let held = Directory {
        tree: held.write(objects)?,
        meta: meta.clone(),
    };
    let list = Meta {
        uid: 0,
        gid: 0,
        mode: FileType::RegularFile.as_raw_mode() | 0o600,
        xattrs: Vec::new(),
        target: None,
    };
    let list = objects.write(&list, &entry::serialize(diff_id.as_ref(), &layer.entries)?)?;
    let mut top = Names::default();
    top.file(ENTRIES, &list)?;
    top.dir(OBJECTS, &held)?;
    let tree = top.write(objects)?;
    write(objects, &Directory { tree, meta }, &dict(&[]))
}

/// Commits an image's merged tree with its metadata, an `a{sv}`; the commit's checksum.
pub(crate) fn image(objects: &Objects, tree: &Tree, metadata: &[u8]) -> Result<String> {
    let root = tree.write(objects).context("writing the directories")?;
    write(objects, &root, metadata)
}

/// Writes a commit. It has no time and no parent: equal content is one commit.
fn write(objects: &Objects, root: &Directory, metadata: &[u8]) -> Result<String> {
    objects.write_metadata(Kind::Commit, &commit(root, metadata)?)
}

/// The bytes of a commit.
fn commit(root: &Directory, metadata: &[u8]) -> Result<Vec<u8>> {
    let mut body = metadata.to_vec();
    let metadata_ends = body.len();
    // No parent, nothing related, an empty subject and an empty body; no time, which has no offset.
    body.extend_from_slice(&string(""));
    let subject_ends = body.len();
    body.extend_from_slice(&string(""));
    let body_ends = body.len();
    pad(&mut body);
    body.extend_from_slice(&0_u64.to_be_bytes());
    body.extend_from_slice(&unhex(&root.tree)?);
    let tree_ends = body.len();
    body.extend_from_slice(&unhex(&root.meta)?);
    let ends = [
        tree_ends,
        body_ends,
        subject_ends,
        metadata_ends,
        metadata_ends,
        metadata_ends,
    ];
    Ok(frame(body, &ends))
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
            let root = Directory {
                tree: "01".repeat(32),
                meta: "02".repeat(32),
            };
            let ours = commit(&root, metadata.data()).unwrap();
            assert_eq!(ours, expected.data(), "{length:?}");
        }
    }
}
