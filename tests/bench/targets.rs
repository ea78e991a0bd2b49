//! The ratios that matter, against what they must reach.

use crate::report::{Row, Spread};

/// A ratio with its bounds.
struct Measure<'a> {
    label: String,
    value: Option<f64>,
    must: f64,
    aim: f64,
    note: &'a str,
}

const COLD: [&str; 4] = ["cold-gzip", "cold-zstd", "cold-small", "cold-big"];
const PEERS: [&str; 3] = ["podman", "containerd", "umoci"];

type Value = fn(&Row) -> Spread;

/// Prints which of them are reached.
pub(crate) fn print(rows: &[Row]) {
    println!("\n{:<58} {:>8} {:>6} {:>6}", "measure", "is", "must", "aim");
    for measure in measures(rows) {
        let Some(value) = measure.value else { continue };
        let verdict = match value {
            v if v <= measure.aim => "pass, aim reached",
            v if v <= measure.must => "pass",
            _ => "MISS",
        };
        println!(
            "{:<58} {value:>8.2} {:>6} {:>6}  {verdict}{}",
            measure.label, measure.must, measure.aim, measure.note
        );
    }
    println!("{SAFETY}");
}

fn measures(rows: &[Row]) -> Vec<Measure<'static>> {
    let wall: Value = |row| row.wall_s;
    let cpu: Value = |row| row.cpu_s;
    let disk: Value = |row| row.disk_mb;
    let mut all = Vec::new();
    let mut add = |label: String, value: Option<f64>, must: f64, aim: f64, note: &'static str| {
        all.push(Measure {
            label,
            value,
            must,
            aim,
            note,
        });
    };
    for scenario in COLD {
        let own = |value| median(rows, scenario, "bedplate", value);
        let best = |value| {
            let peers = PEERS.iter();
            peers
                .filter_map(|peer| median(rows, scenario, peer, value))
                .min_by(f64::total_cmp)
        };
        let floor = median(rows, scenario, "floor", cpu);
        add(
            format!("{scenario}: wall against the fastest peer"),
            ratio(own(wall), best(wall)),
            0.75,
            0.5,
            "",
        );
        add(
            format!("{scenario}: CPU against the peer with the least"),
            ratio(own(cpu), best(cpu)),
            0.9,
            0.6,
            "",
        );
        add(
            format!("{scenario}: CPU against the floor"),
            ratio(own(cpu), floor),
            2.0,
            1.3,
            "",
        );
    }
    let pair = |scenario, peer, value| {
        ratio(
            median(rows, scenario, "bedplate", value),
            median(rows, scenario, peer, value),
        )
    };
    add(
        "update-rebuilt: disk growth against podman's".into(),
        pair("update-rebuilt", "podman", disk),
        0.2,
        0.1,
        "",
    );
    add(
        "update-one-layer: wall against podman's".into(),
        pair("update-one-layer", "podman", wall),
        0.5,
        0.25,
        "",
    );
    add(
        "noop: wall against skopeo inspect --raw".into(),
        pair("noop", "skopeo", wall),
        2.0,
        1.2,
        "",
    );
    let blobs: Value = |row| row.blobs.unwrap_or(row.wall_s);
    add(
        "noop: blobs fetched".into(),
        median(rows, "noop", "bedplate", blobs),
        0.0,
        0.0,
        "",
    );
    add(
        "cold-big: memory of bedplate and skopeo, MB".into(),
        median(rows, "cold-big", "bedplate", |row| row.rss_mb),
        160.0,
        100.0,
        "",
    );
    all
}

fn median(rows: &[Row], scenario: &str, tool: &str, value: Value) -> Option<f64> {
    let row = rows
        .iter()
        .find(|row| row.scenario == scenario && row.tool == tool)?;
    Some(value(row).median)
}

fn ratio(value: Option<f64>, against: Option<f64>) -> Option<f64> {
    Some(value? / against?)
}

const SAFETY: &str = "";
