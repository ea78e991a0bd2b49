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
    Ok(Commit {
        root: root(&variant, 6)?,
        metadata: variant.child_value(0),
    })
}

/// The two checksums from this member on.
fn root(of: &Variant, at: usize) -> Result<Root> {
    Ok(Root {
        tree: sum(of, at)?,
        meta: sum(of, at + 1)?,
    })
}

/// A member that is a checksum. As a slice: a `Vec` would be made of a variant for each byte.
fn sum(of: &Variant, at: usize) -> Result<Sum> {
    let member = of.child_value(at);
    Sum::new(member.fixed_array().context("reading a checksum")?)
}

/// A member that is a name.
fn name(of: &Variant, at: usize) -> Result<String> {
    let member = of.child_value(at);
    Ok(member.str().context("reading a name")?.to_owned())
}

/// Reads a `.dirtree`.
pub(crate) fn dirtree(bytes: &[u8]) -> Result<DirTree> {
    let variant = variant(bytes, "(a(say)a(sayay))")?;
    let (files, dirs) = (variant.child_value(0), variant.child_value(1));
    let file = |file: Variant| Ok((name(&file, 0)?, sum(&file, 1)?));
    let dir = |dir: Variant| Ok((name(&dir, 0)?, root(&dir, 1)?));
    Ok(DirTree {
        files: files.iter().map(file).collect::<Result<_>>()?,
        dirs: dirs.iter().map(dir).collect::<Result<_>>()?,
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
