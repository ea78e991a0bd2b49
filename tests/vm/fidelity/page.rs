//! `docs/fidelity.md`, written from what stories have shown, and read again.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::table::{PEERS, PLACES, ROWS, Row};

/// What a row's checks have come to in one place.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    /// How many of the checks have been shown.
    pub(crate) shown: usize,
    /// What is there instead, where a check has shown that it is not all.
    pub(crate) notes: Vec<String>,
}

/// By row and place: what has been shown.
pub(crate) type Cells = BTreeMap<(&'static str, usize), Cell>;

const HEAD: &str = "# As a service of the host's own

What systemd, the operator and the journal see of a system container is what they see of a service that a package
brought. Each row is a set of checks in a booted Debian, with systemd 257 and with 252, with crun and with runc; this page is
written from their results by `make fidelity`, not by hand. Beside it stands what other ways to run a container as a
service give: a unit of Quadlet's, a unit that runs `podman run`, and one that runs `runc run`, all with `Type=notify`, each
written after its manual and with what the cell names; those were looked at with podman 5.4, runc 1.1 and systemd 257,
in the same way but not in all of a row's checks: of resource control, where the payload's control group is.

`✓`: shown by all checks of the row. `✓ [1]`: shown, with the limit of that number below. `2 of 3`: not by all of them.
`–`: not shown.
";

const MIDDLE: &str = "
## What each row is shown by
";

/// The page.
pub(crate) fn page(cells: &Cells) -> String {
    let mut notes: Vec<String> = Vec::new();
    let mut page = format!("{HEAD}\n| |");
    for name in PLACES.iter().map(|place| place.2).chain(PEERS) {
        let _infallible = write!(page, " {name} |");
    }
    let _infallible = write!(
        page,
        "\n|---|{}\n",
        "---|".repeat(PLACES.len() + PEERS.len())
    );
    for row in ROWS {
        let _infallible = write!(page, "| {} |", row.title);
        for place in 0..PLACES.len() {
            let cell = cells.get(&(row.id, place)).cloned().unwrap_or_default();
            let _infallible = write!(page, " {} |", show(row, &cell, &mut notes));
        }
        for peer in row.peers {
            let _infallible = write!(page, " {peer} |");
        }
        page.push('\n');
    }
    if !notes.is_empty() {
        page.push('\n');
    }
    for (i, note) in notes.iter().enumerate() {
        let _infallible = writeln!(page, "{}. {note}", i + 1);
    }
    page.push_str(MIDDLE);
    for row in ROWS {
        let _infallible = writeln!(page, "\n{}:\n", row.title);
        for (_, what) in row.checks {
            let _infallible = writeln!(page, "- {what}");
        }
    }
    page
}

/// A cell in words; notes that are new get the next number.
fn show(row: &Row, cell: &Cell, notes: &mut Vec<String>) -> String {
    let mut text = match cell.shown {
        0 => "–".to_owned(),
        all if all == row.checks.len() => "✓".to_owned(),
        some => format!("{some} of {}", row.checks.len()),
    };
    for note in &cell.notes {
        let known = notes.iter().position(|other| other == note);
        let number = known.unwrap_or_else(|| {
            notes.push(note.clone());
            notes.len() - 1
        });
        let _infallible = write!(text, " [{}]", number + 1);
    }
    text
}

/// The cells of a page that is there.
#[cfg(test)]
pub(crate) fn read(page: &str) -> Cells {
    let notes: Vec<&str> = page
        .lines()
        .filter_map(|line| line.split_once(". "))
        .filter(|(number, _)| number.parse::<usize>().is_ok())
        .map(|(_, note)| note)
        .collect();
    let mut cells = Cells::new();
    for row in ROWS {
        let begin = format!("| {} | ", row.title);
        let Some(line) = page.lines().find_map(|line| line.strip_prefix(&begin)) else {
            continue;
        };
        for (place, text) in line.split(" | ").take(PLACES.len()).enumerate() {
            let mut words = text.split_whitespace();
            let shown = match words.next() {
                Some("✓") => row.checks.len(),
                Some(number) => number.parse().unwrap_or(0),
                None => 0,
            };
            let numbers = words.filter_map(|word| {
                word.strip_prefix('[')?
                    .strip_suffix(']')?
                    .parse::<usize>()
                    .ok()
            });
            let notes = numbers.filter_map(|number| notes.get(number - 1));
            let notes = notes.map(|note| (*note).to_owned()).collect();
            cells.insert((row.id, place), Cell { shown, notes });
        }
    }
    cells
}
