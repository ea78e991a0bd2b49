//! `bedplate check`.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Result, anyhow};

use crate::cli::complete;
use crate::cli::output::Output;
use crate::cli::verify::plural;
use crate::hint::Hinted;
use crate::name::ContainerName;
use crate::ops::Host;
use crate::ops::check::{self, Finding, Outcome, Reach, Request};

const HELP: &str = "Exit status: 0 no fault; 1 there are some.";

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// Follow what their units pull in: the network, a registry or bedplate itself is a fault unless the image asks
    #[arg(long, required = true)]
    boot: bool,
    /// The containers; all of them when none is named
    #[arg(value_name = "NAME", add = complete::containers())]
    names: Vec<ContainerName>,
}

pub(crate) fn run(host: &Host, args: &Args, output: &Output) -> Result<()> {
    let names = args.names.clone();
    let outcome = check::run(host, &Request { names })?;
    for note in &outcome.notes {
        host.report.note(note);
    }
    output.show(&outcome, text)?;
    let Some(first) = outcome.faults.first() else {
        return Ok(());
    };
    let concerned: BTreeSet<&str> = outcome
        .faults
        .iter()
        .map(|f| f.container.as_str())
        .collect();
    let concerned: Vec<&str> = concerned.into_iter().collect();
    let count = plural(outcome.faults.len(), "fault");
    // The unit that takes the last step is the one to change.
    let blame = first.path.iter().nth_back(1).map_or("", |step| &step.name);
    Err(anyhow!("{count} found in {}", concerned.join(", ")))
        .hint(format!("`systemctl cat {blame}` shows which file says it"))
}

fn text(outcome: &Outcome) -> String {
    let mut text = String::new();
    for (word, findings) in [("fault", &outcome.faults), ("asked", &outcome.asked)] {
        for finding in findings {
            let _ = writeln!(text, "{word}  {}", line(finding));
        }
    }
    if outcome.containers.is_empty() {
        text.push_str("No system container is installed.\n");
        return text;
    }
    let names: Vec<&str> = outcome
        .containers
        .iter()
        .map(ContainerName::as_str)
        .collect();
    let _ = writeln!(
        text,
        "checked {}: {}, {}",
        names.join(", "),
        plural(outcome.units, "unit"),
        match outcome.faults.len() {
            0 => "no fault".to_owned(),
            count => plural(count, "fault"),
        }
    );
    text
}

/// `etcd reaches the network: etcd.service → network-online.target (Wants=)`.
fn line(finding: &Finding) -> String {
    let what = match finding.reaches {
        Reach::Network => "the network",
        Reach::Registry => "a registry",
        Reach::Bedplate => "bedplate",
        Reach::Reload => "a reload of systemd",
    };
    let names: Vec<&str> = finding.path.iter().map(|step| step.name.as_str()).collect();
    let by = finding.path.last().map_or("", |step| step.by);
    format!(
        "{} reaches {what}: {} ({by}=)",
        finding.container,
        names.join(" → ")
    )
}
