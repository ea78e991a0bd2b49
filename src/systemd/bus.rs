//! The running manager, over D-Bus.

mod wiring;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::runtime::Runtime;
use zbus::Connection;
use zbus::{OwnedObjectPath, OwnedVariant};

use crate::exec::Program;
use crate::hint::Hinted;
use crate::name::UnitName;
use crate::systemd::proxy::{ManagerProxy, PropertiesProxy};
use crate::systemd::wiring::Wiring;
use crate::systemd::words::{explain, major};
use crate::systemd::{OLDEST, Relations, Systemd, UnitState};

/// How many of a failed unit's last journal lines an error repeats.
const JOURNAL_LINES: &str = "10";

/// How often a start that takes its time is looked at.
const TICK: Duration = Duration::from_millis(250);

/// systemd's error for a unit without a file.
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// How many restarts of a unit a start waits through that requires it.
const PATIENCE: u32 = 4;

/// A connection to the running host's systemd.
#[derive(Debug)]
pub struct Bus {
    // zbus has no blocking interface: one current-thread runtime drives it.
    runtime: Runtime,
    connection: Connection,
    version: u32,
}

impl Bus {
    /// Connects to the system bus and asks systemd for its version.
    pub fn connect() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("preparing to talk to systemd")?;
        let (connection, text) = runtime
            .block_on(async {
                let connection = Connection::system().await?;
                let manager = ManagerProxy::new(&connection).await?;
                // Once for the connection's life: systemd refuses a second time.
                manager.subscribe().await?;
                let version = manager.version().await?;
                Ok::<_, zbus::Error>((connection, version))
            })
            .context("connecting to systemd over D-Bus")
            .hint(
                "see whether the bus runs: `systemctl status dbus.socket`; \
                 for a root that is not the running host's, give `--root DIR`",
            )?;
        let version = major(&text)?;
        if version < OLDEST {
            bail!("systemd {version} is too old: bedplate needs {OLDEST} or newer");
        }
        Ok(Self {
            runtime,
            connection,
            version,
        })
    }

    /// Queues a job and waits for its result, such as `done` or `failed`, and the unit that is to blame.
    ///
    /// The start job of a unit with `RestartMode=direct` lasts until a try succeeds, for ever if none does, and so
    /// do the jobs that wait for it: a start is given up with the unit's own first try that fails, as it is without
    /// that mode, and when one that it requires has failed too often.
    fn job(&self, unit: &UnitName, kind: JobKind) -> Result<(String, UnitName)> {
        self.runtime.block_on(async {
            let manager = ManagerProxy::new(&self.connection).await?;
            // Listening begins before the job exists, so that its end cannot be missed.
            let mut ends = manager.receive_job_removed().await?;
            let job = match kind {
                JobKind::Start => manager.start_unit(unit.as_str(), "replace").await?,
                JobKind::Stop => manager.stop_unit(unit.as_str(), "replace").await?,
            };
            loop {
                let Ok(end) = tokio::time::timeout(TICK, next(&mut ends)).await else {
                    match kind {
                        JobKind::Start => match self.hopeless(unit).await? {
                            Some(culprit) => return Ok(("failed".to_owned(), culprit)),
                            None => continue,
                        },
                        JobKind::Stop => continue,
                    }
                };
                let end = end.ok_or_else(|| anyhow!("systemd closed the connection"))?;
                let args = end.args()?;
                if args.job == job {
                    return Ok((args.result.clone(), unit.clone()));
                }
            }
        })
    }

    /// The unit that keeps a start from ending: itself, waiting for its second try, or a service that it requires,
    /// by however many others, waiting for one of many.
    async fn hopeless(&self, unit: &UnitName) -> Result<Option<UnitName>> {
        let mut seen = BTreeSet::from([unit.clone()]);
        let mut look = vec![unit.clone()];
        while let Some(one) = look.pop() {
            let mut map = self.all_properties(&one).await?;
            let waits = map
                .get("SubState")
                .and_then(|value| <&str>::try_from(&**value).ok())
                .is_some_and(|state| state.starts_with("auto-restart"));
            let tried = map.get("NRestarts").and_then(|n| u32::try_from(&**n).ok());
            if waits && (one == *unit || tried >= Some(PATIENCE)) {
                return Ok(Some(one));
            }
            let required = map.remove("Requires").map(Vec::<String>::try_from);
            for name in required.and_then(Result::ok).unwrap_or_default() {
                if name.ends_with(".service")
                    && let Ok(name) = name.parse::<UnitName>()
                    && seen.insert(name.clone())
                {
                    look.push(name);
                }
            }
        }
        Ok(None)
    }

    fn properties(&self, unit: &UnitName) -> Result<HashMap<String, OwnedVariant>> {
        self.runtime.block_on(self.all_properties(unit))
    }

    async fn all_properties(&self, unit: &UnitName) -> Result<HashMap<String, OwnedVariant>> {
        let manager = ManagerProxy::new(&self.connection).await?;
        let object: OwnedObjectPath = manager.load_unit(unit.as_str()).await?;
        let proxy = PropertiesProxy::builder(&self.connection)
            .path(object)
            .build()
            .await?;
        Ok(proxy.get_all("").await?)
    }

    /// Why a start failed: what systemd recorded of the unit, and the last lines of this invocation.
    fn reason(&self, unit: &UnitName, job: &str) -> String {
        let mut reason = match self.state(unit) {
            Ok(state) => explain(job, &state),
            Err(_) => format!("its start job ended as `{job}`"),
        };
        let lines = Program::new("journalctl")
            .args(["--unit", unit.as_str(), "--lines", JOURNAL_LINES])
            .args(["--no-pager", "--quiet", "--output", "cat"])
            .output();
        if let Ok(output) = lines {
            for line in output.stdout.lines() {
                reason.push_str("\n    ");
                reason.push_str(line);
            }
        }
        reason
    }
}

