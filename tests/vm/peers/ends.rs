//! How it ends, by itself and when it is told to; what starts it, and what is left when something of it is killed.

use anyhow::{Context, Result, ensure};

use crate::peers::{Asked, Made, PLAIN, Peer, becomes};

pub(crate) const ASKED: &[Asked] = &[
    (
        "the exit status is the unit's",
        keeps_status,
        [true, true, true],
    ),
    (
        "a signal is the unit's",
        keeps_signal,
        [false, false, false],
    ),
    (
        "a stop lets the payload finish",
        lets_finish,
        [true, true, true],
    ),
    (
        "a stop sends the image's signal",
        sends_signal,
        [true, true, false],
    ),
    (
        "a payload that does not end is killed after `TimeoutStopSec=`",
        is_killed,
        [true, true, true],
    ),
    (
        "`ExecStop=` runs before the signal",
        obeys_command,
        [true, true, true],
    ),
    (
        "a oneshot is done when the payload has ended, with its status",
        is_done,
        [true, true, true],
    ),
    ("a timer starts it", is_clocked, [true, true, true]),
    ("a path unit starts it", is_wished, [true, true, true]),
    (
        "a killed payload is started again",
        comes_back,
        [true, true, true],
    ),
    (
        "the payload outlives what stays beside it",
        outlives_monitor,
        [false, false, false],
    ),
    (
        "one payload is there again after that",
        comes_back_alone,
        [true, true, true],
    ),
    (
        "it outlives systemd's own restart",
        outlives_systemd,
        [true, true, true],
    ),
    (
        "what it has started and left to itself lives through a restart",
        leaves_running,
        [false, false, false],
    ),
];

/// Whether it comes to this end.
fn ends(peer: &Peer<'_>, result: &str, status: &str) -> Result<bool> {
    becomes(|| {
        Ok(peer.property("ActiveState")? == "failed"
            && peer.property("Result")? == result
            && peer.property("ExecMainStatus")? == status)
    })
}

fn keeps_status(peer: &Peer<'_>) -> Result<bool> {
    let steps = "tell READY=1; pause 300; exit 7";
    peer.start(&Made { steps, ..PLAIN })?;
    ends(peer, "exit-code", "7")
}

fn keeps_signal(peer: &Peer<'_>) -> Result<bool> {
    peer.start(&PLAIN)?;
    peer.guest.ok(&["kill", "-KILL", &peer.payload()?])?;
    ends(peer, "signal", "9")
}

fn lets_finish(peer: &Peer<'_>) -> Result<bool> {
    let steps = "tell READY=1; wait; pause 700; say finished";
    peer.start(&Made { steps, ..PLAIN })?;
    peer.guest.ok(&["systemctl", "stop", &peer.unit])?;
    peer.has_said("finished")
}

/// `KillSignal=` in runc's unit is the operator's to write.
fn sends_signal(peer: &Peer<'_>) -> Result<bool> {
    peer.start(&Made {
        steps: "tell READY=1; heed 3",
        lines: "TimeoutStopSec=3",
        image: "peer-quits",
        ..PLAIN
    })?;
    peer.guest.ok(&["systemctl", "stop", &peer.unit])?;
    peer.has_said("signal 3")
}

fn is_killed(peer: &Peer<'_>) -> Result<bool> {
    peer.start(&Made {
        steps: "tell READY=1; await /never",
        lines: "TimeoutStopSec=1",
        ..PLAIN
    })?;
    peer.guest.ok(&["systemctl", "stop", &peer.unit])?;
    Ok(peer.property("Result")? == "timeout" && peer.payloads()?.is_empty())
}

fn obeys_command(peer: &Peer<'_>) -> Result<bool> {
    peer.start(&Made {
        steps: "tell READY=1; wait; say ended",
        lines: "ExecStop=/bin/sh -c 'echo asked'",
        ..PLAIN
    })?;
    peer.guest.ok(&["systemctl", "stop", &peer.unit])?;
    let said = peer.said()?;
    let at = |line: &str| said.lines().position(|said| said.trim_end() == line);
    Ok(at("asked").is_some() && at("asked") < at("ended"))
}

/// Nothing is told to systemd.
const ONCE: Made<'_> = Made {
    steps: "pause 700; say ended; exit 7",
    lines: "Type=oneshot\nNotifyAccess=none",
    ..PLAIN
};

