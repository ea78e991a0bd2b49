//! Which running units a switch stops, and in which order they go and come.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use crate::name::UnitName;
use crate::systemd::Systemd;

/// The units that are up among `units`, and those that their stop takes along: systemd is asked, for units of the host
/// may hang on ours.
pub(crate) fn going_down(systemd: &dyn Systemd, units: &[UnitName]) -> Result<Vec<UnitName>> {
    let mut seen = BTreeSet::new();
    let mut open = units.to_vec();
    let mut found = Vec::new();
    while let Some(unit) = open.pop() {
        if unit.is_mount() || !seen.insert(unit.clone()) || !systemd.state(&unit)?.is_up() {
            continue;
        }
        open.extend(systemd.relations(&unit)?.stopped_with);
        found.push(unit);
    }
    Ok(found)
}

/// The units in the order in which they start: each behind those of them that it waits for.
pub(crate) fn start_order(systemd: &dyn Systemd, units: &[UnitName]) -> Result<Vec<UnitName>> {
    let mut after = BTreeMap::new();
    for unit in units {
        let mut first = systemd.relations(unit)?.after;
        first.retain(|first| units.contains(first) && first != unit);
        after.insert(unit.clone(), first);
    }
    Ok(sorted(units, &after))
}

/// Each unit behind those that come first; what a cycle would leave open stays as it was given.
fn sorted(units: &[UnitName], after: &BTreeMap<UnitName, Vec<UnitName>>) -> Vec<UnitName> {
    let mut order: Vec<UnitName> = Vec::new();
    let mut rest: Vec<&UnitName> = units.iter().collect();
    while !rest.is_empty() {
        let waits = |unit: &UnitName| {
            let first = after.get(unit).into_iter().flatten();
            first.clone().any(|first| !order.contains(first))
        };
        let next = rest.iter().position(|unit| !waits(unit)).unwrap_or(0);
        order.push(rest.remove(next).clone());
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_first_is_in_front() {
        let unit = |name: &str| name.parse::<UnitName>().unwrap();
        let all = ["c.service", "b.service", "a.service"].map(unit);
        let after = BTreeMap::from([
            (unit("c.service"), vec![unit("b.service")]),
            (unit("b.service"), vec![unit("a.service")]),
        ]);
        let names =
            |order: Vec<UnitName>| order.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            names(sorted(&all, &after)),
            ["a.service", "b.service", "c.service"]
        );
        let cycle = BTreeMap::from([
            (unit("c.service"), vec![unit("b.service")]),
            (unit("b.service"), vec![unit("c.service")]),
        ]);
        assert_eq!(sorted(&all, &cycle).len(), 3);
    }
}
