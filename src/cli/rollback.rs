//! `bedplate rollback`.

use anyhow::Result;

use crate::cli::output::Output;
use crate::cli::update::{diffs, made};
use crate::cli::{complete, now};
use crate::name::{ContainerName, Generation};
use crate::ops::Host;
use crate::ops::rollback::{self, Outcome, Request};

/// Arguments of `rollback`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container
    #[arg(add = complete::containers())]
    name: ContainerName,
    /// To this generation; by default to the one before the live one
    #[arg(long, value_name = "N")]
    to: Option<Generation>,
    /// Show what would change, and what would be stopped with it
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(host: &Host, args: &Args, output: &Output) -> Result<()> {
    let request = Request {
        name: args.name.clone(),
        to: args.to,
        dry_run: args.dry_run,
        now: now(),
    };
    output.show(&rollback::run(host, &request)?, text)
}

fn text(outcome: &Outcome) -> String {
    let verb = if outcome.dry_run {
        "would go back"
    } else {
        "back"
    };
    let mut lines = vec![format!(
        "{}: {verb} from generation {} to {} ({})",
        outcome.name, outcome.from, outcome.to, outcome.digest
    )];
    lines.extend(outcome.notes.iter().map(|note| format!("  note: {note}")));
    if outcome.dry_run {
        lines.extend(diffs(&outcome.files));
    }
    lines.extend(made(&outcome.change, outcome.dry_run));
    if outcome.dry_run {
        lines.push("nothing was changed".to_owned());
    }
    lines.push(String::new());
    lines.join("\n")
}
