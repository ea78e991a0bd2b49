//! Measures starts from within a guest: `bench-probe ROUNDS`, run as a unit there. It prints JSON, a line a start.
//! `bench-probe gap PORT COMMAND` measures for how long etcd does not answer while a command runs.
//!
//! Four ways to start the same payload, in turn: three units, from `systemctl start` until it says that the payload
//! is ready, and the bare runtime on bedplate's own rootfs and config.json, from its start to the payload's READY.
//! CPU time is that of the whole guest meanwhile, init and all. What stays is what runs 200 ms after.
#![allow(missing_docs, reason = "a program: nobody links it")]
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "it runs alone in a guest and prints what it measured"
)]

mod gap;

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

/// Tools, their units, and what each has on disk of the payload.
const UNITS: [(&str, &str, &[&str]); 3] = [
    (
        "native",
        "native.service",
        &["/opt/bench/payload", "/etc/systemd/system/native.service"],
    ),
    (
        "bedplate",
        "box.service",
        &[
            "/var/lib/bedplate",
            "/etc/systemd/system.attached/box.service",
        ],
    ),
    (
        "podman",
        "peer.service",
        &[
            "/var/lib/containers",
            "/etc/containers/systemd/peer.container",
        ],
    ),
];
/// What the bare runtime starts is bedplate's.
const ROOTFS: &str = "/var/lib/bedplate/containers/box/current/rootfs/";
/// The config of the container's running start.
const STARTED: &str = "/run/bedplate/box/config.json";
/// Where its payload finds the notify socket.
const NOTIFY: &str = "/run/notify";
/// The bare runtime's things.
const BUNDLE: &str = "/run/bench-crun";
/// Within which a payload is ready.
const DEADLINE: Duration = Duration::from_secs(30);
/// What runs after this stays.
const SETTLED: Duration = Duration::from_millis(200);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((verb, [port, command @ ..])) if verb == "gap" => gap::measure(port.parse()?, command),
        Some((rounds, _)) => starts(rounds.parse()?),
        None => bail!("ROUNDS, or `gap PORT COMMAND`"),
    }
}

/// Starts the payload so often in each way.
fn starts(rounds: usize) -> Result<()> {
    let socket = bundle()?;
    // The first round only warms up.
    for round in 0..=rounds {
        for turn in 0..=UNITS.len() {
            let before = processes()?;
            let line = match UNITS.get((round + turn) % (UNITS.len() + 1)) {
                Some((tool, unit, files)) => {
                    let mut line = unit_start(tool, unit, &before)?;
                    line["disk"] = disk(files)?.into();
                    systemctl("stop", unit)?;
                    line
                }
                None => bare_start(&socket, &before)?,
            };
            gone(&before)?;
            if round > 0 {
                println!("{line}");
            }
        }
    }
    Ok(())
}

fn unit_start(tool: &str, unit: &str, before: &BTreeSet<u32>) -> Result<Value> {
    let cpu = cpu()?;
    let began = Instant::now();
    systemctl("start", unit)?;
    let wall = began.elapsed();
    line(tool, wall, cpu, before)
}

fn systemctl(verb: &str, unit: &str) -> Result<()> {
    let status = Command::new("systemctl").args([verb, unit]).status()?;
    ensure!(status.success(), "systemctl {verb} {unit}: {status}");
    Ok(())
}

/// What a start took, and what it left running.
fn line(tool: &str, wall: Duration, cpu_before: Duration, before: &BTreeSet<u32>) -> Result<Value> {
    let cpu = cpu()?.saturating_sub(cpu_before);
    thread::sleep(SETTLED);
    let new: Vec<u32> = processes()?.difference(before).copied().collect();
    let memory: u64 = new.iter().map(|pid| memory(*pid)).sum();
    let names = new.iter().map(|pid| name(*pid));
    let helpers: Vec<String> = names.filter(|name| name != "payload").collect();
    ensure!(
        helpers.len() < new.len(),
        "{tool}: no payload runs, but {helpers:?}"
    );
    Ok(json!({
        "tool": tool,
        "wall_s": wall.as_secs_f64(),
        "cpu_s": cpu.as_secs_f64(),
        "memory_kb": memory,
        "helpers": helpers,
    }))
}

