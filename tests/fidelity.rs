//! `docs/fidelity.md` has the rows of `vm/fidelity/table.rs` and no others. `BEDPLATE_BLESS=1` writes it from the results
//! that the booted stories have left: `make fidelity`.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "reads the project's files; a panic is a test failure"
)]

#[path = "vm/fidelity/page.rs"]
mod page;
#[path = "vm/fidelity/table.rs"]
mod table;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::page::{Cell, Cells, page, read};
use crate::table::{PLACES, ROWS};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/fidelity.md");

/// Where `vm/fidelity.rs` writes: cargo's target directory, which this program lies in.
fn results() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let target = program.ancestors().nth(3).unwrap();
    target.join("vm/fidelity")
}

fn shown(results: &Path) -> Cells {
    let mut cells = Cells::new();
    for (place, (runtime, suite, _)) in PLACES.iter().enumerate() {
        let directory = results.join(format!("{runtime}-{suite}"));
        for row in ROWS {
            let mut cell = Cell::default();
            for (check, _) in row.checks {
                let file = directory.join(format!("{}.{check}", row.id));
                let Ok(note) = fs::read_to_string(file) else {
                    continue;
                };
                cell.shown += 1;
                if !note.is_empty() && !cell.notes.contains(&note) {
                    cell.notes.push(note);
                }
            }
            cells.insert((row.id, place), cell);
        }
    }
    cells
}

#[test]
fn the_page_has_the_rows_of_the_table() {
    if std::env::var_os("BEDPLATE_BLESS").is_some() && results().is_dir() {
        fs::write(PAGE, page(&shown(&results()))).unwrap();
    }
    let text = fs::read_to_string(PAGE).unwrap();
    assert_eq!(text, page(&read(&text)), "`make fidelity` writes it anew");
}

#[test]
fn what_is_written_is_read_again() {
    let mut cells = shown(Path::new("/nonexistent"));
    let (some, all) = (cells[&("main", 0)].clone(), ROWS[1].checks.len());
    assert_eq!(some, Cell::default());
    let notes = ["one", "two"].map(str::to_owned).to_vec();
    cells.insert(
        ("main", 2),
        Cell {
            shown: 1,
            notes: vec!["one".to_owned()],
        },
    );
    cells.insert(("notify", 1), Cell { shown: all, notes });
    assert_eq!(read(&page(&cells)), cells);
    let text = page(&cells);
    assert!(
        text.contains(" nothing else is resident | – | – | 1 of 2 [1] | – |"),
        "{text}"
    );
    assert!(text.contains("\n1. one\n2. two\n"), "{text}");
}

#[test]
fn no_name_is_there_twice() {
    let names = ROWS
        .iter()
        .flat_map(|row| row.checks.iter().map(move |(check, _)| (row.id, *check)));
    let all: Vec<_> = names.collect();
    let different: BTreeSet<_> = all.iter().collect();
    assert_eq!(all.len(), different.len());
}
