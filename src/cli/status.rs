//! `bedplate status`.

use anyhow::Result;

use crate::cli::history::what;
use crate::cli::output::Output;
use crate::cli::output::table::{field, short};
use crate::cli::{complete, time};
use crate::name::ContainerName;
use crate::ops::Host;
use crate::ops::status::{self, Outcome, Row};

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The containers; all of them when none is named
    #[arg(value_name = "NAME", add = complete::containers())]
    names: Vec<ContainerName>,
}

pub(crate) fn run(host: &Host, args: &Args, output: &Output) -> Result<()> {
    output.show(&status::run(host, &args.names)?, text)
}

fn text(outcome: &Outcome) -> String {
    let mut lines = Vec::new();
    for row in &outcome.containers {
        describe(row, outcome.automatic, &mut lines);
    }
    if outcome.containers.is_empty() {
        lines.push("No system container is installed.".to_owned());
    }
    if !outcome.automatic {
        lines.push(
            "Nothing is updated by itself: `systemctl enable --now bedplate-update.timer` lets it."
                .to_owned(),
        );
    }
    lines.push(String::new());
    lines.join("\n")
}

fn describe(row: &Row, automatic: bool, lines: &mut Vec<String>) {
    let state = if row.state.is_empty() {
        "unknown"
    } else {
        &row.state
    };
    let (generation, digest) = (row.generation, short(&row.digest));
    lines.push(format!(
        "{}: {state} (generation {generation}, {digest})",
        row.name
    ));
    if !row.status.is_empty() {
        lines.push(field("status", &row.status));
    }
    if row.restarts > 0 {
        lines.push(field("restarts", &row.restarts.to_string()));
    }
    if let Some(event) = &row.last {
        let failed = event.failed.iter().map(|why| format!(", failed: {why}"));
        let failed: String = failed.collect();
        let text = format!("{} {}{failed}", what(event.what), time(event.when));
        lines.push(field("last", &text));
    }
    if let Some(reason) = &row.held {
        let text = if reason.is_empty() { "yes" } else { reason };
        lines.push(field("held", text));
    }
    if let Some(checked) = &row.checked {
        let text = format!("{}: {}", time(checked.when), checked.result);
        lines.push(field("looked", &text));
    }
    if let Some(due) = row.due.filter(|_| automatic) {
        lines.push(field("due", &time(due)));
    }
    if let Some(digest) = &row.downloaded {
        lines.push(field("waiting", short(digest)));
    }
    for bad in &row.bad {
        let text = format!("{} {}: {}", short(&bad.digest), time(bad.when), bad.reason);
        lines.push(field("not taken", &text));
    }
}
