//! One start, step by step.
//!
//! The order is what matters: MAINPID goes out while the payload still waits in `create`, so that READY cannot
//! overtake it and a payload that dies at once is the unit's main process already, with its own exit status.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::apart;
use crate::cgroup::Cgroup;
use crate::config::Config;
use crate::environment::{Inherited, Promises};
use crate::execution::Execution;
use crate::launch::{LaunchPlan, Notify, ServiceType};
use crate::manager::Manager;
use crate::ownership;
use crate::plan;
use crate::proxy::Proxy;
use crate::runtime::Runtime;

/// What holds the units' RuntimeDirectories.
const RUN: &str = "/run/bedplate";
/// The notify socket, as a payload with a `/run` of its own sees it.
const NOTIFY_INSIDE: &str = "/run/notify";
/// The credentials, as a payload with a `/run` of its own sees them.
const CREDENTIALS_INSIDE: &str = "/run/credentials";

/// How the payload speaks to systemd in this start.
enum Channel {
    Nothing,
    Real(String),
    Own(Proxy),
}

/// Starts the container of `generation`.
pub(crate) fn start(generation: &Path, inherited: &Inherited) -> Result<()> {
    let plan = plan::read(generation)?;
    let mut config = Config::read(generation)?;
    let cgroup = Cgroup::own()?;
    cgroup.enter_supervisor()?;
    let runtime = Runtime {
        program: &plan.runtime,
        name: &plan.name,
        bundle: Path::new(RUN).join(&plan.name),
        descriptors: inherited.descriptors(),
    };
    runtime.clean()?;
    ownership::claim(&plan.own, config.owner())?;
    config.set_cgroup(&cgroup.container()?);
    config.drop_absent(&plan.optional_mounts, Path::exists);
    let channel = Channel::open(&plan, &config, inherited, runtime.bundle.join("notify"))?;
    let notify = channel.hand_in(&mut config, plan.host_run)?;
    let credentials = hand_in_credentials(&mut config, &plan, inherited)?;
    let promises = Promises {
        pids: config.pids(),
        notify: notify.as_deref(),
        real: matches!(channel, Channel::Real(_)),
        credentials: credentials.as_deref(),
    };
    config.set_environment(&inherited.complete(&config.environment(), &promises));
    apart::set_apart(&mut config)?;
    config.write(&runtime.bundle)?;
    if plan.service_type == ServiceType::Oneshot {
        return runtime.become_run();
    }
    let manager = Manager::connect(inherited.value("NOTIFY_SOCKET"))?;
    let pid = runtime.create()?;
    // While it waits its id is certainly its own; later it may be gone and the id another's.
    let payload = pidfd_open(pid, PidfdFlags::empty()).context("watching the payload")?;
    let launched = manager
        .tell(&format!("MAINPID={pid}"))
        .and_then(|()| match channel {
            _ if plan.service_type == ServiceType::Exec => {
                start_until_begun(&runtime, pid, (&manager, config.is_relabelled()))
            }
            Channel::Own(proxy) => runtime
                .start()
                .and_then(|()| proxy.forward(&payload, &manager)),
            Channel::Real(_) | Channel::Nothing => runtime.start(),
        });
    if launched.is_err() {
        // It may have ended by itself: the error at hand says more.
        let _ = pidfd_send_signal(&payload, Signal::KILL);
    }
    launched
}

/// Starts the payload, which is ready when its program runs. One that could not be executed never is.
///
/// One that a security module is to relabel is not watched: it might not let it be, and then the program fails.
fn start_until_begun(
    runtime: &Runtime,
    payload: Pid,
    (manager, relabelled): (&Manager, bool),
) -> Result<()> {
    let ready = || manager.tell("READY=1");
    let watched = if relabelled {
        None
    } else {
        Execution::watch(payload)
    };
    let Some(mut execution) = watched else {
        runtime.start()?;
        return ready();
    };
    runtime.start_while(|| execution.follow(ready))?;
    execution.finish(ready)
}

impl Channel {
    /// What `plan` asks for; an own socket is made at `path`.
    fn open(
        plan: &LaunchPlan,
        config: &Config,
        inherited: &Inherited,
        path: PathBuf,
    ) -> Result<Self> {
        let speaks = matches!(
            plan.service_type,
            ServiceType::Notify | ServiceType::NotifyReload
        );
        match plan.notify {
            Notify::Socket => {
                let real = inherited
                    .value("NOTIFY_SOCKET")
                    .ok_or_else(|| anyhow!("NOTIFY_SOCKET is not set"))?;
                Ok(Self::Real(real.to_owned()))
            }
            // It passes readiness, so without readiness there is nothing to pass.
            Notify::Proxy if speaks => Ok(Self::Own(Proxy::listen(path, config.owner())?)),
            Notify::Proxy | Notify::None => Ok(Self::Nothing),
        }
    }

    /// Brings the socket into the container, and says where it is there.
    fn hand_in(&self, config: &mut Config, host_run: bool) -> Result<Option<String>> {
        let path = match self {
            Self::Nothing => return Ok(None),
            Self::Real(path) => path.as_str(),
            Self::Own(proxy) => utf8(proxy.path())?,
        };
        if host_run {
            return Ok(Some(path.to_owned()));
        }
        config.bind(path, NOTIFY_INSIDE, &["bind"])?;
        Ok(Some(NOTIFY_INSIDE.to_owned()))
    }
}

/// Brings the credentials into the container, readable by its user, and says where they are there.
fn hand_in_credentials(
    config: &mut Config,
    plan: &LaunchPlan,
    inherited: &Inherited,
) -> Result<Option<String>> {
    let Some(given) = inherited.value("CREDENTIALS_DIRECTORY") else {
        return Ok(None);
    };
    let owner = config.owner();
    if owner.uid != 0 {
        ownership::hand_over(Path::new(given), owner)?;
    }
    if plan.host_run {
        return Ok(Some(given.to_owned()));
    }
    config.bind(
        given,
        CREDENTIALS_INSIDE,
        &["bind", "ro", "nosuid", "nodev", "noexec"],
    )?;
    Ok(Some(CREDENTIALS_INSIDE.to_owned()))
}

/// `path` for a JSON file.
fn utf8(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("`{}` is not UTF-8", path.display()))
}
