//! `repair`: what `verify` finds damaged, brought back. `metadata` and `content` mend the store, `rootfs` the
//! generations' trees, `files` what was rendered.
//!
//! From the bottom up, each on what the one before has mended. A process keeps the files that it has open: what
//! was wrong with them it keeps as well until its container is restarted.

mod content;
mod files;
mod metadata;
mod rootfs;
mod seal;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use containers_image_proxy::oci_spec::image::Digest;
use schemars::JsonSchema;
use serde::Serialize;

use crate::config::{self, Config};
use crate::deployment;
use crate::image::access::Access;
use crate::image::platform::Platform;
use crate::image::reference::ImageRef;
use crate::name::ContainerName;
use crate::ops::changes::Change;
use crate::ops::login::with_login;
use crate::ops::verify::subject::Subject;
use crate::ops::verify::survey::Survey;
use crate::ops::verify::{Fault, Thing};
use crate::ops::{Host, chain, preflight};
use crate::state;
use crate::store::Store;
use crate::store::repair::scratch::Scratch;
use crate::store::repair::source::{Source, Sources};
use crate::store::verify::defect::{Defect, Finding};

/// The longest name of which what is moved out of the way keeps all.
const LONGEST_NAME: usize = 240;

/// What is to be repaired.
#[derive(Debug)]
pub struct Request {
    /// The containers; none means all.
    pub names: Vec<ContainerName>,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
    /// How the images' sources are reached.
    pub access: Access,
}

/// What became of the faults.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct Outcome {
    /// Nothing was changed: this is what would be done.
    pub dry_run: bool,
    /// What is as it was installed again.
    pub repaired: Vec<Repaired>,
    /// What could not be repaired.
    pub left: Vec<Left>,
    /// Digests of the layers that were fetched for it.
    pub fetched: Vec<String>,
    /// What was moved out of the way, and where to.
    pub kept: Vec<Kept>,
    /// Running containers that use repaired files only once they are restarted.
    pub restart: Vec<ContainerName>,
}

/// Something that was repaired.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Repaired {
    /// What it is.
    pub thing: Thing,
    /// The object, or the path on the host.
    pub name: String,
    /// Where it came from.
    pub from: String,
}

/// Something that could not be repaired.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Left {
    /// What is wrong.
    #[serde(flatten)]
    pub fault: Fault,
    /// Why it stays so.
    pub why: String,
}

/// Something that was moved out of the way: nothing is ever deleted.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Kept {
    /// Where it lay.
    pub path: PathBuf,
    /// Where it lies.
    pub at: PathBuf,
}

/// A repair in progress.
struct Work<'a> {
    host: &'a Host<'a>,
    outcome: Outcome,
    sources: Sources,
    /// Layers that had to be fetched whole: they have files too.
    layers: Vec<Scratch>,
    /// Why something could not be repaired, by its name.
    reasons: std::collections::BTreeMap<String, String>,
    /// Containers of which a file was replaced.
    touched: BTreeSet<ContainerName>,
}

/// Repairs.
pub fn run(host: &Host, request: &Request) -> Result<Outcome> {
    preflight::require_root_user()?;
    let Some(lock) = host.lock_if_used("repair")? else {
        return nothing(host, request);
    };
    let Config {
        store,
        network,
        update,
        ..
    } = config::load(host.root)?;
    if !request.dry_run {
        let is_needed = !host.root.list(deployment::CONTAINERS)?.is_empty();
        // One that is gone altogether comes back as the rest does: file by file.
        let store = if is_needed {
            Some(Store::open(host.root, store)?)
        } else {
            Store::existing(host.root, store)?
        };
        store.map_or(Ok(()), |store| store.sweep_private())?;
    }
    let login = with_login(host.root, &update.authfile, request.access.clone());
    // Much comes back without a registry.
    let access = login.unwrap_or_else(|error| {
        host.report.note(chain(&error));
        request.access.clone()
    });
    let mut work = Work {
        host,
        outcome: Outcome {
            dry_run: request.dry_run,
            ..Outcome::default()
        },
        sources: Sources::new(access.with_network(network)),
        layers: Vec::new(),
        reasons: std::collections::BTreeMap::new(),
        touched: BTreeSet::new(),
    };
    work.metadata(&request.names)?;
    let survey = Survey::make(host, &request.names, false)?;
    if !survey.faults().is_empty() {
        let whole = work.content(&survey)?;
        work.rootfs(&survey, &whole)?;
        work.seal(&survey);
        work.files(&survey, &lock)?;
    }
    work.conclude(request, &survey)
}

