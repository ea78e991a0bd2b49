//! The start scenario: one payload, started in a booted guest as a system container, as a native unit, by podman in
//! a unit, and by the bare runtime. What is timed is timed by [`probe.rs`](probe.rs) in the guest.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::accounting;
use crate::derive;
use crate::host;
use crate::machine::Machine;
use crate::place;
use crate::rows::{Row, Spread};

/// In the order of the rows.
const TOOLS: [&str; 4] = ["bedplate", "podman", "crun", "native"];
/// Fewer starts than this say nothing.
const LEAST: usize = 10;
/// The payload is ready at once and waits for its end, in each of these.
const MANIFEST: &str = r#"contract = 1
description = "Payload of the benchmark"

[container]
env = { SCRIPT = "tell READY=1; wait" }

[service]
type = "notify"
"#;

const NATIVE: &str = "[Service]
Type=notify
User=nobody
ExecStart=/opt/bench/payload
Environment=\"SCRIPT=tell READY=1; wait\"
";

const QUADLET: &str = "[Container]
Image=localhost/start:latest
ContainerName=peer
Network=host
Notify=yes
Pull=never
Environment=\"SCRIPT=tell READY=1; wait\"
";

/// Measures so many starts of each kind; a row for each.
pub(crate) fn run(rounds: usize) -> Result<Vec<Row>> {
    let dir = place::stores("start");
    fs::create_dir_all(dir.join("images"))?;
    image(&dir.join("images/start"))?;
    let containers = dir.join("containers");
    fs::create_dir_all(&containers)?;
    let options = [
        show(host::payload()?, "/opt/bench/payload"),
        show(&dir.join("images"), "/images"),
        format!("--bind={}:/var/lib/containers", containers.display()),
    ];
    eprintln!("bench: start: booting a guest");
    let guest = boot(&dir, &options)?;
    let measured = measure(&guest, rounds.max(LEAST));
    match &measured {
        Ok(_) => guest.shut_down()?,
        Err(_) => guest.cut(),
    }
    let lines = measured?;
    TOOLS.iter().map(|tool| row(tool, &lines)).collect()
}

/// What systemd-nspawn is told so that the guest sees a file or directory.
pub(crate) fn show(outside: &Path, inside: &str) -> String {
    format!("--bind-ro={}:{inside}", outside.display())
}

/// Boots a guest with podman and bedplate in it, and the probe; it sees what the options show beside.
pub(crate) fn boot(dir: &Path, options: &[String]) -> Result<Machine> {
    let root = host::output(place::project("tests/bench/guest"), &[], None)?;
    let probe = host::static_program("--example", "bench-probe")?;
    fs::create_dir_all(dir.join("guest"))?;
    let mut all = vec![
        show(Path::new(place::BEDPLATE), "/usr/bin/bedplate"),
        show(host::launcher()?, "/usr/libexec/bedplate/launch"),
        show(&probe, "/usr/bin/bench-probe"),
    ];
    all.extend_from_slice(options);
    Machine::start(
        Path::new(root.trim_end()),
        &dir.join("guest"),
        "bench",
        &all,
    )
}

fn measure(guest: &Machine, rounds: usize) -> Result<Vec<Value>> {
    let init = guest.init().to_string();
    inside(&init, &file("/etc/systemd/system/native.service", NATIVE))?;
    inside(
        &init,
        &file("/etc/containers/systemd/peer.container", QUADLET),
    )?;
    inside(
        &init,
        "skopeo copy --quiet oci:/images/start:latest containers-storage:localhost/start:latest",
    )?;
    inside(
        &init,
        "bedplate install --no-enable --name box oci:/images/start:latest && systemctl daemon-reload",
    )?;
    let report = inside(
        &init,
        &format!("systemd-run --quiet --wait --pipe --property=Delegate=yes bench-probe {rounds}"),
    )?;
    report
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
        .collect()
}

/// Lines of shell that write a file.
pub(crate) fn file(path: &str, text: &str) -> String {
    format!("mkdir -p \"$(dirname {path})\"\ncat >{path} <<'END'\n{text}END\n")
}

/// Runs lines of shell in the guest.
pub(crate) fn inside(init: &str, script: &str) -> Result<String> {
    let mut command = Command::new("nsenter");
    command.args(["--target", init, "--all", "--", "env", "-i", "HOME=/root"]);
    command.args(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "timeout", "300"]);
    command.args(["bash", "-euo", "pipefail", "-c", script]);
    accounting::output(&mut command)
}

/// The payload as an image.
fn image(dir: &Path) -> Result<()> {
    let program = fs::read(host::payload()?)?;
    let mut archive = tar::Builder::new(Vec::new());
    let files: [(&str, u32, &[u8]); 4] = [
        ("payload", 0o755, &program),
        ("exports/manifest.toml", 0o644, MANIFEST.as_bytes()),
        (
            "etc/passwd",
            0o644,
            b"root:x:0:0::/:/none\nnobody:x:65534:65534::/:/none\n",
        ),
        ("etc/group", 0o644, b"root:x:0:\nnobody:x:65534:\n"),
    ];
    for (path, mode, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        header.set_mtime(0);
        archive.append_data(&mut header, path, content)?;
    }
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": { "Entrypoint": ["/payload"], "User": "65534:65534" },
        "rootfs": { "type": "layers" },
    });
    derive::of_one_layer(dir, config, &archive.into_inner()?)
}

fn row(tool: &str, lines: &[Value]) -> Result<Row> {
    let own: Vec<&Value> = lines.iter().filter(|line| line["tool"] == tool).collect();
    ensure!(own.len() >= LEAST, "{tool}: {} starts only", own.len());
    let of = |key: &str, unit: f64| {
        let number = |line: &&Value| line[key].as_f64().unwrap_or_default() / unit;
        Spread::of(own.iter().map(number).collect())
    };
    let helpers = own.iter().map(|line| {
        let names = line["helpers"].as_array().map_or(0, Vec::len);
        f64::from(u32::try_from(names).unwrap_or(u32::MAX))
    });
    Ok(Row {
        scenario: "start".into(),
        tool: tool.into(),
        runs: own.len(),
        wall_s: of("wall_s", 1.0),
        cpu_s: of("cpu_s", 1.0),
        rss_mb: Some(of("memory_kb", 1e6 / 1024.0)),
        disk_mb: Some(of("disk", 1e6)),
        blobs: None,
        helpers: Some(Spread::of(helpers.collect())),
    })
}
