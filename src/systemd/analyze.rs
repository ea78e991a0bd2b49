//! What systemd itself makes of unit files that are on no host yet.

use anyhow::{Context, Result};

use crate::exec::{self, Program};

/// The program.
const PROGRAM: &str = "systemd-analyze";

/// What `systemd-analyze verify` says of these units, a line each; its exit status tells nothing. `path` comes before the
/// usual directories of units, and may be empty.
pub fn complaints(units: &[&str], path: &str) -> Result<Vec<String>> {
    let mut program = Program::new(PROGRAM)
        .args(["verify", "--man=no", "--generators=no"])
        .args(units)
        .env("SYSTEMD_LOG_COLOR", "0");
    if !path.is_empty() {
        // The trailing colon keeps the usual directories behind ours.
        program = program.env("SYSTEMD_UNIT_PATH", format!("{path}:"));
    }
    let output = program.output().context("checking the units")?;
    Ok(output.stderr.lines().map(str::to_owned).collect())
}

/// The version of this machine's systemd-analyze, which knows what units of that version may say; `None` without one.
pub fn version() -> Result<Option<u32>> {
    if exec::find(PROGRAM).is_none() {
        return Ok(None);
    }
    let said = Program::new(PROGRAM).arg("--version").run();
    let said = said.context("asking for the version of systemd")?;
    // `systemd 257 (257.9-1~deb13u1)`
    let version = said.split_whitespace().nth(1);
    Ok(version.and_then(|version| version.parse().ok()))
}
