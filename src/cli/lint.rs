//! `bedplate lint`.

use anyhow::{Result, anyhow};

use crate::cli::complete;
use crate::cli::install::pair;
use crate::cli::output::Output;
use crate::cli::source;
use crate::cli::verify::plural;
use crate::contract::finding::Finding;
use crate::ops::Host;
use crate::ops::lint::{self, Kind, Outcome, Request, Subject};

const EXAMPLES: &str = "\
A directory is one from which an image is built, with exports/ in it; the
unpacked root of an image; or exports itself. What is a directory, or begins
with / or ., is one; anything else is an image: one of the store is used as it
is, another is fetched into a store of its own that goes at the end.

Examples:
  bedplate lint .                                 (beside the Containerfile)
  bedplate lint --set PORT=8080 oci:build:latest  (the image, before it is pushed)

Exit status: 0 no problem; 1 there are some.";

/// Arguments of `lint`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The directory, or the image
    #[arg(value_name = "DIR|IMAGE", add = complete::images())]
    subject: Subject,
    /// Render with this value instead of the default; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
    #[command(flatten)]
    source: source::Args,
}

pub(crate) fn run(host: &Host, args: &Args, output: &Output) -> Result<()> {
    let reference = match &args.subject {
        Subject::Image(wanted) => wanted.reference(),
        Subject::Dir(_) => None,
    };
    let request = Request {
        subject: args.subject.clone(),
        access: args.source.access(reference)?,
        set: args.set.clone(),
    };
    let outcome = lint::run(host, &request)?;
    output.show(&outcome, text)?;
    match outcome.problems.len() {
        0 => Ok(()),
        count => Err(anyhow!("{} found", plural(count, "problem"))),
    }
}

fn text(outcome: &Outcome) -> String {
    let what = match outcome.kind {
        Kind::Image => "an image",
        Kind::Rootfs => "the root of an image",
        Kind::Context => "what an image is built from",
        Kind::Exports => "the contract of an image",
    };
    let without = if outcome.contract {
        ""
    } else {
        " without a contract: it is installed from its OCI configuration"
    };
    let mut lines = vec![format!("{}: {what}{without}", outcome.subject)];
    let placeholders = outcome.placeholders.iter();
    let placeholders = placeholders.map(|(name, value)| format!("{name}={value}"));
    for (title, items) in [
        ("problems", outcome.problems.iter().map(line).collect()),
        ("warnings", outcome.warnings.iter().map(line).collect()),
        ("not checked", outcome.unchecked.clone()),
        (
            "required values, here filled with a placeholder",
            placeholders.collect::<Vec<_>>(),
        ),
        ("privileges", outcome.privileges.clone()),
    ] {
        if !items.is_empty() {
            lines.push(title.to_owned());
            lines.extend(items.iter().map(|item| format!("  {item}")));
        }
    }
    if outcome.problems.is_empty() {
        lines.push("no problem found".to_owned());
    }
    lines.push(String::new());
    lines.join("\n")
}

fn line(finding: &Finding) -> String {
    match (&finding.file, finding.line) {
        (Some(file), Some(line)) => format!("{file}:{line}: {}", finding.text),
        (Some(file), None) => format!("{file}: {}", finding.text),
        (None, _) => finding.text.clone(),
    }
}