/// Makes a bundle of the container's rootfs and config, with a notify socket of this program's own.
fn bundle() -> Result<UnixDatagram> {
    fs::create_dir_all(BUNDLE)?;
    let socket = Path::new(BUNDLE).join("notify");
    let listening = UnixDatagram::bind(&socket)?;
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o777))?;
    listening.set_read_timeout(Some(Duration::from_millis(100)))?;
    // What the launcher hands to the runtime at a start; it goes with the unit.
    systemctl("start", "box.service")?;
    let text = fs::read(STARTED).with_context(|| STARTED.to_owned())?;
    systemctl("stop", "box.service")?;
    let mut config: Value = serde_json::from_slice(&text)?;
    config["linux"]["cgroupsPath"] = "bench-crun".into();
    let mounts = config["mounts"].as_array_mut().context("mounts")?;
    let notify = mounts.iter_mut().find(|m| m["destination"] == NOTIFY);
    notify.context("no notify socket")?["source"] = json!(socket);
    fs::write(Path::new(BUNDLE).join("config.json"), config.to_string())?;
    Ok(listening)
}

fn bare_start(socket: &UnixDatagram, before: &BTreeSet<u32>) -> Result<Value> {
    let cpu = cpu()?;
    let began = Instant::now();
    let mut child = Command::new("crun")
        .args(["run", "--bundle", BUNDLE, "bare"])
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    let ready = ready(socket, &mut child);
    let wall = began.elapsed();
    if ready.is_err() {
        let _gone = child.kill();
        child.wait()?;
    }
    ready?;
    let line = line("crun", wall, cpu, before).and_then(|mut line| {
        line["disk"] = disk(&[ROOTFS])?.into();
        Ok(line)
    });
    let status = Command::new("crun")
        .args(["kill", "bare", "TERM"])
        .status()?;
    ensure!(status.success(), "crun kill: {status}");
    child.wait()?;
    line
}

/// Waits for the payload's READY.
fn ready(socket: &UnixDatagram, child: &mut Child) -> Result<()> {
    let end = Instant::now() + DEADLINE;
    let mut message = [0; 4096];
    loop {
        match socket.recv(&mut message) {
            Ok(length) if message[..length].starts_with(b"READY=1") => return Ok(()),
            Ok(_) => {}
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                _ => return Err(error).context("receiving"),
            },
        }
        if let Some(status) = child.try_wait()? {
            bail!("crun run: {status}");
        }
        ensure!(Instant::now() < end, "not ready after {DEADLINE:?}");
    }
}

/// Waits until all that was started has gone.
fn gone(before: &BTreeSet<u32>) -> Result<()> {
    let end = Instant::now() + DEADLINE;
    while let Some(pid) = processes()?.difference(before).next() {
        ensure!(Instant::now() < end, "{} does not end", name(*pid));
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// All processes of the guest; kernel threads have no part in it.
fn processes() -> Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc")? {
        if let Some(pid) = entry?.file_name().to_str().and_then(|n| n.parse().ok()) {
            found.insert(pid);
        }
    }
    Ok(found)
}

fn name(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim().to_owned()
}

/// Resident memory in kB.
fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    line.and_then(|l| l.trim().strip_suffix(" kB")?.parse().ok())
        .unwrap_or_default()
}

/// What files and directories take on disk, in bytes; what is mounted in them is somewhere else.
fn disk(paths: &[&str]) -> Result<u64> {
    let mut du = Command::new("du");
    du.args([
        "--summarize",
        "--total",
        "--one-file-system",
        "--block-size=1",
    ]);
    let output = du.arg("--").args(paths).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let total = text.lines().last().and_then(|line| line.split('\t').next());
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "du: {said}");
    Ok(total.context("du says nothing")?.parse()?)
}

/// CPU time of the whole guest so far.
fn cpu() -> Result<Duration> {
    let stat = fs::read_to_string("/sys/fs/cgroup/cpu.stat")?;
    let usage = stat.lines().find_map(|l| l.strip_prefix("usage_usec "));
    Ok(Duration::from_micros(usage.context("usage_usec")?.parse()?))
}
