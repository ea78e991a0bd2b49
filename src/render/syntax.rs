//! The syntax of units, systemd.syntax(7): what may stand in a line, and whether a text is a unit at all.

use std::path::Path;

use anyhow::{Result, anyhow, bail};

/// Checks the text of a unit that an image ships: sections, keys and comments, line by line, and `section` present.
pub(crate) fn check(name: &str, text: &str, section: &str) -> Result<()> {
    let mut sections = Vec::new();
    let mut continued = false;
    for (number, line) in text.lines().enumerate() {
        let wrong = |why: &str| bail!("`{name}`, line {}: {why}", number + 1);
        let line = line.trim();
        // A comment does not end a continued line.
        if line.starts_with(['#', ';']) {
            continue;
        }
        if std::mem::replace(&mut continued, line.ends_with('\\')) || line.is_empty() {
            continue;
        }
        if let Some(header) = line.strip_prefix('[') {
            match header.strip_suffix(']') {
                Some(header) => sections.push(header),
                None => return wrong("the section's name does not end with `]`"),
            }
        } else if sections.is_empty() {
            return wrong("it stands before the first section");
        } else if line
            .split_once('=')
            .is_none_or(|(key, _)| key.trim().is_empty())
        {
            return wrong("it is neither a section nor `Key=value`");
        }
    }
    if !sections.contains(&section) {
        bail!("`{name}` has no [{section}] section");
    }
    Ok(())
}

/// Escapes a text for a unit: `%` is doubled, and what could end the line is refused.
pub(crate) fn escape(text: &str) -> Result<String> {
    if text.chars().any(char::is_control) || text.ends_with('\\') {
        bail!(
            "`{}` cannot stand in one line of a unit",
            text.escape_debug()
        );
    }
    Ok(text.replace('%', "%%"))
}

/// A path as one word of a unit, systemd.syntax(7).
pub(crate) fn quote(path: &Path) -> Result<String> {
    let text = path
        .to_str()
        .ok_or_else(|| anyhow!("`{}` is no UTF-8", path.display()))?;
    let text = escape(text)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._+@:,=%-".contains(c);
    if text.chars().all(plain) {
        return Ok(text);
    }
    Ok(format!(
        "\"{}\"",
        text.replace('\\', "\\\\").replace('"', "\\\"")
    ))
}

/// The values of a unit's `Exec…=` keys, continued lines joined.
pub(crate) fn commands(text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ");
    joined
        .lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(key, value)| {
            let key = key.trim();
            key.starts_with("Exec") && key != "ExecSearchPath" && !value.trim().is_empty()
        })
        .map(|(_, value)| value.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_unit_is_named_by_its_line() {
        let good = "# c\n[Unit]\nA=b \\\n# c\n  more\n\n[Service]\nExecStart=/x\n";
        check("s.hbs", good, "Service").unwrap();
        for (text, message) in [
            ("A=b", "`s.hbs`, line 1: it stands before the first section"),
            (
                "[Service]\n# c\nExecStart",
                "`s.hbs`, line 3: it is neither a section nor `Key=value`",
            ),
            (
                "[Service",
                "`s.hbs`, line 1: the section's name does not end with `]`",
            ),
            ("[Unit]\nA=b\\\n", "`s.hbs` has no [Service] section"),
        ] {
            let error = check("s.hbs", text, "Service").unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn a_value_stays_in_its_line() {
        assert_eq!(escape("100 % of \"it\"").unwrap(), "100 %% of \"it\"");
        for bad in ["a\nExecStart=/bin/sh", "a\r", "a\\"] {
            assert!(escape(bad).is_err());
        }
        assert_eq!(quote(Path::new("/a b/%\"")).unwrap(), "\"/a b/%%\\\"\"");
        assert_eq!(quote(Path::new("/a-b_c.d")).unwrap(), "/a-b_c.d");
    }
}
