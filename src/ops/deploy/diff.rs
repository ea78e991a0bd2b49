//! What changes in a text from one generation to the next, as a unified diff.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use schemars::JsonSchema;
use serde::Serialize;
use similar::TextDiff;

use crate::deployment;
use crate::name::UnitName;
use crate::ops::deploy::switch::Move;
use crate::root::Root;

/// How many unchanged lines are shown around a change.
const AROUND: usize = 1;

/// A file of a generation that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FileDiff {
    /// Its name: a unit's, or `config.json`.
    pub file: String,
    /// The changed lines, as diff(1) `-u` shows them.
    pub diff: String,
}

/// The units and the configuration of a container, as far as they change.
pub(crate) fn of(root: &Root, one: &Move) -> Result<Vec<FileDiff>> {
    let dir = deployment::dir(&one.from.name, one.from.generation);
    let old = |path: &Path| -> Result<String> { Ok(root.read_text(path)?.unwrap_or_default()) };
    let coming = one.to.coming();
    let mut names: BTreeSet<&str> = one.from.units.iter().map(UnitName::as_str).collect();
    names.extend(coming.units.iter().map(|(unit, _)| unit.as_str()));
    let mut found = Vec::new();
    for name in names {
        let new = coming.units.iter().find(|(unit, _)| unit.as_str() == name);
        let new = new.map_or("", |(_, text)| text.as_str());
        found.extend(diff(name, &old(&dir.join("units").join(name))?, new));
    }
    let config = one.to.config_json()?;
    found.extend(diff(
        "config.json",
        &old(&dir.join("config.json"))?,
        &config,
    ));
    Ok(found)
}

fn diff(file: &str, old: &str, new: &str) -> Option<FileDiff> {
    let lines = TextDiff::from_lines(old, new);
    let mut unified = lines.unified_diff();
    let diff = unified.context_radius(AROUND).to_string();
    (old != new).then(|| FileDiff {
        file: file.to_owned(),
        diff,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_is_shown() {
        assert_eq!(diff("a.service", "x\n", "x\n"), None);
        let found = diff("a.service", "1\n2\n3\n4\n", "1\n2\n3\nfour\n").unwrap();
        assert_eq!(found.diff, "@@ -3,2 +3,2 @@\n 3\n-4\n+four\n");
    }
}
