//! How a start is done: what the launcher is told, and what the unit is told of readiness.

use std::path::Path;

use anyhow::{Result, anyhow};
use containers_image_proxy::oci_spec::runtime::{Capability, LinuxNamespaceType, Spec};

use crate::contract::Contract;
use crate::contract::manifest::{KillMode, NotifyRule, Service};
use crate::hint::Hinted;
use crate::launch::{FORMAT, LaunchPlan, Notify, ServiceType};
use crate::render::resolve::Filled;
use crate::render::{Subject, mount, oci, spec};

/// The version of systemd that has `DelegateSubgroup=`.
pub(crate) const SUBGROUPS: u32 = 254;

/// What a start is like, decided once for the unit and the launcher.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) launch: LaunchPlan,
    /// `WatchdogSec=`, when the payload's messages arrive.
    pub(crate) watchdog: Option<String>,
    /// `FileDescriptorStoreMax=`, when the payload's messages arrive.
    pub(crate) fdstore: Option<u32>,
    /// `KillMode=`.
    pub(crate) kill_mode: KillMode,
    pub(crate) notes: Vec<String>,
}

/// Decides how `made` is started.
pub(crate) fn start(
    service: &Service,
    filled: &Filled,
    made: &spec::Made,
    subject: &Subject<'_>,
) -> Start {
    let mut notes = Vec::new();
    let notify = notify(service, &made.spec);
    let service_type = service_type(service, notify, subject, &mut notes);
    let arrives = notify == Notify::Socket;
    let mut left_out = |what: &str| {
        notes.push(format!(
            "{what} is left out: the payload's messages do not reach systemd ({})",
            match notify {
                Notify::None => "its type is not notify",
                _ => "it could name a foreign process as its main one; `notify = \"full\"` lets it",
            }
        ));
    };
    if filled.watchdog.is_some() && !arrives {
        left_out("the watchdog");
    }
    if service.fdstore > 0 && !arrives {
        left_out("the file descriptor store");
    }
    let kill_mode = kill_mode(service, subject, &mut notes);
    let owned = oci::uid(&made.spec) != 0;
    Start {
        launch: LaunchPlan {
            format: FORMAT,
            name: subject.name.to_string(),
            runtime: subject.runtime.path.clone(),
            service_type,
            notify,
            host_run: sees_host_run(&made.spec),
            own: match (owned, filled.made.shared) {
                (true, _) => filled.made.paths(),
                (false, true) => filled.made.runtime(),
                (false, false) => Vec::new(),
            },
            optional_mounts: made.optional.clone(),
        },
        watchdog: filled.watchdog.clone().filter(|_| arrives),
        fdstore: Some(service.fdstore).filter(|max| *max > 0 && arrives),
        kill_mode,
        notes,
    }
}

/// Whether the payload could make systemd take a process of its choice for the main one, and kill it: it is root
/// on the host, or can become it.
pub(crate) fn could_misuse_socket(spec: &Spec) -> bool {
    let held = oci::capabilities(spec);
    let becomes_root = held.contains(&Capability::Setuid) || held.contains(&Capability::SysAdmin);
    oci::uid(spec) == 0 || becomes_root
}

fn notify(service: &Service, spec: &Spec) -> Notify {
    match (service.kind, service.notify) {
        (ServiceType::Exec | ServiceType::Oneshot, _) => Notify::None,
        (_, NotifyRule::Ready) => Notify::Proxy,
        (_, NotifyRule::Auto) if could_misuse_socket(spec) => Notify::Proxy,
        (_, NotifyRule::Auto | NotifyRule::Full) => Notify::Socket,
    }
}

/// `notify-reload` needs a systemd that knows it, and a payload whose RELOADING arrives.
fn service_type(
    service: &Service,
    notify: Notify,
    subject: &Subject<'_>,
    notes: &mut Vec<String>,
) -> ServiceType {
    if service.kind != ServiceType::NotifyReload {
        return service.kind;
    }
    let why = if subject.systemd < 253 {
        "systemd has it from version 253"
    } else if notify != Notify::Socket {
        "the payload's messages do not reach systemd"
    } else {
        return service.kind;
    };
    notes.push(format!("type notify-reload becomes notify: {why}"));
    ServiceType::Notify
}

/// Before `DelegateSubgroup=` systemd starts a service in the unit's own control group, which the kernel refuses while
/// groups below it have controllers and processes: what outlived a stop would keep the daemon from its next start.
fn kill_mode(service: &Service, subject: &Subject<'_>, notes: &mut Vec<String>) -> KillMode {
    if service.kill_mode == KillMode::Process && subject.systemd < SUBGROUPS {
        notes.push(format!(
            "a stop ends what it has started, too: systemd can start it beside that from version {SUBGROUPS}"
        ));
        return KillMode::Mixed;
    }
    service.kill_mode
}

/// Refuses sockets for a payload that cannot be told that they are meant for it: sd_listen_fds(3) takes none without
/// `LISTEN_PID`, and an id among the host's is not known before there is a process.
pub(crate) fn check_sockets(contract: &Contract, spec: &Spec) -> Result<()> {
    if oci::has_namespace(spec, LinuxNamespaceType::Pid) {
        return Ok(());
    }
    let what = match contract.manifest.service.sockets.first() {
        Some(name) => format!("manifest.toml: service.sockets: `{name}`"),
        None if contract.templates.socket.is_some() => "`socket.hbs`".to_owned(),
        None => return Ok(()),
    };
    Err(anyhow!(
        "{what}: a payload with the host's process ids takes no sockets: its own id, LISTEN_PID, is not known beforehand"
    ))
    .hint("the image's author: sockets need `pid = \"private\"`, or the daemon opens them itself")
}

fn sees_host_run(spec: &Spec) -> bool {
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    mounts.iter().any(|mount| {
        let run = Path::new("/run");
        mount::is_bind(mount)
            && mount.destination() == run
            && mount.source().as_deref() == Some(run)
    })
}
