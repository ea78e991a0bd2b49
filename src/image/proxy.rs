//! One skopeo that serves images: `skopeo experimental-image-proxy`, spoken to directly.
//!
//! The protocol is JSON over a socket, one request at a time, and a pipe for each piece of data. The crate's own
//! client reads the pipes through a runtime's threads, never gives up on an answer, and cannot be ended. Here a blob
//! is a plain pipe that any thread reads (a third less time in all, measured with four blobs at once), every wait
//! has a limit, and a skopeo that does not answer is killed.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use containers_image_proxy::ImageProxyConfig;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::json;
use thiserror::Error;

use crate::image::COLLECTOR;
use crate::image::turn::{Turn, ready};

/// How long skopeo may take to end by itself: it removes the temporary files of an archive first.
const FAREWELL: Duration = Duration::from_secs(5);

/// What its log says of each manifest that a registry has sent; its own words since 2016.
const FETCHED: &str = "Content-Type from manifest GET is ";

/// Why skopeo did not do what it was asked.
#[derive(Debug, Clone, Error)]
pub(crate) enum Failure {
    /// There is no skopeo to be started.
    #[error("starting `skopeo`: {0}")]
    Start(Arc<io::Error>),
    /// What it said; newer ones say whether trying again may help.
    #[error("{text}")]
    Said {
        /// Its words.
        text: String,
        /// Whether it called the failure transient.
        transient: bool,
    },
    /// It, or what it reads from, has been silent for too long.
    #[error("no answer and no data for {} seconds", .0.as_secs())]
    Silent(Duration),
    /// It ended with these last words; without any it was killed, as when another of its streams hung.
    #[error("skopeo ended{}{}", if .0.is_empty() { "" } else { ": " }, .0)]
    Ended(String),
    /// The conversation went wrong on this side.
    #[error("speaking to skopeo: {0}")]
    Speech(String),
}

impl Failure {
    #[expect(clippy::needless_pass_by_value, reason = "what `map_err` calls")]
    pub(crate) fn speech(error: impl ToString) -> Self {
        Self::Speech(error.to_string())
    }
}

/// A running skopeo.
pub(crate) struct Proxy {
    pub(crate) socket: OwnedFd,
    /// Whether a request is under way; an answer belongs to the last one.
    line: Mutex<Line>,
    pub(crate) changed: Condvar,
    process: OwnedFd,
    /// In memory: a pipe that nobody reads could hold skopeo up.
    stderr: File,
    /// The silence after which a wait is given up.
    limit: Duration,
    version: (u64, u64, u64),
}

/// Who may speak.
#[derive(Default)]
pub(crate) struct Line {
    pub(crate) busy: bool,
    pub(crate) dead: bool,
}

impl Proxy {
    /// Starts a skopeo, this one or that of the host, with these options.
    pub(crate) fn start(
        skopeo: Option<Command>,
        options: Vec<OsString>,
        limit: Duration,
    ) -> Result<Arc<Self>, Failure> {
        let mut config = ImageProxyConfig::default();
        config.skopeo_cmd = skopeo;
        // What it is asked for is not all that is to be known: see `manifests`.
        config.debug = true;
        // skopeo's arguments, and its end with ours.
        let mut command = Command::try_from(config).map_err(Failure::speech)?;
        command.args(options);
        command.env(COLLECTOR.0, COLLECTOR.1);
        let (socket, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(Failure::speech)?;
        let stderr = memfd_create("skopeo", MemfdFlags::CLOEXEC).map_err(Failure::speech)?;
        let stderr = File::from(stderr);
        command.stdin(Stdio::from(theirs));
        command.stderr(stderr.try_clone().map_err(Failure::speech)?);
        tracing::debug!(argv = ?command, "running");
        let mut proxy = Self {
            socket,
            line: Mutex::default(),
            changed: Condvar::new(),
            process: keep(command)?,
            stderr,
            limit,
            version: (0, 0, 0),
        };
        let answer = Turn::take(&proxy)?.ask("Initialize", &json!([]))?;
        proxy.version = version(answer.value.as_str().unwrap_or_default())
            .ok_or_else(|| Failure::speech(format!("it speaks version {}", answer.value)))?;
        Ok(Arc::new(proxy))
    }

    /// The version of the protocol.
    pub(crate) fn version(&self) -> (u64, u64, u64) {
        self.version
    }

    /// The silence after which a wait is given up.
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// Whether requests are still answered.
    pub(crate) fn is_alive(&self) -> bool {
        !self.line().dead
    }

    pub(crate) fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it at once: what hangs in it would hang for ever.
    pub(crate) fn kill(&self) {
        self.line().dead = true;
        let _already_ended = pidfd_send_signal(&self.process, Signal::KILL);
        self.changed.notify_all();
    }

    /// Lets it end.
    pub(crate) fn dismiss(&self) {
        let _both_ends = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }

    /// Lets it end, and waits until it has; one that does not is killed.
    fn close(&self) {
        if self.is_alive() {
            self.dismiss();
            if let Ok(true) = ready(&self.process, FAREWELL) {
                self.line().dead = true;
                return;
            }
        }
        self.kill();
    }

    /// The error for a socket at its end.
    pub(crate) fn ended(&self) -> Failure {
        self.kill();
        let said = self.said();
        let words: Vec<_> = said.lines().filter(|line| !is_chatter(line)).collect();
        Failure::Ended(words.join("\n").trim().to_owned())
    }

    /// How many manifests it has fetched from registries, as its log has it; the protocol does not tell. None when
    /// the log has other words by now.
    pub(crate) fn manifests(&self) -> usize {
        self.said().matches(FETCHED).count()
    }

    /// All that it has written so far.
    fn said(&self) -> String {
        let length = self.stderr.metadata().map_or(0, |file| file.len());
        let mut said = vec![0; usize::try_from(length).unwrap_or_default()];
        // Where it writes next is not ours to move.
        match self.stderr.read_exact_at(&mut said, 0) {
            Ok(()) => String::from_utf8_lossy(&said).into_owned(),
            Err(_) => String::new(),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.close();
    }
}

impl AsRef<Proxy> for Proxy {
    fn as_ref(&self) -> &Proxy {
        self
    }
}

/// Runs the command in a thread of its own, for it is killed when the thread that started it ends; a handle of it.
fn keep(mut command: Command) -> Result<OwnedFd, Failure> {
    let (started, starting) = mpsc::channel();
    let keeper = move || match command.spawn() {
        Ok(mut child) => {
            let handle = pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
            // Its copy of skopeo's end of the socket would keep that open.
            drop(command);
            let _nobody_waits = started.send(handle.map_err(io::Error::from));
            let _status = child.wait();
        }
        Err(error) => {
            let _nobody_waits = started.send(Err(error));
        }
    };
    let spawned = thread::Builder::new()
        .name("skopeo".to_owned())
        .spawn(keeper);
    spawned.map_err(|error| Failure::Start(Arc::new(error)))?;
    match starting.recv() {
        Ok(handle) => handle.map_err(|error| Failure::Start(Arc::new(error))),
        Err(error) => Err(Failure::speech(error)),
    }
}

/// A line of the log that tells of nothing wrong.
fn is_chatter(line: &str) -> bool {
    line.contains(" level=debug ") || line.contains(" level=info ")
}

fn version(text: &str) -> Option<(u64, u64, u64)> {
    let mut parts = text.split(['.', '-', '+']).map(str::parse);
    match (parts.next()?, parts.next()?, parts.next()?) {
        (Ok(major), Ok(minor), Ok(patch)) => Some((major, minor, patch)),
        _ => None,
    }
}
