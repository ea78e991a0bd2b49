//! `bedplate exec`.

use std::convert::Infallible;
use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Result, anyhow};

use crate::cli::complete;
use crate::hint::Hinted;
use crate::name::ContainerName;
use crate::ops::Host;
use crate::ops::exec::{self, Request};

const HELP: &str = "\
Examples:
  bedplate exec etcd etcdctl endpoint health
  bedplate exec -it -u root etcd -- /bin/sh -l
  bedplate exec -i etcd etcdctl put key < value

Exit status: the command's; 125 bedplate or the runtime failed, 126 the command cannot
be run, 127 it is not found; 128 and the signal's number when a signal ended it.";

/// Arguments of `exec`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// Let it read this command's standard input
    #[arg(long, short)]
    interactive: bool,
    /// Give it a terminal, shown on this one, which it reads too
    #[arg(long, short)]
    tty: bool,
    /// The user to run as: one of the container's, by name or id; default: the container's own
    #[arg(long, short, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Set a variable; without a value: as it is here
    #[arg(long, short, value_name = "NAME[=VALUE]", value_parser = variable)]
    env: Vec<(String, Option<String>)>,
    /// The directory that it starts in; default: the container's
    #[arg(long, short, value_name = "DIR", value_parser = absolute)]
    workdir: Option<PathBuf>,
    /// The container's name, as `bedplate list` has it
    #[arg(add = complete::containers())]
    name: ContainerName,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

pub(crate) fn run(host: &Host, args: &Args) -> Result<Infallible> {
    if args.tty && !std::io::stdin().is_terminal() {
        return Err(anyhow!(
            "`--tty` needs a terminal, and standard input is none"
        ))
        .hint("leave it out; `--interactive` alone hands on standard input");
    }
    let term = || std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned());
    let given = args.env.iter().cloned();
    let request = Request {
        command: args.command.clone(),
        user: args.user.clone(),
        env: given
            .filter_map(|(name, value)| {
                Some((name.clone(), value.or_else(|| std::env::var(name).ok())?))
            })
            .collect(),
        workdir: args.workdir.clone(),
        terminal: args.tty.then(term),
        interactive: args.interactive,
    };
    exec::run(host, &args.name, &request)
}

fn variable(text: &str) -> Result<(String, Option<String>), String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    if name.is_empty() {
        return Err("a variable has a name".to_owned());
    }
    Ok((name.to_owned(), value))
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    if text.starts_with('/') {
        return Ok(text.into());
    }
    Err("expected an absolute path".to_owned())
}
