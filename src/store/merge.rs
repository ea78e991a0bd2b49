//! Layers laid over one another, in memory, and the result written as OSTree directories.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, bail};

use crate::store::commit::{Names, dirmeta_of};
use crate::store::entry::{Attributes, Entry, Node, parent};
use crate::store::object::{Kind, Sum};
use crate::store::objects::Objects;
use crate::store::tree::{self, Root};

/// How many directories an image may have that no entry of its layers names, only the paths below them: a path of a few
/// bytes can imply hundreds.
const MOST_IMPLIED: usize = 100_000;

/// A directory of the merged image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tree {
    pub(crate) attributes: Attributes,
    pub(crate) children: BTreeMap<String, Child>,
    aside: Aside,
}

/// What is known of a directory beside what it is: that makes it no other directory.
#[derive(Debug, Clone, Default)]
struct Aside {
    /// The checksum of its names.
    reckoned: Option<Sum>,
    /// Of the root: how many directories below it were made because a path implied them.
    implied: usize,
}

impl PartialEq for Aside {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Aside {}

/// What is in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Child {
    /// A directory.
    Dir(Tree),
    /// A file by its object.
    File(Sum),
    /// A symbolic link by its object.
    Symlink(Sum),
}

impl Child {
    /// Whether what is at a name can stay when this is to be there: the same file, or a directory, whatever is in it.
    pub(crate) fn takes(&self, there: &Self) -> bool {
        match (self, there) {
            (Self::Dir(_), Self::Dir(_)) => true,
            (Self::Dir(_), _) | (_, Self::Dir(_)) => false,
            files => files.0 == files.1,
        }
    }
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
            aside: Aside::default(),
        }
    }
}

impl Tree {
    /// The tree of a commit in the store. What is a symbolic link there is a file here: nothing can be laid over it.
    pub(crate) fn stored(objects: &Objects, commit: &str) -> Result<Self> {
        let root = tree::commit(&objects.read(commit, Kind::Commit)?)?.root;
        Self::read(objects, root, &mut HashMap::new())
    }

    fn read(objects: &Objects, dir: Root, known: &mut HashMap<Sum, Attributes>) -> Result<Self> {
        let names = tree::dirtree(&objects.read(&dir.tree.to_string(), Kind::DirTree)?)?;
        let attributes = if let Some(attributes) = known.get(&dir.meta) {
            attributes.clone()
        } else {
            let meta = tree::dirmeta(&objects.read(&dir.meta.to_string(), Kind::DirMeta)?)?;
            let attributes = Attributes::of(&meta)?;
            known.insert(dir.meta, attributes.clone());
            attributes
        };
        let mut children = BTreeMap::new();
        for (name, sum) in names.files {
            children.insert(name, Child::File(sum));
        }
        for (name, below) in names.dirs {
            children.insert(name, Child::Dir(Self::read(objects, below, known)?));
        }
        Ok(Self {
            attributes,
            children,
            aside: Aside {
                reckoned: Some(dir.tree),
                implied: 0,
            },
        })
    }

    /// Lays a layer over the tree: its whiteouts first, for they concern lower layers alone, then its entries.
    pub(crate) fn apply(&mut self, entries: &[Entry]) -> Result<()> {
        for entry in entries {
            let hidden = match entry.node {
                Node::Whiteout => self.remove(&entry.path),
                Node::Opaque => self.clear(&entry.path),
                _ => Ok(()),
            };
            hidden.with_context(|| format!("the whiteout of `{}`", entry.path))?;
        }
        let mut implied = self.aside.implied;
        for entry in entries {
            self.put(entry, &mut implied)
                .with_context(|| format!("entry `{}`", entry.path))?;
        }
        self.aside.implied = implied;
        Ok(())
    }

