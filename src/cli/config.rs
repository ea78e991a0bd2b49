//! `bedplate config`.

use anyhow::Result;

use crate::cli::output::Output;
use crate::cli::output::table::table;
use crate::ops::Host;
use crate::ops::config::{self, Outcome};

pub(crate) fn run(host: &Host, output: &Output) -> Result<()> {
    output.show(&config::run(host)?, text)
}

fn text(outcome: &Outcome) -> String {
    let rows: Vec<_> = outcome
        .settings
        .iter()
        .map(|setting| {
            let value = &setting.value;
            let shown = match value.data.to_string() {
                nothing if nothing.is_empty() => "-".to_owned(),
                shown => shown,
            };
            [setting.name.clone(), shown, value.origin.to_string()]
        })
        .collect();
    let mut text = vec![table(["SETTING", "VALUE", "FROM"], &rows)];
    text.extend(outcome.passed_over.iter().map(|passed| {
        let (path, by) = (passed.path.display(), passed.by.display());
        format!("{path} does not count: {by} takes its place\n")
    }));
    text.concat()
}
