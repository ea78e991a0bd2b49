//! A booted guest: a Debian of its own in systemd-nspawn, driven from outside.
//!
//! `tests/vm/guest` makes its root file system, `machine` boots it; here is what a story does with it. What the
//! guest writes is kept below the story's directory, so that `reboot` finds it again.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::host;
use crate::machine::Machine;
use crate::story::Story;

/// Within which a command in the guest must have ended.
const COMMAND: Duration = Duration::from_mins(1);

/// What a command in the guest has for an environment, and nothing else.
const ENVIRONMENT: &[&str] = &[
    "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LC_ALL=C.UTF-8",
    "TERM=dumb",
    "SYSTEMD_PAGER=cat",
];

/// A Debian release that guests are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suite {
    /// Debian 13, systemd 257.
    Trixie,
    /// Debian 12, systemd 252.
    Bookworm,
}

/// A machine of a story, up or off.
#[derive(Debug)]
pub(crate) struct Guest {
    suite: Suite,
    name: String,
    dir: PathBuf,
    binds: Vec<String>,
    podman: bool,
    up: Option<Machine>,
}

/// What a finished command left.
#[derive(Debug)]
pub(crate) struct Output {
    /// Its exit status; 124 when it was stopped for taking too long, 128 and the signal's number after a signal.
    pub(crate) status: i32,
    /// All it wrote to stdout, as text.
    pub(crate) stdout: String,
    /// All it wrote to stderr, as text.
    pub(crate) stderr: String,
}

impl Suite {
    /// Debian's name of it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Trixie => "trixie",
            Self::Bookworm => "bookworm",
        }
    }

    /// The runtimes that work in its guest on this host. Debian 12's crun insists on raising the limit of locked
    /// memory, which a host without `CAP_SYS_RESOURCE` cannot grant.
    pub(crate) fn runtimes(self) -> Result<&'static [&'static str]> {
        let limits = fs::read_to_string("/proc/self/limits")?;
        let locked = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max locked memory"))
            .context("finding the limit of locked memory")?;
        let unlimited = locked.split_whitespace().nth(1) == Some("unlimited");
        Ok(match self {
            Self::Bookworm if !unlimited => &["runc"],
            Self::Trixie | Self::Bookworm => &["crun", "runc"],
        })
    }
}

impl Guest {
    /// A machine that is off, with bedplate and its launcher installed. One story may have several by suite.
    pub(crate) fn new(story: &Story, suite: Suite) -> Result<Self> {
        let name = format!("{}-{}", story.name(), suite.name());
        let guest = Self {
            dir: story.dir().join(&name),
            suite,
            name,
            binds: Vec::new(),
            podman: false,
            up: None,
        };
        fs::create_dir_all(&guest.dir)?;
        Ok(guest
            .bind(Path::new(host::BEDPLATE), "/usr/bin/bedplate")
            .bind(host::launcher()?, "/usr/libexec/bedplate/launch"))
    }

    /// A machine that has finished booting.
    pub(crate) fn boot(story: &Story, suite: Suite) -> Result<Self> {
        let mut guest = Self::new(story, suite)?;
        guest.start()?;
        Ok(guest)
    }

    /// Shows a file or directory of the host, read-only, at `inside`.
    pub(crate) fn bind(mut self, outside: &Path, inside: &str) -> Self {
        self.binds
            .push(format!("--bind-ro={}:{inside}", outside.display()));
        self
    }

    /// Makes it the guest of the benchmark, which has podman, whose store is in a directory of the host.
    pub(crate) fn with_podman(mut self, store: &Path) -> Self {
        self.podman = true;
        self.binds
            .push(format!("--bind={}:/var/lib/containers", store.display()));
        self
    }

    /// Its directory on the host: `upper/`, `data/`, `console`.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// How long the last boot took, until systemd had done all that the boot asks for.
    pub(crate) fn boot_time(&self) -> Result<Duration> {
        Ok(self.up()?.took())
    }

    /// Boots it and waits until systemd says that the boot is finished, well or not.
    pub(crate) fn start(&mut self) -> Result<()> {
        ensure!(self.up.is_none(), "guest `{}` is up", self.name);
        let root = if self.podman {
            host::output(host::project("tests/bench/guest"), &[], None)?
        } else {
            host::output(host::project("tests/vm/guest"), &[self.suite.name()], None)?
        };
        let root = Path::new(root.trim_end());
        let up = Machine::start(root, &self.dir, &self.name, &self.binds)
            .with_context(|| format!("booting guest `{}`", self.name))?;
        self.up = Some(up);
        Ok(())
    }

    /// Shuts it down in order.
    pub(crate) fn poweroff(&mut self) -> Result<()> {
        let up = self.up.take().context("powering off a guest that is off")?;
        up.shut_down()
            .with_context(|| format!("shutting down guest `{}`", self.name))
    }

    /// Takes its power away: no process of it gets to do anything any more.
    pub(crate) fn cut_power(&mut self) -> Result<()> {
        let up = self.up.take();
        up.context("cutting the power of a guest that is off")?
            .cut();
        Ok(())
    }

    /// Shuts it down and boots it again; its files are kept, its network is new.
    pub(crate) fn reboot(&mut self) -> Result<()> {
        self.poweroff()?;
        self.start()
    }

    fn up(&self) -> Result<&Machine> {
        self.up
            .as_ref()
            .with_context(|| format!("guest `{}` is off", self.name))
    }

