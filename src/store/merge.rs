//! Layers laid over one another, in memory, and the result written as OSTree directories.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, bail};
use ostree::glib::{self, prelude::ToVariant};
use ostree::{MutableTree, ObjectType, Repo, gio};

use crate::store::entry::{Attributes, Entry, Node, Xattrs, parent};

/// A directory of the merged image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tree {
    attributes: Attributes,
    children: BTreeMap<String, Child>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Child {
    Dir(Tree),
    File(String),
    Symlink(String),
}

/// How much of an image a tree holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// One layer by itself: hard links into lower layers are left out.
    Layer,
    /// All layers up to this one.
    Image,
}

impl Default for Tree {
    /// What an entry's path implies where no entry says more: 0755, root.
    fn default() -> Self {
        Self {
            attributes: Attributes {
                mode: 0o755,
                ..Attributes::default()
            },
            children: BTreeMap::new(),
        }
    }
}

impl Tree {
    /// Lays a layer over the tree: its whiteouts first, for they concern lower layers alone, then its entries.
    pub(crate) fn apply(&mut self, entries: &[Entry], scope: Scope) -> Result<()> {
        for entry in entries {
            let hidden = match entry.node {
                Node::Whiteout => self.remove(&entry.path),
                Node::Opaque => self.clear(&entry.path),
                _ => Ok(()),
            };
            hidden.with_context(|| format!("the whiteout of `{}`", entry.path))?;
        }
        for entry in entries {
            self.put(entry, scope)
                .with_context(|| format!("entry `{}`", entry.path))?;
        }
        Ok(())
    }

    fn put(&mut self, entry: &Entry, scope: Scope) -> Result<()> {
        let child = match &entry.node {
            Node::Whiteout | Node::Opaque => return Ok(()),
            Node::Dir(attributes) => return self.put_dir(&entry.path, attributes),
            Node::File { object, .. } => Child::File(object.clone()),
            Node::Symlink { object, .. } => Child::Symlink(object.clone()),
            Node::Hardlink { target } => match (self.linked(target), scope) {
                (Some(child), _) => child,
                (None, Scope::Layer) => return Ok(()),
                (None, Scope::Image) => {
                    bail!("it is a hard link to `{target}`, which is no file of the image")
                }
            },
        };
        let Some(name) = file_name(&entry.path) else {
            bail!("the root must be a directory");
        };
        let dir = self.dir_for(&entry.path)?;
        dir.children.insert(name.to_owned(), child);
        Ok(())
    }

    fn put_dir(&mut self, path: &str, attributes: &Attributes) -> Result<()> {
        let Some(name) = file_name(path) else {
            self.attributes = attributes.clone();
            return Ok(());
        };
        let children = &mut self.dir_for(path)?.children;
        if let Some(Child::Dir(dir)) = children.get_mut(name) {
            dir.attributes = attributes.clone();
            return Ok(());
        }
        let dir = Tree {
            attributes: attributes.clone(),
            children: BTreeMap::new(),
        };
        children.insert(name.to_owned(), Child::Dir(dir));
        Ok(())
    }

    /// The directory that holds `path`; missing ones are made.
    fn dir_for(&mut self, path: &str) -> Result<&mut Tree> {
        let mut dir = self;
        let mut at = 0;
        for part in parts(parent(path)) {
            at += part.len() + 1;
            let child = dir.children.entry(part.to_owned());
            dir = match child.or_insert_with(|| Child::Dir(Tree::default())) {
                Child::Dir(dir) => dir,
                Child::File(_) => bail!("its parent `{}` is a file", &path[..at - 1]),
                Child::Symlink(_) => bail!("its parent `{}` is a symbolic link", &path[..at - 1]),
            };
        }
        Ok(dir)
    }

    /// The directory at `path` if there is one; a path through a symbolic link is an error.
    fn dir(&mut self, path: &str) -> Result<Option<&mut Tree>> {
        let mut dir = self;
        for part in parts(path) {
            dir = match dir.children.get_mut(part) {
                Some(Child::Dir(dir)) => dir,
                Some(Child::Symlink(_)) => bail!("`{part}` in it is a symbolic link"),
                Some(Child::File(_)) | None => return Ok(None),
            };
        }
        Ok(Some(dir))
    }

