//! The graph in graphviz' language.

use std::fmt::Write as _;

use crate::order::States;
use crate::order::draw::View;

/// Every edge is drawn, dashed where it only orders; from left to right.
pub(crate) fn dot(view: &View, states: &States) -> String {
    let mut out = "\
digraph \"boot order\" {
  rankdir=LR;
  node [shape=box, style=\"rounded,filled\", fillcolor=\"#eef4fb\", color=\"#3b6ea5\", fontname=\"sans-serif\"];
  edge [color=\"#5a6672\", fontname=\"sans-serif\", fontsize=10];
"
    .to_owned();
    for node in &view.nodes {
        let mut lines = vec![format!("{}{}", node.name(), node.brackets())];
        let mut style = "";
        if node.is_host() {
            lines.push("host unit".to_owned());
            style = ", fillcolor=\"#f4f4f2\", color=\"#8a8a85\"";
        }
        if node.early {
            lines.push("early".to_owned());
        }
        lines.extend(states.get(&node.unit).cloned());
        let lines: Vec<_> = lines.iter().map(|line| escaped(line)).collect();
        let _ = writeln!(
            out,
            "  \"{}\" [label=\"{}\"{style}];",
            escaped(node.name()),
            lines.join("\\n")
        );
    }
    for &link in view.links.keys() {
        let style = if view.pulls(link) {
            ""
        } else {
            ", style=dashed"
        };
        let _ = writeln!(
            out,
            "  \"{}\" -> \"{}\" [label=\"{}\"{style}];",
            escaped(view.nodes[link.0].name()),
            escaped(view.nodes[link.1].name()),
            escaped(&view.label(link))
        );
    }
    out.push_str("}\n");
    out
}

/// Text within a quoted string.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
