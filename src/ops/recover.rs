//! `recover`: finish or undo what an interrupted command left.

use anyhow::Result;
use schemars::JsonSchema;
use serde::Serialize;

use crate::ops::Host;
use crate::state::{Lock, Recovered};

/// What there was to recover.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Outcome {
    /// The interrupted command; `None` when nothing was unfinished.
    pub command: Option<String>,
    /// What was done about it.
    pub outcome: Option<Recovered>,
}

/// Recovers.
pub fn run(host: &Host) -> Result<Outcome> {
    let lock = Lock::take_if_used(host.root, "recover", host.report)?;
    let found = lock.map_or(Ok(None), |lock| host.recover(&lock, "recover"))?;
    Ok(match found {
        Some((command, outcome)) => Outcome {
            command: Some(command),
            outcome: Some(outcome),
        },
        None => Outcome {
            command: None,
            outcome: None,
        },
    })
}
