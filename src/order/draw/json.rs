//! The graph for programs.

use schemars::JsonSchema;
use serde::Serialize;

use crate::name::{ContainerName, UnitName};
use crate::order::draw::View;
use crate::order::{EdgeKind, States};

/// The graph as `bedplate graph --json` prints it. Keys are stable; every key is always there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Document {
    /// The units, what starts first in front; host units only as far as they are present.
    pub nodes: Vec<DocumentNode>,
    /// Who waits for whom.
    pub edges: Vec<DocumentEdge>,
    /// The containers in starting order.
    pub order: Vec<ContainerName>,
    /// Requirements that nothing provides.
    pub missing: Vec<DocumentMissing>,
}

/// A unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DocumentNode {
    /// The container's name; of a host unit the unit's.
    pub name: String,
    /// The unit.
    pub unit: UnitName,
    /// `container` or `host`.
    pub kind: &'static str,
    /// Roles beside the name.
    pub provides: Vec<String>,
    /// `early` or `normal`; nothing is known of a host unit's.
    pub stage: Option<&'static str>,
    /// As systemd words it; null if it was not asked.
    pub state: Option<String>,
}

/// `to` waits until `from` is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DocumentEdge {
    /// The `name` of the unit that starts first.
    pub from: String,
    /// The `name` of the unit that waits.
    pub to: String,
    /// The key of the manifest: `requires` and `after` are of `to`, `before` is of `from`.
    pub kind: EdgeKind,
    /// The role by which the other is meant; null if by its name.
    pub role: Option<String>,
}

/// A requirement that nothing provides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DocumentMissing {
    /// Who requires it.
    pub container: ContainerName,
    /// The name or role.
    pub requires: String,
}

/// The document of a graph.
pub(crate) fn document(view: &View, states: &States) -> Document {
    let nodes = view
        .nodes
        .iter()
        .map(|node| DocumentNode {
            name: node.name().to_owned(),
            unit: node.unit.clone(),
            kind: if node.is_host() { "host" } else { "container" },
            provides: node.provides.iter().cloned().collect(),
            stage: node
                .container()
                .map(|_| if node.early { "early" } else { "normal" }),
            state: states.get(&node.unit).cloned(),
        })
        .collect();
    let edges = view
        .links
        .values()
        .flatten()
        .map(|edge| DocumentEdge {
            from: view.graph.name(&edge.earlier).to_owned(),
            to: view.graph.name(&edge.later).to_owned(),
            kind: edge.kind,
            role: edge.role(view.graph).map(str::to_owned),
        })
        .collect();
    let missing = view
        .graph
        .missing()
        .iter()
        .map(|missing| DocumentMissing {
            container: missing.container.clone(),
            requires: missing.asked.clone(),
        })
        .collect();
    Document {
        nodes,
        edges,
        order: view.graph.start_order(),
        missing,
    }
}
