//! What the benchmark makes of its rows: medians, which targets are reached, and which nobody can tell.

#[path = "bench/rows.rs"]
mod rows;
#[path = "bench/targets.rs"]
#[expect(dead_code, reason = "the benchmark prints them")]
#[expect(clippy::print_stdout, reason = "the benchmark prints them")]
mod targets;

use crate::rows::{Row, Spread};
use crate::targets::targets;

/// A row of which these are the medians.
fn row(scenario: &str, tool: &str, wall: f64, cpu: f64) -> Row {
    Row {
        scenario: scenario.to_owned(),
        tool: tool.to_owned(),
        runs: 5,
        wall_s: around(wall),
        cpu_s: around(cpu),
        rss_mb: None,
        disk_mb: None,
        blobs: None,
        helpers: None,
    }
}

/// Only the median is to count.
fn around(median: f64) -> Spread {
    Spread {
        median,
        min: median / 100.0,
        max: median * 100.0,
    }
}

/// Each target's name, figure and verdict.
fn told(rows: &[Row]) -> Vec<String> {
    let told = targets(rows).into_iter().map(|target| {
        let is = target.is.map_or(String::new(), |is| format!(" {is:.3}"));
        let (scenario, what) = (target.scenario, target.what);
        format!("{scenario}: {what}:{is} {}", target.verdict())
    });
    told.collect()
}

#[test]
fn a_cold_install_against_the_best_of_the_peers() {
    let mut rows = vec![
        row("cold-gzip", "bedplate", 5.0, 5.0),
        row("cold-gzip", "podman", 10.0, 20.0),
        row("cold-gzip", "containerd", 8.0, 25.0),
        row("cold-gzip", "umoci", 20.0, 10.0),
        row("cold-gzip", "floor", 1.0, 2.0),
    ];
    let expected = [
        "cold-gzip: wall / fastest peer's: 0.625 pass",
        "cold-gzip: CPU / least of the peers: 0.500 pass, aim reached",
        "cold-gzip: CPU / floor's: 2.500 MISS",
    ];
    assert_eq!(told(&rows), expected);
    rows.truncate(1);
    rows[0].scenario = "cold-big".to_owned();
    rows[0].rss_mb = Some(around(161.0));
    let expected = [
        "cold-big: wall / fastest peer's: NOT MEASURED",
        "cold-big: CPU / least of the peers: NOT MEASURED",
        "cold-big: CPU / floor's: NOT MEASURED",
        "cold-big: memory of bedplate and skopeo, MB: 161.000 MISS",
    ];
    assert_eq!(told(&rows), expected);
}

#[test]
fn updates_and_what_is_there_already() {
    let mut rows = vec![
        row("update-rebuilt", "bedplate", 1.0, 1.0),
        row("update-rebuilt", "podman", 1.0, 1.0),
        row("update-one-layer", "bedplate", 1.0, 1.0),
        row("update-one-layer", "podman", 2.0, 1.0),
        row("noop", "bedplate", 0.3, 1.0),
        row("noop", "skopeo", 0.2, 1.0),
    ];
    rows[0].disk_mb = Some(around(2.0));
    rows[1].disk_mb = Some(around(20.0));
    rows[4].blobs = Some(around(0.0));
    let mut expected = [
        "update-rebuilt: disk growth / podman's: 0.100 pass, aim reached",
        "update-one-layer: wall / podman's: 0.500 pass",
        "noop: wall / skopeo inspect --raw: 1.500 pass",
        "noop: blobs fetched: 0.000 pass, aim reached",
    ];
    assert_eq!(told(&rows), expected);
    rows[1].disk_mb = None;
    rows[4].blobs = Some(around(1.0));
    expected[0] = "update-rebuilt: disk growth / podman's: NOT MEASURED";
    expected[3] = "noop: blobs fetched: 1.000 MISS";
    assert_eq!(told(&rows), expected);
}

#[test]
fn starts_and_downtime() {
    let mut rows = vec![
        row("start", "bedplate", 0.05, 1.0),
        row("start", "podman", 0.2, 1.0),
        row("start", "crun", 0.02, 1.0),
        row("start", "native", 0.01, 1.0),
        row("downtime", "bedplate", 1.5, 1.0),
        row("downtime", "podman", 1.0, 1.0),
    ];
    rows[0].helpers = Some(around(0.0));
    let expected = [
        "start: (container unit - native unit) / crun run: 2.000 pass",
        "start: container unit / podman run in a unit: 0.250 pass, aim reached",
        "start: helper processes that stay: 0.000 pass, aim reached",
        "downtime: update / pull and restart with podman: 1.500 MISS",
    ];
    assert_eq!(told(&rows), expected);
}

#[test]
fn medians() {
    let of = |values: &[f64]| Spread::of(values.to_vec()).to_string();
    assert_eq!(of(&[3.0, 1.0, 2.0]), "2.00 (1.00..3.00)");
    assert_eq!(of(&[4.0, 1.0, 3.0, 2.0]), "2.50 (1.00..4.00)");
    assert_eq!(of(&[0.25]), "0.250 (0.250..0.250)");
}
