//! A daemon that runs while something is measured: the registry, or containerd.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::accounting::{self, Group, Program};

/// Within which it is up, or has ended.
const DEADLINE: Duration = Duration::from_secs(20);

/// A running daemon, ended when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
}

impl Server {
    /// Starts it and waits for the line on its stderr that has these words; that line. Both streams are kept beside
    /// each other: `LOG.out`, `LOG.err`.
    pub(crate) fn start(
        program: &Program,
        group: Option<&Group>,
        words: &'static str,
        log: &Path,
    ) -> Result<(Self, String)> {
        let mut kept = File::create(log.with_extension("err"))?;
        let mut command = program.command(group);
        command
            .stdout(File::create(log.with_extension("out"))?)
            .stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
        let lines = BufReader::new(child.stderr.take().context("stderr is a pipe")?);
        let server = Self { child };
        let (says, said) = mpsc::channel();
        thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let _best_effort = writeln!(kept, "{line}");
                if line.contains(words) {
                    let _nobody_waits_twice = says.send(line);
                }
            }
        });
        let line = said.recv_timeout(DEADLINE);
        let line =
            line.with_context(|| format!("{program:?} is not up, see `{}`", log.display()))?;
        Ok((server, line))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.child);
        let _gone = kill_process(pid, Signal::TERM);
        let ended = pidfd_open(pid, PidfdFlags::empty())
            .ok()
            .and_then(|fd| accounting::ready(&[PollFd::new(&fd, PollFlags::IN)], DEADLINE).ok());
        if ended != Some(true) {
            let _gone = self.child.kill();
        }
        let _status = self.child.wait();
    }
}
