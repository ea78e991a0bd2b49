//! What a boot should not need, and how it is known.

use schemars::JsonSchema;
use serde::Serialize;

use crate::name::UnitName;

/// What a boot should not need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// A network that is up.
    Network,
    /// A registry, or an engine that goes to one.
    Registry,
    /// bedplate itself, which no start needs beside its launcher.
    Bedplate,
    /// systemd reads all units again, in the middle of the boot.
    Reload,
}

/// The units of systemd.special(7) that stand for a network that is up, or for what lies behind it.
const NETWORK: [&str; 6] = [
    "network-online.target",
    "remote-fs.target",
    "remote-cryptsetup.target",
    "remote-integritysetup.target",
    "remote-veritysetup.target",
    "time-sync.target",
];

/// Programs, and what they reach.
const PROGRAMS: [(&str, Reach); 14] = [
    ("bedplate", Reach::Bedplate),
    ("skopeo", Reach::Registry),
    ("podman", Reach::Registry),
    ("buildah", Reach::Registry),
    ("docker", Reach::Registry),
    ("nerdctl", Reach::Registry),
    ("crictl", Reach::Registry),
    ("ctr", Reach::Registry),
    ("curl", Reach::Network),
    ("wget", Reach::Network),
    ("nm-online", Reach::Network),
    ("systemd-networkd-wait-online", Reach::Network),
    ("daemon-reload", Reach::Reload),
    ("daemon-reexec", Reach::Reload),
];

impl Reach {
    /// What a unit stands for by its name: network managers call what waits for them alike.
    pub(super) fn of_unit(unit: &UnitName) -> Option<Self> {
        let stem = unit.stem();
        let stem = stem.split_once('@').map_or(stem, |(template, _)| template);
        let waits = unit.is_service() && stem.ends_with("wait-online");
        (waits || NETWORK.contains(&unit.as_str())).then_some(Self::Network)
    }

    /// What a command line reaches, by the programs that it names: its own, and those that it hands to a shell.
    pub(super) fn of_program(argv: &[String]) -> Option<Self> {
        let apart = |c: char| c.is_whitespace() || ";|&()'\"`".contains(c);
        let words = argv.iter().flat_map(|word| word.split(apart));
        let mut names = words.map(|word| word.rsplit_once('/').map_or(word, |(_, name)| name));
        names.find_map(|name| {
            let known = PROGRAMS.iter().find(|(program, _)| *program == name);
            known.map(|(_, reach)| *reach)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_that_stand_for_a_network() {
        let of = |unit: &str| Reach::of_unit(&unit.parse().unwrap());
        for unit in [
            "network-online.target",
            "NetworkManager-wait-online.service",
            "systemd-networkd-wait-online@eth0.service",
            "remote-fs.target",
        ] {
            assert_eq!(of(unit), Some(Reach::Network), "{unit}");
        }
        for unit in [
            "network.target",
            "network-pre.target",
            "etcd.service",
            "sysinit.target",
        ] {
            assert_eq!(of(unit), None, "{unit}");
        }
    }

    #[test]
    fn programs_that_reach_out() {
        for (line, reach) in [
            (
                "/usr/libexec/bedplate/launch /var/lib/bedplate/containers/etcd/1",
                None,
            ),
            ("/usr/bin/bedplate pull x", Some(Reach::Bedplate)),
            (
                "/bin/sh -c 'test -e /x||(skopeo copy a b)'",
                Some(Reach::Registry),
            ),
            ("systemctl daemon-reload", Some(Reach::Reload)),
            ("/usr/bin/curl http://x", Some(Reach::Network)),
            ("/usr/bin/env true", None),
        ] {
            let argv: Vec<String> = line.splitn(3, ' ').map(str::to_owned).collect();
            assert_eq!(Reach::of_program(&argv), reach, "{line}");
        }
    }
}
