//! Errors as the operator meets them: what was being done, why it failed, what to do next; and the exit status.
#![expect(clippy::print_stderr, reason = "this is where errors are printed")]

use std::process::ExitCode;

use crate::hint;
use crate::ops::chain;
use crate::ops::exec::CannotRun;
use crate::ops::update::WentBack;
use crate::state::NeedsRecover;

/// Prints the error with its remedies and gives the exit status: `failed`, the host is as before; 3, it needs
/// `recover`; 4, what ran before an update runs again; or why a command cannot be run.
pub(crate) fn print(error: &anyhow::Error, failed: u8) -> ExitCode {
    if broken_pipe(error) {
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {}", chain(error));
    let hints = hint::hints(error);
    for hint in &hints {
        eprintln!("hint: {}", hint.0);
    }
    if hints.is_empty() && full(error) {
        eprintln!("hint: free space there: `bedplate prune` removes what nobody needs");
    }
    if denied(error) && !rustix::process::geteuid().is_root() {
        eprintln!("hint: run it with `sudo`, or as root");
    }
    if error.downcast_ref::<NeedsRecover>().is_some() {
        eprintln!("hint: mend the cause, then run `bedplate recover`");
        return ExitCode::from(3);
    }
    if error.downcast_ref::<WentBack>().is_some() {
        return ExitCode::from(4);
    }
    let command = error.downcast_ref::<CannotRun>();
    ExitCode::from(command.map_or(failed, |command| command.status))
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
