//! A generation's rootfs compared with the tree that it was checked out from.
#![expect(
    clippy::disallowed_methods,
    reason = "a rootfs is links to the store's own objects"
)]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::store::object::{Meta, Sum};
use crate::store::verify::content::check;
use crate::store::verify::defect::{Defect, Finding, compare};
use crate::store::verify::inventory::{Known, Node};

/// What staging may have added: mount targets by their path without a leading `/`, each with a directory's
/// permission bits, or a file's.
pub(crate) type Targets = BTreeMap<String, u32>;

/// What the rootfs must be.
pub(crate) struct Expected<'a> {
    pub(crate) tree: &'a Known,
    pub(crate) dirmetas: &'a HashMap<Sum, Meta>,
    /// Of the objects that are there.
    pub(crate) inodes: &'a HashMap<Sum, (u64, u64)>,
    /// Whether an object is damaged: a good copy of it takes no space twice.
    pub(crate) is_bad: &'a dyn Fn(&Sum) -> bool,
    /// `None` when they are not known: then whatever staging could have made is let pass.
    pub(crate) targets: Option<&'a Targets>,
}

impl Expected<'_> {
    fn target(&self, path: &str) -> Option<u32> {
        self.targets?.get(path).copied()
    }
}

/// A path at which the rootfs is not what it must be.
#[derive(Debug)]
pub(crate) struct Deviation {
    pub(crate) path: String,
    pub(crate) finding: Finding,
    /// What belongs there; `None` for what does not belong there, and for a mount target.
    pub(crate) node: Option<Node>,
}

/// What the comparison found.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    pub(crate) deviations: Vec<Deviation>,
    /// Files that are no links to the store, and equal.
    pub(crate) copies: usize,
}

/// Compares a rootfs.
pub(crate) fn compare_tree(rootfs: &Path, expected: &Expected) -> Result<Compared> {
    let mut comparison = Comparison {
        rootfs,
        expected,
        found: Compared::default(),
        seen: HashSet::new(),
        left: Vec::new(),
    };
    comparison.run()?;
    Ok(comparison.found)
}

struct Comparison<'a> {
    rootfs: &'a Path,
    expected: &'a Expected<'a>,
    found: Compared,
    seen: HashSet<String>,
    left: Vec<String>,
}

