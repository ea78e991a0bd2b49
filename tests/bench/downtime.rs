//! The downtime scenario: etcd in a booted guest, updated to an image of which one small layer differs; by
//! `bedplate update`, and by a pull and `systemctl restart` of the unit that podman's Quadlet makes. How long nobody
//! answered on its port is measured by [`gap.rs`](gap.rs) in the guest.

use std::fs;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::images::Images;
use crate::place;
use crate::rows::{Row, Spread};
use crate::start::{boot, file, inside, show};

/// The two images between which the tag moves.
pub(crate) const IMAGES: [&str; 2] = ["etcd:gzip", "etcd:one-layer"];

/// Fewer updates than this say nothing.
const LEAST: usize = 10;

/// Where the tag is in the guest.
const LIVE: &str = "/run/live";

/// The same payload, on another port.
const QUADLET: &str = "[Container]
Image=localhost/etcd:latest
ContainerName=peer-etcd
Network=host
Notify=yes
Pull=never
Volume=/var/lib/peer-etcd:/var/lib/etcd
Environment=ETCD_LISTEN_CLIENT_URLS=http://127.0.0.1:12379
Environment=ETCD_ADVERTISE_CLIENT_URLS=http://127.0.0.1:12379
Environment=ETCD_LISTEN_PEER_URLS=http://127.0.0.1:12380
Environment=ETCD_INITIAL_ADVERTISE_PEER_URLS=http://127.0.0.1:12380
Environment=ETCD_INITIAL_CLUSTER=default=http://127.0.0.1:12380
";

/// The tools, their ports, and what updates them.
const TOOLS: [(&str, u16, &str); 2] = [
    ("bedplate", 2379, "bedplate update etcd"),
    (
        "podman",
        12379,
        "skopeo copy --quiet oci:/run/live:latest containers-storage:localhost/etcd:latest
         systemctl restart peer.service",
    ),
];

/// Measures so many updates of each kind; a row for each.
pub(crate) fn run(images: &Images, rounds: usize) -> Result<Vec<Row>> {
    let dir = place::stores("downtime");
    let containers = dir.join("containers");
    fs::create_dir_all(&containers)?;
    let [one, two] = IMAGES;
    let options = [
        show(images.get(one)?.dir(), "/images/one"),
        show(images.get(two)?.dir(), "/images/two"),
        format!("--bind={}:/var/lib/containers", containers.display()),
    ];
    eprintln!("bench: downtime: booting a guest");
    let guest = boot(&dir, &options)?;
    let measured = measure(&guest.init().to_string(), rounds.max(LEAST));
    match &measured {
        Ok(_) => guest.shut_down()?,
        Err(_) => guest.cut(),
    }
    let lines = measured?;
    TOOLS.iter().map(|(tool, ..)| row(tool, &lines)).collect()
}

fn measure(init: &str, rounds: usize) -> Result<Vec<(&'static str, Value)>> {
    let point =
        |image: &str| format!("ln --symbolic --force --no-dereference /images/{image} {LIVE}\n");
    inside(init, &point("one"))?;
    inside(
        init,
        &file("/etc/containers/systemd/peer.container", QUADLET),
    )?;
    inside(
        init,
        &format!(
            "mkdir -p /var/lib/peer-etcd && chown 967:967 /var/lib/peer-etcd
             skopeo copy --quiet oci:{LIVE}:latest containers-storage:localhost/etcd:latest
             systemctl daemon-reload
             bedplate install --now --name etcd oci:{LIVE}:latest
             systemctl start peer.service"
        ),
    )?;
    let mut lines = Vec::new();
    for round in 0..=rounds {
        let image = if round % 2 == 0 { "two" } else { "one" };
        inside(init, &point(image))?;
        for turn in 0..TOOLS.len() {
            let (tool, port, update) = TOOLS[(round + turn) % TOOLS.len()];
            let report = inside(init, &format!("bench-probe gap {port} sh -ec '{update}'"))?;
            let line: Value = serde_json::from_str(report.lines().last().unwrap_or_default())?;
            eprintln!("bench: downtime {tool}: {line}");
            // The first round only warms up.
            if round > 0 {
                lines.push((tool, line));
            }
        }
    }
    Ok(lines)
}

fn row(tool: &str, lines: &[(&str, Value)]) -> Result<Row> {
    let own: Vec<&Value> = lines
        .iter()
        .filter(|(of, _)| *of == tool)
        .map(|(_, l)| l)
        .collect();
    ensure!(own.len() >= LEAST, "{tool}: {} updates only", own.len());
    let of = |key: &str| {
        let number = |line: &&Value| line[key].as_f64().unwrap_or_default();
        Spread::of(own.iter().map(number).collect())
    };
    Ok(Row {
        scenario: "downtime".into(),
        tool: tool.into(),
        runs: own.len(),
        wall_s: of("gap_s"),
        cpu_s: of("cpu_s"),
        rss_mb: None,
        disk_mb: None,
        blobs: None,
        helpers: None,
    })
}
