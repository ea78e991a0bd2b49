//! What is installed, and the transaction that changes it.
//!
//! ```text
//! /var/lib/bedplate/lock                    the writers' lock
//!                   journal/transaction     the running transaction, if any
//!                   staging/                generations being prepared; nothing refers to them
//!                   containers/NAME/current the live generation, pointed last
//!                   containers/NAME/lifecycle.toml  what it has been through
//! ```
//! A container is installed when its `current` points at a generation whose record can be read.

mod committed;
mod journal;
mod lifecycle;
mod lock;
mod record;
mod step;
mod transaction;

use anyhow::{Result, anyhow};

use crate::deployment;
use crate::hint::{self, Hinted};
use crate::name::{ContainerName, Generation, UnitName};
use crate::root::Root;

pub use journal::{Finish, Recovered, Unfinished};
pub use lifecycle::{Bad, Checked, Event, Lifecycle, What};
pub use lock::Lock;
pub use record::{FORMAT, Order, Record};
pub use transaction::{NeedsRecover, Transaction};

/// Where everything that bedplate keeps lies.
pub const DIR: &str = "/var/lib/bedplate";
const LOCK: &str = "/var/lib/bedplate/lock";
const JOURNAL: &str = "/var/lib/bedplate/journal";
const TRANSACTION: &str = "/var/lib/bedplate/journal/transaction";

/// The records of every installed container, by name.
pub fn installed(root: &Root) -> Result<Vec<Record>> {
    read_all(root, &|_, error| Err(error))
}

/// As [`installed`]; a record of `going` that cannot be read is made up from the units of its generation, so that a
/// damaged container can be uninstalled. `told` hears of each.
pub fn installed_or_salvaged(
    root: &Root,
    going: &[ContainerName],
    told: &dyn Fn(String),
) -> Result<Vec<Record>> {
    read_all(root, &|name, error| {
        // A newer bedplate knows more of it: it must be the one to take it away.
        if !going.contains(name) || is_newer(root, name)? {
            return Err(error);
        }
        match salvage(root, name)? {
            None => Err(error),
            Some(record) => {
                told(format!(
                    "{error:#}; the files that `{name}` put on the host stay"
                ));
                Ok(record)
            }
        }
    })
}

/// As [`installed`], for those who only look: one damaged record does not hide the others. `told` hears of each.
pub fn visible(root: &Root, told: &dyn Fn(String)) -> Result<Vec<Record>> {
    read_all(root, &|name, error| match salvage(root, name)? {
        None => Err(error),
        Some(record) => {
            let remedies = hint::hints(&error).into_iter().map(|hint| hint.0);
            let text: Vec<String> = std::iter::once(format!("{error:#}"))
                .chain(remedies)
                .collect();
            told(text.join("; "));
            Ok(record)
        }
    })
}

type OnError<'a> = &'a dyn Fn(&ContainerName, anyhow::Error) -> Result<Record>;

fn read_all(root: &Root, on_error: OnError) -> Result<Vec<Record>> {
    loop {
        let live = committed::live(root)?;
        let read = live.iter().map(|(name, generation)| {
            record(root, name, *generation).or_else(|error| on_error(name, error))
        });
        let records = read.collect::<Result<Vec<_>>>();
        // Readers take no lock: what was live when they began may have gone since.
        if committed::live(root)? == live {
            return records;
        }
    }
}

/// The record of a generation, live or not.
pub fn record(root: &Root, name: &ContainerName, generation: Generation) -> Result<Record> {
    let path = deployment::dir(name, generation).join("record.toml");
    let Some(text) = root.read_text(&path)? else {
        return Err(anyhow!("reading `{}`: it is missing", path.display())).hint(format!(
            "`bedplate uninstall {name}` removes what is left; its data is not touched by that"
        ));
    };
    Record::parse(&path.display().to_string(), &text)
}

/// Whether the container's record was written by a newer bedplate.
fn is_newer(root: &Root, name: &ContainerName) -> Result<bool> {
    let Some(generation) = deployment::current(root, name)? else {
        return Ok(false);
    };
    let path = deployment::dir(name, generation).join("record.toml");
    let record = root.read(path)?.unwrap_or_default();
    Ok(Record::is_newer(&String::from_utf8_lossy(&record)))
}

/// A record from what lies beside it; `None` when there is too little.
fn salvage(root: &Root, name: &ContainerName) -> Result<Option<Record>> {
    let Some(generation) = deployment::current(root, name)? else {
        return Ok(None);
    };
    let dir = deployment::dir(name, generation);
    let units: Vec<UnitName> = root
        .list(dir.join("units"))?
        .iter()
        .filter_map(|unit| unit.to_str()?.parse().ok())
        .collect();
    Ok(Some(Record::salvaged(name.clone(), generation, units)))
}

/// The record of a container that must be installed.
pub fn require(root: &Root, name: &ContainerName) -> Result<Record> {
    find(root, name)?
        .ok_or_else(|| anyhow!("`{name}` is not installed"))
        .hint("`bedplate list` shows what is")
}

/// The record of an installed container; `None` when it is not installed.
pub fn find(root: &Root, name: &ContainerName) -> Result<Option<Record>> {
    loop {
        let live = committed::live(root)?.get(name).copied();
        let record = live.map(|generation| record(root, name, generation));
        if committed::live(root)?.get(name).copied() == live {
            return record.transpose();
        }
    }
}
