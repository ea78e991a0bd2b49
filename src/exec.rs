//! Programs: run one to its end, with the argv logged and its stderr kept for the error.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the seam the lint points to"
)]

use std::convert::Infallible;
use std::ffi::OsStr;
use std::io::Write as _;
use std::io::{ErrorKind, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Where programs are looked for when `PATH` is unset, as execvp(3) does on Linux.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How many bytes of a program's stderr an error repeats: the end of it, where the reason stands.
const KEPT_STDERR: usize = 2048;

/// A program about to run.
#[derive(Debug)]
pub struct Program(Command);

/// What a finished program left.
#[derive(Debug)]
pub struct Output {
    /// Exit status 0.
    pub success: bool,
    /// All it wrote to stdout, as text.
    pub stdout: String,
    /// All it wrote to stderr, as text.
    pub stderr: String,
}

impl Program {
    /// A program by name (looked up in `PATH`) or path.
    pub fn new(name: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(name);
        command.stdin(Stdio::null()).env("LC_ALL", "C.UTF-8");
        Self(command)
    }

    /// A program that is to take this one's place, with its stdin, environment and terminal: see
    /// [`Program::replace`]. What systemd told this process about notification and sockets is not handed on.
    pub fn successor(name: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(name);
        for variable in [
            "NOTIFY_SOCKET",
            "LISTEN_FDS",
            "LISTEN_FDNAMES",
            "LISTEN_PID",
        ] {
            command.env_remove(variable);
        }
        Self(command)
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.0.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.0.args(args);
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    /// Gives it nothing to read.
    #[must_use]
    pub fn without_stdin(mut self) -> Self {
        self.0.stdin(Stdio::null());
        self
    }

    /// Takes this process's place: what it exits with is what this process exits with. Returns only an error.
    pub fn replace(mut self) -> Result<Infallible> {
        tracing::debug!(argv = ?self.0, "becoming");
        let error = self.0.exec();
        Err(error).with_context(|| format!("running `{}`", self.0.get_program().display()))
    }

    /// Runs it to its end, whatever its exit status.
    pub fn output(mut self) -> Result<Output> {
        tracing::debug!(argv = ?self.0, "running");
        let output = self
            .0
            .output()
            .with_context(|| format!("running `{}`", self.0.get_program().display()))?;
        Ok(Output {
            success: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// As [`Program::output`], but only the end of what it writes is kept: for a program of an image, which may write
    /// without end.
    pub fn last_words(mut self) -> Result<Output> {
        tracing::debug!(argv = ?self.0, "running");
        self.0.stdout(Stdio::piped()).stderr(Stdio::piped());
        let name = self.0.get_program().display().to_string();
        let running = || format!("running `{name}`");
        let mut child = self.0.spawn().with_context(running)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (stdout, stderr) = std::thread::scope(|scope| {
            let stderr = scope.spawn(|| end_of(stderr));
            (end_of(stdout), stderr.join().unwrap_or_default())
        });
        let status = child.wait().with_context(running)?;
        Ok(Output {
            success: status.success(),
            stdout,
            stderr,
        })
    }

    /// Runs it to its end with this to read, and returns its stdout; any other status than 0 is an error with the end
    /// of its stderr.
    pub fn filter(mut self, input: &[u8]) -> Result<Vec<u8>> {
        tracing::debug!(argv = ?self.0, "running");
        let name = self.0.get_program().display().to_string();
        let pipes = self.0.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = pipes
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("running `{name}`"))?;
        let mut stdin = child.stdin.take();
        let output = std::thread::scope(|scope| {
            // One that ends without reading all of it says why.
            scope.spawn(move || stdin.as_mut().map(|pipe| pipe.write_all(input)));
            child.wait_with_output()
        });
        let output = output.with_context(|| format!("running `{name}`"))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        bail!(
            "`{name}` said: {}",
            ending(&String::from_utf8_lossy(&output.stderr))
        );
    }

    /// Runs it to its end and returns its stdout; any other status than 0 is an error with the end of its stderr.
    pub fn run(self) -> Result<String> {
        let name = self.0.get_program().display().to_string();
        let output = self.output()?;
        if output.success {
            return Ok(output.stdout);
        }
        bail!("`{name}` said: {}", ending(&output.stderr));
    }
}

/// The end of what a program has said.
fn ending(said: &str) -> &str {
    let said = said.trim();
    &said[said.ceil_char_boundary(said.len().saturating_sub(KEPT_STDERR))..]
}

/// Reads to the end and keeps the last of it.
fn end_of(from: Option<impl Read>) -> String {
    let (mut kept, mut buffer) = (Vec::new(), [0; KEPT_STDERR]);
    if let Some(mut from) = from {
        loop {
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => kept.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
            kept.drain(..kept.len().saturating_sub(KEPT_STDERR));
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// The path of an executable file called `name` in `PATH`.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|file| is_executable(file))
}

/// Whether `path` is a file that this process may execute.
pub fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_repeats_what_the_program_said() {
        let error = Program::new("sh")
            .args(["-c", "echo why >&2; exit 3"])
            .run()
            .unwrap_err();
        assert_eq!(error.to_string(), "`sh` said: why");
        assert_eq!(
            Program::new("echo").arg("x").run().unwrap(),
            "x\n".to_owned()
        );
    }

    #[test]
    fn the_last_words_of_one_that_does_not_stop_talking() {
        let script = "head -c 300000 /dev/zero | tr '\\0' x; echo last; echo why >&2; exit 3";
        let output = Program::new("sh").args(["-c", script]).last_words();
        let output = output.unwrap();
        assert!(!output.success);
        assert_eq!(output.stdout.len(), KEPT_STDERR);
        assert!(output.stdout.ends_with("xlast\n"));
        assert_eq!(output.stderr, "why\n");
    }

    #[test]
    fn programs_are_found_in_path() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-here").is_none());
    }
}
