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
    let lock = Lock::take(host.root, "recover", host.report)?;
    Ok(match host.recover(&lock, "recover")? {
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
