//! From manifests to the graph: what each name means, and the checks of the whole.

use std::collections::{BTreeMap, BTreeSet};

use crate::name::{ContainerName, UnitName};
use crate::order::error::quoted;
use crate::order::{
    Edge, EdgeKind, Graph, HostRoles, Member, Missing, Node, NodeKind, OrderError, cycle,
};

/// Makes the graph and checks names, stages and cycles; what is missing is in it.
pub(crate) fn build(
    members: &[Member],
    roles: &HostRoles,
    present: &dyn Fn(&UnitName) -> bool,
) -> Result<Graph, OrderError> {
    let wrong: Vec<_> = members.iter().flat_map(names_that_are_none).collect();
    if !wrong.is_empty() {
        return Err(OrderError::Names(wrong));
    }
    let mut set = Set {
        roles,
        present,
        nodes: members.iter().map(|m| container(m, roles)).collect(),
        edges: BTreeSet::new(),
        missing: BTreeSet::new(),
    };
    for member in members {
        set.edges_of(member);
    }
    let graph = Graph {
        nodes: set.nodes,
        edges: set.edges,
        order: Vec::new(),
        missing: set.missing.into_iter().collect(),
    };
    let late = early_waits_for_normal(&graph);
    if !late.is_empty() {
        return Err(OrderError::Stage(late));
    }
    let order = cycle::sort(&graph)?;
    Ok(Graph { order, ..graph })
}

/// Names go into unit files, so a line break in one would be a directive.
fn names_that_are_none(member: &Member) -> Vec<String> {
    [
        ("provides", &member.provides),
        ("requires", &member.requires),
        ("after", &member.after),
        ("before", &member.before),
    ]
    .into_iter()
    .flat_map(|(key, names)| names.iter().map(move |name| (key, name)))
    .filter(|(_, name)| name.parse::<ContainerName>().is_err())
    .map(|(key, name)| {
        format!(
            "`{}` of `{}` holds {name:?}, which is neither a name nor a role",
            key, member.name
        )
    })
    .collect()
}

fn container(member: &Member, roles: &HostRoles) -> (UnitName, Node) {
    let unit = member.name.service();
    let provides = member
        .provides
        .iter()
        .map(String::as_str)
        .chain(roles.of_unit(&unit))
        .filter(|role| *role != member.name.as_str())
        .map(str::to_owned)
        .collect();
    let node = Node {
        kind: NodeKind::Container(member.name.clone()),
        unit: unit.clone(),
        provides,
        early: member.early,
    };
    (unit, node)
}

/// The graph while it grows: host units join as they are asked for.
struct Set<'a> {
    roles: &'a HostRoles,
    present: &'a dyn Fn(&UnitName) -> bool,
    nodes: BTreeMap<UnitName, Node>,
    edges: BTreeSet<Edge>,
    missing: BTreeSet<Missing>,
}

/// The units that a name stands for.
struct Providers {
    containers: Vec<UnitName>,
    host: Vec<UnitName>,
}

impl Set<'_> {
    fn edges_of(&mut self, member: &Member) {
        for asked in &member.requires {
            self.requires(member, asked);
        }
        for asked in &member.after {
            self.after(member, asked, EdgeKind::After);
        }
        for asked in &member.before {
            let earlier = member.name.service();
            let found = self.providers(asked);
            for later in found.containers.into_iter().chain(found.host) {
                self.edge(&earlier, &later, EdgeKind::Before, asked);
            }
        }
    }

    /// A requirement pulls in every container that provides it; the host's units only where no container does.
    fn requires(&mut self, member: &Member, asked: &str) {
        let later = member.name.service();
        self.after(member, asked, EdgeKind::Requires);
        let found = self.providers(asked);
        let pulled: Vec<_> = if found.containers.is_empty() {
            let mut host = found.host;
            host.retain(|unit| (self.present)(unit));
            host
        } else {
            found.containers
        };
        if pulled.is_empty() {
            self.missing.insert(Missing {
                container: member.name.clone(),
                asked: asked.to_owned(),
            });
        }
        for earlier in pulled.into_iter().filter(|unit| *unit != later) {
            let mut edge = Edge {
                earlier,
                later: later.clone(),
                kind: EdgeKind::Requires,
                asked: asked.to_owned(),
                pulls: false,
            };
            self.edges.remove(&edge);
            edge.pulls = true;
            self.edges.insert(edge);
        }
    }

    /// An early container waits for host units only where nothing else can be meant: most units of a host
    /// start after basic.target, which itself waits for the container.
    fn after(&mut self, member: &Member, asked: &str, kind: EdgeKind) {
        let later = member.name.service();
        let mut found = self.providers(asked);
        if member.early {
            let alone = found.containers.is_empty();
            found.host.retain(|unit| alone && (self.present)(unit));
        }
        for earlier in found.containers.into_iter().chain(found.host) {
            self.edge(&earlier, &later, kind, asked);
        }
    }

    fn edge(&mut self, earlier: &UnitName, later: &UnitName, kind: EdgeKind, asked: &str) {
        // A unit that provides what it orders against means the others.
        if earlier == later {
            return;
        }
        for unit in [earlier, later] {
            if !self.nodes.contains_key(unit) {
                self.nodes.insert(unit.clone(), self.host_unit(unit));
            }
        }
        self.edges.insert(Edge {
            earlier: earlier.clone(),
            later: later.clone(),
            kind,
            asked: asked.to_owned(),
            pulls: false,
        });
    }

    fn host_unit(&self, unit: &UnitName) -> Node {
        Node {
            kind: NodeKind::Host {
                present: (self.present)(unit),
            },
            unit: unit.clone(),
            provides: self.roles.of_unit(unit).map(str::to_owned).collect(),
            early: false,
        }
    }

    fn providers(&self, asked: &str) -> Providers {
        let containers: Vec<_> = self
            .nodes
            .values()
            .filter(|node| node.container().is_some())
            .filter(|node| node.name() == asked || node.provides.contains(asked))
            .map(|node| node.unit.clone())
            .collect();
        let mut host = self.roles.units(asked).to_vec();
        host.retain(|unit| !containers.contains(unit));
        Providers { containers, host }
    }
}

/// Only containers are judged: the stage of a host unit is not known here, and `systemd-analyze verify` sees it.
fn early_waits_for_normal(graph: &Graph) -> Vec<String> {
    let normal = |unit| {
        graph
            .nodes
            .get(unit)
            .is_some_and(|node| node.container().is_some() && !node.early)
    };
    graph
        .edges
        .iter()
        .filter(|edge| graph.nodes.get(&edge.later).is_some_and(|node| node.early))
        .filter(|edge| normal(&edge.earlier))
        .map(|edge| {
            format!(
                "`{}` starts early and cannot wait for `{}`, which does not: {}",
                graph.name(&edge.later),
                graph.name(&edge.earlier),
                edge.reason(graph, quoted)
            )
        })
        .collect()
}