    fn put(&mut self, entry: &Entry, implied: &mut usize) -> Result<()> {
        let child = match &entry.node {
            Node::Whiteout | Node::Opaque => return Ok(()),
            Node::Dir(attributes) => return self.put_dir(&entry.path, attributes, implied),
            Node::File { object, .. } => Child::File(*object),
            Node::Symlink { object, .. } => Child::Symlink(*object),
            Node::Hardlink { target } => match self.linked(target) {
                Some(child) => child,
                None => bail!("it is a hard link to `{target}`, which is no file of the image"),
            },
        };
        let Some(name) = file_name(&entry.path) else {
            bail!("the root must be a directory");
        };
        let dir = self.dir_for(&entry.path, implied)?;
        dir.children.insert(name.to_owned(), child);
        Ok(())
    }

    fn put_dir(&mut self, path: &str, attributes: &Attributes, implied: &mut usize) -> Result<()> {
        let Some(name) = file_name(path) else {
            self.attributes = attributes.clone();
            return Ok(());
        };
        let children = &mut self.dir_for(path, implied)?.children;
        if let Some(Child::Dir(dir)) = children.get_mut(name) {
            dir.attributes = attributes.clone();
            return Ok(());
        }
        let dir = Tree {
            attributes: attributes.clone(),
            children: BTreeMap::new(),
            aside: Aside::default(),
        };
        children.insert(name.to_owned(), Child::Dir(dir));
        Ok(())
    }

    /// The directory that holds `path`; missing ones are made, and counted.
    fn dir_for(&mut self, path: &str, implied: &mut usize) -> Result<&mut Tree> {
        let mut dir = self;
        let mut at = 0;
        for part in parts(parent(path)) {
            at += part.len() + 1;
            dir.aside.reckoned = None;
            if !dir.children.contains_key(part) {
                *implied += 1;
                if *implied > MOST_IMPLIED {
                    bail!(
                        "the image has more than {MOST_IMPLIED} directories that only paths imply"
                    );
                }
                let made = Child::Dir(Tree::default());
                dir.children.insert(part.to_owned(), made);
            }
            dir = match dir.children.get_mut(part) {
                Some(Child::Dir(dir)) => dir,
                Some(Child::Symlink(_)) => {
                    bail!("its parent `{}` is a symbolic link", &path[..at - 1])
                }
                Some(Child::File(_)) | None => bail!("its parent `{}` is a file", &path[..at - 1]),
            };
        }
        dir.aside.reckoned = None;
        Ok(dir)
    }

    /// The directory at `path` if there is one, to be changed; a path through a symbolic link is an error.
    fn dir(&mut self, path: &str) -> Result<Option<&mut Tree>> {
        let mut dir = self;
        for part in parts(path) {
            dir.aside.reckoned = None;
            dir = match dir.children.get_mut(part) {
                Some(Child::Dir(dir)) => dir,
                Some(Child::Symlink(_)) => bail!("`{part}` in it is a symbolic link"),
                Some(Child::File(_)) | None => return Ok(None),
            };
        }
        dir.aside.reckoned = None;
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

    /// Reckons the checksums of the directories, so that [`Tree::write`] need not, as far as nothing is laid over them
    /// until then.
    pub(crate) fn reckon(&mut self) -> Result<()> {
        self.reckon_with(&mut HashMap::new()).map(|_| ())
    }

    fn reckon_with(&mut self, known: &mut HashMap<Attributes, Sum>) -> Result<Root> {
        let mut names = Names::default();
        for (name, child) in &mut self.children {
            match child {
                Child::Dir(dir) => names.dir(name, dir.reckon_with(known)?),
                Child::File(object) | Child::Symlink(object) => names.file(name, *object),
            }
        }
        let meta = match known.get(&self.attributes) {
            Some(meta) => *meta,
            None => Sum::of(&dirmeta_of(&self.attributes)?),
        };
        known.insert(self.attributes.clone(), meta);
        let tree = Sum::of(&names.bytes());
        self.aside.reckoned = Some(tree);
        Ok(Root { tree, meta })
    }

    /// Writes the tree's directories, from the bottom up; the checksums of the root's names and metadata.
    pub(crate) fn write(&self, objects: &Objects) -> Result<Root> {
        self.write_with(objects, &mut HashMap::new())
    }

    fn write_with(&self, objects: &Objects, known: &mut HashMap<Attributes, Sum>) -> Result<Root> {
        let mut dirs = Vec::new();
        for child in self.children.values() {
            if let Child::Dir(dir) = child {
                dirs.push(dir.write_with(objects, known)?);
            }
        }
        let meta = match known.get(&self.attributes) {
            Some(meta) => *meta,
            None => objects.write_metadata(Kind::DirMeta, &dirmeta_of(&self.attributes)?)?,
        };
        // Most directories of an image are alike.
        known.insert(self.attributes.clone(), meta);
        let tree = match self.aside.reckoned {
            Some(tree) if objects.has(&tree.to_string(), Kind::DirTree)? => tree,
            _ => self.write_names(objects, dirs)?,
        };
        Ok(Root { tree, meta })
    }

    /// Writes one directory's names; `dirs` are those of the directories in it.
    fn write_names(&self, objects: &Objects, dirs: Vec<Root>) -> Result<Sum> {
        let (mut names, mut dirs) = (Names::default(), dirs.into_iter());
        for (name, child) in &self.children {
            match child {
                Child::Dir(_) => names.dir(name, dirs.next().context("a directory is missing")?),
                Child::File(object) | Child::Symlink(object) => names.file(name, *object),
            }
        }
        objects.write_metadata(Kind::DirTree, &names.bytes())
    }
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty())
}

