//! The ratios that matter, against what they must reach; and what each tool does for the time that it takes.

use crate::rows::{Row, Spread};

/// A figure of a scenario with its bounds, if it was measured.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) scenario: &'static str,
    pub(crate) what: &'static str,
    pub(crate) is: Option<f64>,
    must: f64,
    aim: f64,
}

/// What of a row is compared.
type Value = fn(&Row) -> Option<Spread>;

const WALL: Value = |row| Some(row.wall_s);
const CPU: Value = |row| Some(row.cpu_s);
const MEMORY: Value = |row| row.rss_mb;
const DISK: Value = |row| row.disk_mb;
const BLOBS: Value = |row| row.blobs;
const HELPERS: Value = |row| row.helpers;

const COLD: [&str; 4] = ["cold-gzip", "cold-zstd", "cold-small", "cold-big"];
const PEERS: [&str; 3] = ["podman", "containerd", "umoci"];

/// What the numbers are worth. What is synced was counted with strace(1); what peers verify is what they say they do.
const SAFETY: &str = "
tool        verifies                                        on disk when it ends
bedplate    each blob's digest, each diff_id                everything: file system synced before the image is named
podman      each blob's digest, each diff_id                its records; files of layers are not synced
containerd  each blob's digest, each diff_id                blobs and records; unpacked files are not synced
umoci       each blob's digest, each diff_id                blobs; unpacked files are not synced
floor       each blob's digest; hashes tar streams as well  nothing is synced";

/// Prints which targets are reached, of the scenarios that there are rows of.
pub(crate) fn print(rows: &[Row]) {
    println!("\n{:<50} {:>8} {:>6} {:>6}", "medians", "is", "must", "aim");
    for target in targets(rows) {
        println!(
            "{:<50} {:>8} {:>6} {:>6}  {}",
            format!("{}: {}", target.scenario, target.what),
            target
                .is
                .map_or_else(|| "-".to_owned(), |is| format!("{is:.2}")),
            target.must,
            target.aim,
            target.verdict()
        );
    }
    println!("{SAFETY}");
}

/// The targets of the scenarios that there are rows of.
pub(crate) fn targets(rows: &[Row]) -> Vec<Target> {
    let mut all: Vec<Target> = COLD.iter().flat_map(|name| cold(rows, name)).collect();
    all.extend(later(rows));
    all.extend(start(rows));
    all.push(downtime(rows));
    all.retain(|target| rows.iter().any(|row| row.scenario == target.scenario));
    all
}

impl Target {
    /// Whether it is reached.
    pub(crate) fn verdict(&self) -> &'static str {
        match self.is {
            None => "NOT MEASURED",
            Some(is) if is <= self.aim => "pass, aim reached",
            Some(is) if is <= self.must => "pass",
            Some(_) => "MISS",
        }
    }
}

fn target(
    scenario: &'static str,
    what: &'static str,
    is: Option<f64>,
    must: f64,
    aim: f64,
) -> Target {
    Target {
        scenario,
        what,
        is,
        must,
        aim,
    }
}

/// Of an install into an empty store.
fn cold(rows: &[Row], name: &'static str) -> [Target; 3] {
    let own = |value| median(rows, name, "bedplate", value);
    let best = |value| {
        let peers = PEERS.iter();
        peers
            .filter_map(|peer| median(rows, name, peer, value))
            .min_by(f64::total_cmp)
    };
    let floor = median(rows, name, "floor", CPU);
    [
        target(
            name,
            "wall / fastest peer's",
            ratio(own(WALL), best(WALL)),
            0.75,
            0.5,
        ),
        target(
            name,
            "CPU / least of the peers",
            ratio(own(CPU), best(CPU)),
            0.9,
            0.6,
        ),
        target(name, "CPU / floor's", ratio(own(CPU), floor), 2.0, 1.3),
    ]
}

/// Of what follows the first install.
fn later(rows: &[Row]) -> [Target; 5] {
    let against = |name, peer, value| {
        let own = median(rows, name, "bedplate", value);
        ratio(own, median(rows, name, peer, value))
    };
    [
        target(
            "update-rebuilt",
            "disk growth / podman's",
            against("update-rebuilt", "podman", DISK),
            0.2,
            0.1,
        ),
        target(
            "update-one-layer",
            "wall / podman's",
            against("update-one-layer", "podman", WALL),
            0.5,
            0.25,
        ),
        target(
            "noop",
            "wall / skopeo inspect --raw",
            against("noop", "skopeo", WALL),
            2.0,
            1.2,
        ),
        target(
            "noop",
            "blobs fetched",
            median(rows, "noop", "bedplate", BLOBS),
            0.0,
            0.0,
        ),
        target(
            "cold-big",
            "memory of bedplate and skopeo, MB",
            median(rows, "cold-big", "bedplate", MEMORY),
            160.0,
            100.0,
        ),
    ]
}

/// Of the start of a container.
fn start(rows: &[Row]) -> [Target; 3] {
    let wall = |tool| median(rows, "start", tool, WALL);
    let over = || Some(wall("bedplate")? - wall("native")?);
    [
        target(
            "start",
            "(container unit - native unit) / crun run",
            ratio(over(), wall("crun")),
            3.0,
            1.5,
        ),
        target(
            "start",
            "container unit / podman run in a unit",
            ratio(wall("bedplate"), wall("podman")),
            0.5,
            0.25,
        ),
        target(
            "start",
            "helper processes that stay",
            median(rows, "start", "bedplate", HELPERS),
            0.0,
            0.0,
        ),
    ]
}

/// Of an update of what runs.
fn downtime(rows: &[Row]) -> Target {
    let wall = |tool| median(rows, "downtime", tool, WALL);
    target(
        "downtime",
        "update / pull and restart with podman",
        ratio(wall("bedplate"), wall("podman")),
        1.0,
        0.5,
    )
}

fn median(rows: &[Row], scenario: &str, tool: &str, value: Value) -> Option<f64> {
    let mut rows = rows.iter();
    let row = rows.find(|row| row.scenario == scenario && row.tool == tool)?;
    Some(value(row)?.median)
}

fn ratio(value: Option<f64>, against: Option<f64>) -> Option<f64> {
    Some(value? / against?)
}
