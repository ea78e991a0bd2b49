//! What a start of a unit brings along: what it pulls in, what it waits for, what it runs.

use std::collections::BTreeSet;

use crate::name::UnitName;

/// The directives of systemd.unit(5) that pull units in.
pub const PULLS: [&str; 4] = ["Requires", "BindsTo", "Wants", "Upholds"];

/// The directive by which a unit waits for another one, if something pulls that in.
pub const AFTER: &str = "After";

/// The directives that name programs which a start runs.
pub const PROGRAMS: [&str; 4] = [
    "ExecCondition",
    "ExecStartPre",
    "ExecStart",
    "ExecStartPost",
];

/// A unit's part in a start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wiring {
    /// Other units, each with the directive that names it.
    pub units: BTreeSet<(&'static str, UnitName)>,
    /// Command lines, each with its directive.
    pub programs: Vec<(&'static str, Vec<String>)>,
    /// The unit's files have changed since systemd read them.
    pub stale: bool,
}

impl Wiring {
    /// Of the texts of a unit file and its drop-ins, in this order. Nothing is added that systemd adds by itself.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut wiring = Self::default();
        for text in texts {
            for (key, value) in assignments(text) {
                wiring.assign(&key, &value);
            }
        }
        wiring
    }

    fn assign(&mut self, key: &str, value: &str) {
        let is = |word: &&&str| **word == key;
        if let Some(directive) = PULLS.iter().chain([&AFTER]).find(is) {
            // No drop-in can take these back.
            let names = value
                .split_whitespace()
                .filter_map(|name| name.parse().ok());
            self.units.extend(names.map(|name| (*directive, name)));
        } else if let Some(directive) = PROGRAMS.iter().find(is) {
            if value.is_empty() {
                self.programs.retain(|(other, _)| other != directive);
                return;
            }
            let words = value.trim_start_matches(['@', '-', ':', '+', '!', '|']);
            let words = words.split_whitespace().map(str::to_owned);
            self.programs.push((directive, words.collect()));
        }
    }
}

/// The assignments of a unit file, systemd.syntax(7); which section they are in does not matter here.
pub(crate) fn assignments(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim_start().starts_with(['#', ';']) {
            continue;
        }
        let mut whole = line.to_owned();
        while let Some(begun) = whole.strip_suffix('\\') {
            let mut more = lines
                .by_ref()
                .skip_while(|line| line.trim_start().starts_with(['#', ';']));
            whole = format!("{begun} {}", more.next().unwrap_or_default());
        }
        if let Some((key, value)) = whole.split_once('=') {
            found.push((key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_unit_says() {
        let unit = "[Unit]\n# Wants=no.service\nWants=a.service \\\n  # in between\n  b.service\nAfter=a.service\n\
                    [Service]\nExecStartPre=-/bin/true\nExecStart=@/bin/x y\n";
        let drop_in =
            "[Unit]\nWants=\nUpholds=c.service\n[Service]\nExecStartPre=\nExecStart=/bin/z\n";
        let wiring = Wiring::parse([unit, drop_in]);
        let units: Vec<_> = wiring
            .units
            .iter()
            .map(|(by, unit)| format!("{by}={unit}"))
            .collect();
        assert_eq!(
            units,
            [
                "After=a.service",
                "Upholds=c.service",
                "Wants=a.service",
                "Wants=b.service"
            ]
        );
        let programs: Vec<_> = wiring
            .programs
            .iter()
            .map(|(by, argv)| format!("{by}={}", argv.join(" ")))
            .collect();
        assert_eq!(programs, ["ExecStart=/bin/x y", "ExecStart=/bin/z"]);
    }
}
