//! `bedplate doctor`.

use std::fmt::Write as _;

use anyhow::{Result, anyhow};

use crate::cli::output::Output;
use crate::cli::verify::{fault, plural};
use crate::hint::Hinted;
use crate::ops::Host;
use crate::ops::doctor::{self, Area, Check, Outcome, Verdict};

pub(crate) const HELP: &str = "Exit status: 0 nothing is broken; 1 something is.";

pub(crate) fn run(host: &Host, output: &Output) -> Result<()> {
    let outcome = doctor::run(host)?;
    output.show(&outcome, text)?;
    let problems = match outcome.broken() {
        0 => return Ok(()),
        count => anyhow!("{} found", plural(count, "problem")),
    };
    if outcome.drift.is_empty() {
        return Err(problems);
    }
    Err(problems).hint("`bedplate repair` puts back what is not as recorded")
}

fn text(outcome: &Outcome) -> String {
    let mut text = String::new();
    let width = outcome.checks.iter().map(|c| c.subject.chars().count());
    let width = width.max().unwrap_or(0);
    for (area, title) in [
        (Area::Host, "host"),
        (Area::Images, "images"),
        (Area::Store, "store"),
        (Area::Containers, "containers"),
    ] {
        let mut checks = outcome.checks.iter().filter(|c| c.area == area).peekable();
        if checks.peek().is_some() {
            let _ = writeln!(text, "{title}");
        }
        for check in checks {
            text.push_str(&line(check, width));
        }
    }
    if !outcome.drift.is_empty() {
        text.push_str("not as recorded\n");
        for drift in outcome.drift.iter().map(fault) {
            for line in drift.lines() {
                let _ = writeln!(text, "  {line}");
            }
        }
    }
    text
}

fn line(check: &Check, width: usize) -> String {
    let verdict = match check.verdict {
        Verdict::Ok => "ok",
        Verdict::Note => "note",
        Verdict::Broken => "broken",
    };
    let mut text = format!(
        "  {verdict:<6}  {:<width$}  {}\n",
        check.subject, check.found
    );
    for remedy in &check.remedies {
        let _ = writeln!(text, "          {:<width$}  hint: {remedy}", "");
    }
    text
}
