//! Programs run to their end, each with a deadline.

use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// No command takes longer, not even on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_mins(2);

/// What a finished program left.
#[derive(Debug)]
pub(crate) struct Run {
    /// Its exit status; -1 when a signal ended it.
    pub(crate) status: i32,
    /// All it wrote to stdout.
    pub(crate) stdout: String,
    /// All it wrote to stderr.
    pub(crate) stderr: String,
}

impl Run {
    /// Its stdout, after it succeeded.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.status, 0, "{}", self.stderr);
        self.stdout
    }

    /// What it said from `error:` on, after it failed with this status and wrote nothing to stdout.
    pub(crate) fn failed(&self, status: i32) -> &str {
        assert_eq!(
            (self.status, self.stdout.as_str()),
            (status, ""),
            "{}",
            self.stderr
        );
        let at = self.stderr.find("error: ").unwrap_or(0);
        self.stderr[at..].trim_end()
    }
}

/// Runs a program to its end.
pub(crate) fn run(command: &mut Command) -> Run {
    // Files, not pipes: what the program leaves running cannot keep them open.
    let mut stdout = tempfile::tempfile().unwrap();
    let mut stderr = tempfile::tempfile().unwrap();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(stdout.try_clone().unwrap())
        .stderr(stderr.try_clone().unwrap())
        .spawn()
        .unwrap();
    let ended = ends_within(&child, DEADLINE);
    if !ended {
        child.kill().unwrap();
    }
    let status = child.wait().unwrap().code().unwrap_or(-1);
    let run = Run {
        status,
        stdout: text(&mut stdout),
        stderr: text(&mut stderr),
    };
    assert!(ended, "{command:?} did not end: {run:?}");
    run
}

/// Whether the program ends before so much time has passed.
pub(crate) fn ends_within(child: &Child, time: Duration) -> bool {
    let pid = Pid::from_child(child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let timeout = Timespec::try_from(time).unwrap();
    let mut fds = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
    poll(&mut fds, Some(&timeout)).unwrap() > 0
}

/// Runs a program of the machine, which must succeed.
pub(crate) fn tool(program: &str, args: &[&str]) -> String {
    run(Command::new(program).args(args)).ok()
}

fn text(file: &mut std::fs::File) -> String {
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

/// Makes a file that can be executed. Not by this process: what another thread begins meanwhile would have it open for
/// writing for a while, and what is open so cannot be executed.
pub(crate) fn executable(path: &std::path::Path, content: &str) {
    let script = r#"printf %s "$1" >"$0" && chmod 0755 "$0""#;
    tool("sh", &["-c", script, path.to_str().unwrap(), content]);
}
