//! What systemd says of the rendered units.

use anyhow::{Context, Result};

use crate::contract::finding::Finding;
use crate::render::RenderedUnit;
use crate::render::unit::LAUNCHER;
use crate::root::Root;
use crate::systemd::analyze;

/// What it says.
#[derive(Default)]
pub(super) struct Complaints {
    pub(super) problems: Vec<Finding>,
    pub(super) warnings: Vec<Finding>,
}

/// Asks systemd. What the units need of a host is not looked for; `own`: the image ships the service, so that its
/// commands are the author's.
pub(super) fn complaints(units: &[RenderedUnit], own: bool) -> Result<Complaints> {
    let staged = tempfile::tempdir().context("making a directory to check the units in")?;
    let root = Root::open(staged.path())?;
    let dir = format!("{}/", staged.path().display());
    for unit in units {
        root.replace(format!("/{}", unit.name), unit.text.as_bytes(), 0o644)?;
    }
    let paths: Vec<String> = units.iter().map(|u| format!("{dir}{}", u.name)).collect();
    let mut words = vec!["--recursive-errors=no"];
    words.extend(paths.iter().map(String::as_str));
    let mut found = Complaints::default();
    for line in analyze::complaints(&words, "")? {
        let line = line.replace(&dir, "");
        let Some(finding) = finding(units, &line) else {
            continue;
        };
        // Another host may have the program; the launcher comes with bedplate.
        if finding.text.contains(" is not executable: ") {
            if own && !finding.text.contains(LAUNCHER) {
                found.warnings.push(finding);
            }
        } else {
            found.problems.push(finding);
        }
    }
    Ok(found)
}

/// `a.service:6: Unknown key …`, or `a.service: …`; `None` for what is about other units.
fn finding(units: &[RenderedUnit], line: &str) -> Option<Finding> {
    let mut names = units.iter().map(|unit| unit.name.as_str());
    let name = names.find(|name| line.contains(name))?;
    let rest = line.strip_prefix(name).unwrap_or(line);
    let numbered = rest.strip_prefix(':').and_then(|rest| {
        let (number, text) = rest.split_once(": ")?;
        Some((number.parse().ok()?, text))
    });
    Some(match numbered {
        Some((number, text)) => Finding {
            line: Some(number),
            ..Finding::of(name, text)
        },
        None => Finding::of(name, rest.trim_start_matches(": ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_has_its_place() {
        let unit = RenderedUnit {
            name: "a.service".parse().unwrap(),
            text: String::new(),
        };
        let of = |line: &str| {
            let found = finding(std::slice::from_ref(&unit), line);
            found.map(|f| (f.line, f.text))
        };
        let unknown = (Some(6), "Unknown key".to_owned());
        assert_eq!(of("a.service:6: Unknown key"), Some(unknown));
        assert_eq!(of("a.service: No."), Some((None, "No.".to_owned())));
        assert_eq!(of("b.service: No."), None);
    }
}
