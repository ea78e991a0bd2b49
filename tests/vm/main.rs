//! The booted tests: stories told on a real systemd in a guest, one file per story. See `README.md`.
#![allow(missing_docs, reason = "a test program: nobody links it")]
#![expect(
    clippy::disallowed_methods,
    reason = "the tests stand outside the program: they make its host and look at its disk"
)]

mod boot;
mod guest;
mod host;
mod machine;
mod registry;
mod story;

use std::process::ExitCode;

use libtest_mimic::Arguments;

use crate::story::stories;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // A guest waits more than it computes; more than two at once make deadlines of other guests expire.
    arguments.test_threads.get_or_insert(2);
    libtest_mimic::run(&arguments, stories(&[boot::STORIES])).exit_code()
}
