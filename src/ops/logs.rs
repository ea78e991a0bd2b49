//! `logs`: what containers have said, and systemd about them: journalctl(1) of their units takes this process's place.

use std::convert::Infallible;

use anyhow::{Result, anyhow};

use crate::exec::Program;
use crate::hint::Hinted;
use crate::name::ContainerName;
use crate::ops::Host;
use crate::state;

/// What is to be shown.
#[derive(Debug)]
pub struct Request {
    /// The containers.
    pub names: Vec<ContainerName>,
    /// Options of journalctl(1).
    pub options: Vec<String>,
}

/// Becomes journalctl. Returns only an error.
pub fn run(host: &Host, request: &Request) -> Result<Infallible> {
    let mut program = Program::successor("journalctl");
    if !host.root.is_host() {
        let root = host.root.outside("/");
        program = program.arg(format!("--root={}", root.display()));
    }
    for name in &request.names {
        let record = state::find(host.root, name)?
            .ok_or_else(|| anyhow!("`{name}` is not installed"))
            .hint(format!(
                "`bedplate list` shows what is; `journalctl --unit {}` has what one said that was",
                name.service()
            ))?;
        let units = record.units.iter();
        program = program.args(units.map(|unit| format!("--unit={}", unit.as_str())));
    }
    program.args(&request.options).replace()
}