/// What is asked of a unit.
#[derive(Clone, Copy)]
enum JobKind {
    Start,
    Stop,
}

impl Systemd for Bus {
    fn version(&self) -> u32 {
        self.version
    }

    fn is_running(&self) -> bool {
        true
    }

    fn reload(&self) -> Result<()> {
        tracing::debug!("reloading systemd");
        self.runtime
            .block_on(async { ManagerProxy::new(&self.connection).await?.reload().await })
            .context("reloading systemd")
    }

    fn enable(&self, units: &[UnitName]) -> Result<()> {
        let names: Vec<&str> = units.iter().map(UnitName::as_str).collect();
        tracing::debug!(?names, "enabling");
        self.runtime
            .block_on(async {
                let manager = ManagerProxy::new(&self.connection).await?;
                manager.enable_unit_files(&names, false, false).await
            })
            .with_context(|| format!("enabling {}", names.join(", ")))?;
        Ok(())
    }

    fn disable(&self, units: &[UnitName]) -> Result<()> {
        // One at a time: a unit that is gone would keep the others from it.
        for unit in units {
            tracing::debug!(%unit, "disabling");
            let done = self.runtime.block_on(async {
                let manager = ManagerProxy::new(&self.connection).await?;
                manager.disable_unit_files(&[unit.as_str()], false).await
            });
            match done {
                // A recovery that was cut short had removed the file already, and the links before it.
                Err(zbus::Error::MethodError(name, ..)) if name.as_str() == NO_SUCH_UNIT => {}
                done => drop(done.with_context(|| format!("disabling {unit}"))?),
            }
        }
        Ok(())
    }

