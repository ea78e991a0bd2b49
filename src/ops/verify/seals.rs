//! Generations under fs-verity: what they lead to is whole and not sealed, so that the kernel does not look after it.

use crate::deployment::{self, TREE};
use crate::ops::Host;
use crate::ops::verify::files::{BadFile, Which};
use crate::ops::verify::survey::Survey;
use crate::store::composefs::{Protection, is_sealed};
use crate::store::object::Object;
use crate::store::verify::defect::{Defect, Finding};
use crate::store::verify::inventory::Node;

impl Survey {
    /// Adds what is not sealed of the containers that were asked for.
    pub(super) fn seals(&mut self, host: &Host) {
        let Some(store) = &self.store else {
            return;
        };
        for (at, subject) in self.subjects.iter().enumerate() {
            let record = &subject.record;
            if !subject.named || record.integrity != Protection::Verity {
                continue;
            }
            let trees = self.trees(subject);
            let tree = trees.and_then(|trees| self.inventory.trees.get(*trees.first()?));
            for (path, node) in tree.into_iter().flat_map(|tree| &tree.nodes) {
                if let Node::File(sum) = node
                    && !self.swept.bad.contains_key(sum)
                    && !is_sealed(&store.object_path(Object::file(*sum)))
                {
                    let uses = self.unsealed.entry(*sum).or_default();
                    uses.push((at, format!("/{path}")));
                }
            }
            let path = deployment::dir(&record.name, record.generation).join(TREE);
            let is_known = self.files.iter().any(|bad| bad.path == path);
            if !is_known && !is_sealed(&host.root.outside(&path)) {
                self.files.push(BadFile {
                    subject: at,
                    path,
                    finding: Finding::new(Defect::Unsealed, ""),
                    which: Which::Generation(TREE.to_owned()),
                });
            }
        }
    }
}
