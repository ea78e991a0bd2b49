//! `bedplate pull`.

use anyhow::Result;

use crate::cli::output::Output;
use crate::cli::source;
use crate::image::reference::ImageRef;
use crate::ops::Host;
use crate::ops::pull::{self, Outcome, Pulled, Request};

const EXAMPLES: &str = "\
Examples:
  bedplate pull docker://registry.example/etcd:3.5
  bedplate pull --dry-run docker://registry.example/etcd:3.5
  bedplate install docker://registry.example/etcd:3.5    (no network)";

/// Arguments of `pull`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The images, as `install` takes them
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<ImageRef>,
    /// Say what would be fetched; fetch nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    source: source::Args,
}

pub(crate) fn run(host: &Host, args: &Args, output: &Output) -> Result<()> {
    let request = Request {
        images: args.images.clone(),
        access: args.source.access(&args.images)?,
        dry_run: args.dry_run,
    };
    output.show(&pull::run(host, &request)?, text)
}

fn text(outcome: &Outcome) -> String {
    let mut lines: Vec<_> = outcome
        .images
        .iter()
        .map(|image| line(image, outcome.dry_run))
        .collect();
    if outcome.dry_run {
        lines.push("nothing was changed".to_owned());
    }
    lines.push(String::new());
    lines.join("\n")
}

fn line(pulled: &Pulled, dry_run: bool) -> String {
    let Pulled { image, digest, .. } = pulled;
    let bytes: u64 = pulled.fetched.iter().map(|layer| layer.size).sum();
    let fetched = match (pulled.fetched.len(), dry_run) {
        (0, _) => "every layer is in the store".to_owned(),
        (n, true) => format!("{n} of {} layers to fetch, {bytes} bytes", pulled.layers),
        (n, false) => format!("{n} of {} layers fetched, {bytes} bytes", pulled.layers),
    };
    let verb = match (pulled.was_kept, dry_run) {
        (true, _) => "kept already",
        (false, true) => "would be kept",
        (false, false) => "kept",
    };
    format!("{image}: {verb} ({digest}); {fetched}")
}
