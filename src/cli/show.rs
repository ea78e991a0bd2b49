//! `bedplate show`.

use anyhow::Result;

use crate::cli::complete;
use crate::cli::output::Output;
use crate::cli::output::table::field;
use crate::name::ContainerName;
use crate::ops::Host;
use crate::ops::show::{self, Outcome};

/// Arguments of `show`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container's name, as `bedplate list` has it
    #[arg(add = complete::containers())]
    name: ContainerName,
}

pub(crate) fn run(host: &Host, args: &Args, output: &Output) -> Result<()> {
    output.show(&show::run(host, &args.name)?, text)
}

fn text(outcome: &Outcome) -> String {
    let record = &outcome.record;
    let state = &outcome.state;
    let mut lines = vec![
        format!("{} - {}", record.name, record.description),
        field("image", &record.image),
        field("digest", &record.manifest_digest),
        field("generation", &record.generation.to_string()),
        field("directory", &outcome.directory.display().to_string()),
        field("runtime", &record.runtime.display().to_string()),
        field("state", &active(&state.active, &state.sub)),
    ];
    if record.integrity.is_image() {
        lines.push(field("integrity", &record.integrity.to_string()));
    }
    // An image for several architectures: what the reference itself names.
    if record.index_digest != record.manifest_digest {
        lines.insert(2, field("index", &record.index_digest));
    }
    if !state.status.is_empty() {
        lines.push(field("status", &state.status));
    }
    let order = &record.order;
    let required_by: Vec<String> = outcome
        .required_by
        .iter()
        .map(ToString::to_string)
        .collect();
    let units: Vec<String> = record.units.iter().map(ToString::to_string).collect();
    for (name, items) in [
        ("units", &units),
        ("provides", &order.provides),
        ("requires", &order.requires),
        ("after", &order.after),
        ("before", &order.before),
        ("required by", &required_by),
    ] {
        if !items.is_empty() {
            lines.push(field(name, &items.join(", ")));
        }
    }
    for (i, privilege) in record.privileges.iter().enumerate() {
        lines.push(field(if i == 0 { "privileges" } else { "" }, privilege));
    }
    for (i, (name, value)) in record.values.iter().enumerate() {
        let text = if value.origin.is_secret() {
            format!("{name} (secret, from {})", value.origin)
        } else {
            format!("{name}={} ({})", value.data, value.origin)
        };
        lines.push(field(if i == 0 { "values" } else { "" }, &text));
    }
    for (i, file) in record.files.iter().enumerate() {
        let path = file.path.display().to_string();
        lines.push(field(if i == 0 { "files" } else { "" }, &path));
    }
    for (i, note) in outcome.notes.iter().enumerate() {
        lines.push(field(if i == 0 { "notes" } else { "" }, note));
    }
    lines.push(String::new());
    lines.join("\n")
}

/// `active (running)`; a root that does not run has no second word.
fn active(state: &str, sub: &str) -> String {
    if sub.is_empty() {
        state.to_owned()
    } else {
        format!("{state} ({sub})")
    }
}
