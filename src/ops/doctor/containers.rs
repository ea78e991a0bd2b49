//! Whether the installed containers are as they were left: records, units, host files, order, and what systemd says.

use anyhow::Result;

use crate::deployment;
use crate::ops::Host;
use crate::ops::doctor::{Area, Check};
use crate::ops::verify::Fault;
use crate::ops::verify::survey::Survey;
use crate::runtime::Runtime;
use crate::state::Record;

/// The checks, and what is not as the records say.
pub(super) fn checks(host: &Host) -> Result<(Vec<Check>, Vec<Fault>)> {
    let survey = Survey::outside(host)?;
    let mut checks = Vec::new();
    for subject in survey.subjects.iter().filter(|subject| subject.live) {
        checks.extend(container(host, &subject.record));
    }
    let notes = survey.notes.iter();
    checks.extend(notes.map(|note| Check::note(Area::Containers, "operator's changes", note)));
    Ok((checks, survey.faults()))
}

fn container(host: &Host, record: &Record) -> Vec<Check> {
    let name = record.name.as_str();
    let mut checks = Vec::new();
    if let Err(error) = Runtime::choose(record.runtime.to_str(), host.root) {
        checks.push(Check::of(Area::Containers, name, Err(error)));
    }
    let rootfs = deployment::dir(&record.name, record.generation).join("rootfs");
    if let Ok(None) = host.root.kind(&rootfs) {
        let found = format!("its rootfs `{}` is gone", rootfs.display());
        let repair = format!("`bedplate repair {name}` brings it back");
        checks.push(Check::broken(Area::Containers, name, found).remedy(repair));
    }
    if host.systemd.is_running() {
        checks.extend(units(host, record));
    }
    if checks.is_empty() {
        let found = format!("generation {} of {}", record.generation, record.image);
        checks.push(Check::ok(Area::Containers, name, found));
    }
    checks
}

/// What systemd says of its units.
fn units(host: &Host, record: &Record) -> Vec<Check> {
    let name = record.name.as_str();
    let mut checks = Vec::new();
    for unit in &record.units {
        let state = match host.systemd.state(unit) {
            Ok(state) => state,
            Err(error) => {
                checks.push(Check::of(Area::Containers, name, Err(error)));
                continue;
            }
        };
        let logs = format!("`bedplate logs {name}` shows what it said");
        if !matches!(state.load.as_str(), "loaded" | "masked") {
            let found = format!("systemd has {unit} as `{}`", state.load);
            let reload = format!("`systemctl daemon-reload`, then `systemctl status {unit}`");
            checks.push(Check::broken(Area::Containers, name, found).remedy(reload));
        } else if state.active == "failed" {
            let found = format!("{unit} has failed: `{}`", state.result);
            checks.push(Check::broken(Area::Containers, name, found).remedy(logs));
        } else if state.sub == "auto-restart" {
            let times = state.restarts;
            let found = format!("{unit} ends and is started again, {times} times so far");
            checks.push(Check::broken(Area::Containers, name, found).remedy(logs));
        }
    }
    checks
}
