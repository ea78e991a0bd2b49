//! The objects of the repository as they lie on disk, and which of them a commit reaches.
//!
//! Directories and commits are hashed as they are read: one that is damaged would name the wrong objects, and what it
//! really needs would look as if nobody needed it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use openssl::sha::sha256;
use ostree::glib::{Bytes, Variant, VariantTy};

use crate::image::hex;
use crate::root::{Link, Root};
use crate::store::REPO;
use crate::store::object::{Kind, relative_path};

/// `OSTREE_TREE_GVARIANT_FORMAT`: files' names and objects; directories' names, trees and metadata.
const DIRTREE: &str = "(a(say)a(sayay))";
/// `OSTREE_COMMIT_GVARIANT_FORMAT`: the last two are the tree and its metadata.
const COMMIT: &str = "(a{sv}aya(say)sstayay)";

/// What names an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) kind: Kind,
    checksum: [u8; 32],
}

impl Name {
    /// Of a checksum as libostree writes it; `None` for what is none.
    fn new(kind: Kind, digits: impl ExactSizeIterator<Item = u8>) -> Option<Self> {
        if digits.len() != 64 {
            return None;
        }
        let mut checksum = [0; 32];
        for (at, digit) in digits.enumerate() {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            checksum[at / 2] = checksum[at / 2] << 4 | value;
        }
        Some(Self { kind, checksum })
    }

    /// Of a path below `objects/`; `None` for what is no object.
    fn of_path(path: &Path) -> Option<Self> {
        let (stem, suffix) = path.to_str()?.rsplit_once('.')?;
        let kind = match suffix {
            "file" => Kind::File,
            "dirtree" => Kind::DirTree,
            "dirmeta" => Kind::DirMeta,
            "commit" => Kind::Commit,
            _ => return None,
        };
        let (start, rest) = stem.as_bytes().split_at_checked(2)?;
        let digits = rest.strip_prefix(b"/")?.iter();
        let digits: Vec<u8> = start.iter().chain(digits).copied().collect();
        Self::new(kind, digits.into_iter())
    }

    /// The checksum as libostree writes it.
    pub(crate) fn checksum(&self) -> String {
        hex(&self.checksum)
    }

    fn relative_path(&self) -> String {
        relative_path(&self.checksum(), self.kind)
    }

    /// The directory that it lies in.
    pub(crate) fn dir(&self) -> Option<PathBuf> {
        self.path().parent().map(Path::to_owned)
    }

    fn path(&self) -> PathBuf {
        Path::new(REPO).join("objects").join(self.relative_path())
    }
}

/// Every object, by number, and the directories that have been read so far.
pub(crate) struct Objects<'a> {
    root: &'a Root,
    all: Vec<(Name, Link)>,
    numbers: HashMap<Name, usize>,
    trees: HashMap<usize, Tree>,
}

/// A directory's objects.
#[derive(Default)]
struct Tree {
    /// Files, and the metadata of directories.
    leaves: Vec<usize>,
    dirs: Vec<usize>,
    /// Bytes of content of all files below, each name counted.
    size: u64,
    faults: Vec<String>,
}

/// What a commit reaches.
#[derive(Debug, Default)]
pub(crate) struct Reached {
    /// A flag for each object.
    pub(crate) marks: Vec<bool>,
    /// Bytes of content of the last commit's files, each name counted.
    pub(crate) size: u64,
    /// Directories that are missing or damaged: what lies below them is not known.
    pub(crate) faults: Vec<String>,
}

impl<'a> Objects<'a> {
    /// Lists them. What else lies there is handed to `stray`, with its path below `objects/`.
    pub(crate) fn list(root: &'a Root, stray: &mut dyn FnMut(&Path, &Link)) -> Result<Self> {
        let mut objects = Self {
            root,
            all: Vec::new(),
            numbers: HashMap::new(),
            trees: HashMap::new(),
        };
        root.walk(Path::new(REPO).join("objects"), &mut |path, link| {
            if let Some(name) = Name::of_path(path) {
                objects.numbers.insert(name, objects.all.len());
                objects.all.push((name, *link));
            } else if link.kind != crate::root::Kind::Dir {
                stray(path, link);
            }
        })?;
        Ok(objects)
    }

    /// All of them, in the order of their numbers.
    pub(crate) fn all(&self) -> &[(Name, Link)] {
        &self.all
    }

