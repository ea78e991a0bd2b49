//! The trees of generations: links to mended files in every container that uses them, and what else deviates.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use anyhow::Result;

use crate::deployment;
use crate::ops::repair::content::links;
use crate::ops::repair::{Work, is_there};
use crate::ops::verify::Thing;
use crate::ops::verify::subject::{Subject, mount_targets, targets};
use crate::ops::verify::survey::Survey;
use crate::store::Store;
use crate::store::object::{Meta, Sum};
use crate::store::repair::place::Place;
use crate::store::verify::defect::Defect;
use crate::store::verify::inventory::Node;
use crate::store::verify::rootfs::{Deviation, Targets};

/// Why something stays as it is.
const COVERED: &str = "something is mounted there while the container runs: stop it first";

impl Work<'_> {
    /// Mends the trees; `whole` are the files that were mended.
    pub(super) fn rootfs(&mut self, survey: &Survey, whole: &HashSet<Sum>) -> Result<()> {
        let Some(store) = &survey.store else {
            return Ok(());
        };
        for (at, compared) in &survey.rootfs {
            let subject = &survey.subjects[*at];
            let targets = targets(self.host.root, subject)?;
            for deviation in &compared.deviations {
                let name = name(subject, &deviation.path);
                let missing = |sum| survey.swept.bad.contains_key(&sum) && !whole.contains(&sum);
                let there = is_there(&deviation.finding);
                match deviation.node {
                    Some(Node::File(sum)) if missing(sum) => {
                        self.reason(name, "the store's object of it could not be repaired");
                    }
                    _ if there && self.is_covered(subject, &targets, &deviation.path) => {
                        self.reason(name, COVERED);
                    }
                    _ => match self.path(survey, (store, subject), deviation, &targets) {
                        Ok(from) => self.repaired(Thing::Rootfs, name, from),
                        Err(error) => self.reason(name, format!("{error:#}")),
                    },
                }
            }
        }
        self.relink(survey, store, whole)
    }

    /// Lets every path lead to the mended files, also of those who were not asked for: the file that they have open is
    /// the damaged one.
    fn relink(&mut self, survey: &Survey, store: &Store, whole: &HashSet<Sum>) -> Result<()> {
        let uses = survey.uses(whole);
        let mut known = BTreeMap::new();
        for (sum, uses) in &uses {
            for (subject, path) in links(survey, uses) {
                let record = &subject.record;
                if record.integrity.is_image() {
                    self.touched.insert(record.name.clone());
                    continue;
                }
                let place = self.place(store, subject);
                if place.is_object(path, *sum) {
                    continue;
                }
                let targets = match known.entry((&record.name, record.generation)) {
                    Entry::Occupied(found) => found.into_mut(),
                    Entry::Vacant(new) => new.insert(targets(self.host.root, subject)?),
                };
                let foreign = place.is_foreign(path, *sum, survey.swept.inodes.get(sum));
                // Staging has put it over a link of the image that leads nowhere.
                if foreign && targets.contains_key(path) && place.is_empty_target(path) {
                    continue;
                }
                if self.is_covered(subject, targets, path) {
                    self.reason(name(subject, path), COVERED);
                    continue;
                }
                if !self.dry()
                    && let Err(error) = self.lead(&place, subject, (path, *sum), foreign)
                {
                    self.reason(name(subject, path), format!("{error:#}"));
                    continue;
                }
                self.touched.insert(record.name.clone());
            }
        }
        Ok(())
    }

    /// Lets a path lead to an object; what is foreign there is kept.
    fn lead(
        &mut self,
        place: &Place,
        subject: &Subject,
        (path, sum): (&str, Sum),
        foreign: bool,
    ) -> Result<()> {
        if foreign {
            let at = self.aside(subject, Path::new(&name(subject, path)))?;
            place.keep(path, &self.host.root.outside(at))?;
        }
        place.file(path, sum)
    }

    fn place<'s>(&self, store: &'s Store, subject: &Subject) -> Place<'s> {
        Place {
            store,
            rootfs: subject.rootfs(self.host.root),
        }
    }

    /// Whether a running container has something mounted there: a rename over it would take that mount away.
    fn is_covered(&self, subject: &Subject, targets: &Targets, path: &str) -> bool {
        let state = || self.host.systemd.state(&subject.record.name.service());
        targets.contains_key(path) && state().is_ok_and(|state| state.is_up())
    }

    /// Puts one path right; says from what.
    fn path(
        &mut self,
        survey: &Survey,
        (store, subject): (&Store, &Subject),
        deviation: &Deviation,
        targets: &Targets,
    ) -> Result<String> {
        let from = match deviation.node {
            Some(_) => "the store",
            None if deviation.finding.defects == [Defect::Extra] => "moved out of the way",
            None => "made anew",
        };
        if self.dry() {
            return Ok(from.to_owned());
        }
        let place = self.place(store, subject);
        let path = deviation.path.as_str();
        let has = |defect| deviation.finding.defects.contains(&defect);
        // A rename cannot put a file over a directory.
        if has(Defect::Extra) || has(Defect::Type) {
            let at = self.aside(subject, Path::new(&name(subject, path)))?;
            place.set_aside(path, &self.host.root.outside(at))?;
        } else if matches!(deviation.node, Some(Node::File(_))) && !has(Defect::Missing) {
            let at = self.aside(subject, Path::new(&name(subject, path)))?;
            place.keep(path, &self.host.root.outside(at))?;
        }
        match deviation.node {
            Some(Node::Dir(sum)) if !has(Defect::Missing) && !has(Defect::Type) => {
                if let Some(meta) = survey.inventory.dirmetas.get(&sum) {
                    place.directory(path, meta)?;
                }
            }
            Some(_) => {
                let trees = survey.trees(subject).and_then(|trees| trees.first());
                if let Some(tree) = trees {
                    let attributes = |sum: &Sum| survey.inventory.dirmetas.get(sum).cloned();
                    place.restore(path, &survey.inventory.trees[*tree], &attributes)?;
                    self.make_targets(subject)?;
                }
            }
            None if has(Defect::Missing) => self.make_targets(subject)?,
            None if has(Defect::Extra) => {}
            None => {
                let file = targets.get(path).filter(|mode| **mode & 0o111 == 0);
                if file.is_some() {
                    let at = self.aside(subject, Path::new(&name(subject, path)))?;
                    place.set_aside(path, &self.host.root.outside(at))?;
                    self.make_targets(subject)?;
                } else {
                    let mode = targets.get(path).copied().unwrap_or(0o755);
                    place.directory(path, &Meta::plain(0, 0, 0o040_000 | mode))?;
                }
            }
        }
        self.touched.insert(subject.record.name.clone());
        Ok(from.to_owned())
    }

    fn make_targets(&self, subject: &Subject) -> Result<()> {
        let targets = mount_targets(self.host.root, subject)?;
        deployment::make_targets(&subject.rootfs(self.host.root), &targets)?;
        self.host.root.sync(deployment::CONTAINERS)
    }
}

/// A path of a rootfs as the host has it.
fn name(subject: &Subject, path: &str) -> String {
    let dir = deployment::dir(&subject.record.name, subject.record.generation);
    dir.join("rootfs").join(path).display().to_string()
}
