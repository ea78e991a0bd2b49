//! The host's side: the interface that carries the packets, and the vxlan link `flannel.VNI`, by ip(8).

#![expect(
    clippy::disallowed_methods,
    reason = "the stand-in is a program of its own and uses nothing of the library"
)]

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::config::Config;
use crate::network::Network;

/// What vxlan adds to each packet, bytes.
const OVERHEAD: u64 = 50;

/// The interface that the link goes through.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Uplink {
    /// Its name.
    pub(crate) name: String,
    /// Its first IPv4 address.
    pub(crate) address: Ipv4Addr,
    mtu: u64,
}

impl Uplink {
    /// The first of the named interfaces (by name or address) that is there; of none, that of the default route.
    ///
    /// # Errors
    /// There is none, or it has no IPv4 address.
    pub(crate) fn find(wanted: &[String]) -> Result<Self> {
        let interfaces = ip(&["-json", "-4", "address", "show"])?;
        if wanted.is_empty() {
            let routes = ip(&["-json", "-4", "route", "show", "default"])?;
            let Some(name) = routes[0]["dev"].as_str() else {
                bail!("finding the interface: there is no default route; name one by -iface");
            };
            return Self::named(&interfaces, name);
        }
        wanted
            .iter()
            .find_map(|name| Self::named(&interfaces, name).ok())
            .with_context(|| {
                format!(
                    "finding the interface: none of `{}` is there with an IPv4 address",
                    wanted.join(", ")
                )
            })
    }

    fn named(interfaces: &Value, wanted: &str) -> Result<Self> {
        let by_address = wanted.parse::<IpAddr>().is_ok();
        for interface in listed(interfaces) {
            let addresses =
                listed(&interface["addr_info"]).filter_map(|address| address["local"].as_str());
            let matching = if by_address {
                addresses.into_iter().find(|address| *address == wanted)
            } else if interface["ifname"] == wanted {
                addresses.into_iter().next()
            } else {
                None
            };
            if let Some(address) = matching {
                return Ok(Self {
                    name: interface["ifname"].as_str().unwrap_or_default().to_owned(),
                    address: address
                        .parse()
                        .with_context(|| format!("reading the address of `{wanted}`"))?,
                    mtu: interface["mtu"].as_u64().unwrap_or(1500),
                });
            }
        }
        bail!("finding the interface: `{wanted}` has no IPv4 address")
    }
}

/// The vxlan link.
pub(crate) struct Vtep {
    name: String,
    /// Its hardware address.
    pub(crate) mac: String,
    /// What fits into a packet through it, bytes.
    pub(crate) mtu: u64,
}

impl Vtep {
    /// Makes the link, or takes the one that is there if it is as it should be: a restart disturbs nobody.
    ///
    /// # Errors
    /// ip(8) says why not.
    pub(crate) fn ensure(uplink: &Uplink, config: &Config) -> Result<Self> {
        let name = format!("flannel.{}", config.vni);
        let mtu = uplink.mtu.saturating_sub(OVERHEAD);
        let found = find_vxlan(&name)?;
        let fits = found
            .as_ref()
            .is_some_and(|link| fits(link, uplink, config));
        if !fits {
            if found.is_some() {
                ip(&["link", "delete", &name])?;
            }
            let (id, port) = (config.vni.to_string(), config.port.to_string());
            let local = uplink.address.to_string();
            let kind = [
                "type",
                "vxlan",
                "id",
                &id,
                "local",
                &local,
                "dev",
                &uplink.name,
                "dstport",
                &port,
                "nolearning",
            ];
            ip(&[&["link", "add", &name, "mtu", &mtu.to_string()], &kind[..]].concat())?;
        }
        let link = find_vxlan(&name)?.with_context(|| format!("making the link `{name}`"))?;
        let mac = link["address"]
            .as_str()
            .with_context(|| format!("reading the address of `{name}`"))?
            .to_owned();
        Ok(Self { name, mac, mtu })
    }

    /// Gives the link the subnet's own address, brings it up, and sends the whole network through it.
    ///
    /// # Errors
    /// ip(8) says why not.
    pub(crate) fn assign(&self, subnet: Network, network: Network) -> Result<()> {
        let address = format!("{}/32", subnet.base());
        let shown = ip(&["-json", "-4", "address", "show", "dev", &self.name])?;
        for old in listed(&shown[0]["addr_info"]) {
            let old = format!(
                "{}/{}",
                old["local"].as_str().unwrap_or_default(),
                old["prefixlen"]
            );
            if old != address {
                ip(&["address", "delete", &old, "dev", &self.name])?;
            }
        }
        ip(&["address", "replace", &address, "dev", &self.name])?;
        ip(&["link", "set", &self.name, "up"])?;
        ip(&["route", "replace", &network.to_string(), "dev", &self.name]).map(drop)
    }
}

fn find_vxlan(name: &str) -> Result<Option<Value>> {
    let links = ip(&["-json", "-details", "link", "show", "type", "vxlan"])?;
    Ok(listed(&links).find(|link| link["ifname"] == name).cloned())
}

fn fits(link: &Value, uplink: &Uplink, config: &Config) -> bool {
    let data = &link["linkinfo"]["info_data"];
    data["id"] == config.vni
        && data["port"] == config.port
        && data["link"] == uplink.name.as_str()
        && data["local"] == uplink.address.to_string()
        && data["learning"] == false
}

fn listed(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Runs ip(8); its answer is JSON when asked for, and nothing otherwise.
fn ip(arguments: &[&str]) -> Result<Value> {
    let command = || format!("running `ip {}`", arguments.join(" "));
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .with_context(command)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(anyhow::anyhow!("{}", said.trim().replace('\n', "; ")).context(command()));
    }
    // Asked for JSON about nothing, it may print nothing.
    if output.stdout.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&output.stdout).with_context(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_found_by_name_and_by_address() {
        let interfaces = serde_json::json!([
            {},
            { "ifname": "eth0", "mtu": 1400, "addr_info": [{ "local": "192.0.2.1" }, { "local": "192.0.2.2" }] },
            { "ifname": "eth1", "mtu": 1500, "addr_info": [] },
        ]);
        for (wanted, address) in [("eth0", "192.0.2.1"), ("192.0.2.2", "192.0.2.2")] {
            let expected = Uplink {
                name: "eth0".to_owned(),
                address: address.parse().unwrap(),
                mtu: 1400,
            };
            assert_eq!(Uplink::named(&interfaces, wanted).unwrap(), expected);
        }
        for wanted in ["eth1", "eth2", "192.0.2.3"] {
            assert_eq!(
                Uplink::named(&interfaces, wanted).unwrap_err().to_string(),
                format!("finding the interface: `{wanted}` has no IPv4 address")
            );
        }
    }
}
