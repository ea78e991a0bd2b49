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
        let mut found = Vec::new();
        let mut seen = HashSet::from([unit.clone()]);
        let mut open = VecDeque::from([(unit.clone(), vec![step("", unit.as_str())])]);
        while let Some((unit, path)) = open.pop_front() {
            let wiring = self.wiring(&unit)?.clone();
            let mut reached = |reaches, by, name: &str| {
                let path = path.iter().cloned().chain([step(by, name)]).collect();
                found.push(Finding {
                    container: container.clone(),
                    reaches,
                    path,
                });
            };
            for (by, argv) in &wiring.programs {
                if let Some(reach) = Reach::of_program(argv) {
                    reached(reach, by, &argv.join(" "));
                }
            }
            for (by, next) in wiring.units {
                if seen.contains(&next) {
                    continue;
                }
                if let Some(reach) = Reach::of_unit(&next) {
                    reached(reach, by, next.as_str());
                    seen.insert(next);
                } else if by != AFTER && self.ours.get(&next).is_none_or(|owner| owner == container)
                {
                    let path = path
                        .iter()
                        .cloned()
                        .chain([step(by, next.as_str())])
                        .collect();
                    seen.insert(next.clone());
                    open.push_back((next, path));
                }
            }
        }
        Ok(found)
    }

    fn wiring(&mut self, unit: &UnitName) -> Result<&Wiring> {
        if !self.known.contains_key(unit) {
            let wiring = self.systemd.wiring(unit)?;
            self.known.insert(unit.clone(), wiring);
        }
        Ok(&self.known[unit])
    }
}

fn step(by: &'static str, name: &str) -> Step {
    Step {
        by,
        name: name.to_owned(),
    }
}
