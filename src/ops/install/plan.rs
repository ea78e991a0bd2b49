//! The set checked as a whole: order, clashes with the host, what systemd makes of it. A plan stands before
//! anything outside the store is written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};

use crate::contract::HostContent;
use crate::hint::Hinted;
use crate::host::OwnedFile;
use crate::name::{ContainerName, UnitName};
use crate::ops::Host;
use crate::ops::install::prepare::{Preparation, Prepared};
use crate::ops::install::{Action, DropIn, Installed, Outcome, Request, verify};
use crate::ops::ordering::{self, UNIT_DIR};
use crate::render::files::{self, RenderedFile};
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
        refuse_clashes(host, &news)?;
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
            notes: new.map(|p| p.rendered.notes.clone()).unwrap_or_default(),
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
        let unit = preparation.record().name.service();
        if preparation.as_new().is_some() || !host.systemd.state(&unit)?.is_up() {
            start.push(unit);
        }
    }
    Ok(start)
}

/// Refuses units and host files that are there already and not ours, and what two images of the set both bring.
fn refuse_clashes(host: &Host, news: &[&Prepared]) -> Result<()> {
    let mut brought: BTreeMap<&Path, &ContainerName> = BTreeMap::new();
    for prepared in news {
        refuse_units(host, prepared)?;
        let name = &prepared.record.name;
        for file in &prepared.host_files {
            refuse_file(host, name, file)?;
            let dir = file.content == HostContent::Dir;
            if let Some(other) = brought.insert(&file.path, name).filter(|_| !dir) {
                return Err(anyhow!(
                    "installing `{name}`: `{other}` of the same set brings the host file `{}` too",
                    file.path.display()
                ))
                .hint("leave one of them out");
            }
        }
    }
    refuse_nested(news, &brought)
}

/// Refuses a unit of the container's that the host has.
fn refuse_units(host: &Host, prepared: &Prepared) -> Result<()> {
    let name = &prepared.record.name;
    for (unit, _) in prepared.units() {
        let state = host.systemd.state(unit)?;
        if state.load == "masked" {
            return Err(anyhow!("installing `{name}`: the unit {unit} is masked"))
                .hint(format!("`systemctl unmask {unit}` first"));
        }
        let path = unit_path(unit);
        let there = match (state.load.as_str(), host.root.kind(&path)?) {
            (_, Some(_)) => path.display().to_string(),
            ("not-found", None) => continue,
            _ => state.fragment,
        };
        let there = if there.is_empty() {
            "this host".to_owned()
        } else {
            format!("`{there}`")
        };
        return Err(anyhow!(
            "installing `{name}`: the unit {unit} exists already ({there}) and is not bedplate's"
        ))
        .hint("choose another `--name`, or remove that unit first");
    }
    Ok(())
}

/// Refuses a host file that is there already, or that a link of the host leads where no image may put one.
fn refuse_file(host: &Host, name: &ContainerName, file: &RenderedFile) -> Result<()> {
    let path = file.path.display();
    let real = host.root.real(&file.path)?;
    if let Some(base) = real.to_str().and_then(files::forbidden) {
        return Err(anyhow!(
            "installing `{name}`: the host file `{path}` would lie in `{base}`, where no image may put one"
        ))
        .hint(format!("on this host it leads to `{}`", real.display()));
    }
    let clash = if file.content == HostContent::Dir {
        host.root.kind(&file.path)?.is_some() && host.root.leads_to_dir(&file.path)? != Some(true)
    } else {
        host.root.kind(&file.path)?.is_some()
    };
    if clash {
        return Err(anyhow!(
            "installing `{name}`: the host file `{path}` exists already and is not its own"
        ))
        .hint("move that file away first, if nothing else needs it");
    }
    Ok(())
}

/// Refuses a host file below one of another image of the set: through a link it would lie where nobody looked.
fn refuse_nested(news: &[&Prepared], brought: &BTreeMap<&Path, &ContainerName>) -> Result<()> {
    let all = news.iter().flat_map(|prepared| &prepared.host_files);
    for outer in all.filter(|file| file.content != HostContent::Dir) {
        let inner = brought
            .iter()
            .find(|(path, _)| **path != outer.path && path.starts_with(&outer.path));
        if let Some((path, name)) = inner {
            return Err(anyhow!(
                "installing `{name}`: the host file `{}` lies in `{}`, which the same set brings and is no directory",
                path.display(),
                outer.path.display()
            ))
            .hint("leave one of them out");
        }
    }
    Ok(())
}
