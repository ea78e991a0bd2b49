//! What the small images of the booted stories run: what its argument says, or else `SCRIPT`, one step after the other, `;` between them.
//!
//! | step | does |
//! |---|---|
//! | `say TEXT` | writes a line |
//! | `env NAME` | writes `NAME=value` |
//! | `show FILE` | writes what is in it |
//! | `mirror FILE` | writes what is in it, backwards, and of that no more than the first 100 characters |
//! | `make FILE` | makes it, empty |
//! | `owner FILE` | writes `FILE UID:GID MODE` |
//! | `terminal` | writes whether it has one |
//! | `complain TEXT` | writes a line to standard error |
//! | `tell MESSAGE` | sends it to the notify socket, a line for each part between `\|` |
//! | `ping FILE` | tells the watchdog that it is alive, until FILE is there or SIGTERM comes |
//! | `reloads` | at each SIGHUP says `reloading` and tells of it, and that it is done; until SIGTERM |
//! | `enter TEXT` | sends an entry to journald, a field for each part between `\|` |
//! | `store NAME TEXT` | gives systemd a descriptor of that name, behind which is the text |
//! | `recall` | writes `NAME: TEXT` of each descriptor that was stored |
//! | `serve` | tells each who connects to a socket that was handed in what that is called, until SIGTERM |
//! | `forge FILE` | tells systemd that the process id in FILE is the main process, alone and with a READY |
//! | `await FILE` | waits until FILE is there |
//! | `wait` | waits for SIGTERM |
//! | `obey FILE` | waits until FILE is there, takes it away, and does the step that is in it |
//! | `mount DIRECTORY` | mounts something there, and writes `mounted DIRECTORY` |
//! | `open FILE` | opens it, and writes `opened FILE` |
//! | `heed SIGNAL` | waits for the signal of that number |
//! | `pause MS` | waits so many milliseconds |
//! | `grow MIB` | takes so much memory and writes to all of it |
//! | `tasks COUNT` | starts so many threads, and writes how many it got |
//! | `crash` | ends as a program that is broken |
//! | `exit STATUS` | ends |
//!
//! After the last step it ends with status 0. Steps that fail are told, and the next one is done.
#![allow(missing_docs, reason = "a program: nobody links it")]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "it runs alone in a container and speaks to the journal"
)]

use std::ffi::CStr;
use std::fs::File;
use std::io::{IoSlice, IsTerminal as _, Read as _, Seek as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, accept, sendmsg};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use rustix::time::{ClockId, clock_gettime};

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
        let told = match verb {
            "obey" => obey(rest, &stopped).unwrap_or_else(|error| format!("say {rest}: {error:#}")),
            _ => step.to_owned(),
        };
        let (verb, rest) = told.split_once(' ').unwrap_or((&told, ""));
        if verb == "exit" {
            return ExitCode::from(rest.parse().unwrap_or(u8::MAX));
        }
        if let Err(error) = carry_out(verb, rest, &stopped) {
            println!("{told}: {error:#}");
        }
    }
    ExitCode::SUCCESS
}

fn carry_out(verb: &str, rest: &str, stopped: &AtomicBool) -> Result<()> {
    match verb {
        "say" => println!("{rest}"),
        "env" => println!("{rest}={}", std::env::var(rest)?),
        "terminal" => println!("terminal={}", std::io::stdin().is_terminal()),
        "complain" => eprintln!("{rest}"),
        "tell" => tell(rest)?,
        "ping" => until(|| {
            // A moment without systemd is its business.
            let _ = tell("WATCHDOG=1");
            Path::new(rest).exists() || stopped.load(Ordering::Relaxed)
        }),
        "reloads" => reloads(stopped)?,
        "enter" => {
            let entry = rest.replace('|', "\n") + "\n";
            UnixDatagram::unbound()?.send_to(entry.as_bytes(), "/run/systemd/journal/socket")?;
        }
        "crash" => std::process::abort(),
        "store" => store(rest)?,
        "recall" => {
            for (name, descriptor) in handed_in()? {
                let mut file = File::from(descriptor);
                file.rewind()?;
                println!("{name}: {}", std::io::read_to_string(file)?);
            }
        }
        "serve" => serve(&handed_in()?, stopped)?,
        "forge" => {
            let victim = std::fs::read_to_string(rest)?;
            let message = format!("MAINPID={}", victim.trim());
            tell(&message)?;
            tell(&format!("{message}\nREADY=1"))?;
        }
        "await" => until(|| Path::new(rest).exists()),
        "wait" => until(|| stopped.load(Ordering::Relaxed)),
        "heed" => {
            let come = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register(rest.parse()?, Arc::clone(&come))?;
            until(|| come.load(Ordering::Relaxed));
            println!("signal {rest}");
        }
        "pause" => sleep(Duration::from_millis(rest.parse()?)),
        "grow" => grow(rest.parse()?),
        "tasks" => println!("tasks={}", tasks(rest.parse()?)),
        _ => return touch(verb, rest),
    }
    Ok(())
}

