//! What a start of a unit brings along, as the running manager has it.

use anyhow::{Context, Result};

use crate::name::UnitName;
use crate::systemd::Bus;
use crate::systemd::wiring::{AFTER, PROGRAMS, PULLS, Wiring};

/// A command as org.freedesktop.systemd1(5) has it: program, argv, whether its failure counts, when it ran and how it
/// ended.
type Command = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);

impl Bus {
    pub(super) fn read_wiring(&self, unit: &UnitName) -> Result<Wiring> {
        let mut map = self
            .properties(unit)
            .with_context(|| format!("asking systemd about {unit}"))?;
        let mut wiring = Wiring::default();
        for directive in PULLS.into_iter().chain([AFTER]) {
            let names = map.remove(directive).map(Vec::<String>::try_from);
            let names = names.and_then(Result::ok).unwrap_or_default();
            let names = names.iter().filter_map(|name| name.parse().ok());
            wiring.units.extend(names.map(|name| (directive, name)));
        }
        for directive in PROGRAMS {
            // Units that run nothing have no such property.
            let Some(commands) = map.remove(directive) else {
                continue;
            };
            let commands = Vec::<Command>::try_from(commands)
                .with_context(|| format!("reading {directive}= of {unit}"))?;
            for (program, mut argv, ..) in commands {
                // The first word of argv may be any name, systemd.service(5) on `@`.
                if let Some(first) = argv.first_mut() {
                    *first = program;
                }
                wiring.programs.push((directive, argv));
            }
        }
        let stale = map
            .get("NeedDaemonReload")
            .map(|value| bool::try_from(&**value));
        wiring.stale = matches!(stale, Some(Ok(true)));
        Ok(wiring)
    }
}
