//! Drawings of the boot order. What they share: which units are shown, and which edges follow from others.
pub(crate) mod dot;
pub(crate) mod json;
mod layout;
pub(crate) mod svg;
pub(crate) mod text;

use std::collections::{BTreeMap, BTreeSet};

use crate::order::{Edge, EdgeKind, Graph, Node, NodeKind};

/// What is shown of a graph: the containers, and those host units that are present, what starts first in front.
pub(crate) struct View<'a> {
    graph: &'a Graph,
    nodes: Vec<&'a Node>,
    /// By the places in `nodes` of the earlier and the later unit: every edge between them.
    links: BTreeMap<(usize, usize), Vec<&'a Edge>>,
}

impl<'a> View<'a> {
    pub(crate) fn of(graph: &'a Graph) -> Self {
        let nodes: Vec<&Node> = graph
            .order
            .iter()
            .filter_map(|unit| graph.nodes.get(unit))
            .filter(|node| node.present())
            .collect();
        let place: BTreeMap<_, _> = nodes.iter().map(|node| &node.unit).zip(0..).collect();
        let mut links: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for edge in &graph.edges {
            if let (Some(&earlier), Some(&later)) =
                (place.get(&edge.earlier), place.get(&edge.later))
            {
                links.entry((earlier, later)).or_default().push(edge);
            }
        }
        Self {
            graph,
            nodes,
            links,
        }
    }

    /// The links that do not follow from others: `a` to `c` does if there are `a` to `b` and `b` to `c`.
    fn direct(&self) -> BTreeSet<(usize, usize)> {
        // behind[n]: every unit that waits for n, however far. A link leads to a higher place: filled from the end.
        let mut behind = vec![BTreeSet::new(); self.nodes.len()];
        for &(earlier, later) in self.links.keys().rev() {
            let further: BTreeSet<usize> = behind[later].clone();
            behind[earlier].extend(further);
            behind[earlier].insert(later);
        }
        self.links
            .keys()
            .filter(|(earlier, later)| {
                !self.links.keys().any(|(from, between)| {
                    from == earlier && between != later && behind[*between].contains(later)
                })
            })
            .copied()
            .collect()
    }

    /// For each unit, after how many others in a row it comes.
    fn depths(&self) -> Vec<usize> {
        let mut depths = vec![0; self.nodes.len()];
        for later in 0..depths.len() {
            depths[later] = self
                .links
                .keys()
                .filter(|(_, to)| *to == later)
                .map(|(earlier, _)| depths[*earlier] + 1)
                .max()
                .unwrap_or(0);
        }
        depths
    }

    /// Why a unit waits, for people: `requires cri (containerd); after etcd; proxy is before dns`.
    fn reasons(&self, edges: impl Iterator<Item = &'a Edge>) -> String {
        let mut reasons: BTreeMap<(Verb, &str), Vec<&str>> = BTreeMap::new();
        for edge in edges {
            let earlier = self.graph.name(&edge.earlier);
            let (verb, object) = match edge.kind {
                _ if edge.pulls => (Verb::Requires, edge.asked.as_str()),
                EdgeKind::Requires | EdgeKind::After => (Verb::After, edge.asked.as_str()),
                EdgeKind::Before => (Verb::Before, earlier),
            };
            let about = match edge.kind {
                EdgeKind::Before => edge.asked.as_str(),
                _ => earlier,
            };
            reasons.entry((verb, object)).or_default().push(about);
        }
        let sentences: Vec<_> = reasons
            .into_iter()
            .map(|((verb, object), about)| {
                let named = about == [object];
                let about = about.join(", ");
                match verb {
                    Verb::Before => format!("{object} is before {about}"),
                    _ if named => format!("{} {object}", verb.as_str()),
                    _ => format!("{} {object} ({about})", verb.as_str()),
                }
            })
            .collect();
        sentences.join("; ")
    }

    /// Every edge by which a unit waits.
    fn edges_to(&self, index: usize) -> impl Iterator<Item = &'a Edge> {
        self.links
            .iter()
            .filter(move |((_, later), _)| *later == index)
            .flat_map(|(_, edges)| edges)
            .copied()
    }

    /// The edges of a link.
    fn edges(&self, link: (usize, usize)) -> impl Iterator<Item = &'a Edge> {
        self.links.get(&link).into_iter().flatten().copied()
    }

    /// A link in one or two words, for beside its arrow.
    fn label(&self, link: (usize, usize)) -> String {
        let mut labels: Vec<_> = self
            .edges(link)
            .map(|edge| match (edge.kind, edge.role(self.graph)) {
                _ if edge.pulls => "requires".to_owned(),
                (EdgeKind::Requires | EdgeKind::After, _) => "after".to_owned(),
                (EdgeKind::Before, None) => "before".to_owned(),
                (EdgeKind::Before, Some(role)) => format!("before {role}"),
            })
            .collect();
        labels.dedup();
        labels.join(", ")
    }

    /// Whether starting the later unit starts the earlier one.
    fn pulls(&self, link: (usize, usize)) -> bool {
        self.edges(link).any(|edge| edge.pulls)
    }
}

/// How a reason is told: a requirement that only orders, as of a host unit beside a container of the same
/// role, reads as what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verb {
    Requires,
    After,
    Before,
}

impl Verb {
    fn as_str(self) -> &'static str {
        match self {
            Self::Requires => "requires",
            Self::After => "after",
            Self::Before => "is before",
        }
    }
}

impl Node {
    fn is_host(&self) -> bool {
        matches!(self.kind, NodeKind::Host { .. })
    }

    /// The roles, or nothing if there are none: ` [cri]`.
    fn brackets(&self) -> String {
        if self.provides.is_empty() {
            return String::new();
        }
        let roles: Vec<_> = self.provides.iter().map(String::as_str).collect();
        format!(" [{}]", roles.join(", "))
    }
}
