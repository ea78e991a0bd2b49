//! `bedplate logs`.

use std::convert::Infallible;

use anyhow::Result;

use crate::cli::complete;
use crate::cli::output::Output;
use crate::name::ContainerName;
use crate::ops::Host;
use crate::ops::logs::{self, Request};

const HELP: &str = "\
Examples:
  bedplate logs etcd
  bedplate logs --follow etcd flanneld
  bedplate logs -n 20 --since -1h etcd
  bedplate logs --boot=-1 --priority warning etcd

It is journalctl(1) of the containers' units, with its options and its pager; all of it
is in reach of journalctl itself, as `journalctl --unit etcd.service`.";

/// Arguments of `logs`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// Go on showing what is said
    #[arg(long, short)]
    follow: bool,
    /// Show only the last COUNT lines
    #[arg(long, short = 'n', value_name = "COUNT")]
    lines: Option<u32>,
    /// Show what was said from this time on, in the words of systemd.time(7)
    #[arg(long, short = 'S', value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,
    /// Show what was said until this time
    #[arg(long, short = 'U', value_name = "TIME", allow_hyphen_values = true)]
    until: Option<String>,
    /// Show one boot: this one, or as in `--boot=-1` another
    #[arg(
        long,
        short,
        value_name = "BOOT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "0"
    )]
    boot: Option<String>,
    /// Show only messages at least this important, from `emerg` to `debug`
    #[arg(long, short, value_name = "PRIORITY")]
    priority: Option<String>,
    /// Show what matches a regular expression
    #[arg(long, short, value_name = "PATTERN", allow_hyphen_values = true)]
    grep: Option<String>,
    /// Show the newest first
    #[arg(long, short)]
    reverse: bool,
    /// Show it in another of journalctl's formats
    #[arg(long, short, value_name = "FORMAT", conflicts_with = "json")]
    output: Option<String>,
    /// Use no pager
    #[arg(long)]
    no_pager: bool,
    /// The containers' names, as `bedplate list` has them
    #[arg(value_name = "NAME", required = true, add = complete::containers())]
    names: Vec<ContainerName>,
}

pub(crate) fn run(host: &Host, args: &Args, output: &Output) -> Result<Infallible> {
    let flags = [
        (args.follow, "--follow"),
        (args.reverse, "--reverse"),
        (args.no_pager, "--no-pager"),
        (output.is_json(), "--output=json"),
    ];
    let flags = flags.iter().filter(|(given, _)| *given);
    let mut options: Vec<String> = flags.map(|(_, flag)| (*flag).to_owned()).collect();
    for (name, value) in [
        ("lines", args.lines.map(|lines| lines.to_string())),
        ("since", args.since.clone()),
        ("until", args.until.clone()),
        ("boot", args.boot.clone()),
        ("priority", args.priority.clone()),
        ("grep", args.grep.clone()),
        ("output", args.output.clone()),
    ] {
        options.extend(value.map(|value| format!("--{name}={value}")));
    }
    let names = args.names.clone();
    logs::run(host, &Request { names, options })
}
