//! The booted tests: stories told on a real systemd in a guest, one file per story. See `README.md`.
#![allow(missing_docs, reason = "a test program: nobody links it")]
#![expect(
    clippy::disallowed_methods,
    reason = "the tests stand outside the program: they make its host and look at its disk"
)]

mod boot;
mod cluster;
mod cold;
mod composefs;
mod cost;
mod crash;
mod cri;
mod early;
mod ends;
mod failing;
mod fidelity;
mod guest;
mod handed;
mod host;
mod hosts;
mod httpd;
mod images;
mod inside;
mod journal;
mod killed;
mod limits;
mod machine;
mod operated;
mod owners;
mod peers;
mod pods;
mod power;
mod product;
mod qemu;
mod registry;
mod scene;
mod secrets;
mod speaks;
mod story;
mod tutorial;
mod uninstall;
mod unit;
mod update;
mod verity;

use std::process::ExitCode;

use libtest_mimic::Arguments;

use crate::story::stories;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // A guest waits more than it computes; more than two at once make deadlines of other guests expire.
    arguments.test_threads.get_or_insert(2);
    // The longest first: two of them run side by side.
    let lists = [
        power::STORIES,
        pods::STORIES,
        cold::STORIES,
        limits::STORIES,
        verity::STORIES,
        cluster::STORIES,
        cri::STORIES,
        update::STORIES,
        unit::STORIES,
        handed::STORIES,
        ends::STORIES,
        speaks::STORIES,
        early::STORIES,
        secrets::STORIES,
        owners::STORIES,
        operated::STORIES,
        killed::STORIES,
        peers::STORIES,
        failing::STORIES,
        inside::STORIES,
        hosts::STORIES,
        uninstall::STORIES,
        composefs::STORIES,
        httpd::STORIES,
        tutorial::STORIES,
        journal::STORIES,
        crash::STORIES,
        boot::STORIES,
        cost::STORIES,
    ];
    libtest_mimic::run(&arguments, stories(&lists)).exit_code()
}
