//! What the payload says, and what is said to it.

use std::time::Duration;

use anyhow::Result;

use crate::guest;
use crate::peers::{Asked, Made, PLAIN, Peer, becomes};
use crate::product;

pub(crate) const ASKED: &[Asked] = &[
    (
        "the payload is the main process, alone",
        is_alone,
        [false, false, false],
    ),
    ("READY is the payload's", is_ready, [true, true, true]),
    ("STATUS arrives", has_status, [true, true, false]),
    ("WATCHDOG arrives", is_watched, [true, true, false]),
    (
        "priorities of lines are kept",
        has_priorities,
        [false, true, true],
    ),
    (
        "priorities of lines are kept by the driver `passthrough`",
        passes_priorities,
        [true, true, true],
    ),
    (
        "a drop-in's environment arrives",
        has_environment,
        [false, false, false],
    ),
    (
        "a drop-in's environment arrives with all that systemd gives",
        has_all_environment,
        [true, true, false],
    ),
];

fn is_alone(peer: &Peer<'_>) -> Result<bool> {
    peer.start(&PLAIN)?;
    let is_main = peer.property("MainPID")? == peer.payload()?;
    Ok(is_main && product::holds_payload_alone(peer.guest, peer.name, "payload").is_ok())
}

fn is_ready(peer: &Peer<'_>) -> Result<bool> {
    let steps = "pause 700; say soon; tell READY=1; wait";
    peer.start(&Made { steps, ..PLAIN })?;
    peer.has_said("soon")
}

fn has_status(peer: &Peer<'_>) -> Result<bool> {
    let steps = "tell READY=1; tell STATUS=working; wait";
    peer.start(&Made { steps, ..PLAIN })?;
    becomes(|| Ok(peer.property("StatusText")? == "working"))
}

fn is_watched(peer: &Peer<'_>) -> Result<bool> {
    peer.start(&Made {
        steps: "tell READY=1; ping /never",
        lines: "WatchdogSec=5s",
        ..PLAIN
    })?;
    let first = peer.property("WatchdogTimestampMonotonic")?;
    // It would be killed after five seconds.
    guest::comes(Duration::from_secs(3), || {
        Ok(peer.property("WatchdogTimestampMonotonic")? != first)
    })
}

fn has_priorities(peer: &Peer<'_>) -> Result<bool> {
    prioritises(peer, &PLAIN)
}

fn passes_priorities(peer: &Peer<'_>) -> Result<bool> {
    let driven = Made {
        keys: "LogDriver=passthrough",
        options: "--cgroups=split --log-driver=passthrough",
        ..PLAIN
    };
    prioritises(peer, &driven)
}

/// As lines of the unit's.
fn prioritises(peer: &Peer<'_>, made: &Made<'_>) -> Result<bool> {
    let steps = "say <3>bad; tell READY=1; wait";
    peer.start(&Made { steps, ..*made })?;
    let unit = format!("_SYSTEMD_UNIT={}", peer.unit);
    let filter = [&*peer.cursor.borrow(), "PRIORITY=3", "MESSAGE=bad", &unit].map(str::to_owned);
    let lines = peer
        .guest
        .messages(&filter.each_ref().map(String::as_str))?;
    Ok(!lines.is_empty())
}

fn has_environment(peer: &Peer<'_>) -> Result<bool> {
    greets(peer, &PLAIN)
}

fn has_all_environment(peer: &Peer<'_>) -> Result<bool> {
    let given = Made {
        keys: "EnvironmentHost=yes",
        options: "--cgroups=split --env-host",
        ..PLAIN
    };
    greets(peer, &given)
}

fn greets(peer: &Peer<'_>, made: &Made<'_>) -> Result<bool> {
    peer.start(&Made {
        steps: "env GREETING; tell READY=1; wait",
        lines: "Environment=GREETING=hello",
        ..*made
    })?;
    peer.has_said("GREETING=hello")
}
