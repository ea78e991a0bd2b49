//! `make bench`: bedplate against its peers on the same images from the same registry. See `docs/benchmark.md`.
//!
//! `BENCH_RUNS` is how often each tool does each thing (5), `BENCH_SCENARIOS=cold-gzip,noop` runs a part. `report`
//! tells again what the last bench measured; `floor` is one of the things that are measured.
#![allow(missing_docs, reason = "a program: nobody links it")]
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it stands outside the program: it makes its host, looks at its disk and prints a table"
)]

mod accounting;
mod chart;
mod derive;
mod downtime;
mod floor;
mod images;
mod layout;
mod place;
mod registry;
mod report;
mod rows;
mod scenario;
mod server;
mod start;
mod targets;
mod tools;

#[path = "../vm/host.rs"]
#[expect(dead_code, reason = "the booted tests use all of it")]
mod host;
#[path = "../vm/machine.rs"]
#[expect(dead_code, reason = "the booted tests use all of it")]
mod machine;

use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};

use crate::images::Images;
use crate::registry::Registry;
use crate::rows::Row;
use crate::scenario::Part;

fn main() -> ExitCode {
    let arguments = std::env::args().skip(1).filter(|word| word != "--bench");
    let arguments: Vec<String> = arguments.collect();
    let done = match arguments.split_first() {
        Some((verb, rest)) if verb == "floor" => floor::install(rest),
        Some((verb, [])) if verb == "report" => report::read().and_then(|rows| tell(&rows)),
        Some((verb, _)) => Err(anyhow!("`{verb}` is neither `report` nor `floor`")),
        None => bench(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Measures what was asked for, writes it down and prints how it compares.
fn bench() -> Result<()> {
    accounting::end_in_order()?;
    let runs = match std::env::var("BENCH_RUNS") {
        Ok(text) => text
            .parse()
            .with_context(|| format!("BENCH_RUNS=`{text}`"))?,
        Err(_) => report::ENOUGH,
    };
    if runs < report::ENOUGH {
        eprintln!(
            "bench: {runs} runs only: a median of fewer than {} says little",
            report::ENOUGH
        );
    }
    let wanted = scenario::wanted(std::env::var("BENCH_SCENARIOS").ok().as_deref())?;
    let _alone = place::prepare()?;
    let images = Images::make(&wanted)?;
    let registry = Registry::start()?;
    images.push(&registry)?;
    let mut rows = Vec::new();
    for part in &wanted {
        rows.extend(match part {
            Part::Install(scenario) => scenario.run(&images, &registry, runs)?,
            Part::Start => start::run(runs)?,
            Part::Downtime => downtime::run(&images, runs)?,
        });
        report::write(&rows)?;
    }
    tell(&rows)?;
    place::clear_stores()
}

/// Prints and draws what was measured.
fn tell(rows: &[Row]) -> Result<()> {
    report::print(rows);
    targets::print(rows);
    chart::write(rows)
}
