//! What bedplate needs of systemd, as a trait with its two real implementations: the running manager over
//! D-Bus, and a host root whose systemd is not running.

pub mod analyze;
mod bus;
pub mod creds;
mod journald;
pub mod links;
mod offline;
mod proxy;
pub mod wiring;
mod words;

use anyhow::Result;
use schemars::JsonSchema;
use serde::Serialize;

use crate::name::UnitName;
use crate::systemd::wiring::Wiring;

pub use bus::Bus;
pub use journald::Entry;
pub use offline::Offline;

/// The oldest systemd that bedplate works with.
pub const OLDEST: u32 = 252;

/// What systemd says of a unit; empty texts where it says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UnitState {
    /// `LoadState`: `loaded`, `not-found`, `masked` …
    pub load: String,
    /// `ActiveState`: `active`, `activating`, `failed` …
    pub active: String,
    /// `SubState`: `running`, `auto-restart` …
    pub sub: String,
    /// `UnitFileState`: `enabled`, `disabled` …
    pub file: String,
    /// `FragmentPath`: the unit file in use.
    pub fragment: String,
    /// `StatusText`: what the service last said with `STATUS=`.
    pub status: String,
    /// `Result`: why it last ended.
    pub result: String,
    /// `ExecMainStatus`: exit status or signal of the last main process.
    pub exit_status: i32,
    /// `ExecMainCode`: how the last main process ended, a `CLD_` code of waitid(2).
    pub exit_code: i32,
    /// `MainPID`; 0 when there is none.
    pub main_pid: u32,
    /// `KillSignal`: the number of the signal that stops it.
    pub kill_signal: i32,
    /// `KillMode`: `mixed`, `process` …
    pub kill_mode: String,
    /// `NRestarts`.
    pub restarts: u32,
    /// `Type` of a service: `notify`, `oneshot` …
    #[serde(rename = "type")]
    pub kind: String,
}

impl UnitState {
    /// Whether the unit is up or on its way up.
    pub fn is_up(&self) -> bool {
        matches!(self.active.as_str(), "active" | "activating" | "reloading")
    }

    /// Whether it starts at boot.
    pub fn is_enabled(&self) -> bool {
        matches!(self.file.as_str(), "enabled" | "enabled-runtime")
    }
}

/// A unit's place among the others, org.freedesktop.systemd1(5).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Relations {
    /// The units that a stop of this one stops too.
    pub stopped_with: Vec<UnitName>,
    /// The units that come first when both start.
    pub after: Vec<UnitName>,
}

/// The service manager of a host root.
pub trait Systemd {
    /// Its version's major number.
    fn version(&self) -> u32;

    /// Whether units can be started: false for a root that is not the running host's.
    fn is_running(&self) -> bool;

    /// Reads all unit files again.
    fn reload(&self) -> Result<()>;

    /// Makes the links of the units' `[Install]` sections.
    fn enable(&self, units: &[UnitName]) -> Result<()>;

    /// Removes the links of the units' `[Install]` sections; units without links, or gone, are fine.
    fn disable(&self, units: &[UnitName]) -> Result<()>;

    /// Starts the unit and waits until it is ready. The error is the real reason: the service's result, its
    /// exit status, and the last lines it wrote.
    fn start(&self, unit: &UnitName) -> Result<()>;

    /// Stops the unit and waits until it has ended. A unit that is not loaded counts as stopped.
    fn stop(&self, unit: &UnitName) -> Result<()>;

    /// What systemd says of the unit.
    fn state(&self, unit: &UnitName) -> Result<UnitState>;

    /// How the unit's last run ended, and the last lines that it wrote.
    fn account(&self, unit: &UnitName) -> String;

    /// The unit's place among the loaded units; nothing of a root that does not run.
    fn relations(&self, unit: &UnitName) -> Result<Relations>;

    /// What a start of the unit brings along. Of a root that does not run, what its unit files say: nothing that
    /// generators make, and no more of systemd's own additions than sysinit.target.
    fn wiring(&self, unit: &UnitName) -> Result<Wiring>;
}
