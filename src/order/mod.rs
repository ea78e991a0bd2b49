//! The order of system containers: who waits for whom, why, and what systemd is told of it.
//!
//! The installed set is one graph. Its nodes are units: those of the containers, and those units of the host
//! that the table of roles names. Its edges come from the manifests: `requires`, `after` and `before`, each
//! with a container's name or a role, which several units may provide: then all of them are meant.
//!
//! ```text
//! etcd ──requires── flanneld ──before cri──┬─ containerd   (a container that provides cri)
//!                                          ├─ crio.service (of the host, present or not)
//!                                          └─ docker.service …
//! ```
//!
//! A graph is built from the whole set at every change ([`Graph::build`]), so that the order of installing
//! plays no part and a container installed later takes its place. It is refused as a whole: [`OrderError`].
//! What follows from it is text: one drop-in for each unit that waits ([`Graph::drop_ins`]) and the drawings.
//! Nothing here reads or writes the host.
mod build;
mod cycle;
mod draw;
mod dropin;
mod error;
mod roles;

use std::collections::{BTreeMap, BTreeSet};

use crate::name::{ContainerName, UnitName};

pub use crate::order::draw::json::{Document, DocumentEdge, DocumentMissing, DocumentNode};
pub use crate::order::error::{Missing, OrderError};
pub use crate::order::roles::HostRoles;

/// What the graph needs to know of an installed container, or of one about to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name, which others may order against as well.
    pub name: ContainerName,
    /// Roles beside its name.
    pub provides: Vec<String>,
    /// Roles or names that must be ready first; pulled in.
    pub requires: Vec<String>,
    /// Roles or names that come first, if they are there.
    pub after: Vec<String>,
    /// Roles or names that come later, if they are there.
    pub before: Vec<String>,
    /// Starts before basic.target.
    pub early: bool,
}

/// States to draw beside the units, as systemd words them (`active`); a unit may be absent.
pub type States = BTreeMap<UnitName, String>;

/// The checked graph of the installed set: without cycles, and with nothing missing but what was let pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    nodes: BTreeMap<UnitName, Node>,
    /// Sorted, each once.
    edges: BTreeSet<Edge>,
    /// Every unit, what starts first in front.
    order: Vec<UnitName>,
    missing: Vec<Missing>,
}

impl Graph {
    /// The graph of a set that is about to be committed. `present` says of a host unit whether there is one.
    ///
    /// # Errors
    /// All problems of the first kind that there is: names that are none, requirements that nothing provides,
    /// early containers that wait for normal ones, a cycle (the shortest).
    pub fn build(
        members: &[Member],
        roles: &HostRoles,
        present: &dyn Fn(&UnitName) -> bool,
    ) -> Result<Self, OrderError> {
        let graph = Self::of_installed(members, roles, present)?;
        if graph.missing.is_empty() {
            return Ok(graph);
        }
        Err(OrderError::Missing(graph.missing))
    }

    /// As [`Self::build`], but what nothing provides is left out and told by [`Self::missing`]: for a set that
    /// is installed already, whose provider was uninstalled all the same or belonged to the host and is gone.
    ///
    /// # Errors
    /// As [`Self::build`], missing requirements aside.
    pub fn of_installed(
        members: &[Member],
        roles: &HostRoles,
        present: &dyn Fn(&UnitName) -> bool,
    ) -> Result<Self, OrderError> {
        build::build(members, roles, present)
    }

    /// The requirements that nothing provides; empty for a graph of [`Self::build`].
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// Every unit that the order speaks of, those of the host included, what starts first in front.
    pub fn units(&self) -> &[UnitName] {
        &self.order
    }

    /// The containers in the order in which they start; the name decides between those that may start together.
    pub fn start_order(&self) -> Vec<ContainerName> {
        self.order
            .iter()
            .filter_map(|unit| self.nodes.get(unit)?.container().cloned())
            .collect()
    }

    /// The containers that require `name`, directly or through others, in start order. A requirement of a role
    /// that another container provides too counts: a stop of `name` takes its dependents along all the same.
    pub fn dependents(&self, name: &ContainerName) -> Vec<ContainerName> {
        let mut found = BTreeSet::new();
        let mut open = vec![name.service()];
        while let Some(unit) = open.pop() {
            for edge in &self.edges {
                if edge.pulls && edge.earlier == unit && found.insert(&edge.later) {
                    open.push(edge.later.clone());
                }
            }
        }
        let mut order = self.start_order();
        order.retain(|other| found.contains(&other.service()));
        order
    }

