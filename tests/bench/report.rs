//! What was measured, as rows: written to `bench.json`, printed as a table.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::accounting::{self, Cost};
use crate::place;

/// One run of one tool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) cost: Cost,
    /// Bytes that its directory takes, or takes more than before.
    pub(crate) disk: u64,
    /// How many blobs it fetched.
    pub(crate) blobs: usize,
}

/// All runs of one tool in one scenario.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) scenario: String,
    pub(crate) tool: String,
    pub(crate) runs: usize,
    pub(crate) wall_s: Spread,
    pub(crate) cpu_s: Spread,
    pub(crate) rss_mb: Spread,
    /// What its store takes, or takes more than before.
    pub(crate) disk_mb: Option<Spread>,
    /// Blobs that the registry handed out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) blobs: Option<Spread>,
    /// Processes that stay beside the payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) helpers: Option<Spread>,
}

/// Of several values.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

const MB: f64 = 1e6;

impl Row {
    pub(crate) fn new(scenario: &str, tool: &str, samples: &[Sample]) -> Self {
        let of = |value: fn(&Sample) -> f64| Spread::of(samples.iter().map(value).collect());
        Self {
            scenario: scenario.to_owned(),
            tool: tool.to_owned(),
            runs: samples.len(),
            wall_s: of(|s| s.cost.wall.as_secs_f64()),
            cpu_s: of(|s| s.cost.cpu.as_secs_f64()),
            rss_mb: of(|s| float(s.cost.memory) / MB),
            disk_mb: Some(of(|s| float(s.disk) / MB)),
            blobs: Some(of(|s| float(s.blobs as u64))),
            helpers: None,
        }
    }
}

impl Spread {
    /// Of these values; of two in the middle the mean.
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or_default();
        let last = values.len().saturating_sub(1);
        let round = |value: f64| (value * 1e5).round() / 1e5;
        Self {
            median: round(f64::midpoint(at(last / 2), at(last.div_ceil(2)))),
            min: round(at(0)),
            max: round(at(last)),
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
            "{shown:<17} {:<11} {:>16} {:>16} {:>9.1} {:>9}",
            row.tool,
            row.wall_s.to_string(),
            row.cpu_s.to_string(),
            row.rss_mb.median,
            row.disk_mb
                .map_or_else(|| "-".to_owned(), |disk| format!("{:.1}", disk.median))
        );
    }
}

impl fmt::Display for Spread {
    /// Seconds: the median, and in brackets how far the runs lie apart.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.median < 1.0 { 3 } else { 2 };
        write!(
            f,
            "{:.digits$} ({:.digits$}..{:.digits$})",
            self.median, self.min, self.max
        )
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "bytes of a store: far below what a float counts exactly"
)]
fn float(value: u64) -> f64 {
    value as f64
}
