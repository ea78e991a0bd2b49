//! Stdout is data: a table for people, or the outcome as JSON. Stderr is progress, notes and errors.

pub(crate) mod json;
pub(crate) mod plain;
pub(crate) mod progress;
pub(crate) mod stream;
pub(crate) mod table;

use std::io::Write;

use anyhow::{Context, Result};
use serde::Serialize;

/// How an outcome is shown.
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether JSON is asked for.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Shows the outcome as JSON, or as what `text` makes of it.
    pub(crate) fn show<T: Serialize>(
        &self,
        outcome: &T,
        text: impl Fn(&T) -> String,
    ) -> Result<()> {
        let shown = if self.json {
            let mut json = serde_json::to_string_pretty(outcome).context("writing the outcome")?;
            json.push('\n');
            json
        } else {
            plain::lines(&text(outcome)).into_owned()
        };
        write(&shown)
    }
}

/// Writes to stdout as it is.
pub(crate) fn write(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .context("writing to stdout")
}