    /// Adds what the commit reaches to what others did.
    pub(crate) fn reach(&mut self, commit: &str, reached: &mut Reached) {
        reached.marks.resize(self.all.len(), false);
        let found = Name::new(Kind::Commit, commit.bytes())
            .context("a ref names no commit")
            .and_then(|name| Ok((self.number(name)?, self.read(name, COMMIT)?)));
        let (number, commit) = match found {
            Ok(found) => found,
            Err(error) => return reached.faults.push(format!("{error:#}")),
        };
        reached.marks[number] = true;
        let metadata = child(&commit, 7, Kind::DirMeta).and_then(|name| self.number(name));
        if let Ok(metadata) = metadata {
            reached.marks[metadata] = true;
        }
        match child(&commit, 6, Kind::DirTree).and_then(|name| self.tree(name)) {
            Ok(tree) => {
                reached.size = self.trees.get(&tree).map_or(0, |tree| tree.size);
                self.mark(tree, reached);
            }
            Err(error) => reached.faults.push(format!("{error:#}")),
        }
    }

    fn mark(&self, number: usize, reached: &mut Reached) {
        let Some(tree) = self.trees.get(&number) else {
            return;
        };
        if !std::mem::replace(&mut reached.marks[number], true) {
            reached.faults.extend(tree.faults.iter().cloned());
            for leaf in &tree.leaves {
                reached.marks[*leaf] = true;
            }
            for dir in &tree.dirs {
                self.mark(*dir, reached);
            }
        }
    }

    /// Reads a directory and those below it.
    fn tree(&mut self, name: Name) -> Result<usize> {
        let number = self.number(name)?;
        if self.trees.contains_key(&number) {
            return Ok(number);
        }
        let read = self.read(name, DIRTREE)?;
        let mut tree = Tree::default();
        let files = read.child_value(0);
        for file in (0..files.n_children()).map(|i| files.child_value(i)) {
            // That a file is missing changes nothing for the others.
            if let Ok(object) = child(&file, 1, Kind::File).and_then(|name| self.number(name)) {
                tree.size += self.all.get(object).map_or(0, |(_, link)| link.size);
                tree.leaves.push(object);
            }
        }
        let dirs = read.child_value(1);
        for dir in (0..dirs.n_children()).map(|i| dirs.child_value(i)) {
            let metadata = child(&dir, 2, Kind::DirMeta).and_then(|name| self.number(name));
            tree.leaves.extend(metadata);
            match child(&dir, 1, Kind::DirTree).and_then(|name| self.tree(name)) {
                Ok(below) => {
                    tree.size += self.trees.get(&below).map_or(0, |tree| tree.size);
                    tree.dirs.push(below);
                }
                Err(error) => tree.faults.push(format!("{error:#}")),
            }
        }
        self.trees.insert(number, tree);
        Ok(number)
    }

    /// The number of an object that is needed.
    fn number(&self, name: Name) -> Result<usize> {
        let number = self.numbers.get(&name).copied();
        number.with_context(|| format!("`{}` is missing", name.path().display()))
    }

    /// The content of a directory or commit, which must be what its name says.
    fn read(&self, name: Name, form: &str) -> Result<Variant> {
        let path = name.path();
        let Some(bytes) = self.root.read(&path)? else {
            bail!("`{}` is missing", path.display());
        };
        if sha256(&bytes) != name.checksum {
            bail!("`{}` is damaged", path.display());
        }
        let form = VariantTy::new(form).context("reading a form of libostree's")?;
        let bytes = Bytes::from_owned(bytes);
        Ok(Variant::from_bytes_with_type(&bytes, form))
    }
}

fn child(variant: &Variant, number: usize, kind: Kind) -> Result<Name> {
    let child = variant.child_value(number);
    let checksum = child.fixed_array::<u8>().ok();
    let checksum = checksum.and_then(|bytes| bytes.try_into().ok());
    let checksum = checksum.context("a checksum has not 32 bytes")?;
    Ok(Name { kind, checksum })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_known_by_their_paths() {
        let rest = "b".repeat(62);
        let checksum = format!("a0{rest}");
        for kind in [Kind::File, Kind::DirTree, Kind::DirMeta, Kind::Commit] {
            let name = Name::of_path(Path::new(&relative_path(&checksum, kind))).unwrap();
            assert_eq!((name.kind, name.checksum()), (kind, checksum.clone()));
        }
        for path in [
            format!("aa/{rest}.other"),
            format!("aa/{rest}"),
            format!("aab/{}.file", "b".repeat(61)),
            format!("AA/{rest}.file"),
            format!("aa/{rest}b.file"),
            "aa/tmp.Ab12xY".to_owned(),
        ] {
            assert_eq!(Name::of_path(Path::new(&path)), None, "{path}");
        }
    }
}