    /// The pid of its init, for `nsenter`.
    pub(crate) fn init(&self) -> Result<String> {
        Ok(self.up()?.init().to_string())
    }

    /// Runs a command as root in it. It is no unit: systemd-nspawn's system call filter does not apply to it.
    pub(crate) fn run(&self, argv: &[&str]) -> Result<Output> {
        self.run_with(argv, COMMAND, &[])
    }

    /// Runs a command with a deadline and a stdin of its own.
    pub(crate) fn run_with(
        &self,
        argv: &[&str],
        deadline: Duration,
        stdin: &[u8],
    ) -> Result<Output> {
        let mut command = Command::new("nsenter");
        command
            .args([
                "--target",
                &self.init()?,
                "--all",
                "--",
                "/usr/bin/env",
                "-i",
            ])
            .args(ENVIRONMENT)
            .args([
                "timeout",
                "--kill-after=2",
                &deadline.as_secs_f64().to_string(),
            ])
            .args(argv)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("running nsenter")?;
        let mut pipe = child.stdin.take().context("stdin is a pipe")?;
        let output = thread::scope(|scope| {
            // A command that does not read all of it is no error.
            scope.spawn(move || pipe.write_all(stdin));
            child.wait_with_output()
        })?;
        Ok(Output {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs a command that must succeed; its stdout without the line end.
    pub(crate) fn ok(&self, argv: &[&str]) -> Result<String> {
        let output = self.run(argv)?;
        ensure!(
            output.status == 0,
            "in guest `{}`: {argv:?}: status {}: {}{}",
            self.name,
            output.status,
            output.stdout,
            output.stderr.trim_end(),
        );
        Ok(output.stdout.trim_end_matches('\n').to_owned())
    }

    /// Runs lines of shell that must all succeed; their stdout without the line end.
    pub(crate) fn sh(&self, script: &str) -> Result<String> {
        self.ok(&["bash", "-euo", "pipefail", "-c", script])
    }

    /// Writes a file in it, with the directories above.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let script = r#"mkdir -p "$(dirname "$0")" && cat >"$0""#;
        let output = self.run_with(&["sh", "-c", script, path], COMMAND, content.as_ref())?;
        ensure!(output.status == 0, "writing `{path}`: {}", output.stderr);
        Ok(())
    }

    /// One property of a unit, as `systemctl show` prints it.
    pub(crate) fn property(&self, unit: &str, property: &str) -> Result<String> {
        self.ok(&["systemctl", "show", "--value", "--property", property, unit])
    }

    /// All that the journal has of a unit in this boot, one message a line.
    pub(crate) fn journal(&self, unit: &str) -> Result<String> {
        self.messages(&["--unit", unit])
    }

    /// All messages of this boot that journalctl's filter lets through, what was written just now among them.
    pub(crate) fn messages(&self, filter: &[&str]) -> Result<String> {
        self.ok(&["journalctl", "--sync"])?;
        let mut argv = vec!["journalctl", "--quiet", "--boot", "--output=cat"];
        argv.extend(filter);
        self.ok(&argv)
    }

    /// Waits until a unit is active; a unit that fails meanwhile ends the waiting.
    pub(crate) fn wait_active(&self, unit: &str, deadline: Duration) -> Result<()> {
        self.wait_property(unit, "ActiveState", "active", deadline)
            .with_context(|| {
                format!(
                    "journal of `{unit}`: {}",
                    self.journal(unit).unwrap_or_default()
                )
            })
    }

    /// Waits until a unit's property has a value. A unit's changes are no event to an outsider: it is asked again
    /// and again.
    pub(crate) fn wait_property(
        &self,
        unit: &str,
        property: &str,
        wanted: &str,
        deadline: Duration,
    ) -> Result<()> {
        let end = Instant::now() + deadline;
        loop {
            let is = self.property(unit, property)?;
            if is == wanted {
                return Ok(());
            }
            let failed = property == "ActiveState" && is == "failed";
            ensure!(
                !failed && Instant::now() < end,
                "`{unit}` has {property}={is}, not {wanted}, after {deadline:?} at most"
            );
            thread::sleep(Duration::from_millis(30));
        }
    }
}

/// Asks again and again until it is so.
pub(crate) fn until(deadline: Duration, what: &str, so: impl Fn() -> Result<bool>) -> Result<()> {
    let came = comes(deadline, so)?;
    ensure!(came, "{what} has not come in {deadline:?}");
    Ok(())
}

/// The same where it is an answer too that it does not become so.
pub(crate) fn comes(deadline: Duration, so: impl Fn() -> Result<bool>) -> Result<bool> {
    let end = Instant::now() + deadline;
    while !so()? {
        if Instant::now() >= end {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(30));
    }
    Ok(true)
}

impl Drop for Guest {
    fn drop(&mut self) {
        if host::keeps_guests()
            && let Some(up) = self.up.take()
        {
            host::say(&format!(
                "{}: up, init is {}: tests/vm/guestctl shell {}",
                self.name,
                up.init(),
                self.dir.display()
            ));
        }
        // What journald was sent is in its files when the power goes: a failed story is told from them.
        let _best_effort = self.run_with(&["journalctl", "--sync"], Duration::from_secs(5), &[]);
        if let Some(up) = self.up.take() {
            up.cut();
        }
    }
}
