//! `bedplate prune`.

use anyhow::Result;

use crate::cli::output::Output;
use crate::cli::output::progress::bytes;
use crate::cli::output::table::short;
use crate::ops::Host;
use crate::ops::prune::{self, Outcome, Request};

const HELP: &str = "\
Of each container these generations stay: the live one, the one that `rollback`
goes to, those that are pinned (`bedplate pin`) or that a unit names, and those
that a process still uses. Nothing is pruned unless this command is run.

Examples:
  bedplate prune --dry-run
  bedplate pin etcd 3        (generation 3 stays from now on)
  bedplate prune";

/// Arguments of `prune`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// Show what would go and how much that would free; remove nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(host: &Host, args: &Args, output: &Output) -> Result<()> {
    let request = Request {
        dry_run: args.dry_run,
    };
    output.show(&prune::run(host, &request)?, text)
}

fn text(outcome: &Outcome) -> String {
    let (removed, freed) = if outcome.dry_run {
        ("would remove", "would free")
    } else {
        ("removed", "freed")
    };
    let mut lines = Vec::new();
    let mut line =
        |what: String, size: u64| lines.push(format!("{removed} {what}: {}", bytes(size)));
    for gone in &outcome.generations {
        let what = format!("generation {} of {}", gone.generation, gone.container);
        line(what, gone.bytes);
    }
    for gone in &outcome.images {
        let name = if gone.image.is_empty() {
            "of another version"
        } else {
            &gone.image
        };
        line(
            format!("image {name} ({})", short(&gone.digest)),
            gone.bytes,
        );
    }
    for gone in &outcome.layers {
        line(format!("layer {}", short(&gone.diff_id)), gone.bytes);
    }
    for (count, what) in [
        (outcome.loose_objects, "loose objects"),
        (outcome.temporary, "temporary files"),
    ] {
        if count.count > 0 {
            line(format!("{} {what}", count.count), count.bytes);
        }
    }
    for held in &outcome.in_use {
        let (process, container) = (&held.process, &held.container);
        lines.push(format!(
            "kept generation {} of {container}: process {} ({}) uses it",
            held.generation, process.pid, process.name
        ));
    }
    lines.push(format!("{freed} {}\n", bytes(outcome.freed)));
    lines.join("\n")
}
