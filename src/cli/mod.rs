//! The command line: a verb is a variant and a line here, a file beside this one and one in `ops`.

mod check;
mod complete;
mod config;
mod df;
mod doctor;
mod error;
mod exec;
mod graph;
mod history;
mod hold;
mod images;
mod install;
mod lint;
mod list;
mod logs;
mod man;
mod output;
mod prune;
mod pull;
mod recover;
mod repair;
mod rollback;
#[cfg(test)]
mod schema;
mod show;
mod source;
mod status;
mod uninstall;
mod update;
mod values;
mod verify;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::cli::error::Failure;
use crate::cli::output::stream::{Descriptor, Stream};
use crate::cli::output::{Output, progress};
use crate::ops::{self, Host, preflight};
use crate::progress::Report;
use crate::root::Root;

const EXAMPLES: &str = "\
Examples:
  bedplate install --system --dry-run docker://registry.example/etcd:3.5
  bedplate install --system --now docker://registry.example/etcd:3.5
  bedplate show etcd
  bedplate graph

Exit status: 0 done; 1 failed, the host is as it was; 2 wrong usage;
3 failed half-way, the host needs `bedplate recover`; 4 an update failed,
the version before runs again.";

/// Installs OCI images as system containers: services that systemd itself runs.
#[derive(Debug, Parser)]
#[command(name = "bedplate", version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Verb,
}

/// Options of every verb.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
struct Global {
    /// Work on the host root in DIR instead of the running host
    #[arg(long, value_name = "DIR", global = true, default_value = "/")]
    root: PathBuf,
    /// Print the outcome as JSON
    #[arg(long, global = true)]
    json: bool,
    /// Write progress as lines of JSON to the open file descriptor FD
    #[arg(long, value_name = "FD", global = true)]
    progress_fd: Option<Descriptor>,
    /// Log what is done; -vv: commands and D-Bus calls too
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

/// The verbs.
#[derive(Debug, Subcommand)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one, for as long as the program runs"
)]
enum Verb {
    #[command(flatten)]
    OnHost(Command),
    /// Print what a shell needs to complete words
    Completions(complete::Args),
    /// Write the manual pages
    #[command(hide = true)]
    Man(man::Args),
}

/// The verbs that look at a host, or change it.
#[derive(Debug, Subcommand)]
enum Command {
    /// Install images as system containers
    Install(install::Args),
    /// Bring images into the store and keep them there: `install` then needs no network
    Pull(pull::Args),
    /// List the images in the store, show one, or no longer keep some
    Images(images::Args),
    /// Bring system containers to what their images are now, or to other values
    Update(update::Args),
    /// Take a system container back to an earlier generation
    Rollback(rollback::Args),
    /// Show what a system container has been through
    History(history::Args),
    /// Show when containers were last checked for updates, the result, and what is due
    Status(status::Args),
    /// Let no update touch system containers
    Hold(hold::Hold),
    /// Allow held system containers to be updated again
    Unhold(hold::Unhold),
    /// Keep a generation from being pruned
    Pin(hold::Pin),
    /// Allow a pinned generation to be pruned again
    Unpin(hold::Pin),
    /// Remove system containers; their data below /var/lib stays
    Uninstall(uninstall::Args),
    /// List the installed system containers and their state
    List,
    /// Show all that is known of one system container
    Show(show::Args),
    /// Show what an image can be told, or what a container has been told
    Values(values::Args),
    /// Show what system containers have said, and systemd about them
    Logs(logs::Args),
    /// Run a command in a running system container
    Exec(exec::Args),
    /// Show in which order the system containers start
    Graph(graph::Args),
    /// Check every file of the system containers against its checksum
    Verify(verify::Args),
    /// Bring back what `verify` finds damaged
    Repair(repair::Args),
    /// Show what images and containers take on disk
    Df,
    /// Remove old generations, and what no image kept, no generation and no process needs
    Prune(prune::Args),
    /// Check that system containers start at boot without a network
    Check(check::Args),
    /// Check that the host is fit and everything is as recorded; suggest remedies
    #[command(after_help = doctor::HELP)]
    Doctor,
    /// Check an image's contract and templates, as its author
    Lint(lint::Args),
    /// Show every setting of this host and where it comes from
    Config,
    /// Finish or undo what an interrupted command left
    Recover,
}

/// Parses the process's arguments, runs the verb, prints its outcome; the exit status is the design's.
pub fn main() -> ExitCode {
    if let Some(answered) = complete::answer() {
        return answered;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return error::usage(&error),
    };
    log(cli.global.verbose);
    let failure = match &cli.command {
        Verb::OnHost(command) => on_host(&cli.global, command),
        Verb::Completions(args) => failure(complete::run(args), 1),
        Verb::Man(args) => failure(man::run(args), 1),
    };
    failure.map_or(ExitCode::SUCCESS, |failure| failure.print(cli.global.json))
}

