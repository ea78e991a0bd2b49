//! What the shell offers at the TAB key: the program itself is asked, so that names of containers and images are known.
//!
//! `bedplate completions SHELL` prints what a shell needs to ask it; the variable [`ASKED`] says that it is asked.

use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use clap::{CommandFactory, ValueEnum};
use clap_complete::env::{CompleteEnv, Shells};
use clap_complete::{ArgValueCandidates, CompletionCandidate};

use crate::cli::{Cli, output};
use crate::ops::{images, list};
use crate::root::Root;

/// Set by the shell when it asks: to the shell's name.
const ASKED: &str = "BEDPLATE_COMPLETE";

const EXAMPLES: &str = "\
Examples:
  source <(bedplate completions bash)    (in ~/.bashrc)
  bedplate completions zsh >/usr/local/share/zsh/site-functions/_bedplate
  bedplate completions fish >/etc/fish/completions/bedplate.fish";

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Zsh => "zsh",
            Self::Fish => "fish",
        }
    }
}

/// zsh loads the file at the first TAB and runs it as the function that completes.
const AT_FIRST_TAB: &str = r#"
if [[ $funcstack[1] == _bedplate ]]; then
    _clap_dynamic_completer_bedplate "$@"
fi
"#;

/// Prints the script.
pub(crate) fn run(args: &Args) -> Result<()> {
    let name = args.shell.name();
    let shells = Shells::builtins();
    let shell = shells.completer(name);
    let shell = shell.ok_or_else(|| anyhow!("no completions for `{name}` are known"))?;
    let mut script = Vec::new();
    shell
        .write_registration(ASKED, "bedplate", "bedplate", "bedplate", &mut script)
        .context("writing the completions")?;
    let script = String::from_utf8(script).context("writing the completions")?;
    output::write(script.trim_start())?;
    match args.shell {
        Shell::Zsh => output::write(AT_FIRST_TAB),
        Shell::Bash | Shell::Fish => Ok(()),
    }
}

/// Answers the shell, if it is that which asks.
pub(crate) fn answer() -> Option<ExitCode> {
    let here = std::env::current_dir().ok();
    let asked = CompleteEnv::with_factory(Cli::command).var(ASKED);
    match asked.try_complete(std::env::args_os(), here.as_deref()) {
        Ok(false) => None,
        Ok(true) => Some(ExitCode::SUCCESS),
        // A shell has no use for what went wrong.
        Err(_) => Some(ExitCode::FAILURE),
    }
}

/// Completes names of installed containers. Who may not see them is offered none.
pub(crate) fn containers() -> ArgValueCandidates {
    ArgValueCandidates::new(|| candidates(list::names))
}

/// Completes references of images in the store.
pub(crate) fn images() -> ArgValueCandidates {
    ArgValueCandidates::new(|| candidates(images::references))
}

/// Completes both.
pub(crate) fn containers_and_images() -> ArgValueCandidates {
    let both = || {
        let mut both = candidates(list::names);
        both.extend(candidates(images::references));
        both
    };
    ArgValueCandidates::new(both)
}

fn candidates(names: fn(&Root) -> Result<Vec<String>>) -> Vec<CompletionCandidate> {
    let names = Root::open("/".as_ref()).and_then(|root| names(&root));
    let names = names.unwrap_or_default().into_iter();
    names.map(CompletionCandidate::new).collect()
}
