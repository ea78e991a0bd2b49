//! `bedplate recover`.

use anyhow::Result;

use crate::cli::output::Output;
use crate::ops::Host;
use crate::ops::recover::{self, Outcome};
use crate::state::Recovered;

pub(crate) fn run(host: &Host, output: &Output) -> Result<()> {
    output.show(&recover::run(host)?, text)
}

fn text(outcome: &Outcome) -> String {
    let command = outcome.command.as_deref().unwrap_or_default();
    match outcome.outcome {
        None => "nothing to recover\n".to_owned(),
        Some(Recovered::Undone) => {
            format!("undone: the interrupted {command}; the host is as it was before it\n")
        }
        Some(Recovered::Finished) => {
            format!("finished: the interrupted {command}, which was already committed\n")
        }
    }
}
