//! `bedplate repair`.

use anyhow::{Result, anyhow};

use crate::cli::complete;
use crate::cli::output::Output;
use crate::cli::source::Registries;
use crate::cli::verify::{places, plural};
use crate::name::ContainerName;
use crate::ops::Host;
use crate::ops::repair::{self, Outcome, Request};

const HELP: &str = "\
Passwords for registries, if none are given: those of `update`, see
`update.authfile` in bedplate.toml(5).

Exit status: 0 nothing damaged is left; 1 something is, and is named.";

/// Arguments of `repair`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// The containers; all of them when none is named
    #[arg(value_name = "NAME", add = complete::containers())]
    names: Vec<ContainerName>,
    /// Show what would be done; change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    registries: Registries,
}

pub(crate) fn run(host: &Host, args: &Args, output: &Output) -> Result<()> {
    let request = Request {
        names: args.names.clone(),
        dry_run: args.dry_run,
        access: args.registries.access()?,
    };
    let outcome = repair::run(host, &request)?;
    output.show(&outcome, text)?;
    if outcome.left.is_empty() {
        return Ok(());
    }
    let count = plural(outcome.left.len(), "fault");
    Err(anyhow!(if outcome.dry_run {
        format!("{count} could not be repaired")
    } else {
        format!("{count} left")
    }))
}

fn text(outcome: &Outcome) -> String {
    let done = if outcome.dry_run {
        "would repair"
    } else {
        "repaired"
    };
    let mut lines = Vec::new();
    for one in &outcome.repaired {
        lines.push(format!("{done} {} {}: {}", one.thing, one.name, one.from));
    }
    for kept in &outcome.kept {
        let (path, at) = (kept.path.display(), kept.at.display());
        lines.push(format!("kept what was at {path}: it is now {at}"));
    }
    for left in &outcome.left {
        let (thing, name) = (left.fault.thing, &left.fault.name);
        lines.push(format!("left {thing} {name}: {}", left.why));
        let places = places(&left.fault.places);
        lines.extend(places.lines().map(str::to_owned));
    }
    if outcome.repaired.is_empty() && outcome.left.is_empty() {
        lines.push("nothing to repair".to_owned());
    }
    for name in &outcome.restart {
        lines.push(format!(
            "{name} runs on with the files it has open: `systemctl restart {name}` lets it use the repaired ones"
        ));
    }
    lines.push(String::new());
    lines.join("\n")
}
