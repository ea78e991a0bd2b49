//! `history`: what a container has been through.

use anyhow::Result;
use schemars::JsonSchema;
use serde::Serialize;

use crate::deployment;
use crate::name::{ContainerName, Generation};
use crate::ops::Host;
use crate::state::{self, Bad, Event, Lifecycle, What};

/// A container's history.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Outcome {
    /// The container.
    pub name: ContainerName,
    /// What happened, oldest first.
    pub events: Vec<Event>,
    /// Its generations on disk, oldest first.
    pub generations: Vec<OnDisk>,
    /// Images that are not taken again by themselves.
    pub bad: Vec<Bad>,
}

/// A generation on disk.
#[derive(Debug, Serialize, JsonSchema)]
pub struct OnDisk {
    /// Its number.
    pub generation: Generation,
    /// Its unit names it.
    pub live: bool,
    /// `prune` leaves it.
    pub pinned: bool,
    /// The manifest's digest; none when its record cannot be read.
    pub digest: Option<String>,
}

/// Looks.
pub fn run(host: &Host, name: &ContainerName) -> Result<Outcome> {
    let record = state::require(host.root, name)?;
    let life = Lifecycle::read(host.root, name)?;
    let mut generations = Vec::new();
    for generation in deployment::generations(host.root, name)? {
        let found = state::record(host.root, name, generation).ok();
        generations.push(OnDisk {
            generation,
            live: generation == record.generation,
            pinned: deployment::is_pinned(host.root, name, generation)?,
            digest: found.map(|record| record.manifest_digest),
        });
    }
    let mut events = life.events;
    if events.is_empty() {
        // It was installed by a bedplate that kept no history.
        events.push(Event::of(What::Installed, &record, record.installed));
    }
    Ok(Outcome {
        name: name.clone(),
        events,
        generations,
        bad: life.bad,
    })
}
