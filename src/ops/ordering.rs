//! The order of the installed set: the graph over records, and the drop-ins that carry it to systemd.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::config;
use crate::hint::Hinted;
use crate::name::UnitName;
use crate::ops::Host;
use crate::order::{Graph, HostRoles, Member, OrderError};
use crate::state::{Record, Transaction};

/// Where our units lie: below /etc/systemd/system, so that mask, edit and revert work on them.
pub(crate) const UNIT_DIR: &str = "/etc/systemd/system.attached";

/// The name of every order drop-in; no other file has it.
const DROP_IN: &str = "50-bedplate-order.conf";

/// Order drop-ins that are written, or removed.
pub(crate) type Changes = BTreeMap<PathBuf, Option<String>>;

/// The graph of a set that is about to be committed: refused when a requirement is missing.
pub(crate) fn checked<'r>(
    host: &Host,
    records: impl IntoIterator<Item = &'r Record>,
) -> Result<Graph> {
    build(host, records, Graph::build)
}

/// The graph of what is installed; a requirement that has gone missing since is let pass.
pub(crate) fn installed<'r>(
    host: &Host,
    records: impl IntoIterator<Item = &'r Record>,
) -> Result<Graph> {
    build(host, records, Graph::of_installed)
}

type Build = fn(&[Member], &HostRoles, &dyn Fn(&UnitName) -> bool) -> Result<Graph, OrderError>;

fn build<'r>(
    host: &Host,
    records: impl IntoIterator<Item = &'r Record>,
    build: Build,
) -> Result<Graph> {
    let members: Vec<Member> = records.into_iter().map(member).collect();
    let present = |unit: &UnitName| {
        host.systemd
            .state(unit)
            .is_ok_and(|state| state.load == "loaded")
    };
    let graph = build(&members, &config::load(host.root)?.roles, &present);
    let hint = graph.as_ref().err().map(OrderError::hint);
    match hint {
        None => Ok(graph?),
        Some(hint) => graph.context("ordering the set").hint(hint),
    }
}

fn member(record: &Record) -> Member {
    Member {
        name: record.name.clone(),
        provides: record.order.provides.clone(),
        requires: record.order.requires.clone(),
        after: record.order.after.clone(),
        before: record.order.before.clone(),
        early: record.order.early,
    }
}

/// The path of a unit's order drop-in.
pub(crate) fn drop_in_path(unit: &UnitName) -> PathBuf {
    Path::new(UNIT_DIR).join(format!("{unit}.d")).join(DROP_IN)
}

/// The drop-ins that differ from what is on the host: a new text, or `None` for one that goes.
pub(crate) fn changes(host: &Host, graph: &Graph) -> Result<Changes> {
    let mut changes = BTreeMap::new();
    for entry in host.root.list(UNIT_DIR)? {
        let path = Path::new(UNIT_DIR).join(entry).join(DROP_IN);
        if host.root.kind(&path)?.is_some() {
            changes.insert(path, None);
        }
    }
    for (unit, text) in graph.drop_ins(host.systemd.version()) {
        let path = drop_in_path(&unit);
        if host.root.read_text(&path)?.as_deref() == Some(&text) {
            changes.remove(&path);
        } else {
            changes.insert(path, Some(text));
        }
    }
    Ok(changes)
}

/// Carries the changes out.
pub(crate) fn apply(transaction: &mut Transaction, changes: &Changes) -> Result<()> {
    for (path, text) in changes {
        if let Some(text) = text {
            transaction.write(path, text.as_bytes(), 0o644)?;
        } else {
            transaction.remove(path)?;
            if let Some(dir) = path.parent() {
                // Others may have put drop-ins of their own beside ours.
                transaction.remove_dir(dir)?;
            }
        }
    }
    Ok(())
}
