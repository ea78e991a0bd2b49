//! `bedplate values`.

use anyhow::Result;

use crate::cli::complete;
use crate::cli::output::Output;
use crate::cli::output::table::{or_dash, table};
use crate::contract::manifest::ValueType;
use crate::contract::values::Data;
use crate::ops::Host;
use crate::ops::values::{self, Declared, Outcome, Subject};

const EXAMPLES: &str = "\
Examples:
  bedplate values docker://registry.example/etcd:3.5   (before: what it takes)
  bedplate values etcd                                 (after: what it has, and from where)";

/// Arguments of `values`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// An image in the store (a reference, or how its digest begins), or an installed container
    #[arg(value_name = "IMAGE|NAME", add = complete::containers_and_images())]
    subject: Subject,
}

pub(crate) fn run(host: &Host, args: &Args, output: &Output) -> Result<()> {
    output.show(&values::run(host, &args.subject)?, text)
}

fn text(outcome: &Outcome) -> String {
    let (declared, built_in) = match outcome.container {
        Some(_) => (of_container(outcome), built_in_of_container(outcome)),
        None => (of_image(outcome), built_in_of_image(outcome)),
    };
    let declared = if outcome.values.is_empty() {
        "The image declares no values.\n".to_owned()
    } else {
        declared
    };
    format!("{declared}\n{built_in}")
}

fn of_image(outcome: &Outcome) -> String {
    let rows = outcome.values.iter().map(|declared| {
        let kind = declared.kind.as_str().to_owned();
        [
            declared.name.clone(),
            kind,
            default(declared),
            declared.help.clone(),
        ]
    });
    table(
        ["VALUE", "TYPE", "DEFAULT", "HELP"],
        &rows.collect::<Vec<_>>(),
    )
}

fn of_container(outcome: &Outcome) -> String {
    let rows = outcome.values.iter().map(|declared| {
        let origin = declared.origin.as_ref().map(ToString::to_string);
        [
            declared.name.clone(),
            declared.kind.as_str().to_owned(),
            default(declared),
            current(declared),
            or_dash(&origin.unwrap_or_default()),
            declared.help.clone(),
        ]
    });
    let header = ["VALUE", "TYPE", "DEFAULT", "IS", "FROM", "HELP"];
    table(header, &rows.collect::<Vec<_>>())
}

fn built_in_of_image(outcome: &Outcome) -> String {
    let built_in = outcome.built_in.iter();
    let rows = built_in.map(|b| [b.name.to_owned(), b.help.to_owned()]);
    table(["BUILT IN", "HELP"], &rows.collect::<Vec<_>>())
}

fn built_in_of_container(outcome: &Outcome) -> String {
    let built_in = outcome.built_in.iter();
    let rows = built_in.map(|b| [b.name.to_owned(), data(b.value.as_ref()), b.help.to_owned()]);
    table(["BUILT IN", "IS", "HELP"], &rows.collect::<Vec<_>>())
}

fn default(declared: &Declared) -> String {
    if declared.required {
        return "(required)".to_owned();
    }
    data(declared.default.as_ref())
}

fn current(declared: &Declared) -> String {
    match declared.kind {
        ValueType::Secret if declared.origin.is_some() => "(never shown)".to_owned(),
        _ => data(declared.value.as_ref()),
    }
}

fn data(data: Option<&Data>) -> String {
    or_dash(&data.map(ToString::to_string).unwrap_or_default())
}
