//! What a unit's ExecStart runs: starts one generation of a system container and goes away.
//!
//! `launch GENERATION` completes the generation's config.json by what only this start knows, has the OCI runtime
//! create the container, names its init to systemd as the unit's main process, starts it, and exits. It uses
//! neither the store nor D-Bus nor the network, and is linked statically: a boot needs it and the runtime alone.
#![expect(
    unreachable_pub,
    reason = "hint.rs and launch.rs are the library's too"
)]

use std::path::PathBuf;
use std::process::ExitCode;

mod apart;
mod cgroup;
mod config;
mod environment;
mod execution;
#[path = "../../hint.rs"]
mod hint;
#[path = "../../launch.rs"]
mod launch;
mod manager;
mod ownership;
mod plan;
mod proxy;
mod report;
mod runtime;
mod start;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(generation), None) = (arguments.next(), arguments.next()) else {
        return report::usage();
    };
    let inherited = environment::Inherited::read();
    match inherited.and_then(|inherited| start::start(&generation, &inherited)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report::failure(&error),
    }
}
