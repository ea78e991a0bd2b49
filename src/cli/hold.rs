//! `bedplate hold`, `unhold`, `pin` and `unpin`.

use std::fmt::Write;

use anyhow::Result;

use crate::cli::complete;
use crate::cli::output::Output;
use crate::name::{ContainerName, Generation};
use crate::ops::Host;
use crate::ops::hold::{self, Held, Pinned};

/// Arguments of `hold`.
#[derive(Debug, clap::Args)]
pub(crate) struct Hold {
    /// The containers
    #[arg(value_name = "NAME", required = true, add = complete::containers())]
    names: Vec<ContainerName>,
    /// Why, for whoever wonders
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// Arguments of `unhold`.
#[derive(Debug, clap::Args)]
pub(crate) struct Unhold {
    /// The containers
    #[arg(value_name = "NAME", required = true, add = complete::containers())]
    names: Vec<ContainerName>,
}

/// Arguments of `pin` and `unpin`.
#[derive(Debug, clap::Args)]
pub(crate) struct Pin {
    /// The container
    #[arg(add = complete::containers())]
    name: ContainerName,
    /// The generation; by default the live one
    #[arg(value_name = "N")]
    generation: Option<Generation>,
}

pub(crate) fn hold(host: &Host, args: &Hold, output: &Output) -> Result<()> {
    let held = hold::hold(host, &args.names, Some(&args.reason))?;
    output.show(&held, held_text)
}

pub(crate) fn unhold(host: &Host, args: &Unhold, output: &Output) -> Result<()> {
    output.show(&hold::hold(host, &args.names, None)?, held_text)
}

pub(crate) fn pin(host: &Host, args: &Pin, pinned: bool, output: &Output) -> Result<()> {
    let done = hold::pin(host, &args.name, args.generation, pinned)?;
    output.show(&done, pinned_text)
}

fn held_text(outcome: &Held) -> String {
    let mut text = String::new();
    for name in &outcome.names {
        let already = outcome.unchanged.contains(name);
        let said = match (outcome.held, already) {
            (true, false) => "held: no update touches it",
            (true, true) => "was held already",
            (false, false) => "no longer held",
            (false, true) => "was not held",
        };
        let _a_string_takes_all = writeln!(text, "{name}: {said}");
    }
    text
}

fn pinned_text(outcome: &Pinned) -> String {
    let said = match (outcome.pinned, outcome.unchanged) {
        (true, false) => "is pinned: `prune` leaves it",
        (true, true) => "was pinned already",
        (false, false) => "is no longer pinned",
        (false, true) => "was not pinned",
    };
    format!(
        "{}: generation {} {said}\n",
        outcome.name, outcome.generation
    )
}
