//! `launch.json`: what the launcher must know of a generation beside its config.json.
//!
//! The library writes it, the launcher (a program of its own) reads it; both compile this one file.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The format this build writes and the newest it reads.
pub const FORMAT: u32 = 1;

/// How a start of this generation is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchPlan {
    /// The file's format, [`FORMAT`].
    pub format: u32,
    /// The container's name: its id for the runtime and the name of its directory below `/run/bedplate`.
    pub name: String,
    /// The OCI runtime, an absolute path.
    pub runtime: PathBuf,
    /// `Type=` of the unit.
    pub service_type: ServiceType,
    /// How readiness reaches systemd.
    pub notify: Notify,
    /// The container sees the host's `/run` at `/run`: the notify socket is there already and needs no mount.
    pub host_run: bool,
    /// Host directories (state, runtime, logs, cache) that must belong to the payload's user, when that is
    /// not root; of root those below `/run` that outlive a stop. The launcher makes what is missing and gives each itself, not its content, to the user. The unit
    /// must not name them in StateDirectory= and its like: without a `User=` of the host systemd gives such a
    /// directory and all in it back to root at each start, and one below `/run` at each reload.
    pub own: Vec<PathBuf>,
    /// Destinations of mounts in config.json that are left out of a start whose source does not exist.
    pub optional_mounts: Vec<PathBuf>,
}

/// `Type=` of systemd.service(5), as far as system containers use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceType {
    /// Ready when the payload says so.
    Notify,
    /// As `Notify`, and a reload is announced by the payload too.
    NotifyReload,
    /// Ready when the payload has been started.
    Exec,
    /// Done when the payload has ended.
    Oneshot,
}

/// How the payload's sd_notify(3) messages reach systemd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Notify {
    /// Not at all: the unit needs none.
    None,
    /// The real socket is handed in.
    Socket,
    /// The launcher listens until READY and forwards READY, STATUS and EXTEND_TIMEOUT_USEC alone.
    Proxy,
}
