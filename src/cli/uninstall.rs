//! `bedplate uninstall`.

use anyhow::Result;

use crate::cli::complete;
use crate::cli::output::Output;
use crate::name::ContainerName;
use crate::ops::Host;
use crate::ops::uninstall::{self, Outcome, Request};

/// Arguments of `uninstall`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The containers to remove
    #[arg(value_name = "NAME", required = true, add = complete::containers())]
    names: Vec<ContainerName>,
    /// Even if other containers require them, or processes they started are still running
    #[arg(long)]
    force: bool,
    /// Show what would be done; change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(host: &Host, args: &Args, output: &Output) -> Result<()> {
    let request = Request {
        names: args.names.clone(),
        force: args.force,
        dry_run: args.dry_run,
    };
    output.show(&uninstall::run(host, &request)?, text)
}

fn text(outcome: &Outcome) -> String {
    let mut lines = Vec::new();
    let (removed, stopped) = if outcome.dry_run {
        ("would uninstall", "would stop")
    } else {
        ("uninstalled", "stopped")
    };
    for unit in &outcome.stopped {
        lines.push(format!("{stopped} {unit}"));
    }
    for name in &outcome.uninstalled {
        lines.push(format!("{removed} {name}; its data is kept"));
    }
    for path in &outcome.kept {
        lines.push(format!("kept {}: it was changed since", path.display()));
    }
    for process in &outcome.left_running {
        lines.push(if outcome.dry_run {
            format!("would not end {process}: without `--force` that is refused")
        } else {
            format!("still running: {process}, from files that are removed")
        });
    }
    lines.push(String::new());
    lines.join("\n")
}
