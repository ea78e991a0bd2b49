//! `check --boot`: whether the boot of the installed containers needs anything that a boot should not. What their units
//! pull in is followed, and what all of it runs and waits for is looked at.

mod reach;
mod walk;

use std::collections::{BTreeSet, HashMap};

use anyhow::Result;
use schemars::JsonSchema;
use serde::Serialize;

pub use crate::ops::check::reach::Reach;

use crate::deployment;
use crate::name::{ContainerName, UnitName};
use crate::ops::check::walk::Walk;
use crate::ops::{Host, ordering};
use crate::state::{self, Record};
use crate::systemd::wiring::Wiring;

/// What is to be checked.
#[derive(Debug)]
pub struct Request {
    /// The containers; all of them when there is none.
    pub names: Vec<ContainerName>,
}

/// What was found.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Outcome {
    /// The containers that were looked at.
    pub containers: Vec<ContainerName>,
    /// How many units they and what they pull in are.
    pub units: usize,
    /// What a boot should not need, and no image asked for.
    pub faults: Vec<Finding>,
    /// The same, where the image asks for it.
    pub asked: Vec<Finding>,
    /// What could not be known.
    pub notes: Vec<String>,
}

/// A way from a unit of a container to something that a boot should not need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Finding {
    /// The container.
    pub container: ContainerName,
    /// What is reached.
    pub reaches: Reach,
    /// The way there, the container's own unit first.
    pub path: Vec<Step>,
}

/// A step on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Step {
    /// The directive of the unit before that leads here; empty of the first.
    pub by: &'static str,
    /// The unit, or the command line at the end.
    pub name: String,
}

/// Looks at everything; nothing is changed or started.
pub fn run(host: &Host, request: &Request) -> Result<Outcome> {
    let all = state::visible(host.root, &|text| host.report.note(text))?;
    let mut records = Vec::new();
    let names: BTreeSet<&ContainerName> = request.names.iter().collect();
    for name in names {
        records.push(state::require(host.root, name)?);
    }
    if request.names.is_empty() {
        records.clone_from(&all);
    }
    let ours = all.iter().flat_map(|record| {
        let units = record.units.iter().cloned();
        units.map(|unit| (unit, record.name.clone()))
    });
    let files = crate::ops::unit_files(host.root)?;
    let mut walk = Walk {
        systemd: host.systemd,
        files: files.as_ref(),
        ours: ours.collect::<HashMap<_, _>>(),
        known: HashMap::new(),
    };
    let mut outcome = Outcome {
        containers: records.iter().map(|record| record.name.clone()).collect(),
        units: 0,
        faults: Vec::new(),
        asked: Vec::new(),
        notes: Vec::new(),
    };
    for record in &records {
        for unit in &record.units {
            let own = own(host, record, unit)?;
            for finding in walk.from(&record.name, unit)? {
                let asked = finding.is_asked_by(&own);
                let list = if asked {
                    &mut outcome.asked
                } else {
                    &mut outcome.faults
                };
                if !list.contains(&finding) {
                    list.push(finding);
                }
            }
        }
    }
    outcome.units = walk.known.len();
    outcome.notes = notes(host, &walk);
    Ok(outcome)
}

/// What the image itself says of the unit: as it was rendered, and by the order that its manifest asks for.
fn own(host: &Host, record: &Record, unit: &UnitName) -> Result<Wiring> {
    let rendered = deployment::dir(&record.name, record.generation).join("units");
    let mut texts = Vec::new();
    for path in [rendered.join(unit.as_str()), ordering::drop_in_path(unit)] {
        texts.extend(host.root.read_text(path)?);
    }
    Ok(Wiring::parse(texts.iter().map(String::as_str)))
}

fn notes(host: &Host, walk: &Walk) -> Vec<String> {
    if !host.systemd.is_running() {
        return vec![
            "the systemd of this root cannot be asked: unit files were read; what generators make of /etc/fstab \
             and the like, and most of what systemd adds by itself, was not seen"
                .to_owned(),
        ];
    }
    let stale = walk.known.iter().filter(|(_, wiring)| wiring.stale);
    let mut notes: Vec<String> = stale
        .map(|(unit, _)| format!("{unit} has changed since systemd read it: `systemctl daemon-reload`, then check again"))
        .collect();
    notes.sort();
    notes
}

impl Finding {
    /// Whether the image itself says just this; what lies behind something else that it asks for it did not ask for.
    fn is_asked_by(&self, own: &Wiring) -> bool {
        let [_, step] = &self.path[..] else {
            return false;
        };
        let is = |by: &str, name: &str| by == step.by && name == step.name;
        own.units.iter().any(|(by, unit)| is(by, unit.as_str()))
            || own
                .programs
                .iter()
                .any(|(by, argv)| is(by, &argv.join(" ")))
    }
}
