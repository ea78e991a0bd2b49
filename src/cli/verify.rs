//! `bedplate verify`.

use std::fmt::Write as _;

use anyhow::{Result, anyhow};

use crate::cli::complete;
use crate::cli::output::Output;
use crate::cli::output::progress::bytes;
use crate::hint::Hinted;
use crate::name::ContainerName;
use crate::ops::Host;
use crate::ops::verify::{self, Fault, Outcome, Place, Request};

/// How many places of one fault are shown; `--json` has them all.
const SHOWN: usize = 8;

const HELP: &str = "Exit status: 0 no fault; 1 there are some.";

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// The containers; all of them when none is named
    #[arg(value_name = "NAME", add = complete::containers())]
    names: Vec<ContainerName>,
    /// Also the images that no container uses
    #[arg(long, conflicts_with = "names")]
    all_images: bool,
}

pub(crate) fn run(host: &Host, args: &Args, output: &Output) -> Result<()> {
    let request = Request {
        names: args.names.clone(),
        all_images: args.all_images,
    };
    let outcome = verify::run(host, &request)?;
    for note in &outcome.notes {
        host.report.note(note);
    }
    output.show(&outcome, text)?;
    if outcome.faults.is_empty() {
        return Ok(());
    }
    let names = names(&outcome.concerned());
    let count = plural(outcome.faults.len(), "fault");
    let found = if names.is_empty() {
        format!("{count} found")
    } else {
        format!("{count} found in {}", names.join(", "))
    };
    Err(anyhow!(found)).hint(format!(
        "`{}` brings back what can be brought back",
        ["bedplate repair".to_owned()]
            .into_iter()
            .chain(names)
            .collect::<Vec<_>>()
            .join(" ")
    ))
}

fn names(names: &[ContainerName]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn text(outcome: &Outcome) -> String {
    let mut text: String = outcome.faults.iter().map(fault).collect();
    let what = if outcome.containers.is_empty() {
        plural(outcome.images, "image")
    } else {
        names(&outcome.containers).join(", ")
    };
    let _ = writeln!(
        text,
        "verified {what}: {}, {}, {}",
        plural(outcome.files, "file"),
        bytes(outcome.bytes),
        match outcome.faults.len() {
            0 => "no fault".to_owned(),
            count => plural(count, "fault"),
        }
    );
    text
}

/// `1 fault`, `2 faults`.
pub(crate) fn plural(count: usize, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {what}{s}")
}

/// What is wrong on one line, and below it whom it concerns.
pub(crate) fn fault(fault: &Fault) -> String {
    let defects: Vec<String> = fault.defects.iter().map(ToString::to_string).collect();
    let mut line = format!("{} {}: {}", fault.thing, fault.name, defects.join(", "));
    if !fault.detail.is_empty() {
        let _ = write!(line, " ({})", fault.detail);
    }
    line.push('\n');
    line + &places(&fault.places)
}

/// Whom it concerns, a line each.
pub(crate) fn places(places: &[Place]) -> String {
    let mut text = String::new();
    let width = places.iter().map(|p| who(p).chars().count()).max();
    for place in places.iter().take(SHOWN) {
        let line = format!("  {:<1$}  {2}", who(place), width.unwrap_or(0), place.path);
        text.push_str(line.trim_end());
        text.push('\n');
    }
    if places.len() > SHOWN {
        let _ = writeln!(
            text,
            "  and {} more; --json has them all",
            places.len() - SHOWN
        );
    }
    text
}

fn who(place: &Place) -> String {
    match &place.container {
        Some(name) => name.to_string(),
        None => place.image.clone(),
    }
}
