//! `bedplate images`.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Subcommand;

use crate::cli::complete;
use crate::cli::output::Output;
use crate::cli::output::progress::bytes;
use crate::cli::output::table::{field, or_dash, short, table};
use crate::cli::source;
use crate::contract::manifest::{Mount, Namespace};
use crate::ops::Host;
use crate::ops::images::remove::{self, Request};
use crate::ops::images::show::{self, Exports, Layer, Outcome};
use crate::ops::images::{self, Row, Wanted};

const EXAMPLES: &str = "\
Examples:
  bedplate images
  bedplate images show --remote docker://registry.example/etcd:3.5
  bedplate images show sha256:0123456789ab
  bedplate images remove docker://registry.example/etcd:3.5 && bedplate prune";

/// Arguments of `images`; alone it lists.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what an image says about itself: platform, labels, layers, contract
    Show(ShowArgs),
    /// No longer keep images; `prune` then frees what they took
    Remove(RemoveArgs),
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// The image: a reference, or how its digest begins
    #[arg(value_name = "IMAGE|DIGEST", add = complete::images())]
    image: Wanted,
    /// Ask where the image comes from; nothing is pulled
    #[arg(long)]
    remote: bool,
    #[command(flatten)]
    source: source::Args,
}

#[derive(Debug, clap::Args)]
struct RemoveArgs {
    /// The images: references, or how their digests begin
    #[arg(value_name = "IMAGE|DIGEST", required = true, add = complete::images())]
    images: Vec<Wanted>,
    /// Say what would be done; change nothing
    #[arg(long)]
    dry_run: bool,
}

impl Args {
    /// Whether the host may be changed.
    pub(crate) fn writes(&self) -> bool {
        matches!(self.command, Some(Command::Remove(_)))
    }
}

pub(crate) fn run(host: &Host, args: &Args, output: &Output) -> Result<()> {
    match &args.command {
        None => output.show(&images::run(host)?, |rows| list(rows)),
        Some(Command::Show(args)) => {
            let request = show::Request {
                image: args.image.clone(),
                remote: args.remote,
                access: args.source.access(args.image.reference())?,
            };
            output.show(&show::run(host, &request)?, text)
        }
        Some(Command::Remove(args)) => {
            let request = Request {
                images: args.images.clone(),
                dry_run: args.dry_run,
            };
            output.show(&remove::run(host, &request)?, removed)
        }
    }
}

fn list(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "No image is in the store.\n".to_owned();
    }
    let cells: Vec<_> = rows
        .iter()
        .map(|row| {
            let mut used_by = row.containers.clone();
            used_by.extend(row.kept.then(|| "(kept)".to_owned()));
            [
                or_dash(&row.image),
                short(&row.digest).to_owned(),
                or_dash(day(row.created.as_deref())),
                bytes(row.size),
                or_dash(&used_by.join(" ")),
            ]
        })
        .collect();
    table(["IMAGE", "DIGEST", "CREATED", "SIZE", "USED BY"], &cells)
}

/// The day of an RFC 3339 time.
fn day(time: Option<&str>) -> &str {
    time.and_then(|time| time.get(..10)).unwrap_or_default()
}

fn text(outcome: &Outcome) -> String {
    let mut used_by = outcome.containers.clone();
    used_by.extend(outcome.kept.then(|| "(kept)".to_owned()));
    let config = &outcome.config;
    let words = |words: &Option<Vec<String>>| words.clone().unwrap_or_default().join(" ");
    let mut lines = vec![outcome.image.clone()];
    // An image for several architectures: what the reference itself names.
    if outcome.index_digest != outcome.digest {
        lines.push(field("index", &outcome.index_digest));
    }
    for (name, value) in [
        ("digest", outcome.digest.as_str()),
        ("platform", &outcome.platform),
        (
            "index has",
            &outcome.platforms.clone().unwrap_or_default().join(" "),
        ),
        ("created", outcome.created.as_deref().unwrap_or_default()),
        ("in store", if outcome.stored { "yes" } else { "no" }),
        ("used by", &used_by.join(" ")),
        ("user", config.user().as_deref().unwrap_or_default()),
        ("entrypoint", &words(config.entrypoint())),
        ("command", &words(config.cmd())),
    ] {
        if !value.is_empty() {
            lines.push(field(name, value));
        }
    }
    let contract = match (&outcome.contract, &outcome.contract_error) {
        (_, Some(error)) => vec![format!("unusable: {error}")],
        (Some(exports), _) => contract(exports),
        (None, None) if outcome.stored => vec!["none: its OCI configuration is used".to_owned()],
        (None, None) => vec!["not known before it is pulled".to_owned()],
    };
    for (name, items) in [
        ("env", config.env().clone().unwrap_or_default()),
        ("labels", pairs(&outcome.labels)),
        ("annotations", pairs(&outcome.annotations)),
        ("layers", outcome.layers.iter().map(layer).collect()),
        ("contract", contract),
    ] {
        // One item a line, the first of them after the name.
        for (i, item) in items.iter().enumerate() {
            lines.push(field(if i == 0 { name } else { "" }, item));
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

fn pairs(pairs: &BTreeMap<String, String>) -> Vec<String> {
    pairs.iter().map(|(k, v)| format!("{k}={v}")).collect()
}

fn layer(layer: &Layer) -> String {
    let to_fetch = if layer.stored { "" } else { ", to fetch" };
    format!("{} {}{to_fetch}", short(&layer.digest), bytes(layer.size))
}

/// What matters before an installation; `--json` has all of it.
fn contract(exports: &Exports) -> Vec<String> {
    let manifest = &exports.manifest;
    let (container, service) = (&manifest.container, &manifest.service);
    let mount = |mount: &Mount| format!("{} on {}", mount.source, mount.target);
    let mounts: Vec<String> = container.mounts.iter().map(mount).collect();
    let values: Vec<String> = manifest.values.keys().cloned().collect();
    let description = [manifest.description.clone()];
    let shared = [("network", container.network), ("pid", container.pid)];
    let shared = shared.iter().filter(|(_, space)| *space == Namespace::Host);
    let shared: Vec<String> = shared.map(|(name, _)| (*name).to_owned()).collect();
    let mut found = vec![format!("version {}", manifest.contract)];
    for (name, items) in [
        ("description", &description[..]),
        ("provides", &service.provides),
        ("requires", &service.requires),
        ("after", &service.after),
        ("before", &service.before),
        ("capabilities", &container.capabilities),
        ("devices", &container.devices),
        ("shares with the host", &shared),
        ("mounts", &mounts),
        ("values", &values),
        ("templates", &exports.templates),
        ("host files", &exports.host_files),
    ] {
        let text = items.join(", ");
        if !text.is_empty() {
            found.push(format!("{name}: {text}"));
        }
    }
    found
}

fn removed(outcome: &remove::Outcome) -> String {
    let mut lines = Vec::new();
    for image in &outcome.images {
        let what = match (image.was_kept, outcome.dry_run) {
            (false, _) => "was not kept",
            (true, true) => "would no longer be kept",
            (true, false) => "no longer kept",
        };
        lines.push(format!("{}: {what} ({})", image.image, image.digest));
    }
    lines.push(if outcome.dry_run {
        "nothing was changed".to_owned()
    } else {
        "`bedplate prune` frees what nobody else needs".to_owned()
    });
    lines.push(String::new());
    lines.join("\n")
}
