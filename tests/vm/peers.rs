//! What other ways to run a container as a service give, for `docs/fidelity.md`: a unit of Quadlet's, one that runs
//! `podman run`, one that runs `runc run`. `make fidelity` tells this story; no tier does.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::guest::{self, Guest, Suite};
use crate::story::{Story, Told};
use crate::{host, images, product};

/// The stories of this file.
pub(crate) const STORIES: &[Told] = &[("peers-trixie", peers)];

/// Within which what will come has come.
const SOON: Duration = Duration::from_secs(10);

/// As Quadlet's manual has it.
const QUADLET: &str = "[Container]
Image=localhost/peer:latest
ContainerName=quadlet
Network=host
Notify=yes
Pull=never
Environment=\"SCRIPT=STEPS\"

[Service]
LINES
";

const PODMAN: &str = "[Service]
Type=notify
NotifyAccess=all
ExecStart=/usr/bin/podman run --rm --replace --name podman --network host --pull never --sdnotify container --env \"SCRIPT=STEPS\" localhost/peer:latest
LINES
";

const RUNC: &str = "[Service]
Type=notify
NotifyAccess=all
ExecStartPre=-/usr/sbin/runc delete --force peer
ExecStart=/usr/sbin/runc run --bundle /opt/bundle peer
LINES
";

/// In the order of the page: the unit, the file that it is made of, and its text.
const PEERS: [(&str, &str, &str); 3] = [
    (
        "quadlet.service",
        "/etc/containers/systemd/quadlet.container",
        QUADLET,
    ),
    (
        "podman.service",
        "/etc/systemd/system/podman.service",
        PODMAN,
    ),
    ("runc.service", "/etc/systemd/system/runc.service", RUNC),
];

/// A question, and the answers that `fidelity/table.rs` has in words.
type Asked = (&'static str, fn(&Peer<'_>) -> Result<bool>, [bool; 3]);

const ASKED: &[Asked] = &[
    (
        "the payload is the main process, alone",
        is_alone,
        [false, false, false],
    ),
    ("READY is the payload's", is_ready, [true, true, true]),
    ("STATUS arrives", has_status, [true, true, false]),
    ("WATCHDOG arrives", is_watched, [true, true, false]),
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
        "priorities of lines are kept",
        has_priorities,
        [false, true, true],
    ),
    (
        "a drop-in's environment arrives",
        has_environment,
        [false, false, false],
    ),
];

struct Peer<'a> {
    guest: &'a Guest,
    unit: &'static str,
    file: &'static str,
    text: &'static str,
}

fn peers(story: &Story) -> Result<()> {
    let containers = story.dir().join("containers");
    std::fs::create_dir_all(&containers)?;
    let mut guest = Guest::new(story, Suite::Trixie)?
        .with_podman(&containers)
        .bind(images::small()?, images::INSIDE)
        .bind(host::payload()?, "/opt/bundle/rootfs/payload");
    guest.start()?;
    guest.sh(&format!(
        "skopeo copy --quiet {} containers-storage:localhost/peer:latest
         cd /opt/bundle && runc spec && sed -i 's|\"terminal\": true|\"terminal\": false|; s|\"sh\"|\"/payload\"|' config.json
         cp config.json plain.json
         rm -f /etc/systemd/system/podman.service",
        product::image("payload")
    ))?;
    let mut wrong = Vec::new();
    for (question, ask, expected) in ASKED {
        for ((unit, file, text), expected) in PEERS.into_iter().zip(expected) {
            let peer = Peer {
                guest: &guest,
                unit,
                file,
                text,
            };
            let is = ask(&peer).with_context(|| format!("{unit}: {question}"))?;
            host::say(&format!("{unit}: {question}: {is}"));
            if is != *expected {
                wrong.push(format!("{unit}: {question}: {is}"));
            }
            guest.ok(&["systemctl", "stop", unit])?;
            guest.run(&["podman", "rm", "--all", "--force", "--time=1"])?;
            guest.run(&["runc", "delete", "--force", "peer"])?;
            guest.run(&["systemctl", "reset-failed", unit])?;
        }
    }
    ensure!(wrong.is_empty(), "not as the table has it: {wrong:#?}");
    Ok(())
}

