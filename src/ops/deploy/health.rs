//! Whether what has been started is good: its probe passes in time, and then it holds for a while without a restart.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow};

use crate::contract::manifest::Probe;
use crate::name::{ContainerName, UnitName};
use crate::ops::Host;
use crate::ops::deploy::probe;
use crate::render::resolve::Patience;
use crate::state::Record;

/// How often a unit is looked at while it has to hold.
const TICK: Duration = Duration::from_millis(100);

/// A container that is not good.
#[derive(Debug)]
pub(crate) struct Unhealthy {
    pub(crate) name: ContainerName,
    pub(crate) why: Error,
}

/// Watches services that have just become ready until all are good, or one is not.
pub(crate) fn watch(host: &Host, records: &[&Record]) -> Result<(), Unhealthy> {
    let unhealthy = |name: &ContainerName| {
        let name = name.clone();
        move |error: Error| Unhealthy {
            why: error.context(format!("`{name}` is not healthy")),
            name,
        }
    };
    let mut watched = Vec::new();
    for record in records {
        let watch = Watch::new(record).map_err(unhealthy(&record.name))?;
        watched.push(watch);
    }
    while !watched.is_empty() {
        let mut open = Vec::new();
        for mut watch in watched {
            let is_good = watch.look(host).map_err(unhealthy(&watch.name))?;
            if !is_good {
                open.push(watch);
            }
        }
        watched = open;
        if !watched.is_empty() {
            sleep(TICK);
        }
    }
    Ok(())
}

/// One service on its way to being good.
struct Watch {
    name: ContainerName,
    unit: UnitName,
    probe: Option<Probe>,
    patience: Patience,
    began: Instant,
    /// When the next question is due.
    next: Instant,
    /// When the probe passed.
    passed: Option<Instant>,
}

impl Watch {
    fn new(record: &Record) -> Result<Self> {
        let health = record.health.clone().unwrap_or_default();
        let now = Instant::now();
        Ok(Self {
            name: record.name.clone(),
            unit: record.name.service(),
            patience: Patience::of(&health)?,
            passed: health.probe.is_none().then_some(now),
            probe: health.probe,
            began: now,
            next: now,
        })
    }

    /// Whether it is good by now.
    fn look(&mut self, host: &Host) -> Result<bool> {
        let state = host.systemd.state(&self.unit)?;
        // One that does its work and ends was good when its start succeeded.
        if state.kind == "oneshot" {
            return Ok(true);
        }
        if state.restarts > 0 || !matches!(state.active.as_str(), "active" | "reloading") {
            let account = host.systemd.account(&self.unit);
            return Err(anyhow!("it was ready and did not stay up: {account}"));
        }
        if let Some(passed) = self.passed {
            return Ok(passed.elapsed() >= self.patience.settle);
        }
        let Some(probe) = self.probe.as_ref().filter(|_| Instant::now() >= self.next) else {
            return Ok(false);
        };
        let answer = probe::ask(host, &self.name, probe);
        self.next = Instant::now() + self.patience.interval;
        match answer {
            Ok(()) => self.passed = Some(Instant::now()),
            Err(error) if self.began.elapsed() >= self.patience.timeout => {
                let waited = self.patience.timeout.as_secs_f64();
                return Err(error).context(format!("its probe has not passed in {waited} s"));
            }
            Err(error) => tracing::debug!(name = %self.name, "not yet healthy: {error:#}"),
        }
        Ok(false)
    }
}
