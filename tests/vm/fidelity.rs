//! What stories have shown of a container's likeness to a native service, for `docs/fidelity.md`.
//!
//! A result is a small file, `target/vm/fidelity/RUNTIME-SUITE/ROW.CHECK`, written when the check has passed; it is
//! empty, or says what is there instead. `make fidelity` makes the page of them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::guest::Suite;
use crate::host;

#[expect(
    dead_code,
    reason = "the page has all of it, tests/fidelity.rs makes that"
)]
mod table;

/// The checks (`ROW.CHECK`, as in `fidelity/table.rs`) have passed with this runtime in a guest of this suite.
pub(crate) fn shown(suite: Suite, runtime: &str, checks: &[&str]) -> Result<()> {
    checks
        .iter()
        .try_for_each(|check| record(suite, runtime, check, ""))
}

/// The check has passed, and what it has shown is less: `instead` is a sentence for the operator, without a full stop,
/// which names the systemd or the runtime that it is true of.
#[allow(dead_code, reason = "stories of what systemd 252 lacks call it")]
pub(crate) fn degraded(suite: Suite, runtime: &str, check: &str, instead: &str) -> Result<()> {
    ensure!(
        !instead.is_empty() && !instead.contains('\n'),
        "`{check}`: a limit is one line"
    );
    record(suite, runtime, check, instead)
}

fn record(suite: Suite, runtime: &str, check: &str, instead: &str) -> Result<()> {
    let known = check.split_once('.').is_some_and(|(row, name)| {
        let mut rows = table::ROWS.iter().filter(|known| known.id == row);
        rows.any(|row| row.checks.iter().any(|(known, _)| *known == name))
    });
    ensure!(known, "fidelity/table.rs has no check `{check}`");
    let runtime = Path::new(runtime).file_name().unwrap_or_default();
    let place = format!("{}-{}", runtime.display(), suite.name());
    let directory = host::target().join("vm/fidelity").join(place);
    let file = directory.join(check);
    // Two stories may show the same.
    let new = directory.join(format!(".{check}.{:?}", std::thread::current().id()));
    fs::create_dir_all(&directory)
        .and_then(|()| fs::write(&new, instead))
        .and_then(|()| fs::rename(&new, &file))
        .with_context(|| format!("writing `{}`", file.display()))
}
