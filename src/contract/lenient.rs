//! A manifest read on past its errors, so that an author sees all of them at once.

use anyhow::Error;

use crate::contract::manifest::Manifest;
use crate::contract::parse;

/// More than anybody mends in one go.
const ERRORS_MAX: usize = 50;

/// Reads the manifest; a key that it may not hold, or not so, is told and passed over. `None` where that does not
/// help, as after text that is no TOML: the last error is then the one that ends it.
pub(crate) fn manifest(text: &str) -> (Option<Manifest>, Vec<Error>) {
    let mut errors = Vec::new();
    let mut text = text.to_owned();
    loop {
        let error = match parse::manifest(&text) {
            Ok(manifest) => return (Some(manifest), errors),
            Err(error) => error,
        };
        let what = error.to_string();
        // What was passed over is missed.
        if errors.is_empty() || !what.contains("missing key") {
            errors.push(error);
        }
        match without(&text, &what) {
            Some(rest) if errors.len() < ERRORS_MAX => text = rest,
            _ => return (None, errors),
        }
    }
}

/// The text with what the error names blanked out, so that lines keep their numbers; `None` where that is not known,
/// or leaves no TOML.
fn without(text: &str, error: &str) -> Option<String> {
    let (line, what) = error.strip_prefix("line ")?.split_once(": ")?;
    let at = line.parse::<usize>().ok()?.checked_sub(1)?;
    if !what.starts_with("unknown key") && !what.starts_with("expected") {
        return None;
    }
    let is_header = |line: &&str| line.trim_start().starts_with('[');
    let mut lines: Vec<&str> = text.lines().collect();
    let from = lines.get(at)?;
    // A table goes with its keys.
    let below = if is_header(from) {
        lines[at + 1..].iter().take_while(|l| !is_header(l)).count()
    } else {
        0
    };
    for line in &mut lines[at..=at + below] {
        *line = "";
    }
    let rest = lines.join("\n");
    toml::from_str::<toml::Table>(&rest).is_ok().then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> (bool, Vec<String>) {
        let (manifest, errors) = manifest(text);
        let errors = errors.iter().map(|error| format!("{error:#}"));
        (manifest.is_some(), errors.collect())
    }

    #[test]
    fn every_key_that_is_wrong_is_told() {
        let text = "contract = 1\ndescripton = ''\n[contaner]\nuser = 'x'\npid = 3\n\
                    [service]\ntype = 'forking'\nwatchdg = '1s'\n[values.X]\ntype = 'path'\nhelp = 'x'\n";
        let (read, mut errors) = errors(text);
        errors.sort();
        assert!(read);
        assert_eq!(
            errors,
            [
                "line 2: unknown key `descripton`; did you mean `description`?",
                "line 3: unknown key `contaner`; did you mean `container`?",
                "line 7: expected `notify` or `notify-reload` or `exec` or `oneshot`, found `forking`",
                "line 8: unknown key `watchdg`; did you mean `watchdog`?",
            ]
        );
    }

    #[test]
    fn what_cannot_be_passed_over_ends_it() {
        for (text, error) in [
            ("contract = 1\nx = \n", "line 2: string values"),
            ("description = 'x'", "line 1: missing key `contract`"),
            ("contract = 7", "the image follows contract 7"),
            (
                "contract = 1\n[values.X]\ntype = 'text'\nhelp = 'x'",
                "line 3: expected `string`",
            ),
        ] {
            let (read, errors) = errors(text);
            assert!(!read, "{text}");
            assert_eq!(errors.len(), 1, "{errors:?}");
            assert!(errors[0].starts_with(error), "{errors:?}");
        }
    }
}
