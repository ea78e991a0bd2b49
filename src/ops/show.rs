//! `show`: all that is known of one container.

use anyhow::Result;
use schemars::JsonSchema;
use serde::Serialize;

use crate::deployment;
use crate::name::ContainerName;
use crate::ops::{Host, ordering, stopping};
use crate::state::{self, Record};
use crate::systemd::UnitState;

/// One container.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Outcome {
    /// Its record.
    #[serde(flatten)]
    pub record: Record,
    /// The directory of its live generation.
    pub directory: std::path::PathBuf,
    /// What systemd says of its service.
    pub state: UnitState,
    /// The containers that require it.
    pub required_by: Vec<ContainerName>,
    /// What the operator should know of it.
    pub notes: Vec<String>,
}

/// Looks at one container.
pub fn run(host: &Host, name: &ContainerName) -> Result<Outcome> {
    let record = state::require(host.root, name)?;
    let graph = ordering::installed(host, &state::installed(host.root)?)?;
    let state = host.systemd.state(&name.service()).unwrap_or_default();
    Ok(Outcome {
        directory: deployment::dir(name, record.generation),
        notes: stopping::advice(host, &state)?.into_iter().collect(),
        state,
        required_by: graph.dependents(name),
        record,
    })
}
