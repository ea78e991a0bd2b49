//! `exec`: a command in a running container, by the container's own runtime, which takes this process's place: its
//! exit status is the command's.

mod command;
mod process;

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use containers_image_proxy::oci_spec::runtime::Spec;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::write;

use crate::exec::Program;
use crate::hint::Hinted;
use crate::name::ContainerName;
use crate::ops::Host;
use crate::root::Root;
use crate::runtime::Runtime;
use crate::state;

pub use crate::ops::exec::command::CannotRun;

/// What is to be run, and where.
#[derive(Debug, Default)]
pub struct Request {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// A user of the container, and a group after a colon; absent: the payload's.
    pub user: Option<String>,
    /// Variables over the payload's.
    pub env: Vec<(String, String)>,
    /// The working directory; absent: the payload's.
    pub workdir: Option<PathBuf>,
    /// It has a terminal of its own, shown on this one; with its value of `TERM`.
    pub terminal: Option<String>,
    /// It reads what this process would.
    pub interactive: bool,
}

/// Runs the command in this process's place. Returns only an error: a [`CannotRun`] when the command is at fault.
pub fn run(host: &Host, name: &ContainerName, request: &Request) -> Result<Infallible> {
    let call = Call::of(host, name, request)?;
    let program = Program::successor(&call.argv[0]).args(&call.argv[1..]);
    if request.interactive || request.terminal.is_some() {
        program.replace()
    } else {
        program.without_stdin().replace()
    }
}

/// The runtime's call that runs a command, good for as long as this is there.
pub(crate) struct Call {
    pub(crate) argv: Vec<OsString>,
    /// The process as the runtime reads it: by its number, before it starts anything. The file is gone with this.
    _process: OwnedFd,
}

impl Call {
    /// The call for this command; fails with a [`CannotRun`] when the command is at fault.
    pub(crate) fn of(host: &Host, name: &ContainerName, request: &Request) -> Result<Self> {
        if !host.root.is_host() {
            bail!("a container of a `--root` directory does not run");
        }
        let record = state::require(host.root, name)?;
        let runtime = Runtime::choose(record.runtime.to_str(), host.root)?;
        let running = runtime.state(name, host.root)?;
        let running = running
            .filter(|state| state.status == "running" && state.pid != 0)
            .ok_or_else(|| anyhow!("`{name}` is not running"))
            .hint(format!(
                "`systemctl start {0}` starts it, `systemctl status {0}` tells how it is",
                name.service()
            ))?;
        let container = Root::of_process(running.pid)?;
        let process = process::of(&payload(host, name)?, &container, request)?;
        command::check(&container, &process)?;

        let file = memfd_create("process.json", MemfdFlags::empty());
        let file = file.context("making a file in memory")?;
        let text = serde_json::to_vec(&process).context("writing the process")?;
        let mut rest = text.as_slice();
        while !rest.is_empty() {
            let written = write(&file, rest).context("writing the process")?;
            rest = &rest[written..];
        }
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let argv = runtime.exec_process_argv(name, &path);
        let argv = argv.iter().map(OsString::from).collect();
        Ok(Self {
            argv,
            _process: file,
        })
    }
}

/// What the launcher gave the runtime at this start.
fn payload(host: &Host, name: &ContainerName) -> Result<Spec> {
    let path = format!("/run/bedplate/{name}/config.json");
    let reading = || format!("reading `{path}`");
    let text = host.root.read(&path)?;
    let text = text
        .ok_or_else(|| anyhow!("it is missing"))
        .with_context(reading)?;
    serde_json::from_slice(&text).with_context(reading)
}
