//! A survey as faults: each damaged thing once, with all whom it concerns.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;

use containers_image_proxy::oci_spec::image::Digest;

use crate::deployment;
use crate::name::ContainerName;
use crate::ops::verify::files;
use crate::ops::verify::survey::Survey;
use crate::ops::verify::{Fault, Place, Thing};
use crate::store::object::{Object, Sum};
use crate::store::repair::source::shopping;
use crate::store::verify::defect::{Defect, Finding};
use crate::store::verify::inventory::{Node, Owner};

impl Survey {
    /// Everything that is wrong, worst first.
    pub(crate) fn faults(&self) -> Vec<Fault> {
        let mut faults = self.records.clone();
        for bad in &self.inventory.refs {
            let name = self.inventory.trees[bad.tree].owner.name();
            let places = self.places(&[(bad.tree, String::new())]);
            faults.push(Fault::new(Thing::Ref, name, &bad.finding, places));
        }
        for (object, damage) in &self.inventory.damaged {
            let places = self.places(&damage.places);
            let finding = &damage.finding;
            faults.push(Fault::new(
                Thing::Object,
                object.to_string(),
                finding,
                places,
            ));
        }
        let mut used = self.uses(&self.swept.bad.keys().copied().collect());
        for (sum, finding) in &self.swept.bad {
            let object = Object::file(*sum);
            if !self.inventory.damaged.contains_key(&object) {
                let places = self.places(&used.remove(sum).unwrap_or_default());
                faults.push(Fault::new(
                    Thing::Object,
                    object.to_string(),
                    finding,
                    places,
                ));
            }
        }
        for (sum, uses) in &self.unsealed {
            let places = uses.iter().map(|(at, path)| self.subjects[*at].place(path));
            let finding = Finding::new(Defect::Unsealed, "");
            let name = Object::file(*sum).to_string();
            faults.push(Fault::new(Thing::Object, name, &finding, places.collect()));
        }
        for (at, compared) in &self.rootfs {
            let subject = &self.subjects[*at];
            for deviation in &compared.deviations {
                let dir = deployment::dir(&subject.record.name, subject.record.generation);
                let name = dir.join("rootfs").join(&deviation.path);
                let place = subject.place(&format!("/{}", deviation.path));
                let name = name.display().to_string();
                let finding = &deviation.finding;
                faults.push(Fault::new(Thing::Rootfs, name, finding, vec![place]));
            }
        }
        let files = self.files.iter();
        faults.extend(files.map(|file| file.fault(&self.subjects[file.subject])));
        faults.extend(
            self.order
                .iter()
                .map(|(path, text)| self.drop_in(path, text.as_deref())),
        );
        faults.retain(|fault| self.concerns(fault));
        faults
    }

    /// Whether somebody who was asked for is concerned.
    fn concerns(&self, fault: &Fault) -> bool {
        let named = |name: &ContainerName| self.named().any(|s| s.record.name == *name);
        matches!(fault.thing, Thing::Record | Thing::Current | Thing::Order)
            || fault
                .places
                .iter()
                .any(|place| place.container.as_ref().is_none_or(named))
    }

    fn drop_in(&self, path: &Path, text: Option<&str>) -> Fault {
        let finding = if text.is_none() {
            Finding::new(Defect::Extra, "the installed set has no such order")
        } else {
            Finding::new(Defect::Content, "it is not what the installed set asks for")
        };
        let owner = files::owner(path);
        let subject = self
            .subjects
            .iter()
            .find(|s| s.live && Some(&s.record.name) == owner.as_ref());
        let places = subject.map(|s| s.place("")).into_iter().collect();
        Fault::new(Thing::Order, path.display().to_string(), &finding, places)
    }

    /// Where files are used, by tree and path.
    pub(crate) fn uses(&self, sums: &HashSet<Sum>) -> HashMap<Sum, Vec<(usize, String)>> {
        let mut found: HashMap<Sum, Vec<(usize, String)>> = HashMap::new();
        if sums.is_empty() {
            return found;
        }
        for (at, tree) in self.inventory.trees.iter().enumerate() {
            for (path, node) in &tree.nodes {
                if let Node::File(sum) = node
                    && sums.contains(sum)
                {
                    found.entry(*sum).or_default().push((at, path.clone()));
                }
            }
        }
        found
    }

    /// The containers, or else images, in which these paths of trees are. A layer's path counts where no image
    /// shows it.
    fn places(&self, uses: &[(usize, String)]) -> Vec<Place> {
        let of_image = |at: usize| matches!(self.inventory.trees[at].owner, Owner::Image(_));
        let shown = uses.iter().any(|(at, _)| of_image(*at));
        let mut places = BTreeSet::new();
        for (at, path) in uses {
            let path = match &self.inventory.trees[*at].owner {
                Owner::Image(_) => format!("/{path}"),
                Owner::Layer(_) if shown => continue,
                Owner::Layer(diff_id) => {
                    let path = self.in_layer(diff_id, path);
                    format!("layer {diff_id} {path}").trim_end().to_owned()
                }
            };
            let mut anybody = false;
            for subject in &self.subjects {
                if self.trees(subject).is_some_and(|trees| trees.contains(at)) {
                    places.insert(subject.place(&path));
                    anybody = true;
                }
            }
            if !anybody {
                places.extend(self.unused(*at, &path));
            }
        }
        places.into_iter().collect()
    }

    /// A layer's commit names its files by their checksums: what the layer itself calls them.
    fn in_layer(&self, diff_id: &Digest, path: &str) -> String {
        let object = path.strip_prefix("objects/");
        let list = self.store.as_ref().zip(object).and_then(|(store, _)| {
            let list = self.inventory.list(store, diff_id);
            list.map(|list| {
                shopping(
                    &list,
                    &object
                        .and_then(|o| Sum::parse(o).ok())
                        .into_iter()
                        .collect(),
                )
            })
        });
        let first = list.as_ref().and_then(|list| list.keys().next());
        first.map_or_else(|| path.to_owned(), |path| format!("/{path}"))
    }

    /// A path in images that no container uses.
    fn unused(&self, at: usize, path: &str) -> Vec<Place> {
        let images = self.inventory.images.iter();
        let users = images.filter(|(_, (_, trees))| trees.contains(&at));
        users
            .map(|(digest, (stored, _))| Place {
                container: None,
                generation: None,
                image: match stored {
                    Some(stored) => stored.reference.to_string(),
                    None => digest.to_string(),
                },
                path: path.to_owned(),
            })
            .collect()
    }
}