    fn remove(&mut self, path: &str) -> Result<()> {
        if let (Some(dir), Some(name)) = (self.dir(parent(path))?, file_name(path)) {
            dir.children.remove(name);
        }
        Ok(())
    }

    fn clear(&mut self, path: &str) -> Result<()> {
        if let Some(dir) = self.dir(path)? {
            dir.children.clear();
        }
        Ok(())
    }

    /// What a hard link to `path` would be.
    fn linked(&self, path: &str) -> Option<Child> {
        let mut dir = self;
        for part in parts(parent(path)) {
            match dir.children.get(part)? {
                Child::Dir(inner) => dir = inner,
                Child::File(_) | Child::Symlink(_) => return None,
            }
        }
        match dir.children.get(file_name(path)?)? {
            Child::Dir(_) => None,
            child => Some(child.clone()),
        }
    }

    /// Fills an OSTree directory; its metadata goes into the repository's running transaction.
    pub(crate) fn write_into(&self, repo: &Repo, mtree: &MutableTree) -> Result<()> {
        self.fill(mtree, &mut Metadata::new(repo))
    }

    fn fill(&self, mtree: &MutableTree, metadata: &mut Metadata<'_>) -> Result<()> {
        mtree.set_metadata_checksum(&metadata.checksum(&self.attributes)?);
        for (name, child) in &self.children {
            match child {
                Child::Dir(dir) => dir.fill(&mtree.ensure_dir(name)?, metadata)?,
                Child::File(object) | Child::Symlink(object) => mtree.replace_file(name, object)?,
            }
        }
        Ok(())
    }
}

/// Writes directory metadata, each kind once: most directories of an image are alike.
pub(crate) struct Metadata<'a> {
    repo: &'a Repo,
    known: HashMap<Attributes, String>,
}

impl<'a> Metadata<'a> {
    pub(crate) fn new(repo: &'a Repo) -> Self {
        Self {
            repo,
            known: HashMap::new(),
        }
    }

    pub(crate) fn checksum(&mut self, attributes: &Attributes) -> Result<String> {
        if let Some(known) = self.known.get(attributes) {
            return Ok(known.clone());
        }
        let mode = rustix::fs::FileType::Directory.as_raw_mode() | attributes.mode;
        // `OSTREE_DIRMETA_GVARIANT_FORMAT`: integers are big-endian.
        let variant = glib::Variant::tuple_from_iter([
            attributes.uid.to_be().to_variant(),
            attributes.gid.to_be().to_variant(),
            mode.to_be().to_variant(),
            xattrs_variant(&attributes.xattrs)?,
        ]);
        let written =
            self.repo
                .write_metadata(ObjectType::DirMeta, None, &variant, gio::Cancellable::NONE);
        let checksum = written.context("writing a directory's metadata")?.to_hex();
        self.known.insert(attributes.clone(), checksum.clone());
        Ok(checksum)
    }
}

/// Extended attributes as OSTree has them, `a(ayay)`; names end with a NUL byte.
pub(crate) fn xattrs_variant(xattrs: &Xattrs) -> Result<glib::Variant> {
    let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for (name, value) in xattrs {
        let mut name = name.clone().into_bytes();
        name.push(0);
        pairs.push((name, unhex(value)?));
    }
    Ok(pairs.to_variant())
}

fn unhex(text: &str) -> Result<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?))
        .collect::<Result<_>>()
        .context("parsing an extended attribute")
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty())
}

