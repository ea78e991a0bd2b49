//! Errors as the operator meets them: what was being done, why it failed, what to do next; and the exit status.
#![expect(clippy::print_stderr, reason = "this is where errors are printed")]

use std::process::ExitCode;

use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::output::plain;
use crate::hint;
use crate::ops::chain;
use crate::ops::exec::CannotRun;
use crate::ops::update::WentBack;
use crate::state::NeedsRecover;

/// Wrong usage.
const USAGE: u8 = 2;

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Failure {
    /// The whole of it on one line: what was being done, and why that failed.
    pub(crate) error: String,
    /// The same in its parts: what was being done first, the cause of all last.
    pub(crate) causes: Vec<String>,
    /// What to do about it.
    pub(crate) hints: Vec<String>,
    /// The exit status.
    pub(crate) exit: u8,
}

impl Failure {
    /// Of an error, with its remedies and the exit status: `failed`, the host is as before; 3, it needs `recover`; 4,
    /// what ran before an update runs again; or why a command cannot be run. `None` when nobody reads the outcome any more.
    pub(crate) fn of(error: &anyhow::Error, failed: u8) -> Option<Self> {
        if broken_pipe(error) {
            return None;
        }
        let hints = hint::hints(error).into_iter();
        let mut hints: Vec<String> = hints.map(|hint| hint.0).collect();
        if hints.is_empty() && full(error) {
            hints.push("free space there: `bedplate prune` removes what nobody needs".to_owned());
        }
        if denied(error) && !rustix::process::geteuid().is_root() {
            hints.push("run it with `sudo`, or as root".to_owned());
        }
        let command = error.downcast_ref::<CannotRun>();
        let mut exit = command.map_or(failed, |command| command.status);
        if error.downcast_ref::<NeedsRecover>().is_some() {
            hints.push("mend the cause, then run `bedplate recover`".to_owned());
            exit = 3;
        } else if error.downcast_ref::<WentBack>().is_some() {
            exit = 4;
        }
        Some(Self {
            error: chain(error),
            causes: causes(error),
            hints,
            exit,
        })
    }

    /// Of a command line that cannot be read.
    fn of_usage(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        let mut lines = text.lines().map(str::trim);
        let what = lines.next().unwrap_or_default();
        let what = what.strip_prefix("error: ").unwrap_or(what).to_owned();
        let tips = lines.filter_map(|line| line.strip_prefix("tip: "));
        Self {
            causes: vec![what.clone()],
            error: what,
            hints: tips.map(str::to_owned).collect(),
            exit: USAGE,
        }
    }

    /// Prints it for people, or as one line of JSON, and gives the exit status.
    pub(crate) fn print(&self, json: bool) -> ExitCode {
        if json && let Ok(line) = serde_json::to_string(self) {
            eprintln!("{line}");
            return ExitCode::from(self.exit);
        }
        eprintln!("error: {}", plain::with_quotes(&self.error));
        for hint in &self.hints {
            eprintln!("hint: {}", plain::line(hint));
        }
        ExitCode::from(self.exit)
    }
}

/// Answers a command line that cannot be read, or that asks for help.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    let mut words = std::env::args_os().take_while(|word| word != "--");
    if error.use_stderr() && words.any(|word| word == "--json") {
        return Failure::of_usage(error).print(true);
    }
    error.exit()
}

/// The chain of causes; some libraries end an error's text with that of its cause, which is then not a part of its own.
fn causes(error: &anyhow::Error) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain().map(ToString::to_string) {
        if parts.last().is_none_or(|last| !last.ends_with(&cause)) {
            parts.push(cause);
        }
    }
    parts
}

/// The kernel refused: a file of root's, most often.
fn denied(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let errno = cause.downcast_ref::<rustix::io::Errno>().copied();
        let io = cause.downcast_ref::<std::io::Error>();
        errno.map_or_else(
            || io.is_some_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied),
            |errno| errno.kind() == std::io::ErrorKind::PermissionDenied,
        )
    })
}

/// A file system has no room: of the kernel, or as a library or a program tells it.
fn full(error: &anyhow::Error) -> bool {
    let text = chain(error).to_lowercase();
    ["no space left on device", "disk quota exceeded"]
        .iter()
        .any(|reason| text.contains(reason))
}

/// Whoever reads stdout has seen enough: `bedplate list | head -1`.
fn broken_pipe(error: &anyhow::Error) -> bool {
    error
        .root_cause()
        .downcast_ref::<std::io::Error>()
        .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}
