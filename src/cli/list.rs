//! `bedplate list`.

use anyhow::Result;

use crate::cli::output::Output;
use crate::cli::output::table::{short, table};
use crate::ops::Host;
use crate::ops::list::{self, Row};

pub(crate) fn run(host: &Host, output: &Output) -> Result<()> {
    output.show(&list::run(host)?, |rows| text(rows))
}

fn text(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "No system container is installed.\n".to_owned();
    }
    let cells: Vec<_> = rows
        .iter()
        .map(|r| {
            [
                r.name.to_string(),
                r.generation.to_string(),
                r.state.clone(),
                if r.held {
                    format!("{}, held", r.enabled)
                } else {
                    r.enabled.clone()
                },
                short(&r.digest).to_owned(),
                r.image.clone(),
            ]
        })
        .collect();
    table(
        ["NAME", "GENERATION", "STATE", "ENABLED", "DIGEST", "IMAGE"],
        &cells,
    )
}
