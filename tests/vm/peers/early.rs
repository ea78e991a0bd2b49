//! What it takes to come up before basic.target, at a boot.

use anyhow::Result;

use crate::guest::Guest;
use crate::peers::{Asked, Made, PEERS, PLAIN, Peer};

pub(crate) const ASKED: &[Asked] = &[(
    "as it comes it waits for the network",
    wants_network,
    [true, false, false],
)];

/// Asked of all at once, in one boot.
pub(crate) const QUESTION: &str = "it is up before basic.target when its unit says so";

fn wants_network(peer: &Peer<'_>) -> Result<bool> {
    peer.make(&PLAIN)?;
    let wants = peer.property("Wants")?;
    let wants = wants.split(' ').any(|unit| unit == "network-online.target");
    Ok(wants && peer.property("After")?.contains("network-online.target"))
}

/// What podman and its store need is there: `/var` is no mount of its own.
const EARLY: Made<'_> = Made {
    lines: "[Quadlet]
DefaultDependencies=false
[Unit]
DefaultDependencies=no
RequiresMountsFor=/var/lib/containers
Before=basic.target
[Install]
WantedBy=basic.target
[Service]",
    ..PLAIN
};

/// Whether each is up before basic.target after a reboot.
pub(crate) fn boots(guest: &mut Guest) -> Result<Vec<(&'static str, bool)>> {
    for (name, file, text) in PEERS {
        let peer = Peer::new(guest, (name, file, text));
        peer.make(&EARLY)?;
        if text.contains("ExecStart=") {
            guest.ok(&["systemctl", "enable", "--quiet", &peer.unit])?;
        }
    }
    guest.reboot()?;
    let up = |unit: &str| -> Result<u64> {
        let at = guest.property(unit, "ActiveEnterTimestampMonotonic")?;
        Ok(at.parse()?)
    };
    let basic = up("basic.target")?;
    PEERS
        .into_iter()
        .map(|(name, _, _)| {
            let at = up(&format!("{name}.service"))?;
            Ok((name, at > 0 && at <= basic))
        })
        .collect()
}
