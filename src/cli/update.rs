//! `bedplate update`.

use std::path::PathBuf;

use anyhow::{Result, anyhow};

use crate::cli::output::Output;
use crate::cli::output::table::short;
use crate::cli::{complete, install, now, source};
use crate::image::reference::ImageRef;
use crate::name::ContainerName;
use crate::ops::Host;
use crate::ops::deploy::diff::FileDiff;
use crate::ops::update::{self, Action, Made, Mode, Outcome, Request, Row, WentBack};

const EXAMPLES: &str = "\
Examples:
  bedplate update --check
  bedplate update --dry-run etcd
  bedplate update etcd flanneld
  bedplate update etcd --set CLIENT_URL=http://127.0.0.1:4001
  bedplate update etcd --rebase docker://registry.example/etcd:3.6

Several containers are one change: if one of them is not well afterwards, all
go back. `--each` makes them independent.

Exit status: 0 done; 1 failed, nothing was touched; 3 failed half-way, the host
needs `bedplate recover`; 4 failed, the version before runs again.";

/// Arguments of `update`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of its own on the command line"
)]
pub(crate) struct Args {
    /// The containers
    #[arg(value_name = "NAME", required_unless_present_any = ["all", "check", "automatic"], add = complete::containers())]
    names: Vec<ContainerName>,
    /// All containers that are not held
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// Set a value that the image declares; NAME.KEY=VALUE for one container
    #[arg(long, value_name = "KEY=VALUE", value_parser = install::pair)]
    set: Vec<(String, String)>,
    /// Let a value follow the image's default again
    #[arg(long, value_name = "KEY")]
    unset: Vec<String>,
    /// Set values from a TOML file; a table [NAME] is for one container
    #[arg(long, value_name = "FILE")]
    values: Option<PathBuf>,
    /// Give a secret that the image declares: a file, or `-` for standard input
    #[arg(long, value_name = "KEY=FILE", value_parser = install::pair)]
    secret: Vec<(String, String)>,
    /// Take another image from now on
    #[arg(long, value_name = "IMAGE")]
    rebase: Option<ImageRef>,
    /// Only look whether there is something newer; the exit status does not tell
    #[arg(long, conflicts_with_all = ["dry_run", "download_only", "set", "unset", "values", "secret"])]
    check: bool,
    /// Bring the images into the store; update later
    #[arg(long, conflicts_with_all = ["dry_run", "set", "unset", "values", "secret"])]
    download_only: bool,
    /// Update each container independently: a failure does not stop the others
    #[arg(long)]
    each: bool,
    /// Also take an image that failed before
    #[arg(long)]
    retry: bool,
    /// For bedplate-update.service: what is due by its schedule, each by itself
    #[arg(long, conflicts_with_all = ["names", "check", "download_only", "set", "unset", "values", "secret", "rebase"])]
    automatic: bool,
    /// Show what would change, and what would be stopped with it
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    source: source::Args,
}

impl Args {
    /// Whether it may change the host.
    pub(crate) fn writes(&self) -> bool {
        !self.check
    }
}

pub(crate) fn run(host: &Host, args: &Args, output: &Output) -> Result<()> {
    let images: Vec<ImageRef> = args.rebase.iter().cloned().collect();
    let request = Request {
        names: args.names.clone(),
        set: args.set.clone(),
        unset: args.unset.clone(),
        values: args.values.as_deref().map(install::read).transpose()?,
        secrets: install::secrets(&args.secret)?,
        rebase: args.rebase.clone(),
        mode: match (args.check, args.dry_run, args.download_only) {
            (true, ..) => Mode::Check,
            (_, true, _) => Mode::DryRun,
            (.., true) => Mode::Download,
            _ => Mode::Apply,
        },
        each: args.each,
        retry: args.retry,
        automatic: args.automatic,
        access: args.source.access(&images)?,
        now: now(),
    };
    let outcome = update::run(host, &request)?;
    output.show(&outcome, text)?;
    failures(&outcome)
}

/// The error of an update of which parts failed: they were shown already.
fn failures(outcome: &Outcome) -> Result<()> {
    let failed: Vec<&Made> = outcome
        .changes
        .iter()
        .filter(|c| c.error.is_some())
        .collect();
    let names = failed.iter().flat_map(|change| &change.containers);
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() {
        return Ok(());
    }
    let names = names.join(", ");
    if failed.iter().any(|change| change.went_back) {
        let what = format!("the update of {names} failed, the version before runs again");
        return Err(WentBack(what).into());
    }
    Err(anyhow!("the update of {names} failed"))
}

fn text(outcome: &Outcome) -> String {
    let mut lines = Vec::new();
    for row in &outcome.containers {
        describe(row, outcome.dry_run, &mut lines);
    }
    for change in outcome.changes.iter().filter(|c| c.error.is_none()) {
        lines.extend(made(change, outcome.dry_run));
    }
    if outcome.containers.is_empty() {
        lines.push("no system container is installed".to_owned());
    }
    if outcome.dry_run {
        lines.push("nothing was changed".to_owned());
    }
    lines.push(String::new());
    lines.join("\n")
}

fn describe(row: &Row, dry_run: bool, lines: &mut Vec<String>) {
    let new = row.new_digest.as_deref().unwrap_or(&row.digest);
    let became = match (row.new_generation, new == row.digest) {
        (Some(generation), true) => format!("generation {generation}, the same image"),
        (Some(generation), false) => format!("generation {generation}, {new}"),
        (None, true) => format!("generation {}, {}", row.generation, row.digest),
        (None, false) => format!("{} runs, {} is newer", short(&row.digest), short(new)),
    };
    let verb = match (row.action, dry_run) {
        (Action::Updated, true) => "would be updated",
        (action, _) => action.word(),
    };
    lines.push(format!("{}: {verb} ({became})", row.name));
    let privileges = [
        ("new privilege", &row.new_privileges),
        ("dropped privilege", &row.dropped_privileges),
        ("note", &row.notes),
    ];
    for (title, items) in privileges {
        lines.extend(items.iter().map(|item| format!("  {title}: {item}")));
    }
    lines.extend(diffs(&row.files));
}

/// The texts that change.
pub(crate) fn diffs(files: &[FileDiff]) -> Vec<String> {
    let mut lines = Vec::new();
    for file in files {
        lines.push(format!("--- {}", file.file));
        lines.push(file.diff.trim_end().to_owned());
    }
    lines
}

/// What changes beside the containers' own files.
pub(crate) fn made(change: &Made, dry_run: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for file in &change.host_files {
        let verb = if file.removed { "removed" } else { "written" };
        lines.push(format!("  host file {verb}: {}", file.path.display()));
    }
    for kept in &change.kept {
        let path = kept.path.display();
        lines.push(match &kept.new {
            Some(new) => format!(
                "  kept {path}: it was changed since; the new version is {}",
                new.display()
            ),
            None => format!("  kept {path}: it was changed since"),
        });
    }
    if !change.taken_along.is_empty() {
        let units: Vec<String> = change.taken_along.iter().map(ToString::to_string).collect();
        lines.push(format!(
            "  stopped and started with it: {}",
            units.join(", ")
        ));
    }
    for drop_in in change.order.iter().filter(|_| dry_run) {
        let path = drop_in.path.display();
        match &drop_in.text {
            Some(text) => lines.extend([format!("--- {path}"), text.trim_end().to_owned()]),
            None => lines.push(format!("--- {path} would be removed")),
        }
    }
    if let Some(seconds) = change.downtime {
        lines.push(format!("  down for {seconds:.2} s"));
    }
    lines
}
