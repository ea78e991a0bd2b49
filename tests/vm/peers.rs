//! What other ways to run a container as a service give, for `docs/fidelity.md`: a unit of Quadlet's, one that runs
//! `podman run`, one that runs `runc run`. `make fidelity` tells this story; no tier does.
//!
//! Each is given a good unit, after its manual, and what a question needs beside it.

use std::cell::RefCell;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::guest::{self, Guest, Suite};
use crate::story::{Story, Told};
use crate::{host, images, product, scene};

mod early;
mod ends;
mod handed;
mod held;
mod speaks;

/// The stories of this file.
pub(crate) const STORIES: &[Told] = &[("peers-trixie", peers)];

/// Within which what will come has come.
const SOON: Duration = Duration::from_secs(10);

/// As Quadlet's manual has it.
const QUADLET: &str = "[Container]
Image=localhost/IMAGE:latest
ContainerName=quadlet
Network=host
Notify=yes
Pull=never
Environment=\"SCRIPT=STEPS\"
KEYS

[Service]
LINES
";

/// As podman-generate-systemd(1) writes it, with the control group and the lines passed on as podman-run(1) has it for
/// a unit.
const PODMAN: &str = "[Service]
Type=notify
NotifyAccess=all
Delegate=yes
KillMode=mixed
ExecStart=/usr/bin/podman run --rm --replace --name podman --network host --pull never --sdnotify container OPTIONS --env \"SCRIPT=STEPS\" localhost/IMAGE:latest
LINES
ExecStop=/usr/bin/podman stop --ignore podman
ExecStopPost=-/usr/bin/podman rm --force --ignore podman
";

/// In the foreground, which is where readiness is passed on; in a control group beside runc's own.
const RUNC: &str = "[Service]
Type=notify
NotifyAccess=all
Delegate=yes
DelegateSubgroup=supervisor
KillMode=mixed
ExecStartPre=-/usr/sbin/runc delete --force peer
ExecStart=/usr/sbin/runc run --bundle /opt/bundle peer
LINES
";

/// The unit without `.service`, the file that it is made of, and its text.
type Way = (&'static str, &'static str, &'static str);

/// In the order of the page.
const PEERS: [Way; 3] = [
    (
        "quadlet",
        "/etc/containers/systemd/quadlet.container",
        QUADLET,
    ),
    ("podman", "/etc/systemd/system/podman.service", PODMAN),
    ("runc", "/etc/systemd/system/runc.service", RUNC),
];

/// A question, and the answers that `fidelity/table.rs` has in words.
type Asked = (&'static str, fn(&Peer<'_>) -> Result<bool>, [bool; 3]);

/// What a unit is made of, beside what all have. `UNIT` in it is the unit's name.
#[derive(Debug, Clone, Copy)]
struct Made<'a> {
    /// What the payload does.
    steps: &'a str,
    /// In `[Service]`.
    lines: &'a str,
    /// In Quadlet's `[Container]`.
    keys: &'a str,
    /// Of `podman run`.
    options: &'a str,
    /// In runc's configuration.
    config: fn(&mut Value),
    /// Whose payload it is.
    image: &'a str,
}

/// What does nothing.
const PLAIN: Made<'_> = Made {
    steps: "tell READY=1; wait",
    lines: "",
    keys: "",
    options: "--cgroups=split",
    config: |_config| {},
    image: "peer",
};

struct Peer<'a> {
    guest: &'a Guest,
    name: &'static str,
    unit: String,
    file: &'static str,
    text: &'static str,
    /// Where the journal was when the unit was made.
    cursor: RefCell<String>,
}

fn peers(story: &Story) -> Result<()> {
    let mut guest = boot(story)?;
    let all = [
        speaks::ASKED,
        handed::ASKED,
        held::ASKED,
        ends::ASKED,
        early::ASKED,
    ];
    let mut wrong = Vec::new();
    let mut answer = |name: &str, question: &str, (is, expected): (bool, bool)| {
        host::say(&format!("{name}: {question}: {is}"));
        if is != expected {
            wrong.push(format!("{name}: {question}: {is}"));
        }
    };
    for (question, ask, expected) in all.into_iter().flatten() {
        for (made, expected) in PEERS.into_iter().zip(expected) {
            let peer = Peer::new(&guest, made);
            let is = ask(&peer).with_context(|| format!("{}: {question}", peer.name))?;
            answer(peer.name, question, (is, *expected));
            peer.unmake()?;
        }
    }
    for (name, is) in early::boots(&mut guest)? {
        answer(name, early::QUESTION, (is, true));
    }
    ensure!(wrong.is_empty(), "not as the table has it: {wrong:#?}");
    Ok(())
}

