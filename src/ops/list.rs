//! `list`: the installed containers and how their units are.

use anyhow::Result;
use schemars::JsonSchema;
use serde::Serialize;

use crate::deployment;
use crate::name::{ContainerName, Generation, UnitName};
use crate::ops::Host;
use crate::root::Root;
use crate::state::{self, Lifecycle, Record};

/// One installed container.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Row {
    /// Its name.
    pub name: ContainerName,
    /// Its live generation.
    pub generation: Generation,
    /// The reference it was installed by.
    pub image: String,
    /// The manifest's digest.
    pub digest: String,
    /// Its main unit.
    pub unit: UnitName,
    /// The unit's `ActiveState`; `unknown` when systemd cannot be asked.
    pub state: String,
    /// The unit's `UnitFileState`, such as `enabled`.
    pub enabled: String,
    /// No update touches it.
    pub held: bool,
}

/// The installed containers, by name.
pub fn run(host: &Host) -> Result<Vec<Row>> {
    let records = state::visible(host.root, &|text| host.report.note(text))?;
    Ok(records
        .into_iter()
        .map(|record| row(host, record))
        .collect())
}

/// The names of the installed containers.
pub fn names(root: &Root) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for name in deployment::containers(root)? {
        if deployment::current(root, &name)?.is_some() {
            names.push(name.to_string());
        }
    }
    Ok(names)
}

fn row(host: &Host, record: Record) -> Row {
    let unit = record.name.service();
    let state = host.systemd.state(&unit).unwrap_or_default();
    let life = Lifecycle::read(host.root, &record.name);
    let or_unknown = |text: String| {
        if text.is_empty() {
            "unknown".to_owned()
        } else {
            text
        }
    };
    Row {
        name: record.name,
        generation: record.generation,
        image: record.image,
        digest: record.manifest_digest,
        unit,
        state: or_unknown(state.active),
        enabled: or_unknown(state.file),
        held: life.is_ok_and(|life| life.held.is_some()),
    }
}