impl Comparison<'_> {
    fn run(&mut self) -> Result<()> {
        if let Err(error) = std::fs::symlink_metadata(self.rootfs) {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error)
                    .with_context(|| format!("looking at `{}`", self.rootfs.display()));
            }
        } else {
            self.look("")?;
        }
        while let Some(dir) = self.left.pop() {
            let at = self.rootfs.join(&dir);
            let listing = || format!("listing `{}`", at.display());
            for entry in std::fs::read_dir(&at).with_context(listing)? {
                let name = entry.with_context(listing)?.file_name();
                match name.to_str() {
                    Some(name) => self.look(&join(&dir, name))?,
                    None => self.extra(&join(&dir, &name.to_string_lossy())),
                }
            }
        }
        self.missing();
        self.found.deviations.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(())
    }

    /// Looks at what lies at a path.
    fn look(&mut self, path: &str) -> Result<()> {
        let at = self.rootfs.join(path);
        let stat = match std::fs::symlink_metadata(&at) {
            Ok(stat) => stat,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                return Err(error).with_context(|| format!("looking at `{}`", at.display()));
            }
        };
        match self.expected.tree.nodes.get(path).copied() {
            None => self.added(path, &stat),
            Some(node) => {
                self.seen.insert(path.to_owned());
                match node {
                    Node::Dir(meta) if stat.is_dir() => {
                        self.left.push(path.to_owned());
                        self.directory(path, meta)?;
                    }
                    Node::Dir(_) => self.deviates(path, Defect::Type, "no directory", Some(node)),
                    Node::File(_) if stat.is_dir() => {
                        self.deviates(path, Defect::Type, "a directory", Some(node));
                    }
                    Node::File(sum) => self.file(path, sum, &stat),
                }
            }
        }
        Ok(())
    }

    fn directory(&mut self, path: &str, sum: Sum) -> Result<()> {
        let Some(expected) = self.expected.dirmetas.get(&sum) else {
            return Ok(());
        };
        let finding = compare(&Meta::of(&self.rootfs.join(path))?, expected);
        if !finding.defects.is_empty() {
            let node = Some(Node::Dir(sum));
            self.deviate(path, finding, node);
        }
        Ok(())
    }

    fn file(&mut self, path: &str, sum: Sum, stat: &std::fs::Metadata) {
        if self.expected.inodes.get(&sum) == Some(&(stat.dev(), stat.ino())) {
            return;
        }
        // Staging puts an empty file over a link of the image that leads nowhere.
        let target = self.expected.targets.is_none() || self.expected.target(path).is_some();
        if target && is_empty_target(stat) {
            return;
        }
        let at = self.rootfs.join(path);
        match check(&at, sum, &mut |_| {}) {
            Some(finding) => self.deviate(path, finding, Some(Node::File(sum))),
            None if (self.expected.is_bad)(&sum) => {}
            // The empty file has more names than one file may have: see `checkout`.
            None if stat.is_file() && stat.size() == 0 => {}
            None => self.found.copies += 1,
        }
    }

    /// What the image has not: a mount target or its parent, or else an intruder.
    fn added(&mut self, path: &str, stat: &std::fs::Metadata) {
        if self.is_unknown(path) {
            return;
        }
        let Some(targets) = self.expected.targets else {
            if stat.is_dir() {
                self.left.push(path.to_owned());
            } else if !is_empty_target(stat) {
                self.extra(path);
            }
            return;
        };
        let target = targets.get(path);
        let prefix = format!("{path}/");
        let leads = targets.keys().any(|t| t.starts_with(&prefix));
        if stat.is_dir() && (leads || target.is_some()) {
            self.left.push(path.to_owned());
            let mode = target.filter(|mode| **mode & 0o111 != 0).copied();
            let expected = Meta::plain(0, 0, 0o040_000 | mode.unwrap_or(0o755));
            let found = Meta::plain(stat.uid(), stat.gid(), stat.mode());
            let finding = compare(&found, &expected);
            if !finding.defects.is_empty() {
                self.deviate(path, finding, None);
            }
        } else if target.is_some() && stat.is_file() && stat.size() == 0 {
            if !is_empty_target(stat) {
                self.deviates(path, Defect::Mode, "a mount target is root's, 0644", None);
            }
        } else {
            self.extra(path);
        }
    }

    /// What must be there and was not seen; of a directory only itself is named.
    fn missing(&mut self) {
        let mut gone: Option<(String, usize)> = None;
        let nodes = &self.expected.tree.nodes;
        let mut found = Vec::new();
        // A directory of the wrong type hides what is below it.
        let hidden: Vec<String> = self
            .found
            .deviations
            .iter()
            .filter(|d| d.finding.defects.contains(&Defect::Type))
            .map(|d| format!("{}/", d.path))
            .collect();
        for (path, node) in nodes {
            if self.seen.contains(path) || hidden.iter().any(|dir| path.starts_with(dir)) {
                continue;
            }
            if let Some((dir, below)) = &mut gone
                && (dir.is_empty() || path.starts_with(&format!("{dir}/")))
            {
                *below += 1;
                continue;
            }
            found.extend(gone.take().map(|(dir, below)| (dir, Some(below))));
            match node {
                Node::Dir(_) => gone = Some((path.clone(), 0)),
                Node::File(_) => found.push((path.clone(), None)),
            }
        }
        found.extend(gone.take().map(|(dir, below)| (dir, Some(below))));
        let within = |path: &str| {
            let gone = found.iter().filter(|(_, below)| below.is_some());
            gone.map(|(dir, _)| dir)
                .any(|dir| Path::new(path).starts_with(dir))
        };
        let targets = self.expected.targets.into_iter().flat_map(BTreeMap::keys);
        let lost: Vec<String> = targets
            .filter(|path| !nodes.contains_key(*path) && !within(path))
            .filter(|path| std::fs::symlink_metadata(self.rootfs.join(path)).is_err())
            .cloned()
            .collect();
        for (path, below) in found {
            let detail = match below {
                Some(below) if below > 0 => format!("a directory with {below} entries"),
                Some(_) => "a directory".to_owned(),
                None => String::new(),
            };
            let node = nodes.get(&path).copied();
            self.deviate(&path, Finding::new(Defect::Missing, detail), node);
        }
        for path in lost {
            self.deviates(&path, Defect::Missing, "a mount target", None);
        }
    }

    /// Whether it lies where nothing can be known.
    fn is_unknown(&self, path: &str) -> bool {
        let unknown = &self.expected.tree.unknown;
        unknown.iter().any(|dir| Path::new(path).starts_with(dir))
    }

    fn extra(&mut self, path: &str) {
        self.deviates(path, Defect::Extra, "the image has no such file", None);
    }

    fn deviates(&mut self, path: &str, defect: Defect, detail: &str, node: Option<Node>) {
        self.deviate(path, Finding::new(defect, detail), node);
    }

    fn deviate(&mut self, path: &str, finding: Finding, node: Option<Node>) {
        self.found.deviations.push(Deviation {
            path: path.to_owned(),
            finding,
            node,
        });
    }
}

/// As staging makes one.
pub(crate) fn is_empty_target(stat: &std::fs::Metadata) -> bool {
    stat.is_file() && stat.size() == 0 && stat.mode() & 0o7777 == 0o644 && stat.uid() == 0
}

fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() {
        name.to_owned()
    } else {
        format!("{dir}/{name}")
    }
}
