//! Roles that units of the host provide.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::name::UnitName;

/// The host's part in the order: for each role, the units of a host that play it when they are there.
///
/// | role | units |
/// |---|---|
/// | `cri` | `containerd.service`, `crio.service`, `docker.service`, `cri-docker.service` |
/// | `etcd` | `etcd.service` |
/// | `network-online` | `network-online.target` |
///
/// The host's own etcd, as distributions package it, satisfies a container that requires `etcd`. A container
/// whose unit bears a name of this table takes that unit's place, role included: its unit file lies in front
/// of the package's.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct HostRoles(BTreeMap<String, Vec<UnitName>>);

const BUILT_IN: &[(&str, &[&str])] = &[
    (
        "cri",
        &[
            "containerd.service",
            "crio.service",
            "docker.service",
            "cri-docker.service",
        ],
    ),
    ("etcd", &["etcd.service"]),
    ("network-online", &["network-online.target"]),
];

impl Default for HostRoles {
    fn default() -> Self {
        let units = |names: &[&str]| names.iter().filter_map(|name| name.parse().ok()).collect();
        Self(
            BUILT_IN
                .iter()
                .map(|(role, names)| ((*role).to_owned(), units(names)))
                .collect(),
        )
    }
}

impl HostRoles {
    /// This table with the operator's over it: a role given there replaces the one here, an empty list of
    /// units takes it away.
    pub fn overridden_by(mut self, configured: Self) -> Self {
        self.0.extend(configured.0);
        self
    }

    /// Each role with its units, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[UnitName])> {
        let roles = self.0.iter();
        roles.map(|(role, units)| (role.as_str(), units.as_slice()))
    }

    /// The units that play `role`.
    pub(crate) fn units(&self, role: &str) -> &[UnitName] {
        self.0.get(role).map_or(&[], Vec::as_slice)
    }

    /// The roles that `unit` plays.
    pub(crate) fn of_unit(&self, unit: &UnitName) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(_, units)| units.contains(unit))
            .map(|(role, _)| role.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_name_is_a_unit() {
        let roles = HostRoles::default();
        for (role, units) in BUILT_IN {
            let found: Vec<_> = roles.units(role).iter().map(UnitName::as_str).collect();
            assert_eq!(found, *units);
        }
    }

    #[test]
    fn the_operators_table_replaces_role_by_role() {
        let configured: HostRoles =
            toml::from_str("cri = [\"k3s.service\"]\netcd = []\ndns = [\"named.service\"]")
                .unwrap();
        let roles = HostRoles::default().overridden_by(configured);
        assert_eq!(roles.units("cri"), ["k3s.service".parse().unwrap()]);
        assert_eq!(roles.units("etcd"), []);
        assert_eq!(
            roles
                .of_unit(&"named.service".parse().unwrap())
                .collect::<Vec<_>>(),
            ["dns"]
        );
        assert!(
            toml::from_str::<HostRoles>("cri = [\"k3s\"]")
                .unwrap_err()
                .to_string()
                .contains("unit name `k3s` has no unit type such as `.service`")
        );
    }
}
