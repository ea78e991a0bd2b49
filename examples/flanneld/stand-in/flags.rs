//! flanneld's flags, in Go's form (`-flag value`, `-flag=value`, `--flag …`), and the environment that stands for
//! them (`FLANNELD_ETCD_ENDPOINTS` for `-etcd-endpoints`): a flag goes before the environment.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::etcd::Endpoint;

/// What the command line asks for.
pub(crate) enum Request {
    /// To say what it is.
    Version,
    /// To run.
    Run(Box<Settings>),
}

/// All flags, checked.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Members of etcd, at least one.
    pub(crate) endpoints: Vec<Endpoint>,
    /// Without a slash at the end.
    pub(crate) prefix: String,
    /// Names or addresses, tried in turn; none: the interface of the default route.
    pub(crate) interfaces: Vec<String>,
    /// What is published in place of the interface's address.
    pub(crate) public_ip: Option<Ipv4Addr>,
    /// Where `subnet.env` goes.
    pub(crate) subnet_file: PathBuf,
    /// For how long etcd keeps the subnet for a host that is away.
    pub(crate) lease_seconds: u64,
    /// What was asked for and is not done.
    pub(crate) notes: Vec<String>,
}

/// How a flag is dealt with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Takes a value, is used.
    Value,
    /// Takes a value, may come several times.
    Values,
    /// Takes a value that does not matter here.
    IgnoredValue,
    /// Is true when it stands alone, is not done here.
    IgnoredSwitch,
    /// Is true when it stands alone.
    Switch,
}

/// The flags, flanneld's but for the last: its leases are for a day always.
const FLAGS: [(&str, Rule); 20] = [
    ("etcd-endpoints", Rule::Value),
    ("etcd-prefix", Rule::Value),
    ("iface", Rule::Values),
    ("public-ip", Rule::Value),
    ("subnet-file", Rule::Value),
    ("version", Rule::Switch),
    ("ip-masq", Rule::IgnoredSwitch),
    ("iptables-forward-rules", Rule::IgnoredSwitch),
    ("iptables-resync", Rule::IgnoredValue),
    ("ip-blackhole-route", Rule::IgnoredSwitch),
    ("healthz-ip", Rule::IgnoredValue),
    ("healthz-port", Rule::IgnoredValue),
    ("subnet-lease-renew-margin", Rule::IgnoredValue),
    ("v", Rule::IgnoredValue),
    ("vmodule", Rule::IgnoredValue),
    ("logtostderr", Rule::IgnoredSwitch),
    ("alsologtostderr", Rule::IgnoredSwitch),
    ("stderrthreshold", Rule::IgnoredValue),
    ("log_dir", Rule::IgnoredValue),
    ("subnet-lease-seconds", Rule::Value),
];

/// Flags by name, with what they were set to.
type Given = BTreeMap<&'static str, Vec<String>>;

