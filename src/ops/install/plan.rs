//! The set checked as a whole: order, clashes with the host, what systemd makes of it. A plan stands before
//! anything outside the store is written.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::host::OwnedFile;
use crate::name::UnitName;
use crate::ops::Host;
use crate::ops::deploy::host_files::{self, Sides};
use crate::ops::deploy::{Coming, Prepared, clash, verify};
use crate::ops::install::prepare::Preparation;
use crate::ops::install::{Action, DropIn, Installed, Outcome, Request};
use crate::ops::ordering::{self, Changes};
use crate::state::{self, Record};

/// What an install will do.
pub(crate) struct Plan {
    /// The set, in the order in which it starts.
    pub(crate) preparations: Vec<Preparation>,
    /// Order drop-ins that change, for host units too.
    pub(crate) changes: Changes,
    /// What becomes of the host's files.
    pub(crate) files: host_files::Plan,
    /// What is started at once, in order.
    pub(crate) start: Vec<UnitName>,
}

impl Plan {
    /// Checks the set against itself, what is installed, and the host.
    pub(crate) fn new(
        host: &Host,
        request: &Request,
        mut preparations: Vec<Preparation>,
    ) -> Result<Self> {
        let installed = state::installed(host.root)?;
        let news = preparations.iter().filter_map(Preparation::as_new);
        let coming: Vec<Coming> = news.map(Prepared::coming).collect();
        let records = installed.iter().chain(coming.iter().map(|c| c.record));
        let graph = ordering::checked(host, records)?;
        clash::refuse(host, &coming, &[])?;
        let sides = Sides {
            going: &[],
            coming: &coming,
            staying: &installed.iter().collect::<Vec<&Record>>(),
        };
        let mut files = host_files::Plan::new(host.root, &sides)?;
        let changes = ordering::changes(host, &graph)?;
        verify::run(host, &coming, &changes)?;
        let mut owned = std::mem::take(&mut files.owned).into_iter();
        for preparation in &mut preparations {
            if let Preparation::New(prepared) = preparation {
                prepared.record.files = owned.next().unwrap_or_default();
            }
        }
        let order = graph.start_order();
        preparations.sort_by_key(|p| order.iter().position(|name| *name == p.record().name));
        let start = if request.start.now() {
            to_start(host, &preparations)?
        } else {
            Vec::new()
        };
        Ok(Self {
            preparations,
            changes,
            files,
            start,
        })
    }

    /// Whether everything is there and as it should be.
    pub(crate) fn is_nothing(&self) -> bool {
        self.start.is_empty() && self.preparations.iter().all(|p| p.as_new().is_none())
    }

    /// What the plan does, as data.
    pub(crate) fn outcome(&self, dry_run: bool) -> Outcome {
        let order = self.changes.iter().map(|(path, text)| DropIn {
            path: path.clone(),
            text: text.clone(),
        });
        let containers = self.preparations.iter().map(|p| self.installed(p, dry_run));
        Outcome {
            dry_run,
            containers: containers.collect(),
            order: order.collect(),
        }
    }

    fn installed(&self, preparation: &Preparation, dry_run: bool) -> Installed {
        let record = preparation.record();
        let new = preparation.as_new();
        let starts = self.start.contains(&record.name.service());
        let texts = |prepared: &Prepared| {
            let units = prepared.units.iter();
            let units = units.map(|(u, t)| (u.to_string(), t.clone()));
            let config = prepared.config_json().unwrap_or_default();
            units.chain([("config.json".to_owned(), config)]).collect()
        };
        Installed {
            name: record.name.clone(),
            generation: record.generation,
            image: record.image.clone(),
            digest: record.manifest_digest.clone(),
            action: match (new, starts) {
                (Some(_), false) => Action::Installed,
                (_, true) => Action::Started,
                (None, false) => Action::Unchanged,
            },
            privileges: record.privileges.clone(),
            notes: new.map(Prepared::notes).unwrap_or_default(),
            host_files: shown(&record.files),
            rendered: new.filter(|_| dry_run).map(texts).unwrap_or_default(),
        }
    }
}

/// The host files that are worth a line: not the directories on the way to others.
fn shown(files: &[OwnedFile]) -> Vec<PathBuf> {
    let on_the_way = |path: &Path| {
        files
            .iter()
            .any(|f| f.path != path && f.path.starts_with(path))
    };
    let paths = files.iter().map(|f| f.path.clone());
    paths.filter(|path| !on_the_way(path)).collect()
}

/// The services of the set that are not running yet.
fn to_start(host: &Host, preparations: &[Preparation]) -> Result<Vec<UnitName>> {
    let mut start = Vec::new();
    for preparation in preparations {
        let record = preparation.record();
        let unit = record.name.service();
        if preparation.as_new().is_some() || !host.systemd.state(&unit)?.is_up() {
            // By name, so that what undoes the start unmounts too.
            start.extend(record.mounts().cloned());
            start.push(unit);
        }
    }
    Ok(start)
}
