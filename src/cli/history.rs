//! `bedplate history`.

use anyhow::Result;

use crate::cli::output::Output;
use crate::cli::output::table::{short, table};
use crate::cli::{complete, time};
use crate::name::ContainerName;
use crate::ops::Host;
use crate::ops::history::{self, Outcome};
use crate::state::{Event, What};

/// Arguments of `history`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container
    #[arg(add = complete::containers())]
    name: ContainerName,
}

pub(crate) fn run(host: &Host, args: &Args, output: &Output) -> Result<()> {
    output.show(&history::run(host, &args.name)?, text)
}

fn text(outcome: &Outcome) -> String {
    let rows: Vec<_> = outcome
        .events
        .iter()
        .map(|event| row(outcome, event))
        .collect();
    let header = ["GENERATION", "WHEN", "WHAT", "DIGEST", "NOW", "OUTCOME"];
    table(header, &rows)
}

fn row(outcome: &Outcome, event: &Event) -> [String; 6] {
    let there = outcome.generations.iter();
    let there = there
        .clone()
        .find(|g| g.generation == event.generation && event.failed.is_none());
    let mut now: Vec<&str> = Vec::new();
    match there {
        None => now.push("gone"),
        Some(generation) => {
            now.push(if generation.live { "live" } else { "on disk" });
            now.extend(generation.pinned.then_some("pinned"));
        }
    }
    [
        event.generation.to_string(),
        time(event.when),
        what(event.what).to_owned(),
        short(&event.digest).to_owned(),
        now.join(", "),
        outcome_of(outcome, event),
    ]
}

fn outcome_of(outcome: &Outcome, event: &Event) -> String {
    if let Some(why) = &event.failed {
        return format!("failed: {why}");
    }
    let bad = outcome.bad.iter().find(|bad| bad.digest == event.digest);
    bad.map_or_else(|| "good".to_owned(), |bad| bad.reason.clone())
}

pub(crate) fn what(what: What) -> &'static str {
    match what {
        What::Installed => "installed",
        What::Updated => "updated",
        What::UpdatedAutomatically => "updated by the timer",
        What::RolledBack => "rolled back",
    }
}
