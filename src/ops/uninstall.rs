//! `uninstall`: the reverse of an install, in one transaction. Data below /var/lib stays.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use schemars::JsonSchema;
use serde::Serialize;

use crate::deployment;
use crate::hint::Hinted;
use crate::host::processes::{self, Process};
use crate::name::ContainerName;
use crate::ops::changes::{Change, Subject};
use crate::ops::deploy::host_files::{self, Sides};
use crate::ops::ordering::UNIT_DIR;
use crate::ops::{Host, ordering, stopping};
use crate::state::{self, Finish, Lock, Record, Transaction};
use crate::systemd::links;

/// What is to be uninstalled.
#[derive(Debug)]
pub struct Request {
    /// The containers.
    pub names: Vec<ContainerName>,
    /// Also when others require them, or what they have started still runs.
    pub force: bool,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
}

/// What was uninstalled.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Outcome {
    /// The containers, in the order in which they were stopped.
    pub uninstalled: Vec<ContainerName>,
    /// Nothing was changed: this is what would be done.
    pub dry_run: bool,
    /// Units that were stopped, the ones that require them included.
    pub stopped: Vec<String>,
    /// Host files that stay, because somebody changed them.
    pub kept: Vec<PathBuf>,
    /// Processes that outlived the stop: a shim, say, with what it runs.
    pub left_running: Vec<Process>,
}

/// Uninstalls containers.
pub fn run(host: &Host, request: &Request) -> Result<Outcome> {
    let lock = host.write_lock("uninstall")?;
    let told = |text| host.report.note(text);
    let records = state::installed_or_salvaged(host.root, &request.names, &told)?;
    let going: BTreeSet<&ContainerName> = request.names.iter().collect();
    for name in &going {
        if !records.iter().any(|r| r.name == **name) {
            return Err(anyhow!("`{name}` is not installed")).hint("`bedplate list` shows what is");
        }
    }
    let graph = ordering::installed(host, &records)?;
    if !request.force {
        refuse_if_required(&graph, &going)?;
    }
    let mut order = graph.start_order();
    order.reverse();
    let leaving: Vec<&Record> = order
        .iter()
        .filter(|name| going.contains(name))
        .filter_map(|name| records.iter().find(|r| r.name == *name))
        .collect();
    if !request.force && !request.dry_run {
        refuse_if_outlived(host, &leaving)?;
    }
    // What stays may now miss a requirement; with `--force` that is what was asked for.
    let staying: Vec<&Record> = records
        .iter()
        .filter(|r| !going.contains(&r.name))
        .collect();
    let order = ordering::installed(host, staying.iter().copied())?;
    let changes = ordering::changes(host, &order)?;
    let sides = Sides {
        going: &leaving,
        coming: &[],
        staying: &staying,
    };
    let files = host_files::Plan::new(host.root, &sides)?;
    let mut outcome = Outcome {
        uninstalled: leaving.iter().map(|r| r.name.clone()).collect(),
        dry_run: request.dry_run,
        stopped: Vec::new(),
        kept: files.kept.iter().map(|kept| kept.path.clone()).collect(),
        left_running: Vec::new(),
    };
    for record in &leaving {
        for unit in &record.units {
            if host.systemd.state(unit)?.is_up() {
                outcome.stopped.push(unit.to_string());
            }
        }
    }
    if request.dry_run {
        outcome.left_running = outliving(host, &leaving)?;
        return Ok(outcome);
    }
    outcome.left_running = make(host, &lock, &leaving, (&files, &changes))
        .map_err(|error| host.failed("uninstall", error))?;
    tell(host, &leaving);
    Ok(outcome)
}

/// Takes them away, in one transaction, and finds who still runs from them.
fn make(
    host: &Host,
    lock: &Lock,
    leaving: &[&Record],
    (files, changes): (&host_files::Plan, &ordering::Changes),
) -> Result<Vec<Process>> {
    let mut transaction = Transaction::begin(host.root, host.systemd, lock, "uninstall")?;
    let done = (|| {
        for record in leaving {
            host.report.step(format!("removing {}", record.name));
            remove(host, &mut transaction, record)?;
        }
        files.apply(host, &mut transaction)?;
        ordering::apply(&mut transaction, changes)?;
        transaction.remove_dir(Path::new(UNIT_DIR))?;
        transaction.reload()?;
        left_running(host, leaving)
    })();
    match done {
        Ok(left) => transaction.commit(&forget(leaving)).map(|()| left),
        Err(error) => Err(transaction.roll_back(error)),
    }
}

