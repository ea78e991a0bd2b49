//! `/exports/manifest.toml` as image authors write it: the contract, version 1.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The contract version that this build understands.
pub const CONTRACT: u32 = 1;

/// The whole file. Unknown keys are errors: `needs` is how the contract grows.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The contract version, [`CONTRACT`].
    pub contract: u32,
    /// One line for people; `Description=` of the unit.
    #[serde(default)]
    pub description: String,
    /// Features that the host's bedplate must know.
    #[serde(default)]
    pub needs: Vec<String>,
    /// Every variable of the templates, declared.
    #[serde(default)]
    pub values: BTreeMap<String, Declaration>,
    /// The container's privileges beyond the safe default.
    #[serde(default)]
    pub container: Container,
    /// The unit.
    #[serde(default)]
    pub service: Service,
    /// How an update judges it.
    #[serde(default)]
    pub health: Option<Health>,
    /// How the files of `hostfs/` reach the host.
    #[serde(default)]
    pub files: Files,
}

/// What an image without a manifest says.
impl Default for Manifest {
    fn default() -> Self {
        Self {
            contract: CONTRACT,
            description: String::new(),
            needs: Vec::new(),
            values: BTreeMap::new(),
            container: Container::default(),
            service: Service::default(),
            health: None,
            files: Files::default(),
        }
    }
}

/// A declared variable: with neither `default` nor `required = true` it is empty text, `false`, `0` or `[]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Declaration {
    /// What may be written into it.
    #[serde(rename = "type")]
    pub kind: ValueType,
    /// Its value when nobody sets it, as TOML of the declared type.
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    pub default: Option<toml::Value>,
    /// It has no default: whoever installs the image sets it.
    #[serde(default)]
    pub required: bool,
    /// One line of help.
    pub help: String,
}

/// The types of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ValueType {
    /// Any text of one line.
    String,
    /// A whole number, 64 bits, signed.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// An absolute path without `..`.
    Path,
    /// A scheme, `://` and more.
    Url,
    /// Several texts; `--set` separates them by commas.
    List,
    /// A text that is kept encrypted and never shown.
    Secret,
}

/// `[container]`: what the container may do and see.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Container {
    /// User name or id, with `:group` if wanted; absent: the image's `User`. A template.
    pub user: Option<String>,
    /// Capabilities beyond the default set, as `CAP_NET_ADMIN`.
    pub capabilities: Vec<String>,
    /// The network namespace.
    pub network: Namespace,
    /// The PID namespace.
    pub pid: Namespace,
    /// Host devices, as paths below `/dev`.
    pub devices: Vec<String>,
    /// Environment beside the image's own; values are templates.
    pub env: BTreeMap<String, String>,
    /// The command beside the image's entrypoint: absent is the image's `Cmd`; elements are templates, and one
    /// that renders to nothing is left out.
    pub args: Option<Vec<String>>,
    /// Host paths that the container sees.
    pub mounts: Vec<Mount>,
}

impl Default for Container {
    fn default() -> Self {
        Self {
            user: None,
            capabilities: Vec::new(),
            network: Namespace::Host,
            pid: Namespace::Private,
            devices: Vec::new(),
            env: BTreeMap::new(),
            args: None,
            mounts: Vec::new(),
        }
    }
}

/// Whether the container shares a namespace with the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Namespace {
    /// The host's.
    Host,
    /// One of its own.
    Private,
}

/// A bind mount.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// The host path, a template.
    pub source: String,
    /// The path in the container, a template.
    pub target: String,
    /// Read-only unless it says `rw`.
    #[serde(default)]
    pub access: Access,
    /// How mounts made later below it pass between host and container, mount_namespaces(7).
    #[serde(default)]
    pub propagation: Propagation,
    /// A source that does not exist at a start is left out of that start.
    #[serde(default)]
    pub optional: bool,
}

/// Whether a mount may be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Read-only.
    #[default]
    Ro,
    /// Read and write.
    Rw,
}

/// Propagation of a bind mount; each is recursive (`rbind`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// None in either direction.
    #[default]
    Private,
    /// From the host into the container.
    Slave,
    /// In both directions.
    Shared,
}

