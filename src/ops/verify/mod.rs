//! `verify`: whether what is installed is what was installed. `survey` looks, `files` looks at what is rendered,
//! `report` makes faults of what was found.

mod fault;
pub(crate) mod files;
mod report;
mod seals;
pub(crate) mod subject;
pub(crate) mod survey;

use anyhow::Result;
use schemars::JsonSchema;
use serde::Serialize;

pub use fault::{Fault, Place, Thing};

use crate::deployment;
use crate::name::ContainerName;
use crate::ops::verify::survey::Survey;
use crate::ops::{Host, preflight};

/// What is to be verified.
#[derive(Debug)]
pub struct Request {
    /// The containers; none means all.
    pub names: Vec<ContainerName>,
    /// Also the images that no container uses.
    pub all_images: bool,
}

/// What was found.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Outcome {
    /// What is not as it was installed.
    pub faults: Vec<Fault>,
    /// What is another way by the operator's will.
    pub notes: Vec<String>,
    /// The containers that were verified.
    pub containers: Vec<ContainerName>,
    /// Images of the store that were verified, with all their layers.
    pub images: usize,
    /// Files of the store that were hashed.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl Outcome {
    /// The containers that the faults concern.
    pub fn concerned(&self) -> Vec<ContainerName> {
        let places = self.faults.iter().flat_map(|fault| &fault.places);
        let mut names: Vec<_> = places.filter_map(|place| place.container.clone()).collect();
        names.sort();
        names.dedup();
        names
    }
}

/// Verifies. Takes no lock: what another command changes meanwhile is left out.
pub fn run(host: &Host, request: &Request) -> Result<Outcome> {
    // The store is root's alone: what others cannot see is not missing.
    preflight::require_root_user()?;
    let survey = Survey::make(host, &request.names, request.all_images)?;
    let mut faults = survey.faults();
    let mut notes = survey.notes.clone();
    let mut containers: Vec<ContainerName> =
        survey.named().map(|s| s.record.name.clone()).collect();
    containers.dedup();
    for subject in survey.subjects.iter().filter(|s| s.live) {
        let record = &subject.record;
        if deployment::current(host.root, &record.name)? != Some(record.generation) {
            notes.push(format!(
                "`{}` was changed by another command meanwhile: verify it again",
                record.name
            ));
            faults.retain(|f| {
                !f.places
                    .iter()
                    .any(|p| p.container.as_ref() == Some(&record.name))
            });
        }
    }
    Ok(Outcome {
        faults,
        notes,
        containers,
        images: survey.inventory.images.len(),
        files: survey.hashed,
        bytes: survey.swept.bytes,
    })
}
