//! The way from a unit to everything that its start brings along.

use std::collections::{HashMap, HashSet, VecDeque};

use anyhow::Result;

use crate::name::{ContainerName, UnitName};
use crate::ops::check::{Finding, Reach, Step};
use crate::systemd::Systemd;
use crate::systemd::wiring::{AFTER, Wiring};

/// Units as they are found, each asked for once.
pub(super) struct Walk<'a> {
    pub(super) systemd: &'a dyn Systemd,
    /// The same root's unit files.
    pub(super) files: &'a dyn Systemd,
    /// The units of installed containers: each is judged as its container's own.
    pub(super) ours: HashMap<UnitName, ContainerName>,
    pub(super) known: HashMap<UnitName, Wiring>,
}

impl Walk<'_> {
    /// What the start of a container's unit reaches, by the shortest way to each. Other containers are not followed.
    pub(super) fn from(
        &mut self,
        container: &ContainerName,
        unit: &UnitName,
    ) -> Result<Vec<Finding>> {
        let mut found: Vec<Finding> = Vec::new();
        let mut seen = HashSet::new();
        let first = Place {
            unit: unit.clone(),
            awaited: true,
        };
        let mut open = VecDeque::from([(first, vec![step("", unit.as_str())])]);
        while let Some((at, path)) = open.pop_front() {
            if !seen.insert(at.clone()) {
                continue;
            }
            let (reached, next) = self.around(container, &at)?;
            for (reaches, last) in reached {
                let known = |finding: &Finding| {
                    finding
                        .path
                        .last()
                        .is_some_and(|step| step.name == last.name)
                };
                if !found.iter().any(known) {
                    found.push(Finding {
                        container: container.clone(),
                        reaches,
                        path: path.iter().cloned().chain([last]).collect(),
                    });
                }
            }
            for (by, place) in next {
                let step = step(by, place.unit.as_str());
                open.push_back((place, path.iter().cloned().chain([step]).collect()));
            }
        }
        Ok(found)
    }

    /// What a unit reaches by itself, and the units where the way goes on.
    fn around(&mut self, container: &ContainerName, at: &Place) -> Result<Around> {
        let wiring = self.wiring(&at.unit)?.clone();
        let (mut reached, mut next) = (Vec::new(), Vec::new());
        for (by, argv) in &wiring.programs {
            if let Some(reach) = Reach::of_program(argv) {
                reached.push((reach, step(by, &argv.join(" "))));
            }
        }
        for (by, unit) in &wiring.units {
            // What nobody waits for may itself wait as long as it likes.
            if *by == AFTER && (!at.awaited || is_of_timers(&at.unit, unit)) {
                continue;
            }
            let judged_alone = self.ours.get(unit).is_some_and(|owner| owner != container);
            if let Some(reach) = Reach::of_unit(unit) {
                reached.push((reach, step(by, unit.as_str())));
            } else if *by != AFTER && !judged_alone {
                let place = Place {
                    unit: unit.clone(),
                    awaited: at.awaited && wiring.units.contains(&(AFTER, unit.clone())),
                };
                next.push((*by, place));
            }
        }
        Ok((reached, next))
    }

    fn wiring(&mut self, unit: &UnitName) -> Result<&Wiring> {
        if !self.known.contains_key(unit) {
            let mut wiring = self.systemd.wiring(unit)?;
            if self.systemd.is_running() && self.ours.contains_key(unit) {
                // The next boot reads the files, whether or not this systemd has.
                let files = self.files.wiring(unit)?;
                wiring.units.extend(files.units);
                wiring.programs = files.programs;
            }
            self.known.insert(unit.clone(), wiring);
        }
        Ok(&self.known[unit])
    }
}

/// What systemd.timer(5) has every timer of the calendar start after, and nothing pulls in for it.
fn is_of_timers(unit: &UnitName, after: &UnitName) -> bool {
    unit.is_timer() && after.as_str() == "time-sync.target"
}

/// A unit on the way.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Place {
    unit: UnitName,
    /// The container's unit starts after it, and it is no mere company.
    awaited: bool,
}

/// What is reached, and where the way goes on, each by a directive.
type Around = (Vec<(Reach, Step)>, Vec<(&'static str, Place)>);

fn step(by: &'static str, name: &str) -> Step {
    Step {
        by,
        name: name.to_owned(),
    }
}