/// `[service]`: what systemd is told.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Service {
    /// `Type=`; absent: `exec`.
    #[serde(rename = "type")]
    pub kind: crate::launch::ServiceType,
    /// How far the payload may talk to systemd.
    pub notify: NotifyRule,
    /// Roles that it provides beside its own name.
    pub provides: Vec<String>,
    /// Roles or names that must be ready first; they are pulled in.
    pub requires: Vec<String>,
    /// Roles or names that it starts after, if they are there.
    pub after: Vec<String>,
    /// Roles or names that it starts before, if they are there.
    pub before: Vec<String>,
    /// When in the boot it starts.
    pub stage: Stage,
    /// Directories that systemd makes for it.
    pub directories: Directories,
    /// Socket units handed in, by their `FileDescriptorName=`.
    pub sockets: Vec<String>,
    /// Names of credentials handed in, systemd.exec(5).
    pub credentials: Vec<String>,
    /// `FileDescriptorStoreMax=`.
    pub fdstore: u32,
    /// `WatchdogSec=`; empty: none. A template.
    pub watchdog: String,
    /// `Restart=`.
    pub restart: Restart,
    /// A signal (`SIGHUP`) or a command run in the container; empty: the service cannot be reloaded.
    pub reload: String,
    /// `KillSignal=`; absent: the image's StopSignal, or SIGTERM.
    pub stop_signal: Option<String>,
    /// `KillMode=`.
    pub kill_mode: KillMode,
    /// `TimeoutStopSec=`; absent: systemd's default. A template.
    pub stop_timeout: Option<String>,
    /// `TimeoutStartSec=`; absent: systemd's default. A template.
    pub start_timeout: Option<String>,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            kind: crate::launch::ServiceType::Exec,
            notify: NotifyRule::Auto,
            provides: Vec::new(),
            requires: Vec::new(),
            after: Vec::new(),
            before: Vec::new(),
            stage: Stage::Normal,
            directories: Directories::default(),
            sockets: Vec::new(),
            credentials: Vec::new(),
            fdstore: 0,
            watchdog: String::new(),
            restart: Restart::OnFailure,
            reload: String::new(),
            stop_signal: None,
            kill_mode: KillMode::Mixed,
            stop_timeout: None,
            start_timeout: None,
        }
    }
}

/// `notify` of `[service]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NotifyRule {
    /// The real socket for a payload that cannot misuse it, else the launcher's proxy.
    Auto,
    /// The launcher's proxy: readiness alone.
    Ready,
    /// The real socket for a payload that could misuse it; a privilege.
    Full,
}

/// `stage` of `[service]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Before basic.target.
    Early,
    /// With multi-user.target.
    Normal,
}

/// `Restart=` of systemd.service(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never.
    No,
    /// After every end but a stop.
    Always,
    /// After a clean end.
    OnSuccess,
    /// After an unclean end.
    OnFailure,
    /// After a signal, a timeout or a missed watchdog.
    OnAbnormal,
    /// After a signal.
    OnAbort,
    /// After a missed watchdog.
    OnWatchdog,
}

/// `KillMode=` of systemd.kill(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KillMode {
    /// A stop ends all that is in the unit.
    Mixed,
    /// A stop ends the main process alone; what it has started outlives it.
    Process,
}

/// Directories that systemd makes before a start, systemd.exec(5).
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Directories {
    /// Below `/var/lib`; kept. Templates.
    pub state: Vec<String>,
    /// Below `/run`.
    pub runtime: Vec<RuntimeDirectory>,
    /// Below `/var/log`. Templates.
    pub logs: Vec<String>,
    /// Below `/var/cache`. Templates.
    pub cache: Vec<String>,
}

/// A directory below `/run`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuntimeDirectory {
    /// Its path below `/run`. A template.
    pub name: String,
    /// Others use it: it stays when the service stops.
    #[serde(default)]
    pub shared: bool,
}

/// `[health]`: how an update judges the service, beside readiness.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// What is asked; absent: being ready and staying up is enough.
    #[serde(default)]
    pub probe: Option<Probe>,
    /// Between two probes; a span of systemd.time(7).
    #[serde(default = "one_second")]
    pub interval: String,
    /// Until it must have passed; a span of systemd.time(7).
    #[serde(default = "thirty_seconds")]
    pub timeout: String,
    /// For how long it must then hold without a restart; a span of systemd.time(7).
    #[serde(default = "five_seconds")]
    pub settle: String,
}

/// Ready, and up for a while.
impl Default for Health {
    fn default() -> Self {
        Self {
            probe: None,
            interval: one_second(),
            timeout: thirty_seconds(),
            settle: five_seconds(),
        }
    }
}

fn one_second() -> String {
    "1s".to_owned()
}

fn thirty_seconds() -> String {
    "30s".to_owned()
}

fn five_seconds() -> String {
    "5s".to_owned()
}

/// A probe: templates.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub enum Probe {
    /// A URL that must answer 2xx, asked from the host.
    Http(String),
    /// `HOST:PORT` that must accept, from the host.
    Tcp(String),
    /// A command that must exit 0 in the container.
    Exec(Vec<String>),
}

/// `[files]`: the files of `hostfs/`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Files {
    /// From the path in `hostfs/` to the path on the host; both begin with `/`; the latter is a template.
    pub rename: BTreeMap<String, String>,
    /// Which of them are templates, by their path in `hostfs/`.
    pub template: Vec<String>,
}
