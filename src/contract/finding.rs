//! What is wrong with a contract and where: the file, the line, and why.

use anyhow::Error;
use schemars::JsonSchema;
use serde::Serialize;
use toml::de::DeTable;

use crate::contract::problems::Problems;

/// Something that is wrong, or worth knowing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Finding {
    /// The file: of the contract as `exports/…`, of what is made from it as `NAME.service`.
    pub file: Option<String>,
    /// The line in it, counted from 1.
    pub line: Option<usize>,
    /// What it is.
    pub text: String,
}

impl Finding {
    /// About the file as a whole.
    pub fn of(file: &str, text: impl Into<String>) -> Self {
        Self {
            file: Some(file.to_owned()),
            line: None,
            text: text.into(),
        }
    }

    /// All that the error says about the file.
    pub fn all(file: &str, error: &Error) -> Vec<Self> {
        let problems = error.chain().find_map(|e| e.downcast_ref::<Problems>());
        let texts: Vec<String> = match problems {
            Some(problems) => problems.iter().map(str::to_owned).collect(),
            None => vec![format!("{error:#}")],
        };
        texts.iter().map(|text| Self::new(file, text)).collect()
    }

    fn new(file: &str, text: &str) -> Self {
        let text = without_place(text);
        let numbered = text.strip_prefix("line ").and_then(|rest| {
            let (line, rest) = rest.split_once(": ")?;
            Some((line.parse().ok()?, rest))
        });
        let (line, text) = numbered.map_or((None, text.as_str()), |(n, rest)| (Some(n), rest));
        Self {
            line,
            ..Self::of(file, text)
        }
    }

    /// The same with the line of the key that it begins with, when that is one of the manifest.
    #[must_use]
    pub fn placed(mut self, manifest: &str) -> Self {
        self.line = self.line.or_else(|| line_of(manifest, &self.text));
        self
    }
}

/// The text without what says where it was found, but for a key of the manifest.
fn without_place(text: &str) -> String {
    let mut text = text;
    for begin in ["reading `", "rendering `"] {
        let Some((place, rest)) = text
            .strip_prefix(begin)
            .and_then(|rest| rest.split_once("`: "))
        else {
            continue;
        };
        if let Some(key) = place.strip_prefix("manifest.toml: ") {
            return format!("{key}: {rest}");
        }
        text = rest;
    }
    text.to_owned()
}

/// The line of the manifest's key that the problem begins with: `container.env.X: …`.
fn line_of(manifest: &str, problem: &str) -> Option<usize> {
    let document = DeTable::parse(manifest).ok()?;
    let (key, _) = problem.split_once(": ")?;
    let at = place(document.get_ref(), key)?;
    let before = manifest.bytes().take(at);
    Some(1 + before.filter(|byte| *byte == b'\n').count())
}

/// Where the key stands, or the longest part of it that the table holds.
fn place(table: &DeTable<'_>, key: &str) -> Option<usize> {
    let key = key.trim_start_matches('`');
    let found = table.iter().find_map(|(name, value)| {
        let rest = key.strip_prefix(name.get_ref().as_ref())?;
        let ends = rest.is_empty() || rest.starts_with(['.', '`', ',']);
        ends.then_some((name, value, rest))
    });
    let (name, value, rest) = found?;
    let below = value.get_ref().as_table();
    let below = below.and_then(|table| place(table, rest.trim_start_matches(['.', '`'])));
    Some(below.unwrap_or(name.span().start))
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    const MANIFEST: &str =
        "contract = 1\n[container]\nenv.A = 'x'\n\n[files]\nrename = {\n  '/etc/a.b' = 'x' }\n";

    fn shown(error: anyhow::Result<()>) -> Vec<String> {
        let found = Finding::all("f", &error.unwrap_err());
        let placed = found.into_iter().map(|f| f.placed(MANIFEST));
        let line = |f: Finding| format!("{:?} {}", f.line, f.text);
        placed.map(line).collect()
    }

    #[test]
    fn a_finding_has_a_line_where_it_is_known() {
        let mut problems = Problems::default();
        problems.add("container.env.A: is wrong");
        problems.add("files.rename.`/etc/a.b`: is wrong");
        problems.add("container.mounts.source: is wrong");
        problems.add("line 7: is wrong: too");
        assert_eq!(
            shown(problems.into_result().context("reading `x`")),
            [
                "Some(3) container.env.A: is wrong",
                "Some(2) container.mounts.source: is wrong",
                "Some(7) files.rename.`/etc/a.b`: is wrong",
                "Some(7) is wrong: too",
            ]
        );
        let one = Err(anyhow!("line 3: a: b")).context("reading `/exports/x`");
        assert_eq!(shown(one), ["Some(3) a: b"]);
        assert_eq!(shown(Err(anyhow!("a: b"))), ["None a: b"]);
        let keyed = anyhow!("it is wrong").context("rendering `manifest.toml: container.env.A`");
        assert_eq!(shown(Err(keyed)), ["Some(3) container.env.A: it is wrong"]);
    }
}
