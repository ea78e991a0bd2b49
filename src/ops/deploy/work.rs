//! A switch made, in one transaction: everything that can fail before is done before a service stops, and what does not
//! come up well goes back.

use std::time::{Duration, Instant};

use anyhow::{Error, Result};

use crate::deployment::{self, Staged};
use crate::host::processes;
use crate::name::{ContainerName, UnitName};
use crate::ops::deploy::switch::{Move, Switch};
use crate::ops::deploy::{Incoming, health, host_files, running, unit_path};
use crate::ops::ordering::{self, Changes};
use crate::ops::{Host, stopping};
use crate::state::{Finish, Lifecycle, Lock, NeedsRecover, Record, Transaction};
use crate::store::Store;

/// What a switch has done.
pub(crate) struct Switched {
    /// From the first stop until everything was ready again; none when nothing was up.
    pub(crate) downtime: Option<Duration>,
}

/// A switch that was not made; the host is as before unless the error is a [`NeedsRecover`].
pub(crate) struct Failed {
    pub(crate) error: Error,
    /// Services had been stopped or started: what is running now is what ran before.
    pub(crate) went_back: bool,
    /// The container that is to blame, where one is.
    pub(crate) culprit: Option<ContainerName>,
}

impl Switch {
    /// Makes the switch. `lives` is what the containers have been through when it is made.
    pub(crate) fn make(
        self,
        host: &Host,
        (store, lock): (Option<&Store>, &Lock),
        verb: &str,
        lives: &[(ContainerName, Lifecycle)],
    ) -> Result<Switched, Failed> {
        let early = |error| {
            deployment::abandon(host.root);
            Failed {
                error,
                went_back: false,
                culprit: None,
            }
        };
        let (moves, staged) = staged(host, self.moves, store).map_err(early)?;
        let work = Work {
            host,
            moves,
            stop: self.stop,
            along: self.along,
            run: self.run,
            order: self.order,
            files: self.files,
        };
        let mut transaction =
            Transaction::begin(host.root, host.systemd, lock, verb).map_err(early)?;
        let mut point = Point::default();
        match work.all(&mut transaction, &staged, lives, &mut point) {
            Ok(()) => {
                let committed = transaction.commit(&work.finish());
                committed.map_err(|error| Failed {
                    error: host.failed(verb, error),
                    went_back: false,
                    culprit: None,
                })?;
                Ok(Switched {
                    downtime: point.downtime,
                })
            }
            Err(error) => {
                host.report.step(format!("undoing the {verb}"));
                let error = host.failed(verb, transaction.roll_back(error));
                Err(work.failed(error, point))
            }
        }
    }
}

/// How far a switch has come.
#[derive(Default)]
struct Point {
    stopped: Option<Instant>,
    /// A service of another generation was started.
    started: bool,
    downtime: Option<Duration>,
    culprit: Option<ContainerName>,
}

/// A switch under way.
struct Work<'a> {
    host: &'a Host<'a>,
    moves: Vec<Move>,
    stop: Vec<UnitName>,
    along: Vec<UnitName>,
    run: Vec<UnitName>,
    order: Changes,
    files: host_files::Plan,
}

/// Puts every new generation together, complete on disk, none of them live.
fn staged(
    host: &Host,
    moves: Vec<Move>,
    store: Option<&Store>,
) -> Result<(Vec<Move>, Vec<Staged>)> {
    let (mut ready, mut staged) = (Vec::new(), Vec::new());
    for Move { from, to } in moves {
        let to = match (to, store) {
            (Incoming::New(prepared), Some(store)) => {
                host.report.step(format!("preparing {}", from.name));
                let (prepared, rootfs) = prepared.with_rootfs(host.root, store)?;
                let id = (&prepared.record.name, prepared.record.generation);
                let content = prepared.content()?;
                staged.push(deployment::stage(host.root, id, rootfs, &content)?);
                Incoming::New(Box::new(prepared))
            }
            (to, _) => to,
        };
        ready.push(Move { from, to });
    }
    Ok((ready, staged))
}