impl Peer<'_> {
    /// Makes the unit with these steps and lines.
    fn make(&self, steps: &str, lines: &str) -> Result<()> {
        let text = self.text.replace("STEPS", steps).replace("LINES", lines);
        self.guest.write(self.file, text)?;
        let script = format!(
            r#"sed 's|"TERM=xterm"|"SCRIPT={}"|' /opt/bundle/plain.json >/opt/bundle/config.json"#,
            steps.replace('|', "\\|")
        );
        self.guest.sh(&script)?;
        self.guest.ok(&["systemctl", "daemon-reload"])?;
        Ok(())
    }

    /// Starts it, which takes as long as it takes.
    fn start(&self, steps: &str, lines: &str) -> Result<()> {
        self.make(steps, lines)?;
        self.guest.ok(&["systemctl", "start", self.unit])?;
        Ok(())
    }

    fn property(&self, property: &str) -> Result<String> {
        self.guest.property(self.unit, property)
    }

    /// Whether it becomes so soon.
    fn becomes(&self, so: impl Fn() -> Result<bool>) -> bool {
        guest::until(SOON, self.unit, so).is_ok()
    }

    /// Whether it comes to this end.
    fn ends(&self, result: &str, status: &str) -> bool {
        self.becomes(|| {
            Ok(self.property("ActiveState")? == "failed"
                && self.property("Result")? == result
                && self.property("ExecMainStatus")? == status)
        })
    }
}

fn is_alone(peer: &Peer<'_>) -> Result<bool> {
    peer.start("tell READY=1; wait", "")?;
    let name = peer.unit.trim_end_matches(".service");
    Ok(product::holds_payload_alone(peer.guest, name, "payload").is_ok())
}

fn is_ready(peer: &Peer<'_>) -> Result<bool> {
    peer.start("pause 700; say soon; tell READY=1; wait", "")?;
    Ok(peer.guest.messages(&[])?.lines().any(|line| line == "soon"))
}

fn has_status(peer: &Peer<'_>) -> Result<bool> {
    peer.start("tell READY=1; tell STATUS=working; wait", "")?;
    Ok(peer.becomes(|| Ok(peer.property("StatusText")? == "working")))
}

fn is_watched(peer: &Peer<'_>) -> Result<bool> {
    peer.start("tell READY=1; ping /never", "WatchdogSec=5s")?;
    let first = peer.property("WatchdogTimestampMonotonic")?;
    // It would be killed after five seconds.
    Ok(guest::until(Duration::from_secs(3), "a ping", || {
        Ok(peer.property("WatchdogTimestampMonotonic")? != first)
    })
    .is_ok())
}

fn keeps_status(peer: &Peer<'_>) -> Result<bool> {
    peer.start("tell READY=1; pause 300; exit 7", "")?;
    Ok(peer.ends("exit-code", "7"))
}

fn keeps_signal(peer: &Peer<'_>) -> Result<bool> {
    peer.start("tell READY=1; wait", "")?;
    peer.guest.sh("kill -KILL $(pgrep -x payload)")?;
    Ok(peer.ends("signal", "9"))
}

fn has_priorities(peer: &Peer<'_>) -> Result<bool> {
    let lines = |guest: &Guest| guest.messages(&["PRIORITY=3", "MESSAGE=bad"]);
    let before = lines(peer.guest)?;
    peer.start("say <3>bad; tell READY=1; wait", "")?;
    Ok(lines(peer.guest)? != before)
}

fn has_environment(peer: &Peer<'_>) -> Result<bool> {
    peer.start(
        "env GREETING; tell READY=1; wait",
        "Environment=GREETING=hello",
    )?;
    Ok(peer
        .guest
        .messages(&[])?
        .lines()
        .any(|line| line == "GREETING=hello"))
}
