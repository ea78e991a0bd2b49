//! `install`: the stages, in order; nothing else.
//!
//! Request → RemoteImage → StoredImage → Checkout → Contract → Values → Rendered (`prepare`) → the set checked as
//! a whole (`plan`) → Staged → Deployment → ActiveUnit (here). Nothing outside the store is written before the plan stands.

mod fetch;
mod plan;
mod prepare;

use std::path::PathBuf;

use anyhow::{Result, anyhow};
use schemars::JsonSchema;
use serde::Serialize;

use crate::config;
use crate::contract::secret::Secret;
use crate::deployment::{self, Staged};
use crate::hint::Hinted;
use crate::image::access::Access;
use crate::image::reference::ImageRef;
use crate::name::{ContainerName, Generation};
use crate::ops::changes::{Change, Subject};
use crate::ops::deploy::{Prepared, host_files, unit_path};
use crate::ops::fetching::Pull;
use crate::ops::install::plan::Plan;
use crate::ops::install::prepare::Preparation;
use crate::ops::{Host, ordering, preflight};
use crate::runtime::Runtime;
use crate::state::{Event, Finish, Lifecycle, Transaction, What};
use crate::store::Store;

/// What is to be installed. Several images are one set: all are installed, or none.
#[derive(Debug)]
pub struct Request {
    /// The images.
    pub images: Vec<ImageRef>,
    /// The container's name, for one image; absent: the image's own.
    pub name: Option<ContainerName>,
    /// `--set`, in order.
    pub set: Vec<(String, String)>,
    /// `--values`: the file's path and its text.
    pub values: Option<(PathBuf, String)>,
    /// `--secret`, in order.
    pub secrets: Vec<(String, Secret)>,
    /// `--runtime`.
    pub runtime: Option<String>,
    /// What happens to the units.
    pub start: Start,
    /// When the images' sources are asked.
    pub pull: Pull,
    /// How they are reached.
    pub access: Access,
    /// Show what would be done; nothing outside the store is touched.
    pub dry_run: bool,
    /// The time of this request: seconds since 1970-01-01 00:00 UTC.
    pub now: i64,
}

/// What happens to the installed units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Nothing: they are there to be started.
    Never,
    /// They start at the next boot.
    AtBoot,
    /// They start at once, and at each boot.
    Now,
    /// They start at once, and not at the next boot.
    OnlyNow,
}

impl Start {
    fn at_boot(self) -> bool {
        matches!(self, Self::AtBoot | Self::Now)
    }

    fn now(self) -> bool {
        matches!(self, Self::Now | Self::OnlyNow)
    }
}

/// What became of the set.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Outcome {
    /// Nothing was changed: this is what would be done.
    pub dry_run: bool,
    /// Each image's container, in the order in which they start.
    pub containers: Vec<Installed>,
    /// Order drop-ins that are written (with their text) or removed (without).
    pub order: Vec<DropIn>,
}

/// One container of the set.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Installed {
    /// Its name.
    pub name: ContainerName,
    /// Its live generation.
    pub generation: Generation,
    /// The image's reference.
    pub image: String,
    /// The manifest's digest.
    pub digest: String,
    /// What was done.
    pub action: Action,
    /// What it asks for beyond the safe default.
    pub privileges: Vec<String>,
    /// What the operator should know.
    pub notes: Vec<String>,
    /// Files for the host.
    pub host_files: Vec<PathBuf>,
    /// Rendered texts by name: units, `config.json`; shown by a dry run.
    pub rendered: Vec<(String, String)>,
}

/// What was done to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It is new.
    Installed,
    /// It is new and running.
    Started,
    /// The same digest with the same values was there.
    Unchanged,
}

/// An order drop-in that changes.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DropIn {
    /// Its path.
    pub path: PathBuf,
    /// Its text; `None`: it is removed.
    pub text: Option<String>,
}

