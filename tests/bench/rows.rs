//! What was measured, as rows: one for each scenario and tool.

use std::fmt;

use serde::{Deserialize, Serialize};

/// All runs of one tool in one scenario.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) scenario: String,
    pub(crate) tool: String,
    pub(crate) runs: usize,
    pub(crate) wall_s: Spread,
    pub(crate) cpu_s: Spread,
    pub(crate) rss_mb: Option<Spread>,
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