/// Reads the arguments (without the program) and the environment.
///
/// # Errors
/// An unknown flag, or a value that does not fit; the flag is named.
pub(crate) fn parse(
    arguments: impl Iterator<Item = String>,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Request> {
    let mut given = from_arguments(arguments)?;
    for (name, _) in FLAGS {
        let variable = format!("FLANNELD_{}", name.to_uppercase().replace('-', "_"));
        if let Some(value) = environment(&variable).filter(|value| !value.is_empty())
            && !given.contains_key(name)
        {
            given.insert(name, vec![value]);
        }
    }
    if is_true(&given, "version") {
        return Ok(Request::Version);
    }
    settings(&given).map(|settings| Request::Run(Box::new(settings)))
}

fn from_arguments(mut arguments: impl Iterator<Item = String>) -> Result<Given> {
    let mut given = Given::new();
    while let Some(argument) = arguments.next() {
        let stripped = argument
            .strip_prefix("--")
            .or_else(|| argument.strip_prefix('-'));
        let Some(flag) = stripped.filter(|flag| !flag.is_empty()) else {
            bail!("reading the command line: `{argument}` is no flag");
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        let Some((name, rule)) = FLAGS.into_iter().find(|(known, _)| *known == name) else {
            bail!("reading the command line: the stand-in does not know `-{name}`");
        };
        let value = match (value, rule) {
            (Some(value), _) => value,
            (None, Rule::Switch | Rule::IgnoredSwitch) => "true".to_owned(),
            (None, _) => arguments
                .next()
                .with_context(|| format!("reading the command line: `-{name}` needs a value"))?,
        };
        let values = given.entry(name).or_default();
        if rule != Rule::Values {
            values.clear();
        }
        values.push(value);
    }
    Ok(given)
}

fn is_true(given: &Given, name: &str) -> bool {
    given
        .get(name)
        .and_then(|values| values.last())
        .is_some_and(|value| matches!(value.as_str(), "true" | "1" | "t"))
}

fn settings(given: &Given) -> Result<Settings> {
    let value = |name: &str, default: &str| {
        given
            .get(name)
            .and_then(|values| values.last())
            .map_or_else(|| default.to_owned(), Clone::clone)
    };
    let endpoints = value("etcd-endpoints", "http://127.0.0.1:2379")
        .split(',')
        .map(|url| {
            url.trim()
                .parse::<Endpoint>()
                .context("reading `-etcd-endpoints`")
        })
        .collect::<Result<Vec<_>>>()?;
    let public_ip = match value("public-ip", "") {
        text if text.is_empty() => None,
        text => Some(
            text.parse()
                .with_context(|| format!("reading `-public-ip`: `{text}` is no IPv4 address"))?,
        ),
    };
    let seconds = value("subnet-lease-seconds", "86400");
    let ignored = |(name, rule): &(&'static str, Rule)| match rule {
        Rule::IgnoredSwitch => is_true(given, name),
        Rule::IgnoredValue => {
            given.contains_key(name) && !matches!(*name, "v" | "vmodule" | "stderrthreshold")
        }
        _ => false,
    };
    Ok(Settings {
        endpoints,
        prefix: value("etcd-prefix", "/coreos.com/network")
            .trim_end_matches('/')
            .to_owned(),
        interfaces: given.get("iface").cloned().unwrap_or_default(),
        public_ip,
        subnet_file: PathBuf::from(value("subnet-file", "/run/flannel/subnet.env")),
        lease_seconds: seconds.parse().with_context(|| {
            format!("reading `-subnet-lease-seconds`: `{seconds}` is no number of seconds")
        })?,
        notes: FLAGS
            .iter()
            .filter(|flag| ignored(flag))
            .map(|(name, _)| format!("note: -{name} does nothing in the stand-in"))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Settings> {
        let lookup = |name: &str| {
            environment
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        };
        match parse(
            arguments.iter().map(|argument| (*argument).to_owned()),
            lookup,
        )? {
            Request::Run(settings) => Ok(*settings),
            Request::Version => bail!("version"),
        }
    }

    #[test]
    fn flags_are_read_in_each_form_and_go_before_the_environment() {
        let settings = run(
            &[
                "-etcd-endpoints=http://10.0.0.1:2379,http://10.0.0.2:1",
                "--iface",
                "a",
                "-iface=b",
                "-ip-masq",
                "-v=5",
            ],
            &[
                ("FLANNELD_ETCD_PREFIX", "/x/"),
                ("FLANNELD_IFACE", "c"),
                ("FLANNELD_PUBLIC_IP", ""),
            ],
        )
        .unwrap();
        assert_eq!(
            settings
                .endpoints
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
            ["10.0.0.1:2379", "10.0.0.2:1"]
        );
        assert_eq!(settings.prefix, "/x");
        assert_eq!(settings.interfaces, ["a", "b"]);
        assert_eq!(settings.public_ip, None);
        assert_eq!(
            settings.notes,
            ["note: -ip-masq does nothing in the stand-in"]
        );
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (arguments, text) in [
            (
                ["-kube-subnet-mgr"],
                "reading the command line: the stand-in does not know `-kube-subnet-mgr`",
            ),
            (["subnet"], "reading the command line: `subnet` is no flag"),
            (
                ["-iface"],
                "reading the command line: `-iface` needs a value",
            ),
            (
                ["-public-ip=x"],
                "reading `-public-ip`: `x` is no IPv4 address: invalid IPv4 address syntax",
            ),
            (
                ["-etcd-endpoints=https://a:1"],
                "reading `-etcd-endpoints`: `https://a:1`: the stand-in speaks plain http:// only",
            ),
        ] {
            assert_eq!(format!("{:#}", run(&arguments, &[]).unwrap_err()), text);
        }
    }
}