/// A guest with podman, its images, and a bundle for runc.
fn boot(story: &Story) -> Result<Guest> {
    let containers = story.dir().join("containers");
    std::fs::create_dir_all(&containers)?;
    let groups = ("etc/group", "root:x:0:\nuser:x:1000:\nextra:x:2000:user\n");
    let signal = (images::CONFIG, r#"{"StopSignal":"SIGQUIT"}"#);
    images::add("peer", scene::MANIFEST, &[groups])?;
    images::add("peer-quits", scene::MANIFEST, &[groups, signal])?;
    let mut guest = Guest::new(story, Suite::Trixie)?
        .with_podman(&containers)
        .bind(images::small()?, images::INSIDE)
        .bind(host::payload()?, "/opt/bundle/rootfs/payload");
    guest.start()?;
    for image in ["peer", "peer-quits"] {
        let from = product::image(image);
        guest.sh(&format!(
            "skopeo copy --quiet {from} containers-storage:localhost/{image}:latest"
        ))?;
    }
    guest.sh("cd /opt/bundle && runc spec && mv config.json plain.json
         rm -f /etc/systemd/system/podman.service")?;
    Ok(guest)
}

impl<'a> Peer<'a> {
    fn new(guest: &'a Guest, (name, file, text): Way) -> Self {
        Self {
            guest,
            name,
            unit: format!("{name}.service"),
            file,
            text,
            cursor: RefCell::default(),
        }
    }
}

impl Peer<'_> {
    /// Makes the unit.
    fn make(&self, made: &Made<'_>) -> Result<()> {
        let steps = made.steps.replace("UNIT", self.name);
        let text = self
            .text
            .replace("IMAGE", made.image)
            .replace("KEYS", made.keys)
            .replace("OPTIONS", made.options)
            .replace("LINES", made.lines)
            .replace("UNIT", self.name)
            .replace("STEPS", &steps);
        self.guest.write(self.file, text)?;
        let plain = self.guest.ok(&["cat", "/opt/bundle/plain.json"])?;
        let mut config: Value = serde_json::from_str(&plain)?;
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["/payload"]);
        config["process"]["env"] = json!([format!("SCRIPT={steps}")]);
        (made.config)(&mut config);
        self.guest
            .write("/opt/bundle/config.json", config.to_string())?;
        self.guest.ok(&["systemctl", "daemon-reload"])?;
        let shown = ["--quiet", "--lines=0", "--show-cursor"];
        let shown = self.guest.ok(&[&["journalctl"][..], &shown].concat())?;
        let cursor = shown.trim_start_matches("-- cursor: ");
        *self.cursor.borrow_mut() = format!("--after-cursor={cursor}");
        Ok(())
    }

    /// Starts it, which takes as long as it takes.
    fn start(&self, made: &Made<'_>) -> Result<()> {
        self.make(made)?;
        self.guest.ok(&["systemctl", "start", &self.unit])?;
        Ok(())
    }

    /// Leaves nothing of it but its file.
    fn unmake(&self) -> Result<()> {
        let guest = self.guest;
        guest.ok(&["systemctl", "stop", &self.unit])?;
        guest.run(&["podman", "rm", "--all", "--force", "--time=1"])?;
        guest.run(&["runc", "delete", "--force", "peer"])?;
        guest.run(&["pkill", "-KILL", "-x", "payload"])?;
        guest.run(&["systemctl", "reset-failed", &self.unit])?;
        Ok(())
    }

    fn property(&self, property: &str) -> Result<String> {
        self.guest.property(&self.unit, property)
    }

    /// What all have said since the unit was made.
    fn said(&self) -> Result<String> {
        self.guest.messages(&[&self.cursor.borrow()])
    }

    /// Whether this line is among it. podman's journal driver keeps the line's end.
    fn has_said(&self, line: &str) -> Result<bool> {
        Ok(self.said()?.lines().any(|said| said.trim_end() == line))
    }

    /// The payload, where there is one.
    fn payload(&self) -> Result<String> {
        match &self.payloads()?[..] {
            [payload] => Ok(payload.clone()),
            all => bail!("payloads: {all:?}"),
        }
    }

    /// The payloads that run.
    fn payloads(&self) -> Result<Vec<String>> {
        let found = self.guest.run(&["pgrep", "-x", "payload"])?;
        Ok(found.stdout.lines().map(str::to_owned).collect())
    }
}

/// Whether it becomes so soon.
fn becomes(so: impl Fn() -> Result<bool>) -> Result<bool> {
    guest::comes(SOON, so)
}

/// A mount in runc's configuration.
fn bind(config: &mut Value, source: &str, destination: &str, options: &[&str]) {
    let mount = json!({
        "source": source, "destination": destination, "type": "bind", "options": options,
    });
    if let Some(mounts) = config["mounts"].as_array_mut() {
        mounts.push(mount);
    }
}

/// One that is not root in runc's configuration.
fn runs_as_user(config: &mut Value) {
    config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
}
