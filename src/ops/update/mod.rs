//! `update`: installed containers brought to what their references name now, or to other values; several are one
//! change, made whole or not at all.
//!
//! For each container: what its reference names (`find`), whether that is for it (`decide`), the next generation
//! (`prepare`); then the change of all of them, shown or made (`change`).

mod change;
mod decide;
mod find;
mod prepare;
pub mod schedule;

use std::path::PathBuf;

use anyhow::{Result, bail};
use schemars::JsonSchema;
use serde::Serialize;

use crate::config::{self, Config};
use crate::contract::secret::Secret;
use crate::image::access::Access;
use crate::image::reference::ImageRef;
use crate::name::{ContainerName, Generation, UnitName};
use crate::ops::deploy::diff::FileDiff;
use crate::ops::deploy::host_files::{FileChange, Kept};
use crate::ops::install::DropIn;
use crate::ops::{Host, ordering, preflight};
use crate::state::{self, Lock, NeedsRecover, Record};
use crate::store::Store;

pub(crate) use crate::ops::update::change::described;

/// What is to be updated, and how.
#[derive(Debug)]
pub struct Request {
    /// The containers; none: all that are not held.
    pub names: Vec<ContainerName>,
    /// `--set`, in order.
    pub set: Vec<(String, String)>,
    /// `--values`: the file's path and its text.
    pub values: Option<(PathBuf, String)>,
    /// `--secret`, in order.
    pub secrets: Vec<(String, Secret)>,
    /// `--unset`: values that follow the image's defaults again.
    pub unset: Vec<String>,
    /// Another image for the one container that is named.
    pub rebase: Option<ImageRef>,
    /// How far it goes.
    pub mode: Mode,
    /// Each container by itself: one that fails keeps no other from it.
    pub each: bool,
    /// Also to an image that failed before.
    pub retry: bool,
    /// For `bedplate-update.service`: only what is due, and what came of it is remembered.
    pub automatic: bool,
    /// How the images' sources are reached.
    pub access: Access,
    /// The time of this request: seconds since 1970-01-01 00:00 UTC.
    pub now: i64,
}

/// How far an update goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It is made.
    Apply,
    /// All that would change is shown.
    DryRun,
    /// Only whether there is something newer is asked.
    Check,
    /// The images are brought into the store, for a later update.
    Download,
}

/// What became of it.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct Outcome {
    /// Nothing was changed: this is what would be done.
    pub dry_run: bool,
    /// Each container that was looked at.
    pub containers: Vec<Row>,
    /// The changes that were made, or would be: one for all containers, with `--each` one for each.
    pub changes: Vec<Made>,
}

/// What became of a container.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Row {
    /// Its name.
    pub name: ContainerName,
    /// What was done.
    pub action: Action,
    /// Its generation before.
    pub generation: Generation,
    /// The image's reference; the new one if it changes.
    pub image: String,
    /// The digest of the manifest that it runs, or ran before.
    pub digest: String,
    /// The generation that was made, or would be.
    pub new_generation: Option<Generation>,
    /// The digest of the manifest that its reference names now.
    pub new_digest: Option<String>,
    /// Its units and its configuration, as far as they change.
    pub files: Vec<FileDiff>,
    /// What it may do beyond the safe default and could not before.
    pub new_privileges: Vec<String>,
    /// What it could do and cannot any more.
    pub dropped_privileges: Vec<String>,
    /// What the operator should know.
    pub notes: Vec<String>,
}

/// What was done about a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It runs the new generation, or would run it at its next start.
    Updated,
    /// There is nothing newer.
    UpToDate,
    /// There is something newer.
    Available,
    /// The newer image is in the store.
    Downloaded,
    /// The operator holds it as it is.
    Held,
    /// What is newer failed before.
    Bad,
    /// It is not its time yet.
    NotDue,
    /// The update failed; the generation before is live.
    Failed,
}

/// A change of one or more containers.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct Made {
    /// The containers, in the order in which they start.
    pub containers: Vec<ContainerName>,
    /// Units of others that are stopped and started with them.
    pub taken_along: Vec<UnitName>,
    /// Host files that are written or removed.
    pub host_files: Vec<FileChange>,
    /// Host files that stay as the operator made them.
    pub kept: Vec<Kept>,
    /// Order drop-ins that are written (with their text) or removed (without).
    pub order: Vec<DropIn>,
    /// Seconds from the first stop until all was ready again; none when nothing ran, or nothing was changed.
    pub downtime: Option<f64>,
    /// Why it was not made: with `--each` it keeps no other from it.
    pub error: Option<String>,
    /// Services had been stopped and run again as before.
    pub went_back: bool,
}

/// An update that failed when services had been stopped already: the generations before are live again and run.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WentBack(pub(crate) String);

/// What all containers of an update share.
struct Work<'a> {
    host: &'a Host<'a>,
    request: &'a Request,
    /// All containers that are meant.
    named: Vec<ContainerName>,
    config: Config,
    store: Store,
    access: Access,
    /// None for a mere look.
    lock: Option<Lock>,
}

/// Updates.
pub fn run(host: &Host, request: &Request) -> Result<Outcome> {
    let writes = request.mode != Mode::Check;
    if writes {
        preflight::require_launcher(host.root)?;
    }
    let lock = writes.then(|| host.write_lock("update")).transpose()?;
    let records = state::installed(host.root)?;
    let named = named(host, &records, request)?;
    let config = config::load(host.root)?;
    let mut outcome = Outcome {
        dry_run: request.mode == Mode::DryRun,
        ..Outcome::default()
    };
    // Nothing is installed: a mere look must not make the store either.
    if named.is_empty() {
        return Ok(outcome);
    }
    let store = Store::open(host.root, config.store)?;
    let work = Work {
        host,
        access: request.access.with_network(config.network),
        request,
        named,
        config,
        store,
        lock,
    };
    // One by one in the order in which they start: what others wait for is good before they follow.
    let graph = ordering::installed(host, &records)?;
    let mut sets: Vec<Vec<ContainerName>> = vec![graph.start_order()];
    sets[0].retain(|name| work.named.contains(name));
    if request.each || request.automatic {
        sets = sets.concat().into_iter().map(|name| vec![name]).collect();
    }
    for set in sets {
        match work.set(&set, &mut outcome) {
            Ok(()) => {}
            // What is neither done nor undone has to be recovered before anything else is begun.
            Err(error) if error.downcast_ref::<NeedsRecover>().is_some() => return Err(error),
            Err(error) if request.each || request.automatic => {
                work.note(&set, &error, &mut outcome)?;
            }
            Err(error) => return Err(error),
        }
    }
    if request.automatic && request.mode == Mode::Apply {
        work.remember(&outcome)?;
    }
    Ok(outcome)
}

/// The containers that are meant.
fn named(host: &Host, records: &[Record], request: &Request) -> Result<Vec<ContainerName>> {
    for name in &request.names {
        state::require(host.root, name)?;
    }
    if request.rebase.is_some() && request.names.len() != 1 {
        bail!(
            "`--rebase` is for one container; {} are named",
            request.names.len()
        );
    }
    if request.names.is_empty() {
        return Ok(records.iter().map(|record| record.name.clone()).collect());
    }
    Ok(request.names.clone())
}