/// The last component; the root has none.
fn file_name(path: &str) -> Option<&str> {
    path.rsplit('/').next().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, node: Node) -> Entry {
        let path = path.to_owned();
        Entry { path, node }
    }

    fn dir(path: &str, mode: u32) -> Entry {
        let attributes = Attributes {
            mode,
            ..Attributes::default()
        };
        entry(path, Node::Dir(attributes))
    }

    fn file(path: &str, object: &str) -> Entry {
        let (object, attributes) = (object.to_owned(), Attributes::default());
        entry(path, Node::File { object, attributes })
    }

    fn link(path: &str, target: &str) -> Entry {
        let (object, target) = (format!("->{target}"), target.to_owned());
        let attributes = Attributes::default();
        entry(
            path,
            Node::Symlink {
                object,
                target,
                attributes,
            },
        )
    }

    fn hard(path: &str, target: &str) -> Entry {
        let target = target.to_owned();
        entry(path, Node::Hardlink { target })
    }

    fn gone(path: &str) -> Entry {
        entry(path, Node::Whiteout)
    }

    fn opaque(path: &str) -> Entry {
        entry(path, Node::Opaque)
    }

    /// Each path with a directory's mode or a file's object.
    fn show(tree: &Tree) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, child) in &tree.children {
            match child {
                Child::Dir(dir) => {
                    lines.push(format!("{name}/ {:o}", dir.attributes.mode));
                    lines.extend(show(dir).iter().map(|line| format!("{name}/{line}")));
                }
                Child::File(object) | Child::Symlink(object) => {
                    lines.push(format!("{name} {object}"));
                }
            }
        }
        lines
    }

    fn merged(layers: &[&[Entry]]) -> Result<Vec<String>> {
        let mut tree = Tree::default();
        for layer in layers {
            tree.apply(layer, Scope::Image)?;
        }
        Ok(show(&tree))
    }

    #[test]
    fn layers_lie_over_one_another() {
        let base = [
            dir("d", 0o700),
            file("d/a", "1"),
            file("d/b", "2"),
            link("l", "d"),
        ];
        for (upper, expected) in [
            (
                vec![file("d/a", "3")],
                vec!["d/ 700", "d/a 3", "d/b 2", "l ->d"],
            ),
            (vec![gone("d/a")], vec!["d/ 700", "d/b 2", "l ->d"]),
            // A whiteout concerns lower layers, wherever it stands.
            (
                vec![file("d/a", "3"), gone("d/a")],
                vec!["d/ 700", "d/a 3", "d/b 2", "l ->d"],
            ),
            (
                vec![file("d/c", "3"), opaque("d")],
                vec!["d/ 700", "d/c 3", "l ->d"],
            ),
            (vec![opaque("")], vec![]),
            (
                vec![gone("nothing/here"), gone("d/a/x"), opaque("none")],
                vec!["d/ 700", "d/a 1", "d/b 2", "l ->d"],
            ),
            (
                vec![dir("d", 0o711)],
                vec!["d/ 711", "d/a 1", "d/b 2", "l ->d"],
            ),
            (vec![file("d", "3")], vec!["d 3", "l ->d"]),
            (
                vec![dir("d/a", 0o755)],
                vec!["d/ 700", "d/a/ 755", "d/b 2", "l ->d"],
            ),
            // A directory replaces a link, it does not follow it.
            (
                vec![dir("l", 0o755), file("l/x", "3")],
                vec!["d/ 700", "d/a 1", "d/b 2", "l/ 755", "l/x 3"],
            ),
            (
                vec![hard("h", "d/a"), hard("s", "l")],
                vec!["d/ 700", "d/a 1", "d/b 2", "h 1", "l ->d", "s ->d"],
            ),
            (
                vec![file("x/y/z", "3"), gone("d"), gone("l")],
                vec!["x/ 755", "x/y/ 755", "x/y/z 3"],
            ),
        ] {
            assert_eq!(merged(&[&base, &upper]).unwrap(), expected, "{upper:?}");
        }
    }

    #[test]
    fn what_leaves_its_place_is_refused() {
        let base = [dir("d", 0o755), file("d/a", "1"), link("l", "/etc")];
        for (upper, error) in [
            (
                file("l/passwd", "3"),
                "entry `l/passwd`: its parent `l` is a symbolic link",
            ),
            (
                dir("l/x/y", 0o755),
                "entry `l/x/y`: its parent `l` is a symbolic link",
            ),
            (
                gone("l/passwd"),
                "the whiteout of `l/passwd`: `l` in it is a symbolic link",
            ),
            (
                opaque("l"),
                "the whiteout of `l`: `l` in it is a symbolic link",
            ),
            (
                hard("h", "l/passwd"),
                "entry `h`: it is a hard link to `l/passwd`, which is no file of the image",
            ),
            (
                hard("h", "none"),
                "entry `h`: it is a hard link to `none`, which is no file of the image",
            ),
            (
                hard("h", "d"),
                "entry `h`: it is a hard link to `d`, which is no file of the image",
            ),
        ] {
            let found = format!("{:#}", merged(&[&base, &[upper]]).unwrap_err());
            assert_eq!(found, error);
        }
    }
}