/// The processes of stopped containers that go on.
fn left_running(host: &Host, stopped: &[&Record]) -> Result<Vec<Process>> {
    if !host.systemd.is_running() {
        return Ok(Vec::new());
    }
    let mut dirs = Vec::new();
    for record in stopped {
        let generations = deployment::generations(host.root, &record.name)?;
        dirs.extend(
            generations
                .into_iter()
                .map(|generation| deployment::dir(&record.name, generation)),
        );
    }
    let mut left = processes::users(host.root, &dirs)
        .context("looking for what still runs")?
        .concat();
    left.sort_by_key(|process| process.pid);
    left.dedup();
    Ok(left)
}

/// Tells the journal of each container that is gone.
fn tell(host: &Host, gone: &[&Record]) {
    for record in gone {
        let subject = Subject::of(record);
        host.changed("uninstall", &Change::Uninstalled(subject));
    }
}

fn forget(leaving: &[&Record]) -> Vec<Finish> {
    leaving
        .iter()
        .map(|record| Finish::Forget {
            name: record.name.clone(),
        })
        .collect()
}

fn refuse_if_required(graph: &crate::order::Graph, going: &BTreeSet<&ContainerName>) -> Result<()> {
    for name in going {
        let dependents: Vec<String> = graph
            .dependents(name)
            .into_iter()
            .filter(|d| !going.contains(d))
            .map(|d| format!("`{d}`"))
            .collect();
        if !dependents.is_empty() {
            let result: Result<()> =
                (|| bail!("`{name}` is required by {}", dependents.join(", ")))();
            return result.hint("uninstall them in the same call, or give `--force`");
        }
    }
    Ok(())
}

/// What a stop does not end would go on without its files, and nobody could find it again.
fn refuse_if_outlived(host: &Host, leaving: &[&Record]) -> Result<()> {
    for record in leaving {
        let left = outliving(host, &[record])?;
        if !left.is_empty() {
            let left: Vec<String> = left.iter().map(Process::to_string).collect();
            let (name, left) = (&record.name, left.join(", "));
            return Err(anyhow!(
                "a stop of `{name}` does not end what it has started: {left}"
            ))
            .hint("end that first, or give `--force`: it then goes on without its files");
        }
    }
    Ok(())
}

/// The processes that a stop would not end.
fn outliving(host: &Host, leaving: &[&Record]) -> Result<Vec<Process>> {
    let mut found = Vec::new();
    for record in leaving {
        let state = host.systemd.state(&record.name.service())?;
        if state.kill_mode == "process" {
            let mut left = left_running(host, &[record])?;
            left.retain(|process| process.pid != state.main_pid);
            found.append(&mut left);
        }
    }
    Ok(found)
}

/// Stops a container and takes its units away.
fn remove(host: &Host, transaction: &mut Transaction, record: &Record) -> Result<()> {
    for unit in record.units_to_stop() {
        let state = host.systemd.state(unit)?;
        if state.is_up() {
            if let Some(advice) = stopping::advice(host, &state)? {
                host.report.note(advice);
            }
            transaction.stop(unit)?;
        }
    }
    // What nobody enabled must not be enabled by an undo.
    let mut enabled = record.units.clone();
    enabled.retain(|unit| {
        let state = host.systemd.state(unit).unwrap_or_default();
        !matches!(state.file.as_str(), "disabled" | "static")
    });
    if !enabled.is_empty() {
        transaction.disable(&enabled)?;
    }
    // What disabling leaves: the links of a masked unit, which would want it again by that name.
    for unit in &record.units {
        for link in links::wanting(host.root, unit)? {
            transaction.remove(&link)?;
        }
    }
    for unit in &record.units {
        transaction.remove(&Path::new(UNIT_DIR).join(unit.as_str()))?;
    }
    Ok(())
}
