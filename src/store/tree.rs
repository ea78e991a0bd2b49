//! OSTree's metadata objects, read from their bytes (ostree-core.h): their name is the checksum of these bytes.

use anyhow::{Context, Result};
use ostree::glib::{self, Variant, VariantTy};

use crate::store::object::{Meta, Sum};

/// What a commit says.
pub(crate) struct Commit {
    pub(crate) metadata: Variant,
    pub(crate) root: Root,
}

/// A directory: its content and its own attributes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Root {
    pub(crate) tree: Sum,
    pub(crate) meta: Sum,
}

/// What a directory holds.
pub(crate) struct DirTree {
    pub(crate) files: Vec<(String, Sum)>,
    pub(crate) dirs: Vec<(String, Root)>,
}

fn variant(bytes: &[u8], kind: &str) -> Result<Variant> {
    let kind = VariantTy::new(kind).context("the type of an object")?;
    Ok(Variant::from_bytes_with_type(
        &glib::Bytes::from(bytes),
        kind,
    ))
}

/// Reads a `.commit`.
pub(crate) fn commit(bytes: &[u8]) -> Result<Commit> {
    let variant = variant(bytes, "(a{sv}aya(say)sstayay)")?;
    let sum = |at| -> Result<Sum> {
        let bytes: Vec<u8> = variant.child_value(at).get().context("reading a commit")?;
        Sum::new(&bytes)
    };
    Ok(Commit {
        root: Root {
            tree: sum(6)?,
            meta: sum(7)?,
        },
        metadata: variant.child_value(0),
    })
}

type Files = Vec<(String, Vec<u8>)>;
type Dirs = Vec<(String, Vec<u8>, Vec<u8>)>;

/// Reads a `.dirtree`.
pub(crate) fn dirtree(bytes: &[u8]) -> Result<DirTree> {
    let variant = variant(bytes, "(a(say)a(sayay))")?;
    let (files, dirs): (Files, Dirs) = variant.get().context("reading a directory")?;
    let file = |(name, sum): (String, Vec<u8>)| Ok((name, Sum::new(&sum)?));
    let dir = |(name, tree, meta): (String, Vec<u8>, Vec<u8>)| {
        let root = Root {
            tree: Sum::new(&tree)?,
            meta: Sum::new(&meta)?,
        };
        Ok((name, root))
    };
    Ok(DirTree {
        files: files.into_iter().map(file).collect::<Result<_>>()?,
        dirs: dirs.into_iter().map(dir).collect::<Result<_>>()?,
    })
}

/// Reads a `.dirmeta`.
pub(crate) fn dirmeta(bytes: &[u8]) -> Result<Meta> {
    type Fields = (u32, u32, u32, Vec<(Vec<u8>, Vec<u8>)>);
    let variant = variant(bytes, "(uuua(ayay))")?;
    let (uid, gid, mode, xattrs): Fields =
        variant.get().context("reading a directory's attributes")?;
    let mut xattrs: Vec<_> = xattrs
        .into_iter()
        .map(|(mut name, value)| {
            name.pop();
            (name, value)
        })
        .collect();
    xattrs.sort();
    Ok(Meta {
        uid: u32::from_be(uid),
        gid: u32::from_be(gid),
        mode: u32::from_be(mode),
        xattrs,
        target: None,
    })
}
