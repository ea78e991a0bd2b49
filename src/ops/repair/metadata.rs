//! Refs, commits and directories of the store, and the layers' lists: from the lists that are whole, else from the
//! layers themselves.

use std::collections::BTreeSet;

use anyhow::Result;
use containers_image_proxy::oci_spec::image::Digest;

use crate::name::ContainerName;
use crate::ops::repair::Work;
use crate::ops::verify::Thing;
use crate::ops::verify::subject::Subject;
use crate::ops::verify::survey::Survey;
use crate::store::Store;
use crate::store::object::Object;
use crate::store::repair::scratch::Scratch;
use crate::store::verify::inventory::Owner;

/// What one round mends is what the next one stands on: lists, layers, trees, commits.
const ROUNDS: usize = 6;

impl Work<'_> {
    /// Mends metadata until it is whole, or nothing more can be done.
    pub(super) fn metadata(&mut self, names: &[ContainerName]) -> Result<()> {
        for _ in 0..ROUNDS {
            let mut survey = Survey::begin(self.host, names)?;
            survey.inspect(self.host, false)?;
            if survey.inventory.is_whole() || !self.round(&survey)? || self.dry() {
                break;
            }
        }
        Ok(())
    }

    /// One round; whether it has mended anything.
    fn round(&mut self, survey: &Survey) -> Result<bool> {
        let Some(store) = &survey.store else {
            return Ok(false);
        };
        let inventory = &survey.inventory;
        let mut progress = false;
        let (mut layers, mut images) = (BTreeSet::new(), BTreeSet::new());
        let mut lost = |tree: usize| {
            match &inventory.trees[tree].owner {
                Owner::Layer(diff_id) => layers.insert(diff_id.to_string()),
                Owner::Image(digest) => images.insert(digest.to_string()),
            };
        };
        for bad in &inventory.refs {
            let name = inventory.trees[bad.tree].owner.name();
            match &bad.commit {
                Some(commit) => {
                    if !self.dry() {
                        store.put_ref(&name, commit)?;
                    }
                    self.repaired(Thing::Ref, name, "the container's record");
                    progress = true;
                }
                None => lost(bad.tree),
            }
        }
        for (object, damage) in &inventory.damaged {
            let bytes = inventory.scratch.as_ref().and_then(|s| s.read(*object));
            match bytes {
                Some(bytes) if damage.rebuilt => {
                    if !self.dry() {
                        store.put_metadata(*object, &bytes)?;
                    }
                    let from = "made anew from the layers' lists of entries";
                    self.repaired(Thing::Object, object.to_string(), from);
                    progress = true;
                }
                _ => damage.places.iter().for_each(|(tree, _)| lost(*tree)),
            }
        }
        for diff_id in layers {
            progress |= self.layer(survey, store, &diff_id.parse()?);
        }
        // Their trees need the lists: those of the next round, if there was something to mend.
        if !progress {
            for digest in images {
                progress |= self.image(survey, store, &digest.parse()?);
            }
        }
        Ok(progress)
    }

    /// Fetches a layer of which the metadata is lost.
    fn layer(&mut self, survey: &Survey, store: &Store, diff_id: &Digest) -> bool {
        let owner = Owner::Layer(diff_id.clone());
        let lost: Vec<String> = lost_names(survey, &owner);
        for subject in &survey.subjects {
            let uses = survey.trees(subject).is_some_and(|trees| {
                let mut owners = trees.iter().map(|at| &survey.inventory.trees[*at].owner);
                owners.any(|known| *known == owner)
            });
            if !uses {
                continue;
            }
            let from = if self.dry() {
                Ok(format!("layer {diff_id} of `{}`", subject.record.image))
            } else {
                self.fetch_layer(store, subject, diff_id)
            };
            if self.tell(&lost, &from) {
                return true;
            }
        }
        false
    }

    /// Says of each lost thing where it came from, or remembers why it did not; whether it came.
    fn tell(&mut self, lost: &[String], from: &Result<String>) -> bool {
        for name in lost {
            match from {
                Ok(from) => self.repaired(thing(name), name, from),
                Err(error) => self.reason(name, format!("{error:#}")),
            }
        }
        from.is_ok()
    }

    fn fetch_layer(
        &mut self,
        store: &Store,
        subject: &Subject,
        diff_id: &Digest,
    ) -> Result<String> {
        let report = self.host.report;
        let source = self.opened(subject)?;
        let scratch = store.scratch()?;
        let limit = store.layer_limit();
        let commit = source.fetch_whole(&scratch, (diff_id, limit), report)?;
        let blob = source.descriptor(diff_id)?.digest().to_string();
        store.take_metadata(&scratch)?;
        let list = scratch.list(&commit)?;
        if let Some(list) = list {
            store.take_file(&scratch, list)?;
        }
        store.put_ref(&Owner::Layer(diff_id.clone()).name(), &commit)?;
        self.outcome.fetched.push(blob.clone());
        self.layers.push(scratch);
        Ok(format!("layer {blob} of `{}`", subject.record.image))
    }

    /// Makes the commit of an image anew.
    fn image(&mut self, survey: &Survey, store: &Store, digest: &Digest) -> bool {
        let owner = Owner::Image(digest.clone());
        let lost = lost_names(survey, &owner);
        let users = survey.subjects.iter();
        let users: Vec<_> = users
            .filter(|s| s.record.manifest_digest == digest.to_string())
            .collect();
        for subject in users {
            let from = if self.dry() {
                Ok(format!("the manifest of `{}`", subject.record.image))
            } else {
                self.commit_image(survey, store, subject)
            };
            if self.tell(&lost, &from) {
                return true;
            }
        }
        false
    }

    fn commit_image(
        &mut self,
        survey: &Survey,
        store: &Store,
        subject: &Subject,
    ) -> Result<String> {
        let diff_ids = self.opened(subject)?.diff_ids().to_vec();
        let mut lists = Vec::new();
        for diff_id in &diff_ids {
            let known = survey.inventory.list(store, diff_id);
            if known.is_none() && store.layer_list(diff_id).is_none() {
                self.fetch_layer(store, subject, diff_id)?;
            }
            lists.extend(known.or_else(|| store.layer_list(diff_id)));
        }
        let scratch = Scratch::new()?;
        let index_digest: Digest = subject.record.index_digest.parse()?;
        let source = self.opened(subject)?;
        let commit = scratch.image_commit(source.image(&index_digest), &lists)?;
        store.take_metadata(&scratch)?;
        let digest: Digest = subject.record.manifest_digest.parse()?;
        store.put_ref(&Owner::Image(digest).name(), &commit)?;
        Ok(format!(
            "the manifest of `{}` and its layers' lists",
            subject.record.image
        ))
    }
}

/// What is lost of a tree: its ref, and objects that nothing here can make anew.
fn lost_names(survey: &Survey, owner: &Owner) -> Vec<String> {
    let inventory = &survey.inventory;
    let of_owner = |tree: usize| inventory.trees[tree].owner == *owner;
    let refs = inventory.refs.iter();
    let refs = refs.filter(|bad| of_owner(bad.tree) && bad.commit.is_none());
    let mut found: Vec<String> = refs.map(|_| owner.name()).collect();
    let damaged = inventory.damaged.iter();
    let damaged = damaged.filter(|(_, damage)| {
        !damage.rebuilt && damage.places.iter().any(|(tree, _)| of_owner(*tree))
    });
    found.extend(damaged.map(|(object, _): (&Object, _)| object.to_string()));
    found
}

/// A ref's name has slashes.
fn thing(name: &str) -> Thing {
    if name.contains('/') {
        Thing::Ref
    } else {
        Thing::Object
    }
}
