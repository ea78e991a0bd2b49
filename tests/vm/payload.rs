//! What the small images of the booted stories run: what its argument says, or else `SCRIPT`, one step after the other, `;` between them.
//!
//! | step | does |
//! |---|---|
//! | `say TEXT` | writes a line |
//! | `env NAME` | writes `NAME=value` |
//! | `show FILE` | writes what is in it |
//! | `terminal` | writes whether it has one |
//! | `tell MESSAGE` | sends it to the notify socket |
//! | `forge FILE` | tells systemd that the process id in FILE is the main process, alone and with a READY |
//! | `await FILE` | waits until FILE is there |
//! | `wait` | waits for SIGTERM |
//! | `pause MS` | waits so many milliseconds |
//! | `exit STATUS` | ends |
//!
//! After the last step it ends with status 0. Steps that fail are told, and the next one is done.
#![allow(missing_docs, reason = "a program: nobody links it")]
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "it runs alone in a container and speaks to the journal"
)]

use std::io::IsTerminal as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// How often it looks whether what it waits for is there.
const TICK: Duration = Duration::from_millis(10);

fn main() -> ExitCode {
    let stopped = Arc::new(AtomicBool::new(false));
    let handled = signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&stopped));
    if let Err(error) = handled {
        println!("SIGTERM: {error}");
    }
    let script = std::env::args()
        .nth(1)
        .or_else(|| std::env::var("SCRIPT").ok());
    let script = script.unwrap_or_default();
    for step in script.split(';').map(str::trim) {
        let (verb, rest) = step.split_once(' ').unwrap_or((step, ""));
        if verb == "exit" {
            return ExitCode::from(rest.parse().unwrap_or(u8::MAX));
        }
        if let Err(error) = carry_out(verb, rest, &stopped) {
            println!("{step}: {error:#}");
        }
    }
    ExitCode::SUCCESS
}

fn carry_out(verb: &str, rest: &str, stopped: &AtomicBool) -> Result<()> {
    match verb {
        "say" => println!("{rest}"),
        "env" => println!("{rest}={}", std::env::var(rest)?),
        "show" => print!("{}", std::fs::read_to_string(rest)?),
        "terminal" => println!("terminal={}", std::io::stdin().is_terminal()),
        "tell" => tell(rest)?,
        "forge" => {
            let victim = std::fs::read_to_string(rest)?;
            let message = format!("MAINPID={}", victim.trim());
            tell(&message)?;
            tell(&format!("{message}\nREADY=1"))?;
        }
        "await" => until(|| Path::new(rest).exists()),
        "wait" => until(|| stopped.load(Ordering::Relaxed)),
        "pause" => sleep(Duration::from_millis(rest.parse()?)),
        _ => println!("no step `{verb}`"),
    }
    Ok(())
}

fn until(done: impl Fn() -> bool) {
    while !done() {
        sleep(TICK);
    }
}

/// sd_notify(3).
fn tell(message: &str) -> Result<()> {
    let socket = std::env::var("NOTIFY_SOCKET").context("NOTIFY_SOCKET")?;
    UnixDatagram::unbound()?.send_to(message.as_bytes(), &socket)?;
    Ok(())
}
