//! `config`: every setting of the host, and where it comes from.

use std::path::PathBuf;

use anyhow::Result;
use schemars::JsonSchema;
use serde::Serialize;

use crate::config::{self, Passed, Setting};
use crate::ops::Host;

pub use crate::config::documented;

/// The settings of a host.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Outcome {
    /// Each setting, by name.
    pub settings: Vec<Setting>,
    /// The files that were read, weakest first.
    pub files: Vec<PathBuf>,
    /// Files that do not count, because a stronger one of the same name is there.
    pub passed_over: Vec<Passed>,
}

/// Reads the settings.
pub fn run(host: &Host) -> Result<Outcome> {
    let layered = config::layers(host.root)?;
    Ok(Outcome {
        settings: layered.settings(),
        files: layered.files,
        passed_over: layered.passed,
    })
}
