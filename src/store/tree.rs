//! OSTree's metadata objects, read from their bytes (ostree-core.h): their name is the checksum of these bytes.

use std::collections::HashSet;

use anyhow::{Context, Result};

use crate::store::gvariant::{ALIGNMENT, Dict, Framed, read_dict, read_string};
use crate::store::object::{Kind, Meta, Object, Sum};
use crate::store::objects::Objects;

/// What a commit says.
pub(crate) struct Commit {
    pub(crate) metadata: Dict,
    pub(crate) root: Root,
}

/// A directory: its content and its own attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) tree: Sum,
    pub(crate) meta: Sum,
}

/// What a directory holds.
#[derive(Debug, Default)]
pub(crate) struct DirTree {
    pub(crate) files: Vec<(String, Sum)>,
    pub(crate) dirs: Vec<(String, Root)>,
}

/// Reads a `.commit`, `(a{sv}aya(say)sstayay)`.
pub(crate) fn commit(bytes: &[u8]) -> Result<Commit> {
    let reading = "reading a commit";
    let commit = Framed::new(bytes);
    // The time after the body has a fixed size, and so no offset.
    let (metadata, body, tree) = (
        commit.offset(0).context(reading)?,
        commit.offset(4).context(reading)?,
        commit.offset(5).context(reading)?,
    );
    let sums = body.next_multiple_of(ALIGNMENT) + size_of::<u64>();
    Ok(Commit {
        metadata: read_dict(commit.part(0, metadata)?).context(reading)?,
        root: Root {
            tree: Sum::new(commit.part(sums, tree).context(reading)?)?,
            meta: Sum::new(commit.part(tree, commit.table(6)?).context(reading)?)?,
        },
    })
}

/// Reads a `.dirtree`, `(a(say)a(sayay))`.
pub(crate) fn dirtree(bytes: &[u8]) -> Result<DirTree> {
    read_dirtree(bytes).context("reading a directory")
}

fn read_dirtree(bytes: &[u8]) -> Result<DirTree> {
    let tree = Framed::new(bytes);
    let files_end = tree.offset(0)?;
    let files = Framed::new(tree.part(0, files_end)?).elements(1)?;
    let dirs = Framed::new(tree.part(files_end, tree.table(1)?)?).elements(1)?;
    let mut found = DirTree {
        files: Vec::with_capacity(files.len()),
        dirs: Vec::with_capacity(dirs.len()),
    };
    for file in files {
        let file = Framed::new(file);
        let name = file.offset(0)?;
        let sum = Sum::new(file.part(name, file.table(1)?)?)?;
        found
            .files
            .push((read_string(file.part(0, name)?)?.to_owned(), sum));
    }
    for dir in dirs {
        let dir = Framed::new(dir);
        let (name, tree) = (dir.offset(0)?, dir.offset(1)?);
        let root = Root {
            tree: Sum::new(dir.part(name, tree)?)?,
            meta: Sum::new(dir.part(tree, dir.table(2)?)?)?,
        };
        found
            .dirs
            .push((read_string(dir.part(0, name)?)?.to_owned(), root));
    }
    Ok(found)
}

/// Reads a `.dirmeta`, `(uuua(ayay))`, integers big-endian.
pub(crate) fn dirmeta(bytes: &[u8]) -> Result<Meta> {
    read_dirmeta(bytes).context("reading a directory's attributes")
}

fn read_dirmeta(bytes: &[u8]) -> Result<Meta> {
    let whole = Framed::new(bytes);
    let number =
        |at: usize| -> Result<u32> { Ok(u32::from_be_bytes(whole.part(at, at + 4)?.try_into()?)) };
    let (uid, gid, mode) = (number(0)?, number(4)?, number(8)?);
    let mut xattrs = Vec::new();
    for pair in Framed::new(&bytes[12..]).elements(1)? {
        let pair = Framed::new(pair);
        let name = pair.offset(0)?;
        let value = pair.part(name, pair.table(1)?)?;
        let name = pair.part(0, name)?.strip_suffix(&[0]);
        xattrs.push((
            name.context("a name without its end")?.to_vec(),
            value.to_vec(),
        ));
    }
    xattrs.sort();
    Ok(Meta {
        uid,
        gid,
        mode,
        xattrs,
        target: None,
    })
}

