//! The objects of the repository as they lie on disk, and which of them a commit reaches.
//!
//! Directories and commits are hashed as they are read: one that is damaged would name the wrong objects, and what it
//! really needs would look as if nobody needed it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::hash::sha256;
use crate::root::{Link, Root};
use crate::store::object::{Kind, Object, Sum};
use crate::store::{REPO, tree};

/// Every object, by number, and the directories that have been read so far.
pub(crate) struct Objects<'a> {
    root: &'a Root,
    all: Vec<(Object, Link)>,
    numbers: HashMap<Object, usize>,
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
            if let Some(name) = Object::of_path(path) {
                objects.numbers.insert(name, objects.all.len());
                objects.all.push((name, *link));
            } else if link.kind != crate::root::Kind::Dir {
                stray(path, link);
            }
        })?;
        Ok(objects)
    }

    /// All of them, in the order of their numbers.
    pub(crate) fn all(&self) -> &[(Object, Link)] {
        &self.all
    }

    /// Adds what the commit reaches to what others did.
    pub(crate) fn reach(&mut self, commit: &str, reached: &mut Reached) {
        reached.marks.resize(self.all.len(), false);
        let found = self
            .numbered(commit)
            .and_then(|(number, bytes)| Ok((number, tree::commit(&bytes)?.root)));
        let (number, root) = match found {
            Ok(found) => found,
            Err(error) => return reached.faults.push(format!("{error:#}")),
        };
        reached.marks[number] = true;
        if let Ok(metadata) = self.number(Kind::DirMeta, root.meta) {
            reached.marks[metadata] = true;
        }
        match self.tree(root.tree) {
            Ok(tree) => {
                reached.size = self.trees.get(&tree).map_or(0, |tree| tree.size);
                self.mark(tree, reached);
            }
            Err(error) => reached.faults.push(format!("{error:#}")),
        }
    }

    /// The content of a commit.
    pub(crate) fn commit(&self, commit: &str) -> Result<Vec<u8>> {
        self.numbered(commit).map(|(_, bytes)| bytes)
    }

    fn numbered(&self, commit: &str) -> Result<(usize, Vec<u8>)> {
        let sum = Sum::parse(commit).context("a ref names no commit")?;
        self.read(Kind::Commit, sum)
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
    fn tree(&mut self, sum: Sum) -> Result<usize> {
        let number = self.number(Kind::DirTree, sum)?;
        if self.trees.contains_key(&number) {
            return Ok(number);
        }
        let (_, bytes) = self.read(Kind::DirTree, sum)?;
        let names = tree::dirtree(&bytes)?;
        let mut tree = Tree::default();
        for (_, file) in names.files {
            // That a file is missing changes nothing for the others.
            if let Ok(object) = self.number(Kind::File, file) {
                tree.size += self.all.get(object).map_or(0, |(_, link)| link.size);
                tree.leaves.push(object);
            }
        }
        for (_, dir) in names.dirs {
            tree.leaves.extend(self.number(Kind::DirMeta, dir.meta));
            match self.tree(dir.tree) {
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
    fn number(&self, kind: Kind, sum: Sum) -> Result<usize> {
        let object = Object { kind, sum };
        let number = self.numbers.get(&object).copied();
        number.with_context(|| format!("`{}` is missing", lies_at(object).display()))
    }

    /// The number and the content of a directory or commit, which must be what its name says.
    fn read(&self, kind: Kind, sum: Sum) -> Result<(usize, Vec<u8>)> {
        let number = self.number(kind, sum)?;
        let path = lies_at(Object { kind, sum });
        let Some(bytes) = self.root.read(&path)? else {
            bail!("`{}` is missing", path.display());
        };
        if Sum::new(&sha256(&bytes))? != sum {
            bail!("`{}` is damaged", path.display());
        }
        Ok((number, bytes))
    }
}

/// Where an object lies in the host root.
pub(crate) fn lies_at(object: Object) -> PathBuf {
    Path::new(REPO).join("objects").join(object.path())
}
