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
const PROGRAMS: [(&str, Reach); 12] = [
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
];

impl Reach {
    /// What a unit stands for by its name: network managers call what waits for them alike.
    pub(super) fn of_unit(unit: &UnitName) -> Option<Self> {
        let stem = unit.stem();
        let stem = stem.split_once('@').map_or(stem, |(template, _)| template);
        let waits = unit.is_service() && stem.ends_with("wait-online");
        (waits || NETWORK.contains(&unit.as_str())).then_some(Self::Network)
    }

    /// What a command line reaches, by the programs that it names: its own, and those that it hands to a shell or to a
    /// program that runs others.
    pub(super) fn of_program(argv: &[String]) -> Option<Self> {
        let words: Vec<&str> = argv
            .iter()
            .flat_map(|word| word.split_whitespace())
            .collect();
        let runs_others = |word: &&str| RUNNERS.contains(&base(word));
        if !words.first().is_some_and(runs_others) {
            return Self::of_command(&words);
        }
        let script = words.join(" ");
        let mut commands = script.split(|c: char| ";|&(){}'\"`\n".contains(c));
        commands.find_map(|command| {
            let words: Vec<&str> = command.split_whitespace().skip_while(before).collect();
            Self::of_command(&words)
        })
    }

    /// What the program at the beginning reaches.
    fn of_command(words: &[&str]) -> Option<Self> {
        let (program, arguments) = words.split_first()?;
        let program = base(program);
        if program == "systemctl" {
            let reads_again = |word: &&str| ["daemon-reload", "daemon-reexec"].contains(word);
            return arguments.iter().any(reads_again).then_some(Self::Reload);
        }
        let known = PROGRAMS.iter().find(|(known, _)| *known == program);
        known.map(|(_, reach)| *reach)
    }
}

/// Programs that run others, shells among them.
const RUNNERS: [&str; 12] = [
    "sh", "bash", "dash", "env", "exec", "flock", "ionice", "nice", "nohup", "nsenter", "setsid",
    "timeout",
];

/// Words of a shell, after which a command begins.
const WORDS: [&str; 9] = [
    "!", "if", "then", "elif", "else", "while", "until", "do", "command",
];

/// The name of a program, without the directory.
fn base(word: &str) -> &str {
    word.rsplit_once('/').map_or(word, |(_, name)| name)
}

/// Whether a word stands before the program: options, numbers, assignments, and what runs it.
fn before(word: &&str) -> bool {
    word.starts_with(['-', '+'])
        || word.starts_with(|c: char| c.is_ascii_digit())
        || word.contains('=')
        || WORDS.contains(word)
        || RUNNERS.contains(&base(word))
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
            ("/usr/bin/env A=b nice -n 5 wget x", Some(Reach::Network)),
            (
                "/bin/sh -c 'if ! bedplate list; then exit 1; fi'",
                Some(Reach::Bedplate),
            ),
            ("/bin/mkdir -p /var/lib/docker", None),
            ("/bin/chgrp docker /run/x.sock", None),
            ("/bin/sh -c 'test -e /usr/bin/curl'", None),
            ("systemctl start daemon", None),
        ] {
            let argv: Vec<String> = line.splitn(3, ' ').map(str::to_owned).collect();
            assert_eq!(Reach::of_program(&argv), reach, "{line}");
        }
    }
}