/// Installs the set.
pub fn run(host: &Host, request: &Request) -> Result<Outcome> {
    if request.start.now() && !host.systemd.is_running() {
        return Err(anyhow!(
            "`--now` starts units, and the systemd of a `--root` directory is not running"
        ))
        .hint("leave `--now` out: what is installed starts when that root is booted");
    }
    preflight::require_launcher(host.root)?;
    let lock = host.write_lock("install")?;
    let runtime = Runtime::choose(request.runtime.as_deref(), host.root)?;
    let config = config::load(host.root)?;
    let store = Store::open(host.root, config.store)?;
    let preparations = prepare::set(host, request, &store, &config, &runtime)?;
    let plan = Plan::new(host, request, preparations)?;
    if request.dry_run {
        return Ok(plan.outcome(true));
    }
    let outcome = plan.outcome(false);
    if plan.is_nothing() {
        return Ok(outcome);
    }
    let begun = stage(host, plan, &store).and_then(|staged| {
        let transaction = Transaction::begin(host.root, host.systemd, &lock, "install")?;
        Ok((staged, transaction))
    });
    let ((staged, rest), mut transaction) =
        begun.inspect_err(|_| deployment::abandon(host.root))?;
    match deploy(host, &mut transaction, request.start, &staged, &rest) {
        Ok(()) => {
            let committed = transaction.commit(&finish(&staged));
            committed.map_err(|error| host.failed("install", error))?;
            outcome.tell(host);
            Ok(outcome)
        }
        Err(error) => {
            host.report.step("undoing the install");
            Err(host.failed("install", transaction.roll_back(error)))
        }
    }
}

impl Outcome {
    /// Tells the journal of each container that is new.
    fn tell(&self, host: &Host) {
        let new = |container: &&Installed| container.action != Action::Unchanged;
        for container in self.containers.iter().filter(new) {
            let subject = Subject {
                name: &container.name,
                generation: container.generation,
                image: &container.image,
                digest: &container.digest,
            };
            host.changed("install", &Change::Installed(subject));
        }
    }
}

/// What is left of a plan when its generations are staged.
struct Rest {
    containers: Vec<Prepared>,
    changes: ordering::Changes,
    files: host_files::Plan,
    start: Vec<crate::name::UnitName>,
}

/// Stage 8: every new generation complete on disk, none of them live.
fn stage(host: &Host, plan: Plan, store: &Store) -> Result<(Vec<Staged>, Rest)> {
    let Plan {
        preparations,
        changes,
        files,
        start,
    } = plan;
    let (mut staged, mut containers) = (Vec::new(), Vec::new());
    for preparation in preparations {
        let Preparation::New(prepared) = preparation else {
            continue;
        };
        host.report
            .step(format!("preparing {}", prepared.record.name));
        let (prepared, rootfs) = prepared.with_rootfs(host.root, store)?;
        let content = prepared.content()?;
        let id = (&prepared.record.name, prepared.record.generation);
        staged.push(deployment::stage(host.root, id, rootfs, &content)?);
        containers.push(prepared);
    }
    let rest = Rest {
        containers,
        changes,
        files,
        start,
    };
    Ok((staged, rest))
}

/// Stages 9 and 10: live on disk, known to systemd, and running if asked.
fn deploy(
    host: &Host,
    transaction: &mut Transaction,
    start: Start,
    staged: &[Staged],
    rest: &Rest,
) -> Result<()> {
    for generation in staged {
        transaction.deploy(generation)?;
    }
    rest.files.apply(host, transaction)?;
    for container in &rest.containers {
        for (unit, text) in &container.units {
            transaction.write(&unit_path(unit), text.as_bytes(), 0o644)?;
        }
    }
    ordering::apply(transaction, &rest.changes)?;
    if start.at_boot() {
        for container in &rest.containers {
            host.report
                .step(format!("enabling {}", container.record.name));
            let units = container
                .record
                .units
                .iter()
                .filter(|unit| !unit.is_mount());
            transaction.enable(&units.cloned().collect::<Vec<_>>())?;
        }
    }
    for container in &rest.containers {
        let mut life = Lifecycle::default();
        let record = &container.record;
        life.add(Event::of(What::Installed, record, record.installed));
        transaction.live(&record.name, &life)?;
    }
    // After the links, which systemd counts among what a unit is made of.
    transaction.reload()?;
    for unit in &rest.start {
        host.report.step(format!("starting {unit}"));
        transaction.start(unit)?;
    }
    Ok(())
}

fn finish(staged: &[Staged]) -> Vec<Finish> {
    let lived = staged.iter().map(|generation| Finish::Lived {
        name: generation.name.clone(),
    });
    let current = staged.iter().map(|generation| Finish::Current {
        name: generation.name.clone(),
        generation: generation.generation,
    });
    lived.chain(current).collect()
}