/// The last component; the root has none.
fn file_name(path: &str) -> Option<&str> {
    path.rsplit('/').next().filter(|name| !name.is_empty())
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "the tests make their own repositories"
)]
mod tests {
    use ostree::gio::prelude::Cast;
    use ostree::glib::prelude::ToVariant;
    use ostree::{MutableTree, ObjectType, Repo, RepoFile, RepoMode, gio};

    use super::*;
    use crate::store::repo::CONFIG;

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
        let (object, attributes) = (sum(object), Attributes::default());
        entry(path, Node::File { object, attributes })
    }

    #[test]
    fn what_paths_imply_has_a_limit() {
        let below = "d/".repeat(100);
        let entries = |count: usize| -> Vec<_> {
            let paths = (0..count).map(|i| format!("{i}/{below}file"));
            paths.map(|path| file(&path, "a")).collect()
        };
        Tree::default().apply(&entries(900)).unwrap();
        // Of all layers together.
        let mut tree = Tree::default();
        tree.apply(&entries(600)).unwrap();
        tree.apply(&[dir("0", 0o755), file("0/other", "a")])
            .unwrap();
        tree.apply(&[entry("", Node::Opaque)]).unwrap();
        let error = tree.apply(&entries(600)).unwrap_err();
        assert_eq!(
            error.root_cause().to_string(),
            "the image has more than 100000 directories that only paths imply"
        );
    }

    /// A checksum that shows as this text.
    fn sum(text: &str) -> Sum {
        let mut bytes = [0; 32];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Sum::new(&bytes).unwrap()
    }

    fn text(sum: &Sum) -> String {
        let bytes = sum.bytes().iter().copied().take_while(|byte| *byte != 0);
        String::from_utf8(bytes.collect()).unwrap()
    }

    fn link(path: &str, target: &str) -> Entry {
        let (object, target) = (sum(&format!("->{target}")), target.to_owned());
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
                    lines.push(format!("{name} {}", text(object)));
                }
            }
        }
        lines
    }

    fn merged(layers: &[&[Entry]]) -> Result<Vec<String>> {
        let mut tree = Tree::default();
        for layer in layers {
            tree.apply(layer)?;
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
        // Nothing lies below the lowest.
        let lowest = [&base[..], &[opaque("d"), opaque(""), gone("l")]].concat();
        assert_eq!(merged(&[&lowest]).unwrap(), merged(&[&base]).unwrap());
        // A file over a directory, and back: what was in it stays away.
        let layers = [&base[..], &[file("d", "3")], &[dir("d", 0o711)]];
        assert_eq!(merged(&layers).unwrap(), ["d/ 711", "l ->d"]);
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

    /// Whatever is laid over a tree whose checksums are known, what is written is what it has become.
    #[test]
    fn what_was_reckoned_is_reckoned_again_where_it_changed() {
        let place = tempfile::tempdir().unwrap();
        let base = [
            dir("d", 0o700),
            file("d/a", "1"),
            file("d/e/b", "2"),
            file("other/c", "3"),
        ];
        for (at, upper) in [
            vec![],
            vec![dir("", 0o700)],
            vec![dir("d/e", 0o711)],
            vec![file("d/e/b", "4")],
            vec![file("d/e/new/f", "4")],
            vec![gone("d/e/b")],
            vec![gone("d")],
            vec![opaque("d/e")],
            vec![opaque("")],
            vec![hard("d/h", "other/c")],
            vec![dir("d/a", 0o755)],
        ]
        .iter()
        .enumerate()
        {
            // Each in a repository of its own, where the base has been written: what is not reckoned again is there.
            let written = |name: &str, reckoned: bool| {
                let repo = place.path().join(format!("{at}-{name}"));
                std::fs::create_dir(&repo).unwrap();
                std::fs::write(repo.join("config"), CONFIG).unwrap();
                crate::store::repo::Repo::complete(&repo).unwrap();
                let objects = Objects::open(&repo).unwrap();
                let mut tree = Tree::default();
                tree.apply(&base).unwrap();
                tree.write(&objects).unwrap();
                if reckoned {
                    tree.reckon().unwrap();
                }
                tree.apply(upper).unwrap();
                let root = tree.write(&objects).unwrap();
                let read = Tree::read(&objects, root, &mut HashMap::new()).unwrap();
                (root, show(&read))
            };
            assert_eq!(written("reckoned", true), written("fresh", false), "{at}");
        }
    }

    /// As libostree writes the same tree.
    fn by_libostree(repo: &Repo, tree: &Tree, into: &MutableTree) {
        let none = gio::Cancellable::NONE;
        let a = &tree.attributes;
        let no_xattrs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mode = rustix::fs::FileType::Directory.as_raw_mode() | a.mode;
        let meta = (a.uid.to_be(), a.gid.to_be(), mode.to_be(), no_xattrs).to_variant();
        let meta = repo.write_metadata(ObjectType::DirMeta, None, &meta, none);
        into.set_metadata_checksum(&meta.unwrap().to_hex());
        for (name, child) in &tree.children {
            match child {
                Child::Dir(dir) => by_libostree(repo, dir, &into.ensure_dir(name).unwrap()),
                Child::File(object) | Child::Symlink(object) => {
                    into.replace_file(name, &object.to_string()).unwrap();
                }
            }
        }
    }

    #[test]
    fn the_tree_is_libostrees() {
        let place = tempfile::tempdir().unwrap();
        let repo = Repo::new_for_path(place.path());
        let none = gio::Cancellable::NONE;
        repo.create(RepoMode::Bare, none).unwrap();
        let objects = Objects::open(place.path()).unwrap();
        let mut tree = Tree::default();
        let mut entries: Vec<_> = (0..300)
            .map(|i| file(&format!("many/f{i}"), &format!("{i}")))
            .collect();
        let long = "n".repeat(250);
        entries.push(file(&format!("deep/er/{long}"), &"ab".repeat(16)));
        entries.push(dir("empty", 0o1777));
        tree.apply(&entries).unwrap();
        let ours = tree.write(&objects).unwrap();
        let transaction = repo.auto_transaction(none).unwrap();
        let theirs = MutableTree::new();
        by_libostree(&repo, &tree, &theirs);
        let root = repo.write_mtree(&theirs, none).unwrap();
        let root = root.downcast::<RepoFile>().unwrap();
        transaction.commit(none).unwrap();
        assert_eq!(
            (ours.tree.to_string(), ours.meta.to_string()),
            (
                root.tree_get_contents_checksum().unwrap().to_string(),
                root.tree_get_metadata_checksum().unwrap().to_string()
            )
        );
    }
}
