//! What the launcher says: one line in the unit's journal, only when a start failed.
#![expect(clippy::print_stderr, reason = "stderr is the unit's journal")]

use std::process::ExitCode;

use crate::hint;

/// The exit status of a start that failed.
const FAILED: u8 = 1;
/// The exit status of a call with the wrong arguments.
const USAGE: u8 = 2;

/// Says how the launcher is called.
pub(crate) fn usage() -> ExitCode {
    eprintln!("usage: launch GENERATION_DIRECTORY (called by a system container's unit)");
    ExitCode::from(USAGE)
}

/// Prints `error` with its remedies.
pub(crate) fn failure(error: &anyhow::Error) -> ExitCode {
    // sd-daemon(3): a leading `<3>` gives the line the priority `err`; without a journal it would be noise.
    let priority = if std::env::var_os("JOURNAL_STREAM").is_some() {
        "<3>"
    } else {
        ""
    };
    eprintln!("{priority}{}", line(error));
    ExitCode::from(FAILED)
}

/// The one line: the chain of causes, then what to do.
fn line(error: &anyhow::Error) -> String {
    hint::hints(error)
        .iter()
        .fold(format!("error: {error:#}"), |line, hint| {
            format!("{line}; hint: {}", hint.0)
        })
        .replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;
    use crate::hint::Hinted;

    #[test]
    fn a_failure_is_one_line_with_its_remedy() {
        let error = Err::<(), _>(anyhow!("exit status: 1"))
            .hint("read the line above")
            .context("creating container `etcd`")
            .unwrap_err();
        assert_eq!(
            line(&error),
            "error: creating container `etcd`: exit status: 1; hint: read the line above"
        );
        assert_eq!(line(&anyhow!("two\nlines")), "error: two lines");
    }
}
