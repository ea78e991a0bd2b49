//! IPv4 networks: `10.5.0.0/16` in files, `10.5.34.0-24` in etcd's keys.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use anyhow::{Context as _, Result, ensure};

/// A network or one of its subnets, without host bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    base: u32,
    length: u8,
}

impl Network {
    /// The network of this length that holds the address.
    pub(crate) fn around(address: Ipv4Addr, length: u8) -> Self {
        Self {
            base: u32::from(address) & mask(length),
            length,
        }
    }

    /// Its first address.
    pub(crate) fn base(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base)
    }

    /// Its prefix length.
    pub(crate) fn length(self) -> u8 {
        self.length
    }

    /// The first address of a host in it.
    pub(crate) fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base.wrapping_add(1))
    }

    /// Whether all of `other` lies in it.
    pub(crate) fn holds(self, other: Self) -> bool {
        other.length >= self.length && other.base & mask(self.length) == self.base
    }

    /// The network of the same length `steps` further.
    pub(crate) fn further(self, steps: u32) -> Self {
        let size = 1_u32.checked_shl(32 - u32::from(self.length)).unwrap_or(0);
        Self {
            base: self.base.wrapping_add(size.wrapping_mul(steps)),
            ..self
        }
    }

    /// Its name in etcd.
    pub(crate) fn key(self) -> String {
        format!("{}-{}", self.base(), self.length)
    }

    /// The network of that name in etcd, if it is one.
    pub(crate) fn from_key(key: &str) -> Option<Self> {
        key.replacen('-', "/", 1).parse().ok()
    }
}

fn mask(length: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.base(), self.length)
    }
}

impl FromStr for Network {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once('/').and_then(|(address, length)| {
            Some((
                address.parse::<Ipv4Addr>().ok()?,
                length.parse::<u8>().ok()?,
            ))
        });
        let (address, length) = parts.with_context(|| format!("`{text}` is no IPv4 network"))?;
        ensure!(length <= 32, "`{text}` is no IPv4 network");
        Ok(Self::around(address, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_keys() {
        let subnet: Network = "10.5.34.1/24".parse().unwrap();
        assert_eq!(subnet.to_string(), "10.5.34.0/24");
        assert_eq!(subnet.key(), "10.5.34.0-24");
        assert_eq!(Network::from_key("10.5.34.0-24"), Some(subnet));
        assert_eq!(Network::from_key("10.5.34.0"), None);
        assert_eq!(subnet.gateway().to_string(), "10.5.34.1");
        assert_eq!(subnet.further(2).to_string(), "10.5.36.0/24");
        for bad in ["10.5.0.0", "10.5.0/16", "10.5.0.0/33", ""] {
            assert_eq!(
                bad.parse::<Network>().unwrap_err().to_string(),
                format!("`{bad}` is no IPv4 network")
            );
        }
    }

    #[test]
    fn holding() {
        let network: Network = "10.5.0.0/16".parse().unwrap();
        for (other, held) in [
            ("10.5.255.0/24", true),
            ("10.6.0.0/24", false),
            ("10.0.0.0/8", false),
        ] {
            assert_eq!(network.holds(other.parse().unwrap()), held, "{other}");
        }
    }
}