/// The steps that do something with a file or a directory.
fn touch(verb: &str, rest: &str) -> Result<()> {
    match verb {
        "show" => print!("{}", std::fs::read_to_string(rest)?),
        "mirror" => {
            let text = std::fs::read_to_string(rest)?;
            println!(
                "{}",
                text.trim_end().chars().rev().take(100).collect::<String>()
            );
        }
        "make" => drop(File::create(rest)?),
        "owner" => {
            let found = std::fs::metadata(rest)?;
            let mode = found.mode() & 0o7777;
            println!("{rest} {}:{} {mode:o}", found.uid(), found.gid());
        }
        "mount" => {
            mount("inside", rest, "tmpfs", MountFlags::empty(), None::<&CStr>)?;
            println!("mounted {rest}");
        }
        "open" => {
            File::open(rest)?;
            println!("opened {rest}");
        }
        _ => println!("no step `{verb}`"),
    }
    Ok(())
}

fn obey(file: &str, stopped: &AtomicBool) -> Result<String> {
    until(|| Path::new(file).exists() || stopped.load(Ordering::Relaxed));
    if stopped.load(Ordering::Relaxed) {
        return Ok("exit 0".to_owned());
    }
    let told = std::fs::read_to_string(file)?;
    std::fs::remove_file(file)?;
    Ok(told.trim().to_owned())
}

fn until(done: impl Fn() -> bool) {
    while !done() {
        sleep(TICK);
    }
}

/// Memory that is written to and never given back. What a page holds differs from the next one's.
fn grow(mib: usize) {
    const PAGE: usize = 4096;
    let mut taken = vec![0_u8; mib << 20];
    for (number, page) in taken.chunks_mut(PAGE).enumerate() {
        page[..size_of::<usize>()].copy_from_slice(&number.to_ne_bytes());
    }
    println!("grown={}", taken.len() >> 20);
    std::mem::forget(taken);
}

/// Threads that do nothing, for as long as it runs; how many the kernel let it have.
fn tasks(count: usize) -> usize {
    (0..count)
        .take_while(|_| {
            let task = std::thread::Builder::new().stack_size(64 * 1024);
            let started = task.spawn(|| {
                loop {
                    std::thread::park();
                }
            });
            started.is_ok()
        })
        .count()
}

/// sd_notify(3).
fn tell(message: &str) -> Result<()> {
    let socket = std::env::var("NOTIFY_SOCKET").context("NOTIFY_SOCKET")?;
    UnixDatagram::unbound()?.send_to(message.replace('|', "\n").as_bytes(), &socket)?;
    Ok(())
}

fn reloads(stopped: &AtomicBool) -> Result<()> {
    let asked = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGHUP, Arc::clone(&asked))?;
    tell("READY=1")?;
    while !stopped.load(Ordering::Relaxed) {
        if asked.swap(false, Ordering::Relaxed) {
            let now = clock_gettime(ClockId::Monotonic);
            let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
            println!("reloading");
            // Not everybody is heard after the start.
            let _ = tell(&format!("RELOADING=1|MONOTONIC_USEC={microseconds}"));
            sleep(TICK);
            let _ = tell("READY=1|STATUS=reloaded");
        }
        sleep(TICK);
    }
    Ok(())
}

/// The descriptors that systemd has handed in, with their names, sd_listen_fds_with_names(3).
fn handed_in() -> Result<Vec<(String, OwnedFd)>> {
    let Ok(count) = std::env::var("LISTEN_FDS") else {
        return Ok(Vec::new());
    };
    let (pid, names) = (
        std::env::var("LISTEN_PID")?,
        std::env::var("LISTEN_FDNAMES")?,
    );
    if pid != std::process::id().to_string()
        || names.split(':').count() != count.parse::<usize>()?
    {
        bail!("LISTEN_PID={pid} LISTEN_FDS={count} LISTEN_FDNAMES={names}");
    }
    // What is a number to this process is a descriptor to its pidfd.
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    let taken = names.split(':').zip(3..).map(|(name, number)| {
        let descriptor = pidfd_getfd(&own, number, PidfdGetfdFlags::empty())?;
        Ok((name.to_owned(), descriptor))
    });
    taken.collect()
}

/// sd_pid_notify_with_fds(3).
fn store(what: &str) -> Result<()> {
    let (name, text) = what.split_once(' ').context("a name and a text")?;
    let mut file = File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    let path = std::env::var("NOTIFY_SOCKET").context("NOTIFY_SOCKET")?;
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    let descriptors = [file.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let message = format!("FDSTORE=1\nFDNAME={name}");
    sendmsg(
        &socket,
        &[IoSlice::new(message.as_bytes())],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Answers in HTTP, for curl(1).
fn serve(sockets: &[(String, OwnedFd)], stopped: &AtomicBool) -> Result<()> {
    let moment = Timespec {
        tv_sec: 0,
        tv_nsec: 100_000_000,
    };
    while !stopped.load(Ordering::Relaxed) {
        let mut waiting: Vec<PollFd<'_>> = sockets
            .iter()
            .map(|(_, socket)| PollFd::new(socket, PollFlags::IN))
            .collect();
        match poll(&mut waiting, Some(&moment)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let called = waiting
            .iter()
            .map(|one| one.revents().contains(PollFlags::IN));
        for ((name, socket), _) in sockets.iter().zip(called).filter(|(_, called)| *called) {
            // Whatever family it is of: a stream is a stream.
            let mut stream = UnixStream::from(accept(socket)?);
            let _request = stream.read(&mut [0; 4096])?;
            write!(
                stream,
                "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{name}\n",
                name.len() + 1
            )?;
        }
    }
    Ok(())
}
