//! `rollback`: a container taken back to an earlier generation. It asks nobody: all that it needs lies on disk.

use anyhow::{Result, anyhow};
use schemars::JsonSchema;
use serde::Serialize;

use crate::deployment;
use crate::hint::Hinted;
use crate::name::{ContainerName, Generation};
use crate::ops::Host;
use crate::ops::changes::{Change, Subject};
use crate::ops::deploy::Incoming;
use crate::ops::deploy::diff::{self, FileDiff};
use crate::ops::deploy::switch::{Move, Switch};
use crate::ops::deploy::work::Failed;
use crate::ops::update::{Made, WentBack, described};
use crate::state::{self, Event, Lifecycle, NeedsRecover, Record, What};

/// What is to be taken back.
#[derive(Debug)]
pub struct Request {
    /// The container.
    pub name: ContainerName,
    /// To which generation; absent: the one before the live one.
    pub to: Option<Generation>,
    /// Show what would be done; nothing is changed.
    pub dry_run: bool,
    /// The time of this request: seconds since 1970-01-01 00:00 UTC.
    pub now: i64,
}

/// What became of it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Outcome {
    /// Nothing was changed: this is what would be done.
    pub dry_run: bool,
    /// The container.
    pub name: ContainerName,
    /// Its generation before.
    pub from: Generation,
    /// Its generation now.
    pub to: Generation,
    /// The image's reference.
    pub image: String,
    /// The manifest's digest.
    pub digest: String,
    /// Its units and its configuration, as far as they change.
    pub files: Vec<FileDiff>,
    /// What changes beside them.
    pub change: Made,
    /// What the operator should know.
    pub notes: Vec<String>,
}

/// Rolls back.
pub fn run(host: &Host, request: &Request) -> Result<Outcome> {
    let lock = host.write_lock("rollback")?;
    let name = &request.name;
    let records = state::installed(host.root)?;
    let from = state::require(host.root, name)?;
    let generation = target(host, &from, request.to)?;
    let to = Incoming::kept(host.root, name, generation)?;
    let moves = vec![Move {
        from: from.clone(),
        to,
    }];
    let switch = Switch::plan(host, moves, &records)?;
    let to = switch.moves[0].to.record().clone();
    let mut outcome = Outcome {
        dry_run: request.dry_run,
        name: name.clone(),
        from: from.generation,
        to: generation,
        image: to.image.clone(),
        digest: to.manifest_digest.clone(),
        files: diff::of(host.root, &switch.moves[0])?,
        change: described(&switch),
        notes: vec![format!(
            "code, configuration and host files go back; what `{name}` keeps below /var/lib stays as it is"
        )],
    };
    if request.dry_run {
        return Ok(outcome);
    }
    let mut life = Lifecycle::read(host.root, name)?;
    life.add(Event::of(What::RolledBack, &to, request.now));
    life.forgive(&to.manifest_digest);
    if from.manifest_digest != to.manifest_digest {
        // Else the next update would bring back what was just left.
        let reason = format!("rolled back to generation {generation}");
        life.condemn(&from.manifest_digest, request.now, reason);
    }
    let lives = [(name.clone(), life)];
    match switch.make(host, (None, &lock), "rollback", &lives) {
        Ok(switched) => {
            outcome.change.downtime = switched.downtime.map(|time| time.as_secs_f64());
            host.changed("rollback", &Change::RolledBack(Subject::of(&to)));
            Ok(outcome)
        }
        Err(failed) => {
            remember(host, &to, &failed, request.now);
            Err(explained(failed, &from))
        }
    }
}

/// Adds the failure to what the container has been through, unless recovery is to come: that would undo it.
fn remember(host: &Host, to: &Record, failed: &Failed, now: i64) {
    if failed.error.downcast_ref::<NeedsRecover>().is_some() {
        return;
    }
    let reason = crate::ops::chain(&failed.error);
    let event = Event {
        failed: Some(reason.lines().next().unwrap_or_default().to_owned()),
        ..Event::of(What::RolledBack, to, now)
    };
    let remembered = Lifecycle::read(host.root, &to.name).and_then(|mut life| {
        life.add(event);
        life.write(host.root, &to.name)
    });
    if let Err(error) = remembered {
        let name = &to.name;
        host.report.note(format!(
            "the failure of `{name}` is not remembered: {error:#}"
        ));
    }
}

fn explained(failed: Failed, from: &Record) -> anyhow::Error {
    let Record {
        name, generation, ..
    } = from;
    if failed.went_back {
        let what = format!("the rollback of `{name}` failed, generation {generation} runs again");
        return failed.error.context(WentBack(what));
    }
    failed.error.context(format!("rolling `{name}` back"))
}

/// The generation to go to.
fn target(host: &Host, from: &Record, to: Option<Generation>) -> Result<Generation> {
    let name = &from.name;
    let there = deployment::generations(host.root, name)?;
    let list = || {
        let numbers: Vec<String> = there.iter().map(ToString::to_string).collect();
        format!(
            "on disk are {}; `bedplate history {name}` tells of all",
            numbers.join(", ")
        )
    };
    match to {
        Some(to) if to == from.generation => {
            Err(anyhow!("generation {to} of `{name}` is live already")).hint(list())
        }
        Some(to) if !there.contains(&to) => {
            Err(anyhow!("generation {to} of `{name}` is not on disk")).hint(list())
        }
        Some(to) => Ok(to),
        None => {
            let life = Lifecycle::read(host.root, name)?;
            life.previous(host.root, (name, from.generation))?
                .ok_or_else(|| anyhow!("`{name}` has no generation before {}", from.generation))
                .hint(list())
        }
    }
}
