//! The look at everything, as `verify` tells of it and `repair` works on it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use anyhow::{Result, anyhow};

use crate::config;
use crate::deployment;
use crate::hint::Hinted;
use crate::name::{ContainerName, Generation};
use crate::ops::Host;
use crate::ops::verify::files::{self, BadFile, Order, Which};
use crate::ops::verify::subject::{Subject, targets};
use crate::ops::verify::{Fault, Place, Thing};
use crate::root::Kind;
use crate::state::{Record, Unfinished};
use crate::store::Store;
use crate::store::object::{Meta, Object, Sum};
use crate::store::verify::content::Swept;
use crate::store::verify::defect::{Defect, Finding, diagnose};
use crate::store::verify::inventory::{Inventory, Node, Wanted};
use crate::store::verify::rootfs::{self, Compared, Expected};

/// All that was found.
pub(crate) struct Survey {
    pub(crate) subjects: Vec<Subject>,
    pub(crate) store: Option<Store>,
    pub(crate) inventory: Inventory,
    pub(crate) swept: Swept,
    /// Files that are whole and not sealed as they should be, with the subjects and the paths in them.
    pub(crate) unsealed: BTreeMap<Sum, Vec<(usize, String)>>,
    /// What damaged files should be, as far as the layers' lists tell.
    pub(crate) expected: HashMap<Sum, Meta>,
    pub(crate) hashed: usize,
    /// By the number of the subject.
    pub(crate) rootfs: BTreeMap<usize, Compared>,
    pub(crate) files: Vec<BadFile>,
    pub(crate) order: Order,
    pub(crate) records: Vec<Fault>,
    pub(crate) notes: Vec<String>,
}

impl Survey {
    /// Looks at the named containers, or at all.
    pub(crate) fn make(host: &Host, names: &[ContainerName], all_images: bool) -> Result<Self> {
        let mut survey = Self::begin(host, names)?;
        survey.inspect(host, all_images)?;
        survey.sweep(host, all_images);
        survey.compare(host)?;
        survey.order = survey.order(host, names)?;
        Ok(survey)
    }

    /// Looks at the records, at what was rendered, and at the order; at nothing in the store.
    pub(crate) fn outside(host: &Host) -> Result<Self> {
        let mut survey = Self::begin(host, &[])?;
        for subject in survey.subjects.iter().enumerate() {
            survey
                .files
                .extend(files::check(host, subject, &mut survey.notes)?);
        }
        // Without the host's roles it is not known.
        if config::load(host.root).is_ok() {
            survey.order = survey.order(host, &[])?;
        }
        Ok(survey)
    }

    /// The order that the live set asks for and has not.
    fn order(&self, host: &Host, names: &[ContainerName]) -> Result<Order> {
        let live = self.subjects.iter().filter(|subject| subject.live);
        let live: Vec<Record> = live.map(|subject| subject.record.clone()).collect();
        files::order(host, &live, names)
    }

    /// The subjects that were asked for.
    pub(crate) fn named(&self) -> impl Iterator<Item = &Subject> {
        self.subjects.iter().filter(|s| s.named)
    }

    /// What is installed, without a look at its content.
    pub(crate) fn begin(host: &Host, names: &[ContainerName]) -> Result<Self> {
        let mut survey = Self {
            subjects: Vec::new(),
            store: None,
            inventory: Inventory::default(),
            swept: Swept::default(),
            unsealed: BTreeMap::new(),
            expected: HashMap::new(),
            hashed: 0,
            rootfs: BTreeMap::new(),
            files: Vec::new(),
            order: Order::new(),
            records: Vec::new(),
            notes: Vec::new(),
        };
        let mut known = BTreeSet::new();
        for entry in host.root.list(deployment::CONTAINERS)? {
            let Some(Ok(name)) = entry.to_str().map(str::parse::<ContainerName>) else {
                continue;
            };
            let named = names.is_empty() || names.contains(&name);
            survey.container(host, &name, named)?;
            known.insert(name);
        }
        for name in names {
            if !known.contains(name) {
                return Err(anyhow!("`{name}` is not installed"))
                    .hint("`bedplate list` shows what is");
            }
        }
        Ok(survey)
    }

    fn container(&mut self, host: &Host, name: &ContainerName, named: bool) -> Result<()> {
        let dir = deployment::container_dir(name);
        let mut add = |record: Record, live| {
            self.subjects.push(Subject {
                record,
                live,
                named,
            });
        };
        let mut bad = |thing, path: PathBuf, finding: &Finding, generation| {
            if named {
                let place = Place {
                    container: Some(name.clone()),
                    generation,
                    image: String::new(),
                    path: String::new(),
                };
                let path = path.display().to_string();
                self.records
                    .push(Fault::new(thing, path, finding, vec![place]));
            }
        };
        let live = deployment::current(host.root, name)?;
        let numbers = host.root.list(&dir)?;
        let numbers = numbers.iter().filter_map(|n| n.to_str()?.parse().ok());
        let generations: BTreeSet<Generation> = numbers.collect();
        for generation in &generations {
            let path = dir.join(generation.to_string()).join("record.toml");
            let text = match host.root.kind(&path)? {
                Some(Kind::File) => host.root.read(&path)?,
                _ => None,
            };
            let text = text.map(|text| String::from_utf8_lossy(&text).into_owned());
            match text.map(|text| Record::parse("it", &text)) {
                Some(Ok(record)) => add(record, live == Some(*generation)),
                Some(Err(error)) => {
                    let finding = Finding::new(Defect::Content, format!("{error:#}"));
                    bad(Thing::Record, path, &finding, Some(*generation));
                }
                None => {
                    let finding = Finding::new(Defect::Missing, "");
                    bad(Thing::Record, path, &finding, Some(*generation));
                }
            }
        }
        let unfinished = Unfinished::find(host.root)?.is_some();
        if live.is_none_or(|live| !generations.contains(&live)) && !generations.is_empty() {
            if unfinished {
                let note = "a command was interrupted: run `bedplate recover` first";
                self.notes.push(note.to_owned());
            } else {
                let finding = Finding::new(Defect::Missing, "it names no generation");
                bad(Thing::Current, dir.join("current"), &finding, None);
            }
        }
        Ok(())
    }

