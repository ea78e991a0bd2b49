//! The set checked as a whole: order, clashes with the host, what systemd makes of it. A plan stands before
//! anything outside the store is written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::host::OwnedFile;
use crate::name::UnitName;
use crate::ops::Host;
use crate::ops::install::prepare::{Preparation, Prepared};
use crate::ops::install::{Action, DropIn, Installed, Outcome, Request, clash, verify};
use crate::ops::ordering::{self, UNIT_DIR};
use crate::state;

/// Order drop-ins that are written, or removed.
pub(super) type Changes = BTreeMap<PathBuf, Option<String>>;

/// What an install will do.
pub(super) struct Plan {
    /// The set, in the order in which it starts.
    pub(super) preparations: Vec<Preparation>,
    /// Order drop-ins that change, for host units too.
    pub(super) changes: Changes,
    /// What is started at once, in order.
    pub(super) start: Vec<UnitName>,
}

/// Where a unit of ours lies.
pub(super) fn unit_path(unit: &UnitName) -> PathBuf {
    Path::new(UNIT_DIR).join(unit.as_str())
}

impl Plan {
    /// Checks the set against itself, what is installed, and the host.
    pub(super) fn new(
        host: &Host,
        request: &Request,
        mut preparations: Vec<Preparation>,
    ) -> Result<Self> {
        let installed = state::installed(host.root)?;
        let news: Vec<&Prepared> = preparations
            .iter()
            .filter_map(Preparation::as_new)
            .collect();
        let graph =
            ordering::checked(host, installed.iter().chain(news.iter().map(|p| &p.record)))?;
        clash::refuse(host, &news)?;
        let changes = ordering::changes(host, &graph)?;
        verify::run(host, &news, &changes)?;
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
            start,
        })
    }

    /// Whether everything is there and as it should be.
    pub(super) fn is_nothing(&self) -> bool {
        self.start.is_empty() && self.preparations.iter().all(|p| p.as_new().is_none())
    }

    /// What the plan does, as data.
    pub(super) fn outcome(&self, dry_run: bool) -> Outcome {
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
            let units = prepared.units().map(|(u, t)| (u.to_string(), t.to_owned()));
            let config = prepared.rendered.config_json().unwrap_or_default();
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
