//! What is installed, and the transaction that changes it.
//!
//! ```text
//! /var/lib/bedplate/lock                    the writers' lock
//!                   journal/transaction     the running transaction, if any
//!                   staging/                generations being prepared; nothing refers to them
//!                   containers/NAME/current the live generation, pointed last
//! ```
//! A container is installed when its `current` points at a generation whose record can be read.

mod journal;
mod lock;
mod record;
mod step;

use anyhow::{Result, anyhow};

use crate::deployment;
use crate::hint::Hinted;
use crate::name::ContainerName;
use crate::root::Root;

pub use journal::{Finish, NeedsRecover, Recovered, Transaction, Unfinished};
pub use lock::Lock;
pub use record::{FORMAT, Order, Record};

/// Where everything that bedplate keeps lies.
pub const DIR: &str = "/var/lib/bedplate";
const LOCK: &str = "/var/lib/bedplate/lock";
const JOURNAL: &str = "/var/lib/bedplate/journal";
const TRANSACTION: &str = "/var/lib/bedplate/journal/transaction";

/// The records of every installed container, by name.
pub fn installed(root: &Root) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for entry in root.list(deployment::CONTAINERS)? {
        // A name that is none is not ours to judge here.
        let Some(Ok(name)) = entry.to_str().map(str::parse::<ContainerName>) else {
            continue;
        };
        records.extend(find(root, &name)?);
    }
    Ok(records)
}

/// The record of an installed container; `None` when it is not installed.
pub fn find(root: &Root, name: &ContainerName) -> Result<Option<Record>> {
    let Some(generation) = deployment::current(root, name)? else {
        return Ok(None);
    };
    let path = deployment::dir(name, generation).join("record.toml");
    let Some(text) = root.read_text(&path)? else {
        return Err(anyhow!("reading `{}`: it is missing", path.display())).hint(format!(
            "`bedplate uninstall {name}` removes what is left; its data is not touched by that"
        ));
    };
    Record::parse(&path.display().to_string(), &text).map(Some)
}
