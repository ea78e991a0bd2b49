//! Files of the store: from another copy on this machine, from their own content with the right attributes, else
//! from the layers that hold them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use anyhow::Result;
use containers_image_proxy::oci_spec::image::Digest;

use crate::ops::repair::Work;
use crate::ops::verify::Thing;
use crate::ops::verify::subject::Subject;
use crate::ops::verify::survey::Survey;
use crate::store::Store;
use crate::store::object::{Meta, Object, Sum};
use crate::store::repair::source::{Shopping, shopping};
use crate::store::repair::write::{could_copy, would_fit};
use crate::store::verify::inventory::Owner;

impl Work<'_> {
    /// Mends the damaged files; returns those that are whole again.
    pub(super) fn content(&mut self, survey: &Survey) -> Result<HashSet<Sum>> {
        let mut whole = HashSet::new();
        let Some(store) = &survey.store else {
            return Ok(whole);
        };
        // The lists themselves belong to the metadata.
        let lists: HashSet<Object> = survey.inventory.damaged.keys().copied().collect();
        let mut wanted: HashSet<Sum> = survey.swept.bad.keys().copied().collect();
        wanted.retain(|sum| !lists.contains(&Object::file(*sum)));
        let uses = survey.uses(&wanted);
        let mut sums: Vec<Sum> = wanted.iter().copied().collect();
        sums.sort();
        for sum in sums {
            let places = uses.get(&sum).map(Vec::as_slice).unwrap_or_default();
            if let Some(from) = self.local(survey, store, sum, places)? {
                self.repaired(Thing::Object, Object::file(sum).to_string(), from);
                whole.insert(sum);
            }
        }
        wanted.retain(|sum| !whole.contains(sum));
        self.fetch(survey, store, &mut wanted, &mut whole)?;
        Ok(whole)
    }

    /// Looks for the file on this machine; says where it was found.
    fn local(
        &self,
        survey: &Survey,
        store: &Store,
        sum: Sum,
        uses: &[(usize, String)],
    ) -> Result<Option<String>> {
        let object = Object::file(sum);
        let mut copies = vec![(store.object_path(object), "its own content".to_owned())];
        for (subject, path) in links(survey, uses) {
            // An image has no files of its own.
            if subject.record.integrity.is_image() {
                continue;
            }
            let at = subject.rootfs(self.host.root).join(path);
            copies.push((at, format!("the rootfs of `{}`", subject.record.name)));
        }
        for (path, from) in &copies {
            for meta in [None, survey.expected.get(&sum)] {
                if self.fits(store, path, sum, meta)? {
                    let mended = if meta.is_some() {
                        ", its attributes put right"
                    } else {
                        ""
                    };
                    return Ok(Some(format!("{from}{mended}")));
                }
            }
        }
        for scratch in &self.layers {
            if store.take_file(scratch, sum)? {
                return Ok(Some("a layer that was fetched whole".to_owned()));
            }
        }
        // Links and empty files are all in the list of entries.
        if let Some(meta) = survey.expected.get(&sum)
            && would_fit(sum, meta)?
            && (self.dry() || store.put_file(sum, meta, &mut std::io::empty())?)
        {
            return Ok(Some("the layer's list of entries".to_owned()));
        }
        Ok(None)
    }

    fn fits(&self, store: &Store, path: &Path, sum: Sum, meta: Option<&Meta>) -> Result<bool> {
        if self.dry() {
            return Ok(could_copy(path, sum, meta));
        }
        store.copy_file(path, sum, meta)
    }

    /// Fetches what is still wanted, layer by layer, that with the most of it first.
    fn fetch(
        &mut self,
        survey: &Survey,
        store: &Store,
        wanted: &mut HashSet<Sum>,
        whole: &mut HashSet<Sum>,
    ) -> Result<()> {
        let mut tried: HashSet<(Digest, Digest)> = HashSet::new();
        while !wanted.is_empty() {
            let Some((subject, diff_id, list)) = richest(survey, store, wanted, &tried) else {
                break;
            };
            let digest: Digest = subject.record.manifest_digest.parse()?;
            tried.insert((digest.clone(), diff_id.clone()));
            if self.dry() {
                for (sum, _) in list.values() {
                    if wanted.remove(sum) {
                        let from = format!("layer {diff_id} of `{}`", subject.record.image);
                        self.repaired(Thing::Object, Object::file(*sum).to_string(), from);
                        whole.insert(*sum);
                    }
                }
                continue;
            }
            match self.fetch_from(store, subject, &diff_id, &list) {
                Ok((blob, sums)) => {
                    self.outcome.fetched.push(blob.clone());
                    for sum in sums {
                        if wanted.remove(&sum) {
                            let from = format!("layer {blob} of `{}`", subject.record.image);
                            self.repaired(Thing::Object, Object::file(sum).to_string(), from);
                            whole.insert(sum);
                        }
                    }
                }
                Err(error) => {
                    for (sum, _) in list.values() {
                        self.reason(Object::file(*sum).to_string(), format!("{error:#}"));
                    }
                }
            }
        }
        for sum in wanted.iter() {
            let name = Object::file(*sum).to_string();
            if !self.reasons.contains_key(&name) {
                self.reason(name, "no layer's list of entries has it");
            }
        }
        Ok(())
    }

    fn fetch_from(
        &mut self,
        store: &Store,
        subject: &Subject,
        diff_id: &Digest,
        list: &Shopping,
    ) -> Result<(String, Vec<Sum>)> {
        let report = self.host.report;
        let source = self.opened(subject)?;
        let sums = source.fetch(store, diff_id, list, report)?;
        Ok((source.descriptor(diff_id)?.digest().to_string(), sums))
    }
}

/// The paths of rootfs in which a file of these trees is linked.
pub(super) fn links<'a>(
    survey: &'a Survey,
    uses: &'a [(usize, String)],
) -> impl Iterator<Item = (&'a Subject, &'a str)> {
    uses.iter().flat_map(move |(tree, path)| {
        let linked = move |subject: &&Subject| {
            let trees = survey.trees(subject);
            trees.and_then(|trees| trees.first()) == Some(tree)
        };
        let subjects = survey.subjects.iter().filter(linked);
        subjects.map(move |subject| (subject, path.as_str()))
    })
}

/// The layer that holds most of what is wanted, the container whose image has it, and what it holds.
fn richest<'a>(
    survey: &'a Survey,
    store: &Store,
    wanted: &HashSet<Sum>,
    tried: &HashSet<(Digest, Digest)>,
) -> Option<(&'a Subject, Digest, Shopping)> {
    let mut lists: HashMap<&Digest, Shopping> = HashMap::new();
    let mut found: BTreeMap<(usize, usize), (&Subject, Digest)> = BTreeMap::new();
    for (at, subject) in survey.subjects.iter().enumerate() {
        let digest: Digest = subject.record.manifest_digest.parse().ok()?;
        for tree in survey.trees(subject).into_iter().flatten() {
            let Owner::Layer(diff_id) = &survey.inventory.trees[*tree].owner else {
                continue;
            };
            let list = lists.entry(diff_id).or_insert_with(|| {
                let entries = survey.inventory.list(store, diff_id);
                shopping(&entries.unwrap_or_default(), wanted)
            });
            if list.is_empty() || tried.contains(&(digest.clone(), diff_id.clone())) {
                continue;
            }
            let rank = (list.len(), usize::MAX - at);
            found.insert(rank, (subject, diff_id.clone()));
        }
    }
    let (_, (subject, diff_id)) = found.pop_last()?;
    let list = lists.remove(&diff_id)?;
    Some((subject, diff_id, list))
}
