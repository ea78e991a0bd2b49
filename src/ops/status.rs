//! `status`: how the containers fare between updates.

use anyhow::Result;
use schemars::JsonSchema;
use serde::Serialize;

use crate::name::{ContainerName, Generation, UnitName};
use crate::ops::Host;
use crate::ops::update::schedule;
use crate::state::{self, Bad, Checked, Event, Lifecycle};

/// The timer that updates containers by themselves.
const TIMER: &str = "bedplate-update.timer";

/// How the host's containers fare.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Outcome {
    /// Containers are updated by themselves: the timer's `ActiveState` is `active`.
    pub automatic: bool,
    /// Each container, by name.
    pub containers: Vec<Row>,
}

/// One container.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Row {
    /// Its name.
    pub name: ContainerName,
    /// Its live generation.
    pub generation: Generation,
    /// The manifest's digest.
    pub digest: String,
    /// Its service's `ActiveState`.
    pub state: String,
    /// What its service last said with `STATUS=`.
    pub status: String,
    /// How often systemd has restarted it since it was started.
    pub restarts: u32,
    /// Why no update touches it, empty for no reason given; none when it is not held.
    pub held: Option<String>,
    /// What happened last.
    pub last: Option<Event>,
    /// The last automatic look for a newer image.
    pub checked: Option<Checked>,
    /// When the next is due: seconds since 1970-01-01 00:00 UTC; none without the timer.
    pub due: Option<i64>,
    /// The manifest digest of an image that waits in the store.
    pub downloaded: Option<String>,
    /// Images that are not taken again by themselves.
    pub bad: Vec<Bad>,
}

/// Looks at the named containers, or at all.
pub fn run(host: &Host, names: &[ContainerName]) -> Result<Outcome> {
    let records = state::visible(host.root, &|text| host.report.note(text))?;
    for name in names {
        state::require(host.root, name)?;
    }
    let timer: UnitName = TIMER.parse()?;
    let automatic = host.systemd.state(&timer).is_ok_and(|state| state.is_up());
    let mut containers = Vec::new();
    for record in records {
        if !names.is_empty() && !names.contains(&record.name) {
            continue;
        }
        let life = Lifecycle::read(host.root, &record.name)?;
        let last = life.checked.as_ref().map_or(record.installed, |c| c.when);
        let due = if automatic && life.held.is_none() {
            schedule::due(host, &record.name, last)?
        } else {
            None
        };
        let state = host
            .systemd
            .state(&record.name.service())
            .unwrap_or_default();
        containers.push(Row {
            name: record.name,
            generation: record.generation,
            digest: record.manifest_digest,
            state: state.active,
            status: state.status,
            restarts: state.restarts,
            held: life.held,
            last: life.events.last().cloned(),
            checked: life.checked,
            due,
            downloaded: life.downloaded,
            bad: life.bad,
        });
    }
    Ok(Outcome {
        automatic,
        containers,
    })
}