fn is_done(peer: &Peer<'_>) -> Result<bool> {
    peer.make(&ONCE)?;
    let start = peer.guest.run(&["systemctl", "start", &peer.unit])?;
    Ok(start.status == 1
        && peer.has_said("ended")?
        && peer.property("Result")? == "exit-code"
        && peer.property("ExecMainStatus")? == "7")
}

fn is_clocked(peer: &Peer<'_>) -> Result<bool> {
    is_started_by(
        peer,
        "timer",
        "[Timer]\nOnActiveSec=100ms\nAccuracySec=1ms\n",
    )
}

fn is_wished(peer: &Peer<'_>) -> Result<bool> {
    is_started_by(peer, "path", "[Path]\nPathExists=/etc/passwd\n")
}

fn is_started_by(peer: &Peer<'_>, kind: &str, text: &str) -> Result<bool> {
    let unit = format!("{}.{kind}", peer.name);
    let file = format!("/etc/systemd/system/{unit}");
    peer.guest.write(&file, text)?;
    let steps = "say begun; tell READY=1; wait";
    peer.make(&Made { steps, ..PLAIN })?;
    peer.guest.ok(&["systemctl", "start", &unit])?;
    let begun = becomes(|| peer.has_said("begun"))?;
    peer.guest.ok(&["systemctl", "stop", &unit])?;
    peer.guest.ok(&["rm", &file])?;
    Ok(begun)
}

const AGAIN: Made<'_> = Made {
    lines: "Restart=always\nRestartSec=100ms",
    ..PLAIN
};

/// Another payload is there, and no other beside it.
fn is_back(peer: &Peer<'_>, before: &str) -> Result<bool> {
    becomes(|| {
        let payloads = peer.payloads()?;
        Ok(payloads.len() == 1
            && payloads.iter().all(|payload| payload != before)
            && peer.property("ActiveState")? == "active")
    })
}

fn comes_back(peer: &Peer<'_>) -> Result<bool> {
    peer.start(&AGAIN)?;
    let before = peer.payload()?;
    peer.guest.ok(&["kill", "-KILL", &before])?;
    is_back(peer, &before)
}

/// Kills the unit's main process, which is not the payload; that one's process as it was.
fn kill_monitor(peer: &Peer<'_>) -> Result<String> {
    peer.start(&AGAIN)?;
    let before = peer.payload()?;
    let main = peer.property("MainPID")?;
    peer.guest.ok(&["kill", "-KILL", &main])?;
    Ok(before)
}

/// systemd starts it again; by then it is known what has become of the payload.
fn outlives_monitor(peer: &Peer<'_>) -> Result<bool> {
    let before = kill_monitor(peer)?;
    let again = becomes(|| Ok(peer.property("NRestarts")? != "0"))?;
    ensure!(again, "systemd has not started it again");
    Ok(peer.payloads()?.contains(&before))
}

fn comes_back_alone(peer: &Peer<'_>) -> Result<bool> {
    let before = kill_monitor(peer)?;
    is_back(peer, &before)
}

fn outlives_systemd(peer: &Peer<'_>) -> Result<bool> {
    peer.start(&AGAIN)?;
    let before = peer.payload()?;
    peer.guest.ok(&["systemctl", "daemon-reexec"])?;
    Ok(peer.property("ActiveState")? == "active" && peer.payloads()? == [before])
}

/// As the shims of a CRI daemon are left: in the container, with the host's process ids. Quadlet refuses to make a unit
/// with `KillMode=process`.
fn leaves_running(peer: &Peer<'_>) -> Result<bool> {
    let quadlet = peer.name == "quadlet";
    peer.start(&Made {
        keys: "PodmanArgs=--pid=host",
        options: "--cgroups=split --pid=host",
        lines: if quadlet { "" } else { "KillMode=process" },
        config: |config| {
            if let Some(namespaces) = config["linux"]["namespaces"].as_array_mut() {
                namespaces.retain(|namespace| namespace["type"] != "pid");
            }
        },
        ..PLAIN
    })?;
    let first = peer.payload()?;
    let (program, container) = match peer.name {
        "runc" => ("runc", "peer"),
        name => ("podman", name),
    };
    // Who runs the command waits until nobody has its output open.
    peer.guest.sh(&format!(
        "{program} exec --detach {container} /payload 'await /never' </dev/null >/dev/null 2>&1"
    ))?;
    let left = peer.payloads()?.into_iter().find(|one| *one != first);
    let left = left.context("it has started nothing")?;
    peer.guest.ok(&["systemctl", "restart", &peer.unit])?;
    Ok(peer.payloads()?.contains(&left))
}