impl Work<'_> {
    fn all(
        &self,
        transaction: &mut Transaction,
        staged: &[Staged],
        lives: &[(ContainerName, Lifecycle)],
        point: &mut Point,
    ) -> Result<()> {
        for generation in staged {
            transaction.deploy(generation)?;
        }
        for (name, life) in lives {
            transaction.live(name, life)?;
        }
        self.files.apply(self.host, transaction)?;
        // What was enabled is asked while its unit is there.
        let enabled = self.enabled();
        self.go_down(transaction, point)?;
        self.change_units(transaction)?;
        self.change_links(transaction, &enabled)?;
        transaction.reload()?;
        self.come_up(transaction, point)?;
        let started = self.moves.iter().filter(|m| self.runs(m));
        let records: Vec<&Record> = started.map(|m| m.to.record()).collect();
        if !records.is_empty() && self.host.systemd.is_running() {
            self.host.report.step("watching whether all is well");
        }
        health::watch(self.host, &records).map_err(|unhealthy| {
            point.culprit = Some(unhealthy.name);
            unhealthy.why
        })
    }

    /// Stops what is up, those that wait for others first.
    fn go_down(&self, transaction: &mut Transaction, point: &mut Point) -> Result<()> {
        for unit in &self.stop {
            let state = self.host.systemd.state(unit)?;
            if let Some(advice) = stopping::advice(self.host, &state)? {
                self.host.report.note(advice);
            }
            self.host.report.step(format!("stopping {unit}"));
            point.stopped.get_or_insert_with(Instant::now);
            transaction.stop(unit)?;
        }
        for unit in self.run.iter().filter(|unit| !self.stop.contains(unit)) {
            // It has failed: how often it was tried is forgotten, and there is nothing to start again.
            self.host.systemd.stop(unit)?;
        }
        for one in &self.moves {
            for unit in one.from.mounts().filter(|unit| !one.keeps(unit)) {
                // A shim of a CRI daemon may still run from it: it keeps it until it ends.
                let dir = deployment::dir(&one.from.name, one.from.generation);
                let used = processes::users(self.host.root, &[dir])?.concat();
                if used.is_empty() && self.host.systemd.state(unit)?.is_up() {
                    transaction.stop(unit)?;
                }
            }
        }
        Ok(())
    }

    /// The commit point of the switch on disk: the units name the other generation.
    fn change_units(&self, transaction: &mut Transaction) -> Result<()> {
        for one in &self.moves {
            for (unit, text) in one.to.coming().units {
                transaction.write(&unit_path(unit), text.as_bytes(), 0o644)?;
            }
        }
        ordering::apply(transaction, &self.order)
    }

    /// The containers whose service starts at boot.
    fn enabled(&self) -> Vec<bool> {
        let service = |m: &Move| self.host.systemd.state(&m.from.name.service());
        let enabled = |m: &Move| service(m).is_ok_and(|state| state.is_enabled());
        self.moves.iter().map(enabled).collect()
    }

    /// Units that go lose their links and their file, units that are new get the links of those that are enabled.
    fn change_links(&self, transaction: &mut Transaction, enabled: &[bool]) -> Result<()> {
        for (one, enabled) in self.moves.iter().zip(enabled) {
            let gone = one.from.units.iter().filter(|unit| !one.keeps(unit));
            for unit in gone {
                if self.host.systemd.state(unit)?.is_enabled() {
                    transaction.disable(std::slice::from_ref(unit))?;
                }
                transaction.remove(&unit_path(unit))?;
            }
            let changed = one.changes_links(self.host)?;
            if *enabled && !changed.is_empty() {
                transaction.disable(&changed)?;
                transaction.enable(&changed)?;
            }
        }
        Ok(())
    }

    /// Starts what is to run, in order, and waits until each is ready.
    fn come_up(&self, transaction: &mut Transaction, point: &mut Point) -> Result<()> {
        let mut units = self.along.clone();
        for one in &self.moves {
            let service = one.from.name.service();
            for unit in &one.to.record().units {
                // Mounts by name, so that what undoes the start unmounts too. A socket that is new comes with the rest.
                let with = self.runs(one) && (unit.is_mount() || !one.from.units.contains(unit));
                if with || self.stop.contains(unit) || (*unit == service && self.runs(one)) {
                    units.push(unit.clone());
                }
            }
        }
        for unit in running::start_order(self.host.systemd, &units)? {
            self.host.report.step(format!("starting {unit}"));
            point.started = true;
            let started = transaction.start(&unit);
            started.inspect_err(|_| point.culprit = self.to_blame(&unit))?;
        }
        point.downtime = point.stopped.map(|stopped| stopped.elapsed());
        Ok(())
    }

    /// Whether the container's service is to run.
    fn runs(&self, one: &Move) -> bool {
        self.run.contains(&one.from.name.service())
    }

    /// The container to blame for a unit that does not come up: its own, or the only one that was changed.
    fn to_blame(&self, unit: &UnitName) -> Option<ContainerName> {
        let only = match &self.moves[..] {
            [one] => Some(one.from.name.clone()),
            _ => None,
        };
        self.owner(unit).or(only)
    }

    /// The container of the switch that a unit belongs to.
    fn owner(&self, unit: &UnitName) -> Option<ContainerName> {
        let of = |m: &&Move| m.to.record().units.contains(unit);
        self.moves.iter().find(of).map(|m| m.from.name.clone())
    }

    fn finish(&self) -> Vec<Finish> {
        let lived = self.moves.iter().map(|m| Finish::Lived {
            name: m.from.name.clone(),
        });
        let current = self.moves.iter().map(|m| Finish::Current {
            name: m.from.name.clone(),
            generation: m.to.record().generation,
        });
        lived.chain(current).collect()
    }

    /// What became of a switch that was undone.
    fn failed(&self, error: Error, point: Point) -> Failed {
        let needs_recover = error.downcast_ref::<NeedsRecover>().is_some();
        let state = |unit: &UnitName| self.host.systemd.state(unit).unwrap_or_default();
        let down: Vec<_> = self
            .stop
            .iter()
            .filter(|unit| !state(unit).is_up())
            .collect();
        let down: Vec<String> = down.into_iter().map(ToString::to_string).collect();
        let touched = point.stopped.is_some() || point.started;
        let error = if !touched || needs_recover || down.is_empty() {
            error
        } else {
            let down = down.join(", ");
            error.context(format!("{down} ran before and does not come up again"))
        };
        Failed {
            error,
            went_back: touched && !needs_recover,
            culprit: point.culprit,
        }
    }
}
