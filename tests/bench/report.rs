//! What was measured: written to `bench.json`, printed as a table.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use crate::accounting::{self, Cost};
use crate::place;
use crate::rows::{Row, Spread};

/// One run of one tool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) cost: Cost,
    /// Bytes that its directory takes, or takes more than before.
    pub(crate) disk: u64,
    /// How many blobs it fetched.
    pub(crate) blobs: usize,
}

const MB: f64 = 1e6;

/// Of fewer runs a median says little.
pub(crate) const ENOUGH: usize = 5;

impl Row {
    pub(crate) fn new(scenario: &str, tool: &str, samples: &[Sample]) -> Self {
        let of = |value: fn(&Sample) -> f64| Spread::of(samples.iter().map(value).collect());
        Self {
            scenario: scenario.to_owned(),
            tool: tool.to_owned(),
            runs: samples.len(),
            wall_s: of(|s| s.cost.wall.as_secs_f64()),
            cpu_s: of(|s| s.cost.cpu.as_secs_f64()),
            rss_mb: Some(of(|s| float(s.cost.memory) / MB)),
            disk_mb: Some(of(|s| float(s.disk) / MB)),
            blobs: Some(of(|s| float(s.blobs as u64))),
            helpers: None,
        }
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.2} s wall, {:.2} s cpu, {:.0} MB memory, {:.1} MB disk, {} blobs",
            self.cost.wall.as_secs_f64(),
            self.cost.cpu.as_secs_f64(),
            float(self.cost.memory) / MB,
            float(self.disk) / MB,
            self.blobs
        )
    }
}

/// Writes the rows.
pub(crate) fn write(rows: &[Row]) -> Result<()> {
    let text = serde_json::to_string_pretty(rows)?;
    fs::write(file(), text + "\n")?;
    Ok(())
}

/// The rows that were written last.
pub(crate) fn read() -> Result<Vec<Row>> {
    Ok(serde_json::from_value(accounting::json(&file())?)?)
}

fn file() -> PathBuf {
    place::dir().join("bench.json")
}

/// Prints the medians.
pub(crate) fn print(rows: &[Row]) {
    println!(
        "\n{:<17} {:<11} {:>16} {:>16} {:>9} {:>9}",
        "scenario", "tool", "wall s", "cpu s", "rss MB", "disk MB"
    );
    let mut last = "";
    for row in rows {
        let shown = if row.scenario == last {
            ""
        } else {
            &row.scenario
        };
        last = &row.scenario;
        println!(
            "{shown:<17} {:<11} {:>16} {:>16} {:>9} {:>9}",
            row.tool,
            row.wall_s.to_string(),
            row.cpu_s.to_string(),
            megabytes(row.rss_mb),
            megabytes(row.disk_mb)
        );
    }
    let fewest = rows.iter().map(|row| row.runs).min();
    if let Some(runs) = fewest.filter(|runs| *runs < ENOUGH) {
        println!("\n{runs} runs only: a median of fewer than {ENOUGH} says little");
    }
}

fn megabytes(spread: Option<Spread>) -> String {
    spread.map_or_else(|| "-".to_owned(), |size| format!("{:.1}", size.median))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "bytes of a store: far below what a float counts exactly"
)]
fn float(value: u64) -> f64 {
    value as f64
}