    /// Reads the metadata of every image that a container uses.
    pub(crate) fn inspect(&mut self, host: &Host, all_images: bool) -> Result<()> {
        self.store = Store::existing(host.root, config::load(host.root)?.store)?;
        let Some(store) = &self.store else {
            if self.named().next().is_some() {
                let text = "there is no store: every file of every container may be damaged";
                return Err(anyhow!(text)).hint("`bedplate repair` brings it back");
            }
            return Ok(());
        };
        let mut wanted = Vec::new();
        for subject in &self.subjects {
            wanted.push(Wanted {
                digest: subject.record.manifest_digest.parse()?,
                commit: subject.record.commit.clone(),
            });
        }
        if all_images {
            let known: HashSet<_> = wanted.iter().map(|w| w.digest.clone()).collect();
            let others = store.image_digests()?.into_iter();
            wanted.extend(others.filter(|d| !known.contains(d)).map(|digest| Wanted {
                digest,
                commit: String::new(),
            }));
        }
        self.inventory = store.inspect(&wanted)?;
        Ok(())
    }

    /// Hashes the files of what was asked for.
    fn sweep(&mut self, host: &Host, all_images: bool) {
        let Some(store) = &self.store else {
            return;
        };
        let asked: HashSet<usize> = self
            .named()
            .filter_map(|subject| self.trees(subject))
            .flatten()
            .copied()
            .collect();
        let (mut sums, mut others) = (BTreeSet::new(), BTreeSet::new());
        for (at, tree) in self.inventory.trees.iter().enumerate() {
            let into = if all_images || asked.contains(&at) {
                &mut sums
            } else {
                &mut others
            };
            for node in tree.nodes.values() {
                if let Node::File(sum) = node {
                    into.insert(*sum);
                }
            }
        }
        let sums: Vec<Sum> = sums.into_iter().collect();
        let others: Vec<Sum> = others.into_iter().collect();
        self.hashed = sums.len();
        self.swept = store.sweep(&sums, &others, host.report);
        let bad: Vec<Sum> = self.swept.bad.keys().copied().collect();
        if bad.is_empty() {
            return;
        }
        self.expected = self.inventory.expected(store, &bad);
        for (sum, finding) in &mut self.swept.bad {
            if finding.defects == [Defect::Content] {
                let path = store.object_path(Object::file(*sum));
                if let Some(found) = diagnose(&path, *sum, self.expected.get(sum)) {
                    *finding = found;
                }
            }
        }
    }

    /// The trees of a subject's image: its own first, then its layers'.
    pub(crate) fn trees(&self, subject: &Subject) -> Option<&Vec<usize>> {
        let digest = subject.record.manifest_digest.parse().ok()?;
        self.inventory.images.get(&digest).map(|(_, trees)| trees)
    }

    /// Compares each rootfs and each rendered file of what was asked for, and looks for seals.
    fn compare(&mut self, host: &Host) -> Result<()> {
        for (at, subject) in self.subjects.iter().enumerate() {
            if !subject.named {
                continue;
            }
            self.files
                .extend(files::check(host, (at, subject), &mut self.notes)?);
            // What an image of the tree says is in its checksum, one of the files.
            if subject.record.integrity.is_image() {
                continue;
            }
            let Some(tree) = self.trees(subject).and_then(|trees| trees.first()) else {
                continue;
            };
            let is_config =
                |f: &BadFile| matches!(&f.which, Which::Generation(file) if file == "config.json");
            let is_damaged = |f: &BadFile| f.subject == at && is_config(f) && !f.is_itself();
            let damaged = self.files.iter().any(is_damaged);
            let targets = targets(host.root, subject)?;
            let expected = Expected {
                tree: &self.inventory.trees[*tree],
                dirmetas: &self.inventory.dirmetas,
                inodes: &self.swept.inodes,
                is_bad: &|sum| self.swept.bad.contains_key(sum),
                targets: (!damaged).then_some(&targets),
            };
            let compared = rootfs::compare_tree(&subject.rootfs(host.root), &expected)?;
            if compared.copies > 0 {
                self.notes.push(format!(
                    "{} of the files of `{}` are copies, not links to the store: they take their space twice",
                    compared.copies, subject.record.name
                ));
            }
            self.rootfs.insert(at, compared);
        }
        self.seals(host);
        Ok(())
    }
}
