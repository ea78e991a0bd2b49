//! `bedplate install`.
#![expect(
    clippy::disallowed_methods,
    reason = "the values file is the operator's own, read where they stand: not a file of the host root"
)]

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use crate::cli::output::{Output, json};
use crate::cli::{now, source};
use crate::contract::secret::{self, Secret};
use crate::hint::Hinted;
use crate::image::reference::ImageRef;
use crate::name::ContainerName;
use crate::ops::Host;
use crate::ops::fetching::Pull;
use crate::ops::install::{self, Action, Installed, Outcome, Request, Start};

const EXAMPLES: &str = "\
Examples:
  bedplate install --system --dry-run docker://registry.example/etcd:3.5
  bedplate install --system --now --set CLIENT_URL=http://127.0.0.1:2379 \\
      docker://registry.example/etcd:3.5
  bedplate install --system --name db --values /etc/db.toml oci:/srv/etcd:latest

Other images: oci-archive:FILE, docker-archive:FILE, dir:DIR,
containers-storage:NAME, docker-daemon:NAME; see containers-transports(5).";

/// Arguments of `install`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of its own on the command line"
)]
pub(crate) struct Args {
    /// The images: docker://HOST/NAME:TAG, oci:DIR:TAG; several are one set
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<ImageRef>,
    /// As services of the whole system (the default)
    #[arg(long)]
    system: bool,
    /// The container's name, for one image; else the last part of the image's
    #[arg(long)]
    name: Option<ContainerName>,
    /// Set a value that the image declares; NAME.KEY=VALUE for one image
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
    /// Set values from a TOML file; a table [NAME] is for one image
    #[arg(long, value_name = "FILE")]
    values: Option<PathBuf>,
    /// Give a secret that the image declares: a file, or `-` for standard input
    #[arg(long, value_name = "KEY=FILE", value_parser = pair)]
    secret: Vec<(String, String)>,
    /// Start at once, and wait until ready
    #[arg(long)]
    now: bool,
    /// Do not start at boot
    #[arg(long)]
    no_enable: bool,
    /// The OCI runtime: crun, runc, or a path; by default the first found
    #[arg(long)]
    runtime: Option<String>,
    /// When to contact the image's source: unless `bedplate pull` has kept the image (missing), always, or never
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    pull: When,
    /// Show unit, configuration and privileges; install nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    source: source::Args,
}

/// [`Pull`] on the command line, in podman's words.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum When {
    #[default]
    Missing,
    Always,
    Never,
}

pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("give it as KEY=VALUE".to_owned()),
    }
}

pub(crate) fn run(host: &Host, args: &Args, output: &Output) -> Result<()> {
    if args.name.is_some() && args.images.len() > 1 {
        anyhow::bail!(
            "`--name` goes with one image; {} were given",
            args.images.len()
        );
    }
    let values = args.values.as_deref().map(read).transpose()?;
    let request = Request {
        images: args.images.clone(),
        name: args.name.clone(),
        set: args.set.clone(),
        values,
        secrets: secrets(&args.secret)?,
        runtime: args.runtime.clone(),
        start: match (args.now, args.no_enable) {
            (true, false) => Start::Now,
            (true, true) => Start::OnlyNow,
            (false, false) => Start::AtBoot,
            (false, true) => Start::Never,
        },
        pull: match args.pull {
            When::Missing => Pull::Missing,
            When::Always => Pull::Always,
            When::Never => Pull::Never,
        },
        access: args.source.access(&args.images)?,
        dry_run: args.dry_run,
        now: now(),
    };
    output.show(&install::run(host, &request)?, text)
}

pub(crate) fn read(path: &Path) -> Result<(PathBuf, String)> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("reading `{}`", path.display()))?;
    Ok((path.to_owned(), text))
}

/// Reads what `--secret` names; the content itself is never on a command line.
pub(crate) fn secrets(given: &[(String, String)]) -> Result<Vec<(String, Secret)>> {
    let inputs = given.iter().filter(|(_, file)| file == "-").count();
    if inputs > 1 {
        return Err(anyhow!(
            "{inputs} secrets are to be read from standard input"
        ))
        .hint("it holds one: give the others as files, `--secret KEY=FILE`");
    }
    let read = |(key, file): &(String, String)| {
        // The record says it later, when nobody knows where this was.
        let from = (file != "-").then(|| std::path::absolute(file)).transpose();
        let secret = from.map_err(Into::into).and_then(|from| {
            let content = content(from.as_deref())?;
            Secret::new(content, from)
        });
        let secret = secret
            .with_context(|| format!("reading the secret `{key}` from `{file}`"))
            .hint("`--secret KEY=FILE` names a file that holds the secret, all of it; `-` is standard input")?;
        Ok((key.clone(), secret))
    };
    given.iter().map(read).collect()
}

/// What lies there, as far as it can be a secret.
fn content(file: Option<&Path>) -> Result<Vec<u8>> {
    let source: Box<dyn Read> = match file {
        Some(path) => Box::new(File::open(path)?),
        None => Box::new(std::io::stdin()),
    };
    let mut content = Vec::new();
    source
        .take(secret::LARGEST as u64 + 1)
        .read_to_end(&mut content)?;
    Ok(content)
}

fn text(outcome: &Outcome) -> String {
    let mut lines = Vec::new();
    for container in &outcome.containers {
        describe(container, outcome.dry_run, &mut lines);
    }
    if outcome.dry_run {
        for drop_in in &outcome.order {
            match &drop_in.text {
                Some(text) => {
                    lines.push(format!("--- {}", drop_in.path.display()));
                    lines.push(text.trim_end().to_owned());
                }
                None => lines.push(format!("--- {} would be removed", drop_in.path.display())),
            }
        }
        lines.push("nothing was changed".to_owned());
    }
    lines.push(String::new());
    lines.join("\n")
}

fn describe(container: &Installed, dry_run: bool, lines: &mut Vec<String>) {
    let name = &container.name;
    let verb = match (container.action, dry_run) {
        (Action::Unchanged, _) => {
            lines.push(format!(
                "{name}: already installed with this image and these values (generation {})",
                container.generation
            ));
            return;
        }
        (Action::Installed, false) => "installed",
        (Action::Started, false) => "running",
        (Action::Installed, true) => "would be installed",
        (Action::Started, true) => "would be installed and started",
    };
    lines.push(format!(
        "{name}: {verb} (generation {}, {})",
        container.generation, container.digest
    ));
    for privilege in &container.privileges {
        lines.push(format!("  privilege: {privilege}"));
    }
    for note in &container.notes {
        lines.push(format!("  note: {note}"));
    }
    for file in &container.host_files {
        lines.push(format!("  host file: {}", file.display()));
    }
    for (file, text) in &container.rendered {
        lines.push(format!("--- {file}"));
        lines.push(json::brief(text).unwrap_or_else(|| text.trim_end().to_owned()));
    }
}
