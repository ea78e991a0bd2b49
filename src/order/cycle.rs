//! The starting order, or the cycle that stands in its way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::name::UnitName;
use crate::order::error::quoted;
use crate::order::{Edge, Graph, OrderError};

/// Every unit after those it waits for. Of those that are free, early ones go first, then the host's, which
/// only stand between containers, then the first by name: so the same set has the same order however it came.
pub(crate) fn sort(graph: &Graph) -> Result<Vec<UnitName>, OrderError> {
    let rank = |unit: &UnitName| {
        graph
            .nodes
            .get(unit)
            .map(|node| (!node.early, node.container().is_some(), node.name()))
    };
    let mut left: BTreeSet<_> = graph
        .nodes
        .keys()
        .map(|unit| (rank(unit), unit.clone()))
        .collect();
    let mut order = Vec::new();
    while let Some(free) = left
        .iter()
        .find(|(_, unit)| {
            !graph.edges.iter().any(|edge| {
                edge.later == *unit && left.contains(&(rank(&edge.earlier), edge.earlier.clone()))
            })
        })
        .cloned()
    {
        left.remove(&free);
        order.push(free.1);
    }
    if left.is_empty() {
        return Ok(order);
    }
    let left: BTreeSet<_> = left.into_iter().map(|(_, unit)| unit).collect();
    Err(shortest_cycle(graph, &left))
}

/// The shortest cycle among `left`, which holds one; the first by name of equals.
fn shortest_cycle(graph: &Graph, left: &BTreeSet<UnitName>) -> OrderError {
    let around: Vec<&Edge> = left
        .iter()
        .filter_map(|start| way_around(graph, left, start))
        .min_by_key(Vec::len)
        .unwrap_or_default();
    OrderError::Cycle {
        units: around
            .iter()
            .map(|edge| graph.name(&edge.earlier).to_owned())
            .collect(),
        reasons: around
            .iter()
            .map(|edge| edge.reason(graph, quoted))
            .collect(),
    }
}

/// The shortest way from `start` along the edges back to it, breadth first.
fn way_around<'a>(
    graph: &'a Graph,
    left: &BTreeSet<UnitName>,
    start: &UnitName,
) -> Option<Vec<&'a Edge>> {
    let mut reached_by: BTreeMap<&UnitName, &Edge> = BTreeMap::new();
    let mut open = VecDeque::from([start]);
    while let Some(unit) = open.pop_front() {
        for edge in graph.edges.iter().filter(|edge| edge.earlier == *unit) {
            if !left.contains(&edge.later) || reached_by.contains_key(&edge.later) {
                continue;
            }
            reached_by.insert(&edge.later, edge);
            open.push_back(&edge.later);
        }
    }
    let mut way = vec![*reached_by.get(start)?];
    while let Some(first) = way.last().filter(|edge| edge.earlier != *start) {
        way.push(reached_by.get(&first.earlier)?);
    }
    way.reverse();
    Some(way)
}
