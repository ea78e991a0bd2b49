//! The boot order as a tree of lines.

use std::fmt::Write as _;

use crate::order::States;
use crate::order::draw::View;

/// A line of the tree before its columns are aligned.
struct Line {
    unit: String,
    state: String,
    reasons: String,
}

/// The tree. A unit hangs once: from the one among those it waits for that starts last; why it waits, and for
/// whom besides, stands behind it.
pub(crate) fn text(view: &View, states: &States) -> String {
    if view.nodes.is_empty() {
        return "No system container is installed.\n".to_owned();
    }
    let depths = view.depths();
    let mut below = vec![Vec::new(); view.nodes.len()];
    let mut roots = Vec::new();
    for later in 0..view.nodes.len() {
        let last = view
            .links
            .keys()
            .filter(|(_, to)| *to == later)
            .map(|(earlier, _)| *earlier)
            .max_by_key(|&earlier| {
                let pulled = view.pulls((earlier, later));
                (depths[earlier], pulled, std::cmp::Reverse(earlier))
            });
        last.map_or(&mut roots, |earlier| &mut below[earlier])
            .push(later);
    }
    let mut tree = Tree {
        view,
        states,
        below,
        lines: Vec::new(),
    };
    for root in tree.containers_first(roots) {
        tree.branch(root, "", "");
    }
    let mut out = "Boot order: a unit starts when all that it waits for are ready.\n\n".to_owned();
    out.push_str(&aligned(&tree.lines));
    for missing in view.graph.missing() {
        let _ = write!(
            out,
            "\nMissing: {} requires {}, which nothing provides.",
            missing.container, missing.asked
        );
    }
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out
}

struct Tree<'a> {
    view: &'a View<'a>,
    states: &'a States,
    /// For each unit, those that hang from it.
    below: Vec<Vec<usize>>,
    lines: Vec<Line>,
}

impl Tree<'_> {
    /// Adds a unit and all below it; `first` stands before its own line, `rest` before those of its children.
    fn branch(&mut self, index: usize, first: &str, rest: &str) {
        let node = self.view.nodes[index];
        let host = if node.is_host() { " (host)" } else { "" };
        let mut reasons = self.view.reasons(self.view.edges_to(index));
        if node.early {
            let stop = if reasons.is_empty() { "" } else { "; " };
            reasons = format!("early{stop}{reasons}");
        }
        self.lines.push(Line {
            unit: format!("{first}{}{}{host}", node.name(), node.brackets()),
            state: self.states.get(&node.unit).cloned().unwrap_or_default(),
            reasons,
        });
        let below = self.containers_first(self.below[index].clone());
        let last = below.len().saturating_sub(1);
        for (at, child) in below.into_iter().enumerate() {
            let (turn, line) = if at == last {
                ("└─ ", "   ")
            } else {
                ("├─ ", "│  ")
            };
            self.branch(child, &format!("{rest}{turn}"), &format!("{rest}{line}"));
        }
    }

    fn containers_first(&self, mut units: Vec<usize>) -> Vec<usize> {
        units.sort_by_key(|&index| {
            let node = self.view.nodes[index];
            (node.is_host(), index)
        });
        units
    }
}

/// The lines in columns; an empty column takes no room.
fn aligned(lines: &[Line]) -> String {
    let width = |column: fn(&Line) -> &str| {
        lines
            .iter()
            .map(|line| column(line).chars().count())
            .max()
            .unwrap_or(0)
    };
    let columns: [fn(&Line) -> &str; 3] = [|l| &l.unit, |l| &l.state, |l| &l.reasons];
    let mut out = String::new();
    for line in lines {
        let mut row = String::new();
        for column in columns {
            let width = width(column);
            if width > 0 {
                let _ = write!(row, "{:width$}   ", column(line));
            }
        }
        out.push_str(row.trim_end());
        out.push('\n');
    }
    out
}