/// The outcome where nothing was ever installed.
fn nothing(host: &Host, request: &Request) -> Result<Outcome> {
    for name in &request.names {
        state::require(host.root, name)?;
    }
    Ok(Outcome {
        dry_run: request.dry_run,
        ..Outcome::default()
    })
}

impl Work<'_> {
    fn dry(&self) -> bool {
        self.outcome.dry_run
    }

    fn repaired(&mut self, thing: Thing, name: impl Into<String>, from: impl Into<String>) {
        let repaired = Repaired {
            thing,
            name: name.into(),
            from: from.into(),
        };
        if !self.dry() {
            let change = Change::Repaired {
                thing,
                name: &repaired.name,
                from: &repaired.from,
            };
            self.host.changed("repair", &change);
        }
        self.outcome.repaired.push(repaired);
    }

    /// Remembers why something stays as it is.
    fn reason(&mut self, name: impl Into<String>, why: impl Into<String>) {
        self.reasons.insert(name.into(), why.into());
    }

    /// The container's image, opened again.
    fn opened(&mut self, subject: &Subject) -> Result<&mut Source> {
        let reference: ImageRef = subject.record.image.parse()?;
        let digest: Digest = subject.record.manifest_digest.parse()?;
        let platform = match subject.record.platform.as_str() {
            "" => Platform::default(),
            text => text.parse()?,
        };
        let source = self.sources.get(&reference, &digest, platform);
        source.map_err(anyhow::Error::msg)
    }

    /// Where the container's things go that must leave their place.
    fn aside(&mut self, subject: &Subject, path: &Path) -> Result<PathBuf> {
        let root = self.host.root;
        let dir = deployment::container_dir(&subject.record.name).join("replaced");
        root.create_dir_all(&dir, 0o700)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // With the number it must be a name as well.
        let mut name = name.into_owned();
        while name.len() > LONGEST_NAME {
            name.pop();
        }
        let mut number = 1;
        let mut at = dir.join(format!("{number}-{name}"));
        while root.kind(&at)?.is_some() {
            number += 1;
            at = dir.join(format!("{number}-{name}"));
        }
        self.outcome.kept.push(Kept {
            path: path.to_owned(),
            at: at.clone(),
        });
        Ok(at)
    }

    /// What is left is what a second look still finds; a dry run has only its own word.
    fn conclude(mut self, request: &Request, before: &Survey) -> Result<Outcome> {
        let faults = if self.dry() {
            let mut faults = before.faults();
            faults.retain(|f| !self.outcome.repaired.iter().any(|r| r.name == f.name));
            faults
        } else if before.faults().is_empty() {
            Vec::new()
        } else {
            Survey::make(self.host, &request.names, false)?.faults()
        };
        for fault in faults {
            let why = self.reasons.get(&fault.name).cloned();
            let why = why.unwrap_or_else(|| match fault.thing {
                Thing::Record => {
                    "uninstall the container and install it again: its data stays".into()
                }
                _ => "what it is made of could not be repaired".into(),
            });
            if !self.dry() {
                let change = Change::Left {
                    thing: fault.thing,
                    name: &fault.name,
                    why: &why,
                };
                self.host.changed("repair", &change);
            }
            self.outcome.left.push(Left { fault, why });
        }
        for name in &self.touched {
            let up = self.host.systemd.state(&name.service());
            if up.is_ok_and(|state| state.is_up()) {
                self.outcome.restart.push(name.clone());
            }
        }
        Ok(self.outcome)
    }
}

/// Whether something is there, only damaged.
fn is_there(finding: &Finding) -> bool {
    !finding.defects.contains(&Defect::Missing)
}