    fn start(&self, unit: &UnitName) -> Result<()> {
        tracing::debug!(%unit, "starting");
        let starting = || format!("starting {unit}");
        if self.state(unit)?.load == "masked" {
            return Err(anyhow!("the unit is masked"))
                .with_context(starting)
                .hint(format!("`systemctl unmask {unit}` first"));
        }
        let (result, culprit) = self.job(unit, JobKind::Start).with_context(starting)?;
        if result == "done" {
            return Ok(());
        }
        let mut reason = self.reason(&culprit, &result);
        if culprit != *unit {
            reason = format!("{culprit}, which it requires, does not come up: {reason}");
        }
        Err(anyhow!(reason))
            .with_context(starting)
            .hint(format!("all it said: `journalctl --unit {culprit} --boot`"))
    }

    fn stop(&self, unit: &UnitName) -> Result<()> {
        tracing::debug!(%unit, "stopping");
        if self.state(unit)?.load == "not-found" {
            return Ok(());
        }
        let stopping = || format!("stopping {unit}");
        let (result, _) = self.job(unit, JobKind::Stop).with_context(stopping)?;
        if result != "done" {
            return Err(anyhow!("its stop job ended as `{result}`")).with_context(stopping);
        }
        // A unit that failed stays loaded as failed; nobody is served by a red line for one that is gone.
        let forgotten = self.runtime.block_on(async {
            let manager = ManagerProxy::new(&self.connection).await?;
            manager.reset_failed_unit(unit.as_str()).await
        });
        if let Err(error) = forgotten {
            tracing::debug!(%unit, %error, "nothing to forget");
        }
        Ok(())
    }

    fn state(&self, unit: &UnitName) -> Result<UnitState> {
        let map = self
            .properties(unit)
            .with_context(|| format!("asking systemd about {unit}"))?;
        let text = |key: &str| {
            map.get(key)
                .and_then(|v| <&str>::try_from(&**v).ok())
                .unwrap_or_default()
                .to_owned()
        };
        let number = |key: &str| {
            map.get(key)
                .and_then(|v| u32::try_from(&**v).ok())
                .unwrap_or_default()
        };
        let signed = |key: &str| {
            map.get(key)
                .and_then(|v| i32::try_from(&**v).ok())
                .unwrap_or_default()
        };
        Ok(UnitState {
            load: text("LoadState"),
            active: text("ActiveState"),
            sub: text("SubState"),
            file: text("UnitFileState"),
            fragment: text("FragmentPath"),
            status: text("StatusText"),
            result: text("Result"),
            exit_status: signed("ExecMainStatus"),
            exit_code: signed("ExecMainCode"),
            main_pid: number("MainPID"),
            kill_signal: signed("KillSignal"),
            kill_mode: text("KillMode"),
            restarts: number("NRestarts"),
            kind: text("Type"),
        })
    }

    fn account(&self, unit: &UnitName) -> String {
        self.reason(unit, "done")
    }

    fn relations(&self, unit: &UnitName) -> Result<Relations> {
        let mut map = self
            .properties(unit)
            .with_context(|| format!("asking systemd about {unit}"))?;
        let mut units = |key: &str| {
            let names = map.remove(key).map(Vec::<String>::try_from);
            let names = names.and_then(Result::ok).unwrap_or_default();
            names.iter().filter_map(|name| name.parse().ok()).collect()
        };
        let stopped_with: Vec<Vec<UnitName>> = STOPPED_WITH.map(&mut units).into();
        Ok(Relations {
            stopped_with: stopped_with.concat(),
            after: units("After"),
        })
    }

    fn wiring(&self, unit: &UnitName) -> Result<Wiring> {
        self.read_wiring(unit)
    }
}

/// The units of these properties stop with the one that has them, systemd.unit(5).
const STOPPED_WITH: [&str; 5] = [
    "RequiredBy",
    "RequisiteOf",
    "BoundBy",
    "ConsistsOf",
    "PropagatesStopTo",
];

/// The next item of a stream, without a dependency for this one function.
async fn next<S: zbus::export::futures_core::Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    std::future::poll_fn(|cx| std::pin::Pin::new(&mut *stream).poll_next(cx)).await
}
