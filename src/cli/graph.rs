//! `bedplate graph`.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::cli::output::{self, Output};
use crate::name::UnitName;
use crate::ops::{Host, graph};

/// Arguments of `graph`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print it in Graphviz's language, for dot(1)
    #[arg(long, conflicts_with_all = ["svg", "json"])]
    dot: bool,
    /// Print it as an SVG picture
    #[arg(long, conflicts_with = "json")]
    svg: bool,
}

pub(crate) fn run(host: &Host, args: &Args, output: &Output) -> Result<()> {
    let graph = graph::run(host)?;
    let states: BTreeMap<UnitName, String> = graph
        .units()
        .iter()
        .filter_map(|unit| {
            let state = host.systemd.state(unit).ok()?;
            (!state.active.is_empty()).then(|| (unit.clone(), state.active))
        })
        .collect();
    if args.dot {
        output::write(&graph.dot(&states))
    } else if args.svg {
        output::write(&graph.svg(&states))
    } else {
        output.show(&graph.document(&states), |_| graph.text(&states))
    }
}
