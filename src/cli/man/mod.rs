//! `bedplate man DIR`: the manual pages, each from the definitions that the program itself works by: of the program and
//! of each verb from the command line's, of the settings and of the contract from what reads them. Hidden: it is for
//! those who build packages.

mod config;
mod contract;
mod text;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Arg, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::cli::Cli;
use crate::root::Root;

const SECTION: &str = "8";

/// What the page of the program has beside its help.
const FILES: [(&str, &str); 5] = [
    (
        "/etc/bedplate/bedplate.toml",
        "the host's settings; `bedplate config` shows them",
    ),
    (
        "/etc/systemd/system.attached/NAME.service",
        "the unit of a container",
    ),
    (
        "/var/lib/bedplate/repo",
        "the store of images, an OSTree repository",
    ),
    (
        "/var/lib/bedplate/containers/NAME",
        "the generations of a container",
    ),
    ("/run/bedplate/NAME", "what one start of a container needs"),
];

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory to write them to, which exists
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// Writes the pages.
pub(crate) fn run(args: &Args) -> Result<()> {
    let dir = Root::open(&args.dir)?;
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    let version = program.render_version();
    write(&program, version.trim(), &dir)?;
    dir.replace("/bedplate.toml.5", &config::page(), 0o644)?;
    dir.replace("/bedplate-contract.7", &contract::page(), 0o644)
}

fn write(command: &Command, version: &str, dir: &Root) -> Result<()> {
    let name = title(command);
    let page = page(command, version).with_context(|| format!("writing the manual of `{name}`"))?;
    dir.replace(format!("/{name}.{SECTION}"), &page, 0o644)?;
    let below = command.get_subcommands();
    below
        .filter(|below| !below.is_hide_set())
        .try_for_each(|below| write(below, version, dir))
}

/// The name of the page: the words of the command, with hyphens.
fn title(command: &Command) -> &str {
    command.get_display_name().unwrap_or(command.get_name())
}

fn page(command: &Command, version: &str) -> Result<Vec<u8>> {
    let shown = command.clone().subcommand_help_heading("COMMANDS");
    let man = Man::new(shown.mut_args(with_values)).section(SECTION);
    // By hand: an argument that is empty would be left out. A page has no date; the version says what it describes.
    let name = title(command);
    let head = format!(".TH {name} {SECTION} \"\" \"{version}\" \"System containers\"\n");
    let mut page = head.into_bytes();
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut rest = Roff::new();
    if let Some(help) = command.get_after_help() {
        help.to_string()
            .split("\n\n")
            .for_each(|block| add(&mut rest, block));
    }
    if name == "bedplate" {
        rest.control("SH", ["FILES"]);
        for (path, what) in FILES {
            rest.control("TP", [])
                .text([bold(path)])
                .text([roman(what)]);
        }
    }
    rest.control("SH", ["SEE ALSO"]);
    rest.text([roman(see_also(command))]);
    rest.to_writer(&mut page)?;
    Ok(page)
}

/// Puts the values that an option takes into its help: a list of their own would be bad form after it.
fn with_values(argument: Arg) -> Arg {
    let values = argument.get_possible_values().into_iter();
    let values: Vec<String> = values
        .filter(|value| !value.is_hide_set())
        .map(|value| match value.get_help() {
            Some(help) => format!("{}: {help}", value.get_name()),
            None => value.get_name().to_owned(),
        })
        .collect();
    if values.is_empty() {
        return argument;
    }
    let help = argument.get_help().map(ToString::to_string);
    let help = format!("{} ({})", help.unwrap_or_default(), values.join(", "));
    argument.help(help).hide_possible_values(true)
}

fn see_also(command: &Command) -> String {
    let others = match title(command) {
        "bedplate" => {
            "bedplate.toml(5), bedplate-contract(7), systemctl(1), journalctl(1), systemd.service(5), skopeo(1), \
             containers-registries.conf(5)"
        }
        "bedplate-config" => "bedplate(8), bedplate.toml(5)",
        "bedplate-lint" | "bedplate-values" => "bedplate(8), bedplate-contract(7)",
        "bedplate-logs" => "bedplate(8), journalctl(1), systemd.time(7)",
        _ => "bedplate(8)",
    };
    others.to_owned()
}

/// A block of what stands after the options: examples, `Exit status: …`, or more of the description.
fn add(page: &mut Roff, block: &str) {
    if let Some((heading, examples)) = block.split_once(":\n  ") {
        page.control("SH", [heading.to_uppercase().as_str()]);
        page.control("EX", []);
        for line in examples.lines() {
            page.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
        }
        page.control("EE", []);
        return;
    }
    let (heading, text) = match block.split_once(": ") {
        Some(("Exit status", text)) => ("EXIT STATUS", text),
        _ => ("NOTES", block),
    };
    page.control("SH", [heading]);
    page.text([roman(text.split_whitespace().collect::<Vec<_>>().join(" "))]);
}
