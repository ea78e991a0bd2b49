//! The network configuration that an operator puts into etcd at PREFIX/config.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use crate::network::Network;

/// flannel's JSON, as far as a vxlan network needs it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    network: String,
    subnet_len: Option<u8>,
    subnet_min: Option<Ipv4Addr>,
    subnet_max: Option<Ipv4Addr>,
    backend: Option<Backend>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Backend {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "VNI")]
    vni: Option<u32>,
    port: Option<u16>,
}

/// A checked configuration.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// What all hosts share.
    pub(crate) network: Network,
    /// The first subnet that may be leased.
    pub(crate) first: Network,
    /// How many may be leased, counted from the first.
    pub(crate) count: u32,
    /// The vxlan network identifier.
    pub(crate) vni: u32,
    /// The UDP port.
    pub(crate) port: u16,
}

impl Config {
    /// Reads the JSON with flannel's defaults: /24 subnets (a quarter of a network smaller than /22), the first and
    /// the last one unused only where flannel leaves them, VNI 1, port 8472.
    ///
    /// # Errors
    /// It is no such JSON, the network is too small, or its backend is not vxlan.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let document: Document =
            serde_json::from_str(text).context("reading the network configuration")?;
        let network: Network = document.network.parse().context("reading `Network`")?;
        ensure!(
            network.length() <= 28,
            "`{network}` is too small to lease subnets from"
        );
        let length = document.subnet_len.unwrap_or(if network.length() <= 22 {
            24
        } else {
            network.length() + 2
        });
        ensure!(
            length > network.length() && length <= 30,
            "`SubnetLen` {length} does not fit into `{network}`"
        );
        let subnets = 1_u32 << (length - network.length());
        // As flannel: the very first subnet is left alone unless it is asked for.
        let whole = Network::around(network.base(), length);
        let first = document
            .subnet_min
            .map_or(whole.further(1), |address| Network::around(address, length));
        let last = document
            .subnet_max
            .map_or(whole.further(subnets - 1), |address| {
                Network::around(address, length)
            });
        ensure!(
            network.holds(first) && network.holds(last) && first.base() <= last.base(),
            "`SubnetMin` and `SubnetMax` do not fit into `{network}`"
        );
        let count = (u32::from(last.base()) - u32::from(first.base())) / (1 << (32 - length)) + 1;
        let (vni, port) = match document.backend {
            Some(backend) if backend.kind != "vxlan" => {
                bail!(
                    "the stand-in has no backend `{}`, only `vxlan`",
                    backend.kind
                )
            }
            Some(backend) => (backend.vni.unwrap_or(1), backend.port.unwrap_or(8472)),
            None => bail!("the stand-in has no backend `udp`, flannel's default: name `vxlan`"),
        };
        Ok(Self {
            network,
            first,
            count,
            vni,
            port,
        })
    }

    /// Whether the subnet is one of those that may be leased.
    pub(crate) fn leases(&self, subnet: Network) -> bool {
        let last = self.first.further(self.count - 1);
        subnet.length() == self.first.length()
            && (self.first.base()..=last.base()).contains(&subnet.base())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_flannels() {
        let config =
            Config::parse(r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#).unwrap();
        assert_eq!(config.first.to_string(), "10.5.1.0/24");
        assert_eq!((config.count, config.vni, config.port), (255, 1, 8472));
        assert!(config.leases("10.5.255.0/24".parse().unwrap()));
        assert!(!config.leases("10.5.0.0/24".parse().unwrap()));
        assert!(!config.leases("10.5.1.0/25".parse().unwrap()));
    }

    #[test]
    fn all_keys_are_read() {
        let text = r#"{"Network":"10.5.0.0/16","SubnetLen":26,"SubnetMin":"10.5.2.0","SubnetMax":"10.5.2.192",
            "Backend":{"Type":"vxlan","VNI":7,"Port":4789}}"#;
        let config = Config::parse(text).unwrap();
        assert_eq!(config.first.to_string(), "10.5.2.0/26");
        assert_eq!((config.count, config.vni, config.port), (4, 7, 4789));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (text, message) in [
            (
                r#"{"Network":"10.5.0.0"}"#,
                "reading `Network`: `10.5.0.0` is no IPv4 network",
            ),
            (
                r#"{"Network":"10.5.0.0/30"}"#,
                "`10.5.0.0/30` is too small to lease subnets from",
            ),
            (
                r#"{"Network":"10.5.0.0/16","SubnetLen":16}"#,
                "`SubnetLen` 16 does not fit into `10.5.0.0/16`",
            ),
            (
                r#"{"Network":"10.5.0.0/16","SubnetMin":"10.6.0.0"}"#,
                "`SubnetMin` and `SubnetMax` do not fit into `10.5.0.0/16`",
            ),
            (
                r#"{"Network":"10.5.0.0/16","Backend":{"Type":"wireguard"}}"#,
                "the stand-in has no backend `wireguard`, only `vxlan`",
            ),
            (
                r#"{"Network":"10.5.0.0/16"}"#,
                "the stand-in has no backend `udp`, flannel's default: name `vxlan`",
            ),
        ] {
            assert_eq!(
                format!("{:#}", Config::parse(text).unwrap_err()),
                message,
                "{text}"
            );
        }
    }
}
