//! A command is killed and what it had started is not: the undo waits for that. Where it was killed, `prefixes` and
//! `crash_store` vary.

use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::host::{Host, assert_same};
use crate::layout::{Image, Layout};
use crate::lock::lines;
use crate::process::{self, DEADLINE};

/// The seed of the moments: `BEDPLATE_SEED`, or the same one for each run.
pub(crate) fn seed() -> u64 {
    let seed = std::env::var("BEDPLATE_SEED").map_or(1, |seed| seed.parse().unwrap());
    println!("BEDPLATE_SEED={seed}");
    seed
}

/// The next number of a seeded sequence between 0 and 1 (splitmix64).
pub(crate) fn random(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let bits = u32::try_from((z ^ (z >> 31)) >> 32).unwrap();
    f64::from(bits) / f64::from(u32::MAX)
}

/// One moment in each of `count` equal parts of a duration.
pub(crate) fn moments(count: u32, duration: Duration, state: &mut u64) -> Vec<Duration> {
    (0..count)
        .map(|part| duration.mul_f64((f64::from(part) + random(state)) / f64::from(count)))
        .collect()
}

/// A set of two, with everything that an install writes: units, links, order drop-ins for the host's unit as well,
/// host files in directories of their own.
fn set(dir: &Path) -> [Layout; 2] {
    let etcd = "contract = 1\n[service]\nprovides = ['store']\nbefore = ['cri']\n";
    let flanneld = "contract = 1\n[service]\nrequires = ['store']\nbefore = ['cri']\n";
    [("etcd", etcd), ("flanneld", flanneld)].map(|(name, manifest)| {
        Image::new(manifest)
            .file(&format!("exports/hostfs/etc/{name}/{name}.conf"), "x\n")
            .file("exports/tmpfiles.hbs", "d /run/x 0755 root root -\n")
            .write(&dir.join(name))
    })
}

pub(crate) fn host() -> Host {
    let host = Host::new();
    host.put(
        "usr/lib/systemd/system/containerd.service",
        "[Service]\nExecStart=/bin/true\n",
    );
    host
}

/// Runs the program until a moment, then kills it; when it ended by itself, after what time it had.
pub(crate) fn killed(host: &Host, args: &[&str], moment: Duration) -> Option<Duration> {
    let mut command = host.command(args);
    let began = Instant::now();
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let ended = process::ends_within(&child, moment).then(|| began.elapsed());
    if ended.is_none() {
        child.kill().unwrap();
    }
    child.wait().unwrap();
    ended
}

#[test]
fn an_interrupted_install_is_undone_by_the_next_command() {
    let host = host();
    let images = set(&host.beside("images"));
    let before = host.listing();
    let (_, gate) = held_install(&host, &images[0].reference);
    drop(gate);
    let run = host.run(&["uninstall", "etcd"]);
    assert!(
        run.stderr
            .contains("note: an interrupted install was undone first\n"),
        "{run:?}"
    );
    assert_eq!(
        run.failed(1),
        "error: `etcd` is not installed\nhint: `bedplate list` shows what is"
    );
    assert_same(&before, &host.listing());
}

/// What the killed command had started may still be at work: its undo waits for that.
#[test]
fn recover_waits_for_what_the_killed_one_started() {
    let host = host();
    let images = set(&host.beside("images"));
    let before = host.listing();
    let (held, mut gate) = held_install(&host, &images[0].reference);
    let mut recover = host
        .command(&["recover"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = lines(&mut recover).recv_timeout(DEADLINE).unwrap();
    let expected = format!(
        "note: waiting for `bedplate install` (pid {}) to finish",
        held.id()
    );
    assert_eq!(said, expected);
    gate.write_all(b"go\n").unwrap();
    assert!(process::ends_within(&recover, DEADLINE));
    let mut stdout = String::new();
    recover
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut stdout)
        .unwrap();
    assert!(recover.wait().unwrap().success());
    assert_eq!(
        stdout,
        "undone: the interrupted install; the host is as it was before it\n"
    );
    assert_same(&before, &host.listing());
}

/// An install that was killed while its `systemctl` ran, which goes on when the gate gets a line or is closed.
fn held_install(host: &Host, image: &str) -> (std::process::Child, std::fs::File) {
    let bin = host.beside("bin");
    std::fs::create_dir(&bin).unwrap();
    let (reached, gate) = (host.beside("reached"), host.beside("gate"));
    for fifo in [&reached, &gate] {
        process::tool("mkfifo", &[fifo.to_str().unwrap()]);
    }
    let script = format!(
        "#!/bin/sh\necho here >'{}'\nread -r line <'{}'\nPATH=$REAL_PATH exec systemctl \"$@\"\n",
        reached.display(),
        gate.display()
    );
    process::executable(&bin.join("systemctl"), &script);
    let path = std::env::var("PATH").unwrap();
    let mut install = host
        .command(&["install", image])
        .env("PATH", format!("{}:{path}", bin.display()))
        .env("REAL_PATH", &path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (told, waiting) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        let opened = std::fs::File::open(reached);
        let _nobody_waits = told.send(opened.and_then(|mut f| f.read_to_string(&mut line)));
    });
    waiting.recv_timeout(DEADLINE).unwrap().unwrap();
    install.kill().unwrap();
    install.wait().unwrap();
    let gate = std::fs::File::options().write(true).open(gate).unwrap();
    (install, gate)
}
