//! The OCI runtime: how it is called.
//!
//! The calls are those of the OCI runtime command line interface, as crun and runc have it. Output goes where the
//! launcher's goes, the unit's journal.
#![expect(
    clippy::disallowed_methods,
    reason = "the launcher is a program of its own, without the library's exec"
)]

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread::sleep;

use anyhow::{Context, Result, anyhow};
use rustix::process::Pid;

use crate::execution::TICK;
use crate::hint::Hinted;

/// What the launcher's environment holds and a runtime would act upon by itself.
const TAKEN: &[&str] = &[
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
];

/// One container of a runtime.
pub(crate) struct Runtime<'a> {
    /// The program.
    pub(crate) program: &'a Path,
    /// The container's id.
    pub(crate) name: &'a str,
    /// The unit's RuntimeDirectory, which is the bundle and holds the runtime's state.
    pub(crate) bundle: PathBuf,
    /// How many file descriptors, from 3 on, go to the payload.
    pub(crate) descriptors: u32,
}

impl Runtime<'_> {
    /// Removes the state that an earlier start left, if anything. The runtime's own `delete` would end whatever is
    /// left in the payload's cgroup: that is systemd's to decide (KillMode=).
    pub(crate) fn clean(&self) -> Result<()> {
        let state = self.bundle.join("oci").join(self.name);
        match fs::remove_dir_all(&state) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
        .with_context(|| format!("removing the left-over state `{}`", state.display()))
    }

    /// Creates the container; the process that will be the payload waits for [`Runtime::start`].
    pub(crate) fn create(&self) -> Result<Pid> {
        let file = self.bundle.join("pid");
        self.run("creating", &self.create_arguments(&file))?;
        let text =
            fs::read_to_string(&file).with_context(|| format!("reading `{}`", file.display()))?;
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        pid.ok_or_else(|| anyhow!("`{}` holds no process id", file.display()))
    }

    /// Lets the payload run.
    pub(crate) fn start(&self) -> Result<()> {
        self.run("starting", &self.start_arguments())
    }

    /// As [`Runtime::start`]; until the runtime has done so, `meanwhile` is done every now and then.
    pub(crate) fn start_while(&self, mut meanwhile: impl FnMut() -> Result<()>) -> Result<()> {
        let doing = "starting";
        let mut call = self.call(&self.start_arguments());
        let mut running = call.spawn().map_err(|error| self.unusable(doing, error))?;
        let mut told = Ok(());
        loop {
            let ended = running.try_wait().with_context(|| self.doing(doing))?;
            if let Some(status) = ended {
                return self.judge(doing, status).and(told);
            }
            if told.is_ok() {
                told = meanwhile();
            }
            sleep(TICK);
        }
    }

    /// Becomes the runtime, which runs the container and exits as it does. Returns only an error.
    pub(crate) fn become_run(&self) -> Result<()> {
        let error = self.call(&self.bundled("run", &[])).exec();
        Err(self.unusable("running", error))
    }

    /// Runs the program and judges its exit.
    fn run(&self, doing: &str, arguments: &[OsString]) -> Result<()> {
        let status = self
            .call(arguments)
            .status()
            .map_err(|error| self.unusable(doing, error))?;
        self.judge(doing, status)
    }

    fn judge(&self, doing: &str, status: ExitStatus) -> Result<()> {
        if status.success() {
            return Ok(());
        }
        Err(anyhow!("{status}"))
            .with_context(|| self.doing(doing))
            .hint("the reason is in the lines of the runtime above; what it was given is the generation's config.json")
    }

    /// The error of a program that could not be run at all.
    fn unusable(&self, doing: &str, error: std::io::Error) -> anyhow::Error {
        let hint = "install that runtime, or install the container again with --runtime";
        let failed = Err::<(), _>(error)
            .with_context(|| self.doing(doing))
            .hint(hint);
        failed.err().unwrap_or_else(|| anyhow!("no error"))
    }

    /// The context of an error.
    fn doing(&self, doing: &str) -> String {
        format!(
            "{doing} container `{}` with `{}`",
            self.name,
            self.program.display()
        )
    }

    /// A command with the options that every call has.
    fn call(&self, arguments: &[OsString]) -> Command {
        let mut command = Command::new(self.program);
        command.args(self.options()).args(arguments);
        for variable in TAKEN {
            command.env_remove(variable);
        }
        command
    }

    /// The options before the verb.
    fn options(&self) -> Vec<OsString> {
        let mut options = vec!["--root".into(), self.bundle.join("oci").into()];
        // crun asks systemd for a scope by default; the payload is to stay in the unit's own, delegated group.
        if self
            .program
            .file_name()
            .is_some_and(|name| name.to_string_lossy().contains("crun"))
        {
            options.push("--cgroup-manager=cgroupfs".into());
        }
        options
    }

    /// `create`, with the pid in `file`.
    fn create_arguments(&self, file: &Path) -> Vec<OsString> {
        self.bundled("create", &["--pid-file".into(), file.into()])
    }

    fn start_arguments(&self) -> [OsString; 2] {
        ["start".into(), self.name.into()]
    }

    /// A verb that takes the bundle and the file descriptors.
    ///
    /// `--preserve-fds` rather than LISTEN_FDS: runc takes that only when LISTEN_PID is its own id.
    fn bundled(&self, verb: &str, options: &[OsString]) -> Vec<OsString> {
        let mut arguments = vec![verb.into(), "--bundle".into(), self.bundle.clone().into()];
        arguments.extend_from_slice(options);
        if self.descriptors > 0 {
            arguments.push(format!("--preserve-fds={}", self.descriptors).into());
        }
        arguments.push(self.name.into());
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime(program: &str, descriptors: u32) -> Runtime<'_> {
        Runtime {
            program: Path::new(program),
            name: "etcd",
            bundle: "/run/bedplate/etcd".into(),
            descriptors,
        }
    }

    fn words(runtime: &Runtime<'_>, arguments: &[OsString]) -> String {
        let all: Vec<_> = runtime
            .options()
            .into_iter()
            .chain(arguments.iter().cloned())
            .collect();
        all.join(" ".as_ref()).into_string().unwrap()
    }

    #[test]
    fn the_calls_are_exact() {
        let crun = runtime("/usr/bin/crun", 2);
        assert_eq!(
            words(
                &crun,
                &crun.create_arguments(Path::new("/run/bedplate/etcd/pid"))
            ),
            "--root /run/bedplate/etcd/oci --cgroup-manager=cgroupfs create --bundle /run/bedplate/etcd \
             --pid-file /run/bedplate/etcd/pid --preserve-fds=2 etcd"
        );
        let runc = runtime("/usr/sbin/runc", 0);
        assert_eq!(
            words(&runc, &runc.bundled("run", &[])),
            "--root /run/bedplate/etcd/oci run --bundle /run/bedplate/etcd etcd"
        );
    }

    #[test]
    fn failures_name_container_and_runtime() {
        let missing = runtime("/nonexistent/crun", 0);
        let error = missing.start().unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "starting container `etcd` with `/nonexistent/crun`: No such file or directory (os error 2)"
        );
        assert_eq!(crate::hint::hints(&error).len(), 1);
        let error = runtime("/bin/false", 0).start().unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "starting container `etcd` with `/bin/false`: exit status: 1"
        );
    }
}
