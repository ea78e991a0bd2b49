//! What a command costs, with all of its children and the daemon that works for it.
//!
//! CPU time is the kernel's own count for a cgroup of the command's own: a process that ended is in it, whoever
//! waited for it. Memory is the highest sum of the resident memory of all processes of the cgroup that was seen, every
//! 5 ms, for each tool alike: pages that two of them share count twice, a peak between two looks is not seen. The
//! kernel's own `memory.peak` would be another thing: what a tool has written counts there until it is on disk, and what
//! it has read for as long as there is room.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;

use crate::place;

/// Between two looks at the memory.
const TICK: Duration = Duration::from_millis(5);
/// No command takes longer.
const DEADLINE: Duration = Duration::from_mins(10);
/// Within which what was killed is gone.
const END: Duration = Duration::from_secs(10);

/// A program with its arguments.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    argv: Vec<OsString>,
}

/// What a command took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    /// Bytes, at the highest.
    pub(crate) memory: u64,
}

/// A cgroup of its own; all that is left in it is killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Group {
    dir: PathBuf,
}

impl Program {
    /// A program without arguments yet.
    pub(crate) fn new(program: impl Into<OsString>) -> Self {
        Self {
            argv: vec![program.into()],
        }
    }

    /// Adds arguments.
    pub(crate) fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.argv.extend(args.into_iter().map(Into::into));
        self
    }

    /// As a command that ends with this thread, in a cgroup if one is given.
    pub(crate) fn command(&self, group: Option<&Group>) -> Command {
        self.after(group, "")
    }

    /// The same, after these words of sh(1).
    fn after(&self, group: Option<&Group>, words: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        if let Some(group) = group {
            let script = format!(r#"echo $$ >"$0" && {words} exec "$@" </dev/null"#);
            command.args(["sh", "-c", &script]);
            command.arg(group.dir.join("cgroup.procs"));
        }
        command
            .args(&self.argv)
            .env("HOME", place::home())
            .env("OTEL_TRACES_EXPORTER", "none")
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_RUNTIME_DIR")
            .env_remove("DBUS_SYSTEM_BUS_ADDRESS")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end, which must be a good one.
    pub(crate) fn run(&self, group: &Group, log: &Path) -> Result<Cost> {
        let before = group.cpu()?;
        let out = File::options().create(true).append(true).open(log)?;
        // Moving into a cgroup may take the kernel 20 ms, and is nothing that the program does.
        let mut command = self.after(Some(group), "read -r go &&");
        command.stdin(Stdio::piped()).stdout(out.try_clone()?);
        let mut child = command
            .stderr(out)
            .spawn()
            .with_context(|| format!("{:?}", self.argv))?;
        let watched = group.joined(&child).and_then(|()| {
            let mut stdin = child.stdin.take().context("stdin is a pipe")?;
            let began = Instant::now();
            stdin.write_all(b"go\n")?;
            group.watch(&child, began)
        });
        if watched.is_err() {
            let _gone = child.kill();
        }
        let status = child.wait()?;
        let (wall, memory) = watched.with_context(|| format!("{:?}", self.argv))?;
        ensure!(
            status.success(),
            "{:?}: {status}: {}",
            self.argv,
            last_lines(log)
        );
        let cpu = group.cpu()?.saturating_sub(before);
        Ok(Cost { wall, cpu, memory })
    }
}

impl Cost {
    /// This and then the other.
    pub(crate) fn then(self, next: Self) -> Self {
        Self {
            wall: self.wall + next.wall,
            cpu: self.cpu + next.cpu,
            memory: self.memory.max(next.memory),
        }
    }
}

impl Group {
    /// Makes one.
    pub(crate) fn new() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "bedplate-bench-{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let dir = hierarchy()?.join(name);
        fs::create_dir(&dir).with_context(|| format!("making `{}`", dir.display()))?;
        Ok(Self { dir })
    }

    /// CPU time that processes of it have taken so far.
    fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(self.dir.join("cpu.stat"))?;
        let usage = stat.lines().find_map(|l| l.strip_prefix("usage_usec "));
        let usage = usage.context("cpu.stat has no usage_usec")?;
        Ok(Duration::from_micros(usage.parse()?))
    }

    /// Resident memory of all processes that are in it now, in bytes.
    fn memory(&self) -> u64 {
        let pids = fs::read_to_string(self.dir.join("cgroup.procs")).unwrap_or_default();
        pids.lines()
            .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok())
            .filter_map(|status| {
                let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
                line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
            })
            .map(|kb| kb * 1024)
            .sum()
    }

    /// Waits until the child is in it.
    fn joined(&self, child: &Child) -> Result<()> {
        let (pid, end) = (child.id().to_string(), Instant::now() + END);
        while !fs::read_to_string(self.dir.join("cgroup.procs"))?
            .lines()
            .any(|line| line == pid)
        {
            ensure!(Instant::now() < end, "not in its cgroup after {END:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Waits for the child's end: when that was, and the most memory that was seen.
    fn watch(&self, child: &Child, began: Instant) -> Result<(Duration, u64)> {
        let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
        let mut memory = 0;
        loop {
            if ready(&[PollFd::new(&pidfd, PollFlags::IN)], TICK)? {
                return Ok((began.elapsed(), memory));
            }
            memory = memory.max(self.memory());
            ensure!(began.elapsed() < DEADLINE, "not done after {DEADLINE:?}");
            go_on()?;
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _gone = fs::write(self.dir.join("cgroup.kill"), "1");
        let end = Instant::now() + END;
        // A killed process leaves its cgroup some time after the signal: there is nothing to wait for but that.
        while fs::remove_dir(&self.dir).is_err() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Lets SIGINT and SIGTERM end the bench in order: mounts and cgroups go, daemons are stopped.
pub(crate) fn end_in_order() -> Result<()> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(stopped()))?;
    }
    Ok(())
}

/// An error when one of these signals has come.
pub(crate) fn go_on() -> Result<()> {
    ensure!(!stopped().load(Ordering::Relaxed), "stopped by a signal");
    Ok(())
}

/// Whether one of them is ready within a time; a signal does not shorten it much.
pub(crate) fn ready(fds: &[PollFd<'_>], within: Duration) -> Result<bool> {
    let mut fds = fds.to_vec();
    match poll(&mut fds, Some(&Timespec::try_from(within)?)) {
        Ok(found) => Ok(found > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error).context("waiting"),
    }
}

fn stopped() -> &'static Arc<AtomicBool> {
    static STOPPED: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    STOPPED.get_or_init(Arc::default)
}

/// The one hierarchy of cgroups, or, on a hybrid host, the one that systemd uses beside the old ones.
fn hierarchy() -> Result<PathBuf> {
    for dir in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
        if Path::new(dir).join("cgroup.procs").exists()
            && Path::new(dir).join("cgroup.controllers").exists()
        {
            return Ok(dir.into());
        }
    }
    bail!("no cgroup v2 hierarchy is mounted below /sys/fs/cgroup")
}

/// The end of a log, for an error.
pub(crate) fn last_lines(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}

/// What a directory takes on disk, files with several links once: du(1)'s count in bytes.
pub(crate) fn disk(dir: &Path) -> Result<u64> {
    let output = Command::new("du")
        .args(["--summarize", "--block-size=1", "--"])
        .arg(dir)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let bytes = text.split('\t').next().unwrap_or_default();
    bytes
        .parse()
        .with_context(|| format!("du: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// Runs a program of the machine, which must succeed; its stdout.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("running {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Text that is JSON.
pub(crate) fn json(path: &Path) -> Result<Value> {
    let text = fs::read(path).with_context(|| format!("reading `{}`", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("reading `{}`", path.display()))
}
