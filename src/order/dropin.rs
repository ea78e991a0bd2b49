//! `50-bedplate-order.conf`: what systemd is told of the order, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::name::UnitName;
use crate::order::{Edge, EdgeKind, Graph, NodeKind};

/// systemd.service(5): `RestartMode=` came with this version.
const RESTART_MODE: u32 = 254;

const HEADER: &str = "\
# The order of system containers, written by bedplate at every change of the installed set.
# Changes made here are lost; a drop-in of a later name can add to it.
";

/// The drop-in of each unit that waits or is required.
///
/// A required container restarts with `RestartMode=direct`, else its first failed start would leave those that
/// require it stopped for good. Before systemd 254 they want it instead: `Upholds=` would bring it back as
/// well, but also after the operator has stopped it. Units of the host are wanted, since how they restart is
/// their own.
pub(crate) fn drop_ins(graph: &Graph, systemd: u32) -> BTreeMap<UnitName, String> {
    graph
        .nodes
        .keys()
        .filter_map(|unit| {
            let waits = unit_section(graph, unit, systemd);
            let restarts = service_section(graph, unit, systemd);
            (!waits.is_empty() || !restarts.is_empty())
                .then(|| (unit.clone(), format!("{HEADER}{waits}{restarts}")))
        })
        .collect()
}

/// `[Unit]`: for each unit it waits for the reasons, the dependency if there is one, and the order.
fn unit_section(graph: &Graph, unit: &UnitName, systemd: u32) -> String {
    let mut first: BTreeMap<&UnitName, Vec<&Edge>> = BTreeMap::new();
    for edge in graph.edges.iter().filter(|edge| edge.later == *unit) {
        first.entry(&edge.earlier).or_default().push(edge);
    }
    let mut text = String::new();
    for (earlier, edges) in first {
        if text.is_empty() {
            text.push_str("\n[Unit]\n");
        }
        for edge in &edges {
            let _ = writeln!(text, "# {}", edge.reason(graph, str::to_owned));
        }
        if edges.iter().any(|edge| edge.pulls) {
            let _ = writeln!(text, "{}={earlier}", dependency(graph, earlier, systemd));
        }
        let _ = writeln!(text, "After={earlier}");
    }
    text
}

fn dependency(graph: &Graph, earlier: &UnitName, systemd: u32) -> &'static str {
    let container = graph
        .nodes
        .get(earlier)
        .is_some_and(|node| matches!(node.kind, NodeKind::Container(_)));
    if container && systemd >= RESTART_MODE {
        "Requires"
    } else {
        "Wants"
    }
}

/// `[Service]`: how a required container restarts.
fn service_section(graph: &Graph, unit: &UnitName, systemd: u32) -> String {
    let who: BTreeSet<_> = graph
        .edges
        .iter()
        .filter(|edge| edge.pulls && edge.kind == EdgeKind::Requires && edge.earlier == *unit)
        .map(|edge| graph.name(&edge.later))
        .collect();
    if who.is_empty() || dependency(graph, unit, systemd) != "Requires" {
        return String::new();
    }
    let who = who.into_iter().collect::<Vec<_>>().join(", ");
    format!(
        "\n[Service]\n# required by {who}: a start that fails and is tried again does not fail them\nRestartMode=direct\n"
    )
}
