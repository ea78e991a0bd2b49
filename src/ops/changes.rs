//! What the journal is told: each change of the host, by a MESSAGE_ID that `dist/bedplate.catalog` explains.

use std::fmt::Display;

use crate::name::{ContainerName, Generation};
use crate::ops::verify::Thing;
use crate::ops::{self, Host};
use crate::state::{NeedsRecover, Record, Recovered};
use crate::systemd::Entry;

/// A change that was made.
pub(crate) enum Change<'a> {
    /// A container was installed.
    Installed(Subject<'a>),
    /// A container was updated to another generation.
    Updated(Subject<'a>),
    /// An update was not made, or taken back.
    UpdateFailed {
        of: Subject<'a>,
        error: &'a anyhow::Error,
    },
    /// An automatic look found nothing newer.
    UpToDate(Subject<'a>),
    /// A container was taken to an earlier generation.
    RolledBack(Subject<'a>),
    /// A container was uninstalled.
    Uninstalled(Subject<'a>),
    /// An image was pulled, to be kept.
    Pulled { image: &'a str, digest: &'a str },
    /// An image is kept no longer.
    Released { image: &'a str, digest: &'a str },
    /// Something damaged is as it was installed again.
    Repaired {
        thing: Thing,
        name: &'a str,
        from: &'a str,
    },
    /// Something damaged stays so.
    Left {
        thing: Thing,
        name: &'a str,
        why: &'a str,
    },
    /// A generation was removed.
    GenerationRemoved {
        name: &'a ContainerName,
        generation: Generation,
    },
    /// An image was removed from the store.
    ImageRemoved { image: &'a str, digest: &'a str },
    /// What nobody needed was removed: so many bytes.
    Pruned { freed: u64 },
    /// What an interrupted command left was undone or finished.
    Recovered {
        interrupted: &'a str,
        outcome: Recovered,
    },
    /// A command failed when it had begun to change the host; what it had done was undone.
    Undone { error: &'a anyhow::Error },
    /// A command could neither be finished nor undone.
    NeedsRecover { error: &'a anyhow::Error },
}

/// A container, as far as the journal is told of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) name: &'a ContainerName,
    pub(crate) generation: Generation,
    pub(crate) image: &'a str,
    pub(crate) digest: &'a str,
}

impl<'a> Subject<'a> {
    /// The container of a record.
    pub(crate) fn of(record: &'a Record) -> Self {
        Self {
            name: &record.name,
            generation: record.generation,
            image: &record.image,
            digest: &record.manifest_digest,
        }
    }
}

/// syslog's levels.
const ERROR: u8 = 3;
const WARNING: u8 = 4;
const NOTICE: u8 = 5;
const INFO: u8 = 6;

impl Host<'_> {
    /// Tells the journal of a change that `verb` made. Of a root that is not the running host's it is told nothing.
    pub(crate) fn changed(&self, verb: &str, change: &Change) {
        if self.root.is_host() {
            change.entry(verb).send();
        }
    }

    /// Tells the journal that a transaction of `verb` failed; the error as it is.
    pub(crate) fn failed(&self, verb: &str, error: anyhow::Error) -> anyhow::Error {
        let change = if error.downcast_ref::<NeedsRecover>().is_some() {
            Change::NeedsRecover { error: &error }
        } else {
            Change::Undone { error: &error }
        };
        self.changed(verb, &change);
        error
    }
}

impl Change<'_> {
    /// Its kind: the MESSAGE_ID, and how much it matters.
    fn kind(&self) -> (&'static str, u8) {
        match self {
            Self::Installed(_) => ("e5cc8ffb9086490eb97ab309cd0a342d", NOTICE),
            Self::Updated(_) => ("d49da118f6124a9791a3e71854cd28a5", NOTICE),
            Self::UpdateFailed { .. } => ("6d1e45724fb94960bd2b8140db1bd41a", WARNING),
            Self::UpToDate(_) => ("dabe3dc96bcb449f9883f99394a55d9a", INFO),
            Self::RolledBack(_) => ("3c5c5f423903416e92a1dc1d03b1152a", NOTICE),
            Self::Uninstalled(_) => ("1d3a5fedf2a84aa1aa067b0195349f5e", NOTICE),
            Self::Pulled { .. } => ("a75e6e8b19284ce4bbd5511d80f3a848", NOTICE),
            Self::Released { .. } => ("ea7be958738545759e29809e48fbee46", NOTICE),
            Self::Repaired { .. } => ("f3e5b696779542b7b56ab88acab3e939", NOTICE),
            Self::Left { .. } => ("23919ceebc424488908b8b9dbddc24cd", WARNING),
            Self::GenerationRemoved { .. } => ("364ef2287e854dea8ed69dcd07b79ee6", NOTICE),
            Self::ImageRemoved { .. } => ("6265036a44a34f569357b48e4b823e4f", NOTICE),
            Self::Pruned { .. } => ("e4d2e5202875413a92b9106040344fb9", NOTICE),
            Self::Recovered { .. } => ("8b33dbab5c6e49979b24374aa09e3f37", NOTICE),
            Self::Undone { .. } => ("cf3847d3807a4a55b11548fd93831364", WARNING),
            Self::NeedsRecover { .. } => ("4f9da6b99b024422b4357c42ee003134", ERROR),
        }
    }

    fn entry(&self, verb: &str) -> Entry {
        let (id, priority) = self.kind();
        let entry = Entry::default()
            .field("MESSAGE", self.message(verb))
            .field("MESSAGE_ID", id)
            .field("PRIORITY", priority)
            .field("SYSLOG_IDENTIFIER", "bedplate")
            .field("VERB", verb);
        self.fields()
            .into_iter()
            .fold(entry, |entry, (name, value)| entry.field(name, value))
    }

    fn message(&self, verb: &str) -> String {
        match self {
            Self::Installed(of) => format!(
                "Installed {}, generation {}, from {} ({})",
                of.name, of.generation, of.image, of.digest
            ),
            Self::Updated(of) => format!(
                "Updated {} to generation {}, from {} ({})",
                of.name, of.generation, of.image, of.digest
            ),
            Self::UpdateFailed { of, error } => {
                let error = ops::chain(error);
                format!("Update of {} to {} failed: {error}", of.name, of.digest)
            }
            Self::UpToDate(of) => format!("{} is up to date ({})", of.name, of.digest),
            Self::RolledBack(of) => format!(
                "Rolled {} back to generation {}, from {} ({})",
                of.name, of.generation, of.image, of.digest
            ),
            Self::Uninstalled(of) => format!("Uninstalled {}", of.name),
            Self::Pulled { image, digest } => format!("Pulled {image} ({digest})"),
            Self::Released { image, digest } => format!("No longer keeping {image} ({digest})"),
            Self::Repaired { thing, name, from } => format!("Repaired {thing} {name}, from {from}"),
            Self::Left { thing, name, why } => format!("Could not repair {thing} {name}: {why}"),
            Self::GenerationRemoved { name, generation } => {
                format!("Removed generation {generation} of {name}")
            }
            Self::ImageRemoved { image, digest } => format!("Removed {image} ({digest})"),
            Self::Pruned { freed } => format!("Freed {freed} bytes"),
            Self::Recovered {
                interrupted,
                outcome,
            } => format!("Interrupted {interrupted} was {}", word(*outcome)),
            Self::Undone { error } => format!("Failed {verb} was undone: {error:#}"),
            Self::NeedsRecover { error } => {
                format!("Failed {verb} could not be undone: {error:#}")
            }
        }
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let text = |value: &dyn Display| value.to_string();
        let container = |name: &ContainerName, generation: Generation| {
            vec![
                ("CONTAINER", text(name)),
                ("GENERATION", text(&generation)),
                // With it the entry is among the unit's own, `journalctl --unit`.
                ("OBJECT_SYSTEMD_UNIT", text(&name.service())),
            ]
        };
        let image = |image: &str, digest: &str| {
            vec![
                ("IMAGE", image.to_owned()),
                ("IMAGE_DIGEST", digest.to_owned()),
            ]
        };
        let of_container = |of: &Subject| {
            let mut fields = container(of.name, of.generation);
            fields.extend(image(of.image, of.digest));
            fields
        };
        match self {
            Self::Installed(of)
            | Self::Updated(of)
            | Self::UpToDate(of)
            | Self::RolledBack(of)
            | Self::Uninstalled(of) => of_container(of),
            Self::UpdateFailed { of, error } => {
                let mut fields = of_container(of);
                fields.push(("REASON", ops::chain(error)));
                fields
            }
            Self::Pulled { image: of, digest }
            | Self::Released { image: of, digest }
            | Self::ImageRemoved { image: of, digest } => image(of, digest),
            Self::Repaired { thing, name, from } => vec![
                ("THING", text(thing)),
                ("NAME", text(name)),
                ("FROM", text(from)),
            ],
            Self::Left { thing, name, why } => vec![
                ("THING", text(thing)),
                ("NAME", text(name)),
                ("REASON", text(why)),
            ],
            Self::GenerationRemoved { name, generation } => container(name, *generation),
            Self::Pruned { freed } => vec![("FREED", text(freed))],
            Self::Recovered {
                interrupted,
                outcome,
            } => vec![
                ("INTERRUPTED", text(interrupted)),
                ("OUTCOME", word(*outcome).to_owned()),
            ],
            Self::Undone { error } | Self::NeedsRecover { error } => {
                vec![("REASON", format!("{error:#}"))]
            }
        }
    }
}

/// What recovery did, in a word.
pub(crate) fn word(outcome: Recovered) -> &'static str {
    match outcome {
        Recovered::Undone => "undone",
        Recovered::Finished => "finished",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use anyhow::anyhow;

    use super::*;

    /// Looks at one change of each kind.
    fn with_each(look: &mut dyn FnMut(&Change)) {
        let name: ContainerName = "etcd".parse().unwrap();
        let (image, digest) = ("docker://r.example/etcd:3", "sha256:0");
        let of = Subject {
            name: &name,
            generation: Generation::FIRST,
            image,
            digest,
        };
        let (thing, error) = (Thing::Object, anyhow!("no space"));
        for change in [
            Change::Installed(of),
            Change::Updated(of),
            Change::UpdateFailed { of, error: &error },
            Change::UpToDate(of),
            Change::RolledBack(of),
            Change::Uninstalled(of),
            Change::Pulled { image, digest },
            Change::Released { image, digest },
            Change::Repaired {
                thing,
                name: "00",
                from: "the image",
            },
            Change::Left {
                thing,
                name: "00",
                why: "gone",
            },
            Change::GenerationRemoved {
                name: &name,
                generation: Generation::FIRST,
            },
            Change::ImageRemoved { image, digest },
            Change::Pruned { freed: 1 },
            Change::Recovered {
                interrupted: "install",
                outcome: Recovered::Undone,
            },
            Change::Undone { error: &error },
            Change::NeedsRecover { error: &error },
        ] {
            look(&change);
        }
    }

    /// The catalogue's entries: MESSAGE_ID, header and text.
    fn catalogue() -> BTreeMap<&'static str, &'static str> {
        let text = include_str!("../../dist/bedplate.catalog");
        text.split("\n-- ")
            .skip(1)
            .map(|entry| entry.split_once('\n').unwrap())
            .collect()
    }

    #[test]
    fn the_catalogue_explains_every_change_and_nothing_else() {
        let catalogue = catalogue();
        let mut ids = Vec::new();
        with_each(&mut |change| {
            let (id, _) = change.kind();
            ids.push(id);
            let text = catalogue[id];
            let mut known: Vec<_> = change.fields().iter().map(|(name, _)| *name).collect();
            known.push("VERB");
            for field in text.split('@').skip(1).step_by(2) {
                assert!(known.contains(&field), "{id}: @{field}@, of {known:?}");
            }
            for header in ["Subject: ", "Defined-By: bedplate\n", "Documentation: "] {
                assert!(text.contains(header), "{id} has no {header}");
            }
            let (_, explanation) = text.split_once("\n\n").unwrap();
            assert!(explanation.len() > 60, "{id}: {explanation}");
        });
        ids.sort_unstable();
        assert!(catalogue.keys().eq(&ids), "{:?}", catalogue.keys());
    }

    #[test]
    fn the_document_has_every_change() {
        let document = include_str!("../../docs/automation.md");
        with_each(&mut |change| {
            let (id, _) = change.kind();
            let line = document.lines().find(|line| line.contains(id));
            let line = line.unwrap_or_else(|| panic!("{id} is missing"));
            for (field, _) in change.fields() {
                let told = line.contains(&format!("`{field}`"));
                assert!(told || field == "OBJECT_SYSTEMD_UNIT", "{line}: {field}");
            }
        });
    }

    #[test]
    fn messages_are_sentences() {
        let mut messages = Vec::new();
        with_each(&mut |change| messages.push(change.message("install")));
        assert_eq!(
            messages,
            [
                "Installed etcd, generation 1, from docker://r.example/etcd:3 (sha256:0)",
                "Updated etcd to generation 1, from docker://r.example/etcd:3 (sha256:0)",
                "Update of etcd to sha256:0 failed: no space",
                "etcd is up to date (sha256:0)",
                "Rolled etcd back to generation 1, from docker://r.example/etcd:3 (sha256:0)",
                "Uninstalled etcd",
                "Pulled docker://r.example/etcd:3 (sha256:0)",
                "No longer keeping docker://r.example/etcd:3 (sha256:0)",
                "Repaired object 00, from the image",
                "Could not repair object 00: gone",
                "Removed generation 1 of etcd",
                "Removed docker://r.example/etcd:3 (sha256:0)",
                "Freed 1 bytes",
                "Interrupted install was undone",
                "Failed install was undone: no space",
                "Failed install could not be undone: no space",
            ]
        );
    }
}
