//! The switch of installed containers to other generations, planned: everything that can be known to be wrong is found
//! before anything changes. `work` makes it.

use anyhow::{Result, anyhow};

use crate::deployment;
use crate::hint::Hinted;
use crate::name::UnitName;
use crate::ops::Host;
use crate::ops::deploy::host_files::{self, Sides};
use crate::ops::deploy::{Coming, Incoming, clash, running, unit_path, verify};
use crate::ops::ordering::{self, Changes};
use crate::state::Record;

/// A container's way from the generation that is live to another.
pub(crate) struct Move {
    pub(crate) from: Record,
    pub(crate) to: Incoming,
}

/// What a switch will do.
pub(crate) struct Switch {
    /// In the order in which they start.
    pub(crate) moves: Vec<Move>,
    /// Order drop-ins that change.
    pub(crate) order: Changes,
    /// What becomes of the host's files.
    pub(crate) files: host_files::Plan,
    /// Every unit that goes down, in that order.
    pub(crate) stop: Vec<UnitName>,
    /// Those of them that belong to no container of the switch: they come up again.
    pub(crate) along: Vec<UnitName>,
    /// The services that are to run: they are up, or have failed.
    pub(crate) run: Vec<UnitName>,
}

impl Switch {
    /// Plans; everything that can be known to be wrong is found here. `installed` is every container's record.
    pub(crate) fn plan(host: &Host, mut moves: Vec<Move>, installed: &[Record]) -> Result<Self> {
        let moved = |record: &&Record| moves.iter().any(|m| m.from.name == record.name);
        let staying: Vec<&Record> = installed.iter().filter(|r| !moved(r)).collect();
        let going: Vec<&Record> = moves.iter().map(|m| &m.from).collect();
        let coming: Vec<Coming> = moves.iter().map(|m| m.to.coming()).collect();
        let records = staying
            .iter()
            .copied()
            .chain(coming.iter().map(|c| c.record));
        let graph = ordering::checked(host, records)?;
        clash::refuse(host, &coming, &going)?;
        let sides = Sides {
            going: &going,
            coming: &coming,
            staying: &staying,
        };
        for record in &going {
            tell_of_edits(host, record)?;
        }
        let mut files = host_files::Plan::new(host.root, &sides)?;
        let order = ordering::changes(host, &graph)?;
        verify::run(host, &coming, &order)?;
        let mut owned = std::mem::take(&mut files.owned).into_iter();
        for one in &mut moves {
            let owned = owned.next().unwrap_or_default();
            // The record of a generation on disk says what it owned when it was live: it brings the same again.
            if let Incoming::New(prepared) = &mut one.to {
                prepared.record.files = owned;
            }
        }
        let names = graph.start_order();
        moves.sort_by_key(|m| names.iter().position(|name| *name == m.from.name));
        let ours: Vec<UnitName> = moves.iter().flat_map(|m| m.from.units.clone()).collect();
        let down = running::going_down(host.systemd, &ours)?;
        let mut stop = running::start_order(host.systemd, &down)?;
        stop.reverse();
        // What would start a service again goes before it.
        stop.sort_by_key(UnitName::is_service);
        let along = stop.iter().filter(|unit| !ours.contains(unit)).cloned();
        let mut run = Vec::new();
        for one in &moves {
            let service = one.from.name.service();
            let state = host.systemd.state(&service)?;
            if state.is_up() || state.active == "failed" {
                run.push(service);
            }
        }
        refuse_masked(host, stop.iter().chain(&run))?;
        Ok(Self {
            along: along.collect(),
            run,
            moves,
            order,
            files,
            stop,
        })
    }
}

/// Says which units somebody has edited in their place: they are written anew.
fn tell_of_edits(host: &Host, record: &Record) -> Result<()> {
    let dir = deployment::dir(&record.name, record.generation).join("units");
    for unit in &record.units {
        let (made, is) = (dir.join(unit.as_str()), unit_path(unit));
        let (made, is) = (host.root.read(made)?, host.root.read(is)?);
        if is.is_some() && made.is_some() && made != is {
            host.report.note(format!(
                "{unit} was edited in its place, and that goes: changes in a drop-in stay (`systemctl edit {unit}`)"
            ));
        }
    }
    Ok(())
}

impl Move {
    /// Whether a unit is there before and after.
    pub(crate) fn keeps(&self, unit: &UnitName) -> bool {
        self.to.record().units.contains(unit)
    }

    /// The units that start at boot by other links than before, or are new.
    pub(crate) fn changes_links(&self, host: &Host) -> Result<Vec<UnitName>> {
        let mut changed = Vec::new();
        let dir = deployment::dir(&self.from.name, self.from.generation);
        for (unit, text) in self.to.coming().units {
            if unit.is_mount() {
                continue;
            }
            let before = host.root.read_text(dir.join(format!("units/{unit}")))?;
            if before.as_deref().map(install_section) != Some(install_section(text)) {
                changed.push(unit.clone());
            }
        }
        Ok(changed)
    }
}

/// The lines of a unit's `[Install]` section.
fn install_section(text: &str) -> Vec<&str> {
    let lines = text.lines().skip_while(|line| line.trim() != "[Install]");
    lines.filter(|line| !line.trim().is_empty()).collect()
}

/// Refuses to stop what could not be started again.
fn refuse_masked<'u>(host: &Host, units: impl Iterator<Item = &'u UnitName>) -> Result<()> {
    for unit in units {
        if host.systemd.state(unit)?.load == "masked" {
            return Err(anyhow!(
                "{unit} would be stopped, and is masked: it could not be started again"
            ))
            .hint(format!(
                "`systemctl unmask {unit}` first, or `systemctl stop` it"
            ));
        }
    }
    Ok(())
}