fn failure(done: Result<()>, failed: u8) -> Option<Failure> {
    Failure::of(&done.err()?, failed)
}

/// Runs the verb, and hands what happens to whoever `--progress-fd` leads to.
fn on_host(global: &Global, command: &Command) -> Option<Failure> {
    let descriptor = global.progress_fd.as_ref();
    let stream = descriptor.map(Stream::start).transpose();
    let stream = match stream.context("preparing to write progress") {
        Ok(stream) => stream,
        Err(error) => return Failure::of(&error, command.failed()),
    };
    let done = dispatch(global, command, &progress::report(stream.clone()));
    let failure = failure(done, command.failed());
    if let Some(stream) = stream {
        stream.finish(failure.as_ref());
    }
    failure
}

fn dispatch(global: &Global, command: &Command, report: &Report) -> Result<()> {
    let root = Root::open(&global.root)?;
    let output = Output::new(global.json);
    if command.writes() {
        preflight::require_root_user()?;
        preflight::require_unified_cgroups(&root)?;
    }
    let systemd = match command {
        // An image is built where no systemd runs, too.
        Command::Lint(_) => ops::unit_files(&root)?,
        _ => ops::manager(&root, command.writes())?,
    };
    let host = Host {
        root: &root,
        systemd: systemd.as_ref(),
        report,
    };
    match command {
        Command::Install(args) => install::run(&host, args, &output),
        Command::Pull(args) => pull::run(&host, args, &output),
        Command::Images(args) => images::run(&host, args, &output),
        Command::Update(args) => update::run(&host, args, &output),
        Command::Rollback(args) => rollback::run(&host, args, &output),
        Command::History(args) => history::run(&host, args, &output),
        Command::Status(args) => status::run(&host, args, &output),
        Command::Hold(args) => hold::hold(&host, args, &output),
        Command::Unhold(args) => hold::unhold(&host, args, &output),
        Command::Pin(args) => hold::pin(&host, args, true, &output),
        Command::Unpin(args) => hold::pin(&host, args, false, &output),
        Command::Uninstall(args) => uninstall::run(&host, args, &output),
        Command::List => list::run(&host, &output),
        Command::Show(args) => show::run(&host, args, &output),
        Command::Values(args) => values::run(&host, args, &output),
        Command::Logs(args) => match logs::run(&host, args, &output)? {},
        Command::Exec(args) => match exec::run(&host, args)? {},
        Command::Graph(args) => graph::run(&host, args, &output),
        Command::Verify(args) => verify::run(&host, args, &output),
        Command::Repair(args) => repair::run(&host, args, &output),
        Command::Df => df::run(&host, &output),
        Command::Prune(args) => prune::run(&host, args, &output),
        Command::Check(args) => check::run(&host, args, &output),
        Command::Doctor => doctor::run(&host, &output),
        Command::Lint(args) => lint::run(&host, args, &output),
        Command::Config => config::run(&host, &output),
        Command::Recover => recover::run(&host, &output),
    }
}

impl Command {
    /// The exit status when it fails and the host is as it was; of `exec` the others are the command's own.
    fn failed(&self) -> u8 {
        match self {
            Self::Exec(_) => 125,
            _ => 1,
        }
    }

    /// Whether the verb may change the host.
    fn writes(&self) -> bool {
        match self {
            Self::Images(args) => args.writes(),
            Self::Update(args) => args.writes(),
            _ => matches!(
                self,
                Self::Install(_)
                    | Self::Pull(_)
                    | Self::Rollback(_)
                    | Self::Hold(_)
                    | Self::Unhold(_)
                    | Self::Pin(_)
                    | Self::Unpin(_)
                    | Self::Uninstall(_)
                    | Self::Repair(_)
                    | Self::Prune(_)
                    | Self::Recover
            ),
        }
    }
}

/// The time: seconds since 1970-01-01 00:00 UTC.
fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// A time as people write it, in the host's time zone.
fn time(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let zoned = time.to_zoned(jiff::tz::TimeZone::system());
    zoned.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

fn log(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "bedplate=info",
        _ => "bedplate=debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .without_time()
        .with_target(false)
        .init();
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    /// Calls `look` with each command and those below it.
    fn each(command: &clap::Command, look: &mut dyn FnMut(&clap::Command)) {
        look(command);
        command
            .get_subcommands()
            .for_each(|below| each(below, look));
    }

    #[test]
    fn every_verb_and_option_has_a_help() {
        let mut cli = Cli::command();
        cli.build();
        each(&cli, &mut |command| {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name}");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{name} {argument}");
            }
        });
    }

    #[test]
    fn help_fits_a_console() {
        let mut cli = Cli::command();
        cli.build();
        for command in cli.get_subcommands_mut() {
            let help = command
                .clone()
                .term_width(80)
                .render_long_help()
                .to_string();
            for line in help.lines() {
                assert!(line.chars().count() <= 80, "{line}");
            }
        }
    }
}
