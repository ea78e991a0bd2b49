//! `subnet.env`: what a container engine reads to place its bridge.

#![expect(
    clippy::disallowed_methods,
    reason = "the stand-in is a program of its own and uses nothing of the library"
)]

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::network::Network;

/// Writes the file, whole or not at all.
///
/// # Errors
/// The directory cannot be made or written to.
pub(crate) fn write(path: &Path, network: Network, subnet: Network, mtu: u64) -> Result<()> {
    let writing = || format!("writing `{}`", path.display());
    let directory = path.parent().with_context(writing)?;
    std::fs::create_dir_all(directory).with_context(writing)?;
    let mut file = tempfile::Builder::new()
        .prefix(".subnet.env.")
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(directory)
        .with_context(writing)?;
    file.write_all(text(network, subnet, mtu).as_bytes())
        .with_context(writing)?;
    file.persist(path).with_context(writing)?;
    Ok(())
}

/// The masquerading is not done here, so it says that somebody else may.
fn text(network: Network, subnet: Network, mtu: u64) -> String {
    format!(
        "FLANNEL_NETWORK={network}\nFLANNEL_SUBNET={}/{}\nFLANNEL_MTU={mtu}\nFLANNEL_IPMASQ=false\n",
        subnet.gateway(),
        subnet.length()
    )
}

/// The subnet of an earlier run; none when there is no such file, or nothing of use in it.
pub(crate) fn read_subnet(path: &Path) -> Option<Network> {
    parse_subnet(&std::fs::read_to_string(path).ok()?)
}

fn parse_subnet(text: &str) -> Option<Network> {
    text.lines()
        .find_map(|line| line.strip_prefix("FLANNEL_SUBNET="))?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let (network, subnet): (Network, Network) = (
            "10.5.0.0/16".parse().unwrap(),
            "10.5.34.0/24".parse().unwrap(),
        );
        let written = text(network, subnet, 1450);
        assert_eq!(
            written,
            "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.34.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n"
        );
        assert_eq!(parse_subnet(&written), Some(subnet));
        assert_eq!(parse_subnet("FLANNEL_SUBNET=\n"), None);
        assert_eq!(parse_subnet(""), None);
    }
}
