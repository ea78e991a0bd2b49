//! The moment at which the runtime's process becomes the payload's program: what `Type=exec` waits for.
//!
//! The runtime's `start` does not wait for it, and a program can have ended before anybody has looked. So the process
//! is traced, ptrace(2): the kernel stops it once execve(2) has succeeded, and it goes on when systemd has been told.
//! Otherwise a payload that ends well at once would have ended "before it was ready", or one that cannot be executed
//! at all would count as started, as it happens.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::errno::Errno;
use nix::libc::PTRACE_EVENT_EXEC;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// How long a process may take from the runtime's `start` to its program. A runtime whose process is a stand-in for
/// one elsewhere, in a virtual machine for example, never executes anything.
const LONGEST: Duration = Duration::from_secs(2);

/// How often it is looked at; as a rule it is there the first time.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// A process that is watched.
pub(crate) struct Execution {
    pid: Pid,
    over: bool,
}

/// What has become of it.
enum Seen {
    Nothing,
    /// Its program begins; it is stopped.
    Begun,
    Ended,
    /// What cannot be followed, such as a stop of the whole process: it is watched no longer, and counts as begun.
    Lost,
}

impl Execution {
    /// Begins to watch; none where tracing is forbidden.
    pub(crate) fn watch(pid: rustix::process::Pid) -> Option<Self> {
        let pid = Pid::from_raw(pid.as_raw_pid());
        let seized = ptrace::seize(pid, Options::PTRACE_O_TRACEEXEC);
        seized.ok().map(|()| Self { pid, over: false })
    }

    /// Looks once. It has to be called again and again until [`Execution::finish`]: whatever happens to the process, a
    /// signal for one, stops it until then. When the program has begun it does `ready`, before the program does
    /// anything. The only errors are those of `ready`: what is odd about a process is no reason to end it.
    pub(crate) fn follow(&mut self, ready: impl FnOnce() -> Result<()>) -> Result<()> {
        if self.over {
            return Ok(());
        }
        let seen = self.look();
        self.over = !matches!(seen, Seen::Nothing);
        match seen {
            Seen::Begun => {
                let told = ready();
                // Unless it has been killed meanwhile.
                let _ = ptrace::detach(self.pid, None);
                told
            }
            Seen::Lost => {
                // Where there is nothing to be let go it lives untraced, or has ended.
                let lives = ptrace::detach(self.pid, None).is_ok() || kill(self.pid, None).is_ok();
                if lives { ready() } else { Ok(()) }
            }
            // Without a program nothing is ready; systemd sees the end.
            Seen::Ended | Seen::Nothing => Ok(()),
        }
    }

    /// Looks until the program has begun or will not.
    pub(crate) fn finish(mut self, ready: impl Fn() -> Result<()>) -> Result<()> {
        let end = Instant::now() + LONGEST;
        loop {
            self.follow(&ready)?;
            if self.over {
                return Ok(());
            }
            if Instant::now() > end {
                // What is traced goes on by itself when this program ends.
                return ready();
            }
            sleep(TICK);
        }
    }

    fn look(&self) -> Seen {
        let flags = WaitPidFlag::WNOHANG | WaitPidFlag::__WALL;
        match waitpid(self.pid, Some(flags)) {
            Ok(WaitStatus::PtraceEvent(_, _, PTRACE_EVENT_EXEC)) => Seen::Begun,
            // It begins to be traced, or goes on after a stop of the whole process; the other way is not for us to hold.
            Ok(WaitStatus::PtraceEvent(_, Signal::SIGTRAP, _)) => self.proceed(None),
            Ok(WaitStatus::Stopped(_, signal)) => self.proceed(Some(signal)),
            Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) => Seen::Ended,
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => Seen::Nothing,
            // ECHILD: another thread of it has executed the program. EINVAL: a real-time signal, which has no name
            // here and is lost.
            Ok(_) | Err(_) => Seen::Lost,
        }
    }

    /// Lets it go on with a signal that it was sent.
    fn proceed(&self, signal: Option<Signal>) -> Seen {
        match ptrace::cont(self.pid, signal) {
            // Killed meanwhile.
            Ok(()) | Err(Errno::ESRCH) => Seen::Nothing,
            Err(_) => Seen::Lost,
        }
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "the launcher is a program of its own, without the library's exec"
)]
mod tests {
    use std::cell::Cell;
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A shell that waits for a line, and then becomes the program or ends.
    fn waiting(then: &str) -> (Child, Execution) {
        let mut child = Command::new("sh")
            .args(["-c", &format!("echo there; read line; {then}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let execution = Execution::watch(pid).unwrap();
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        (child, execution)
    }

    #[test]
    fn a_program_waits_until_it_has_been_told_of() {
        let (mut child, execution) = waiting("exec true");
        let told = Cell::new(0);
        let pid = child.id();
        execution
            .finish(|| {
                let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
                assert_eq!(name, "true\n");
                told.set(told.get() + 1);
                Ok(())
            })
            .unwrap();
        assert_eq!(told.get(), 1);
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn without_a_program_nothing_is_told() {
        let (mut child, execution) = waiting("exit 3");
        execution.finish(|| panic!("it has ended")).unwrap();
        // Its parent alone can have its status; here the parent is the watcher, who has had it.
        let _ = child.wait();
    }

    /// What cannot be followed is let go, and lives.
    #[test]
    fn a_signal_without_a_name_ends_the_watch() {
        let (mut child, execution) = waiting("trap '' 37; kill -37 $$; read end; exec true");
        let told = Cell::new(false);
        execution
            .finish(|| {
                told.set(true);
                Ok(())
            })
            .unwrap();
        assert!(told.get());
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn signals_pass() {
        let (mut child, execution) = waiting("trap 'exec true' USR1; kill -USR1 $$; :");
        let told = Cell::new(false);
        let ready = || {
            told.set(true);
            Ok(())
        };
        execution.finish(ready).unwrap();
        assert!(told.get());
        let _ = child.kill();
        let _ = child.wait();
    }
}