/// Adds every object that a commit needs to those that were found before.
pub(crate) fn traverse(
    objects: &Objects,
    commit_sum: &str,
    found: &mut HashSet<Object>,
) -> Result<()> {
    let sum = Sum::parse(commit_sum)?;
    let root = commit(&objects.read(commit_sum, Kind::Commit)?)?.root;
    found.insert(Object {
        kind: Kind::Commit,
        sum,
    });
    let mut left = vec![root];
    while let Some(dir) = left.pop() {
        found.insert(Object {
            kind: Kind::DirMeta,
            sum: dir.meta,
        });
        let (kind, sum) = (Kind::DirTree, dir.tree);
        if found.insert(Object { kind, sum }) {
            let names = dirtree(&objects.read(&sum.to_string(), kind)?)?;
            found.extend(names.files.into_iter().map(|(_, sum)| Object::file(sum)));
            left.extend(names.dirs.into_iter().map(|(_, dir)| dir));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ostree::glib::prelude::ToVariant;
    use ostree::glib::{Variant, VariantDict};

    use super::*;

    fn sum(byte: u8) -> Vec<u8> {
        vec![byte; 32]
    }

    #[test]
    fn what_glib_writes_is_read() {
        for count in [0_u8, 1, 5, 200] {
            let names = |prefix: &'static str| (0..count).map(move |n| format!("{prefix}{n:03}"));
            let files: Vec<_> = names("f").map(|name| (name, sum(1))).collect();
            let dirs: Vec<_> = names("d").map(|name| (name, sum(2), sum(3))).collect();
            let read = dirtree((files, dirs).to_variant().data()).unwrap();
            let (files, dirs) = (read.files.iter(), read.dirs.iter());
            assert!(
                files.map(|(name, _)| name.clone()).eq(names("f")),
                "{count}"
            );
            assert!(dirs.map(|(name, _)| name.clone()).eq(names("d")), "{count}");
            assert!(
                read.files
                    .iter()
                    .all(|(_, s)| s.to_string() == "01".repeat(32))
            );
            assert!(
                read.dirs
                    .iter()
                    .all(|(_, d)| d.meta.to_string() == "03".repeat(32))
            );
            let xattrs: Vec<_> = names("user.")
                .map(|name| (format!("{name}\0").into_bytes(), sum(count)))
                .collect();
            let numbers = [1_u32, 2, 0o040_755].map(u32::to_be);
            let meta = (numbers[0], numbers[1], numbers[2], xattrs).to_variant();
            let read = dirmeta(meta.data()).unwrap();
            assert_eq!((read.uid, read.gid, read.mode), (1, 2, 0o040_755));
            assert!(
                read.xattrs
                    .iter()
                    .map(|(name, _)| String::from_utf8(name.clone()).unwrap())
                    .eq(names("user."))
            );
        }
    }

    #[test]
    fn a_commit_is_read() {
        for length in [0, 3, 250, 70_000] {
            let metadata = VariantDict::new(None);
            metadata.insert("text", "x".repeat(length));
            metadata.insert("other", 7_u64);
            let related: Vec<(String, Vec<u8>)> = vec![("r".to_owned(), sum(9))];
            let commit = Variant::tuple_from_iter([
                metadata.end(),
                sum(8).to_variant(),
                related.to_variant(),
                "subject".to_variant(),
                "body".to_variant(),
                77_u64.to_variant(),
                sum(1).to_variant(),
                sum(2).to_variant(),
            ]);
            let read = super::commit(commit.data()).unwrap();
            assert_eq!(read.root.tree.to_string(), "01".repeat(32));
            assert_eq!(read.root.meta.to_string(), "02".repeat(32));
            assert_eq!(read.metadata.len(), 1);
            for cut in 0..commit.data().len().min(600) {
                let _refused = super::commit(&commit.data()[..cut]);
                let _refused = dirtree(&commit.data()[..cut]);
                let _refused = dirmeta(&commit.data()[..cut]);
            }
        }
    }
}