    /// For each unit that something is to be told, the whole text of its `50-bedplate-order.conf`, for this
    /// version of systemd. Host units are there whether present or not: ordering an absent unit is harmless,
    /// and one that is installed later then waits as it should.
    pub fn drop_ins(&self, systemd: u32) -> BTreeMap<UnitName, String> {
        dropin::drop_ins(self, systemd)
    }

    /// The boot order as a tree: what starts first on top, and below each unit those that wait for it.
    pub fn text(&self, states: &States) -> String {
        draw::text::text(&draw::View::of(self), states)
    }

    /// The graph in graphviz' language.
    pub fn dot(&self, states: &States) -> String {
        draw::dot::dot(&draw::View::of(self), states)
    }

    /// The graph as a picture, from left to right; edges that follow from others are left out.
    pub fn svg(&self, states: &States) -> String {
        draw::svg::svg(&draw::View::of(self), states)
    }

    /// The graph for programs; serialises with stable keys.
    pub fn document(&self, states: &States) -> Document {
        draw::json::document(&draw::View::of(self), states)
    }
}

/// A unit of the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    kind: NodeKind,
    unit: UnitName,
    /// Roles beside a container's own name; sorted.
    provides: BTreeSet<String>,
    early: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum NodeKind {
    Container(ContainerName),
    /// A unit of the host that the table of roles names.
    Host {
        present: bool,
    },
}

impl Node {
    /// What people call it: the container's name, the whole name of a host unit.
    fn name(&self) -> &str {
        match &self.kind {
            NodeKind::Container(name) => name.as_str(),
            NodeKind::Host { .. } => self.unit.as_str(),
        }
    }

    fn container(&self) -> Option<&ContainerName> {
        match &self.kind {
            NodeKind::Container(name) => Some(name),
            NodeKind::Host { .. } => None,
        }
    }

    /// Whether it is there to be drawn: absent host units are in the graph for the sake of their drop-ins.
    fn present(&self) -> bool {
        !matches!(self.kind, NodeKind::Host { present: false })
    }
}

/// `later` waits until `earlier` is ready.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    earlier: UnitName,
    later: UnitName,
    kind: EdgeKind,
    /// The name or role as the manifest has it.
    asked: String,
    /// Starting `later` starts `earlier`.
    pulls: bool,
}

/// The key of the manifest that an edge comes from.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum EdgeKind {
    /// The later unit's `requires`.
    Requires,
    /// The later unit's `after`.
    After,
    /// The earlier unit's `before`.
    Before,
}

/// How a name is set within a sentence.
type Quote = fn(&str) -> String;

impl Edge {
    /// The unit that the manifest asks about, by its name or a role.
    fn target(&self) -> &UnitName {
        match self.kind {
            EdgeKind::Requires | EdgeKind::After => &self.earlier,
            EdgeKind::Before => &self.later,
        }
    }

    /// The role asked for; none if a container is meant by its name.
    fn role(&self, graph: &Graph) -> Option<&str> {
        (graph.name(self.target()) != self.asked).then_some(&self.asked)
    }

    /// Why it is there: `flanneld is before the role cri`.
    fn reason(&self, graph: &Graph, quote: Quote) -> String {
        let asked = match self.role(graph) {
            Some(role) => format!("the role {}", quote(role)),
            None => quote(&self.asked),
        };
        let (subject, verb) = match self.kind {
            EdgeKind::Requires => (&self.later, "requires"),
            EdgeKind::After => (&self.later, "is after"),
            EdgeKind::Before => (&self.earlier, "is before"),
        };
        format!("{} {verb} {asked}", quote(graph.name(subject)))
    }
}

impl Graph {
    /// The name of a node; a unit outside the graph is called by its own.
    fn name<'a>(&'a self, unit: &'a UnitName) -> &'a str {
        self.nodes.get(unit).map_or(unit.as_str(), Node::name)
    }
}

#[cfg(test)]
mod tests;
