//! One boot of a guest: `tests/vm/boot` as a child process, from its start until it is off.

use std::fs::{self, File};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::host;

/// Within which a guest must have finished booting, or shut down. It takes one or two seconds.
const BOOT: Duration = Duration::from_mins(1);

/// A machine that is up. Whoever drops it leaves it up.
#[derive(Debug)]
pub(crate) struct Machine {
    boot: Child,
    init: Pid,
    took: Duration,
}

impl Machine {
    /// Boots `root` with its changes in `dir`, and waits until systemd says that the boot is finished.
    pub(crate) fn start(root: &Path, dir: &Path, name: &str, options: &[String]) -> Result<Self> {
        let socket = format!("bedplate-vm-{}-{name}", std::process::id());
        let ready = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&socket)?)?;
        let path = dir.join("console");
        let console = File::options().create(true).append(true).open(&path)?;
        let began = Instant::now();
        let mut boot = until_this_thread_ends()
            .arg(host::project("tests/vm/boot"))
            .args([root, dir])
            .arg(name)
            .args(options)
            .env("NOTIFY_SOCKET", format!("@{socket}"))
            .stdin(Stdio::null())
            .stdout(console.try_clone()?)
            .stderr(console)
            .spawn()?;
        match wait_ready(&boot, &ready) {
            Ok(init) => Ok(Self {
                boot,
                init,
                took: began.elapsed(),
            }),
            Err(error) => {
                let init = fs::read_to_string(dir.join("leader")).unwrap_or_default();
                end(&mut boot, init.trim().parse().ok().and_then(Pid::from_raw));
                Err(error.context(format!("see `{}`", path.display())))
            }
        }
    }

    /// The pid of its init.
    pub(crate) fn init(&self) -> Pid {
        self.init
    }

    /// How long it took to boot.
    pub(crate) fn took(&self) -> Duration {
        self.took
    }

    /// Shuts it down in order.
    pub(crate) fn shut_down(mut self) -> Result<()> {
        // SIGRTMIN+4 is "power off" to systemd; RTMIN is the libc's to know.
        let mut kill = Command::new("kill");
        kill.args(["-s", "RTMIN+4", &self.init.to_string()]);
        ensure!(kill.status()?.success(), "{kill:?}");
        if !ended(&self.boot, BOOT)? {
            self.cut();
            bail!("it is not off after {BOOT:?}");
        }
        self.boot.wait()?;
        Ok(())
    }

    /// Ends all that runs in it, at once.
    pub(crate) fn cut(mut self) {
        end(&mut self.boot, Some(self.init));
    }
}

/// What runs the program that follows for as long as the thread that tells the story lives, or, when guests are to
/// be kept, until it ends by itself.
fn until_this_thread_ends() -> Command {
    let mut command;
    if host::keeps_guests() {
        command = Command::new("setsid");
    } else {
        command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]);
    }
    command.arg("--");
    command
}

/// Kills a guest's init, with which the kernel ends all that runs in it, and waits for what stands around it.
fn end(boot: &mut Child, init: Option<Pid>) {
    if let Some(init) = init {
        let _gone = kill_process(init, Signal::KILL);
    } else {
        let _gone = kill_process(Pid::from_child(boot), Signal::TERM);
    }
    if !ended(boot, BOOT).unwrap_or(false) {
        let _gone = boot.kill();
    }
    let _status = boot.wait();
}

/// Whether a child ends within a time.
fn ended(child: &Child, within: Duration) -> Result<bool> {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let timeout = Timespec::try_from(within)?;
    Ok(poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout))? > 0)
}

/// Waits for the guest's READY=1, which systemd-nspawn hands on, or for its end; the pid of its init.
fn wait_ready(boot: &Child, ready: &UnixDatagram) -> Result<Pid> {
    let pidfd = pidfd_open(Pid::from_child(boot), PidfdFlags::empty())?;
    let end = Instant::now() + BOOT;
    let mut init = None;
    let mut message = [0; 4096];
    loop {
        let left = Timespec::try_from(end.saturating_duration_since(Instant::now()))?;
        let mut polled = [
            PollFd::new(ready, PollFlags::IN),
            PollFd::new(&pidfd, PollFlags::IN),
        ];
        ensure!(
            poll(&mut polled, Some(&left))? > 0,
            "not ready after {BOOT:?}"
        );
        ensure!(!polled[0].revents().is_empty(), "systemd-nspawn ended");
        let length = ready.recv(&mut message)?;
        let text = String::from_utf8_lossy(&message[..length]);
        for line in text.lines() {
            if let Some(pid) = line.strip_prefix("X_NSPAWN_LEADER_PID=") {
                init = Pid::from_raw(pid.parse()?);
            } else if line == "READY=1" {
                return init.context("systemd-nspawn named no leader");
            }
        }
    }
}
