//! The lease of a subnet: PREFIX/subnets/10.5.34.0-24 in etcd, under a lease of etcd. Two hosts cannot take the same
//! one, since a key is only ever written by a transaction that compares its revision.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::config::Config;
use crate::etcd::{Entry, Etcd};
use crate::network::Network;

/// Who wants a subnet.
pub(crate) struct Claim<'a> {
    /// Of all keys.
    pub(crate) prefix: &'a str,
    /// By which the others know this host.
    pub(crate) public_ip: Ipv4Addr,
    /// Of the vxlan link.
    pub(crate) vni: u32,
    /// Of the vxlan link.
    pub(crate) mac: &'a str,
    /// The subnet that this host had last.
    pub(crate) previous: Option<Network>,
    /// For how long etcd keeps it.
    pub(crate) seconds: u64,
}

/// A leased subnet.
pub(crate) struct Lease {
    /// The subnet.
    pub(crate) subnet: Network,
    /// etcd's lease.
    pub(crate) id: i64,
    seconds: u64,
}

impl Lease {
    /// A third of the lease, so that two renewals may be lost; a minute at most, so that a lost lease is noticed.
    pub(crate) fn renew_every(&self) -> Duration {
        (Duration::from_secs(self.seconds) / 3).min(Duration::from_mins(1))
    }
}

/// All subnets are taken.
#[derive(Debug, thiserror::Error)]
#[error("all {0} subnets of `{1}` are leased")]
pub(crate) struct Exhausted(u32, Network);

/// Leases the host's subnet: the one that it has, had, or else the first free one.
///
/// # Errors
/// [`Exhausted`], or etcd's.
pub(crate) fn acquire(etcd: &Etcd, config: &Config, claim: &Claim<'_>) -> Result<Lease> {
    let folder = format!("{}/subnets/", claim.prefix);
    let id = etcd.grant(claim.seconds)?;
    loop {
        let entries = etcd.list(&folder)?;
        let Some((subnet, revision)) = choose(config, claim, &folder, &entries) else {
            etcd.revoke(id)?;
            return Err(Exhausted(config.count, config.network).into());
        };
        let key = format!("{folder}{}", subnet.key());
        if etcd.put_if(&key, revision, &value(claim).to_string(), id)? {
            return Ok(Lease {
                subnet,
                id,
                seconds: claim.seconds,
            });
        }
        // Another host was faster: look again.
    }
}

/// What flannel writes, and what its peers read.
fn value(claim: &Claim<'_>) -> Value {
    json!({
        "PublicIP": claim.public_ip.to_string(),
        "BackendType": "vxlan",
        "BackendData": { "VNI": claim.vni, "VtepMAC": claim.mac },
    })
}

/// The subnet to write, with the revision that its key must still have; 0: not there.
fn choose(
    config: &Config,
    claim: &Claim<'_>,
    folder: &str,
    entries: &[Entry],
) -> Option<(Network, i64)> {
    let taken: Vec<(Network, &Entry)> = entries
        .iter()
        .filter_map(|entry| Some((Network::from_key(entry.key.strip_prefix(folder)?)?, entry)))
        .collect();
    let own = taken.iter().find(|(subnet, entry)| {
        let owner = serde_json::from_str::<Value>(&entry.value).unwrap_or_default();
        config.leases(*subnet) && owner["PublicIP"] == json!(claim.public_ip.to_string())
    });
    if let Some((subnet, entry)) = own {
        return Some((*subnet, entry.revision));
    }
    let free = |subnet: &Network| {
        taken
            .iter()
            .all(|(other, _)| !other.holds(*subnet) && !subnet.holds(*other))
    };
    let previous = claim
        .previous
        .filter(|subnet| config.leases(*subnet))
        .filter(&free);
    let subnet = previous.or_else(|| {
        (0..config.count)
            .map(|steps| config.first.further(steps))
            .find(&free)
    })?;
    Some((subnet, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLDER: &str = "/coreos.com/network/subnets/";

    fn entry(key: &str, public_ip: &str) -> Entry {
        let value = format!(r#"{{"PublicIP":"{public_ip}"}}"#);
        Entry {
            key: format!("{FOLDER}{key}"),
            value,
            revision: 9,
        }
    }

    fn chosen(previous: Option<&str>, entries: &[Entry]) -> Option<(String, i64)> {
        let text = r#"{"Network":"10.5.0.0/16","SubnetMin":"10.5.1.0","SubnetMax":"10.5.3.0","Backend":{"Type":"vxlan"}}"#;
        let claim = Claim {
            prefix: "/coreos.com/network",
            public_ip: Ipv4Addr::new(192, 0, 2, 1),
            vni: 1,
            mac: "aa:bb:cc:dd:ee:ff",
            previous: previous.map(|text| text.parse().unwrap()),
            seconds: 60,
        };
        choose(&Config::parse(text).unwrap(), &claim, FOLDER, entries)
            .map(|(subnet, revision)| (subnet.to_string(), revision))
    }

    #[test]
    fn the_own_then_the_previous_then_a_free_one() {
        let others = [
            entry("10.5.1.0-24", "192.0.2.2"),
            entry("10.5.2.0-24", "192.0.2.3"),
        ];
        let own = [others[0].clone(), entry("10.5.2.0-24", "192.0.2.1")];
        let outside = [entry("10.5.9.0-24", "192.0.2.1")];
        let split = [entry("10.5.1.128-25", "192.0.2.2")];
        let full = [
            others[0].clone(),
            others[1].clone(),
            entry("10.5.3.0-24", "192.0.2.4"),
        ];
        for (previous, entries, expected) in [
            (None, &[][..], Some(("10.5.1.0/24", 0))),
            (None, &others, Some(("10.5.3.0/24", 0))),
            (None, &own, Some(("10.5.2.0/24", 9))),
            (Some("10.5.3.0/24"), &own, Some(("10.5.2.0/24", 9))),
            (Some("10.5.3.0/24"), &[], Some(("10.5.3.0/24", 0))),
            (Some("10.5.2.0/24"), &others, Some(("10.5.3.0/24", 0))),
            (Some("10.9.0.0/24"), &[], Some(("10.5.1.0/24", 0))),
            (None, &outside, Some(("10.5.1.0/24", 0))),
            (None, &split, Some(("10.5.2.0/24", 0))),
            (None, &full, None),
        ] {
            assert_eq!(
                chosen(previous, entries),
                expected.map(|(text, revision)| (text.to_owned(), revision))
            );
        }
    }

    #[test]
    fn renewals() {
        let every = |seconds| {
            Lease {
                subnet: "10.5.1.0/24".parse().unwrap(),
                id: 1,
                seconds,
            }
            .renew_every()
            .as_millis()
        };
        assert_eq!((every(86400), every(30), every(2)), (60_000, 10_000, 666));
    }
}
