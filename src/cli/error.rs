//! Errors as the operator meets them: what was being done, why it failed, what to do next; and the exit status.
#![expect(clippy::print_stderr, reason = "this is where errors are printed")]

use std::process::ExitCode;

use crate::hint;
use crate::state::NeedsRecover;

/// Prints the error with its remedies and gives the exit status: 1, the host is as before; 3, it needs `recover`.
pub(crate) fn print(error: &anyhow::Error) -> ExitCode {
    if broken_pipe(error) {
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {error:#}");
    for hint in hint::hints(error) {
        eprintln!("hint: {}", hint.0);
    }
    if error.downcast_ref::<NeedsRecover>().is_some() {
        eprintln!("hint: mend the cause, then run `bedplate recover`");
        return ExitCode::from(3);
    }
    ExitCode::from(1)
}

/// Whoever reads stdout has seen enough: `bedplate list | head -1`.
fn broken_pipe(error: &anyhow::Error) -> bool {
    error
        .root_cause()
        .downcast_ref::<std::io::Error>()
        .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}
