//! What systemd hands a service reaches the payload: credentials, stored descriptors, sockets.

use anyhow::{Context, Result, ensure};

use crate::guest::{Guest, Suite};
use crate::product::{self, UP};
use crate::story::{Story, Told};
use crate::{fidelity, images};

/// The stories of this file.
pub(crate) const STORIES: &[Told] = &[
    ("handed-trixie", |story| handed(story, Suite::Trixie)),
    ("handed-bookworm", |story| handed(story, Suite::Bookworm)),
];

const MANIFEST: &str = r#"contract = 1
description = "What is handed in"

[values.SCRIPT]
type = "string"
default = "tell READY=1; wait"
help = "What it does, step by step"

[values.USER]
type = "string"
default = "user"
help = "Whom it runs as"

[container]
user = "{{USER}}"
env = { SCRIPT = "{{SCRIPT}}" }

[service]
type = "notify"
reload = "SIGHUP"
"#;

/// What shows what, by the names of `fidelity/table.rs`.
type Row = (fn(&Scene<'_>) -> Result<()>, &'static [&'static str]);

/// A unit of an image's own, with credentials of all kinds.
const OWN_UNIT: &str = "[Service]
Type=notify
NotifyAccess=main
ExecStart={{{launch}}}
RuntimeDirectory=bedplate/{{name}}
Delegate=yes
LoadCredential=loaded:/etc/cred-file
LoadCredentialEncrypted=sealed:/etc/cred-sealed
SetCredential=set:of-the-unit
";

/// The images: name, what follows in `[service]` and after it, and their files.
type Image = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

const IMAGES: &[Image] = &[
    ("creds", "credentials = [\"token\"]", &[]),
    ("stores", "notify = \"full\"\nfdstore = 4", &[]),
    (
        "serves",
        "sockets = [\"admin.socket\"]",
        &[(
            "exports/socket.hbs",
            "[Socket]\nListenStream=127.0.0.1:7001\nListenStream=127.0.0.1:7002\nFileDescriptorName=web\n\
             [Install]\nWantedBy=sockets.target\n",
        )],
    ),
    ("sees", "credentials = [\"token\"]", &[]),
    (
        "own",
        "[values.KEY]\ntype = \"secret\"\nhelp = \"Another\"",
        &[("exports/service.hbs", OWN_UNIT)],
    ),
    ("strange", "sockets = [\"admin.socket\"]\n", &[]),
    (
        "stranger",
        "",
        &[("exports/socket.hbs", "[Socket]\nListenStream=/run/x\n")],
    ),
];

fn handed(story: &Story, suite: Suite) -> Result<()> {
    let guest = product::boot(story, suite)?;
    for (name, service, files) in IMAGES {
        let mut manifest = format!("{MANIFEST}{service}\n");
        if *name == "sees" {
            let run = "[container]\nmounts = [{ source = \"/run\", target = \"/run\", access = \"rw\" }]\n";
            manifest = manifest.replace("[container]\n", run);
        }
        if name.starts_with("strange") {
            manifest = manifest.replace("[container]\n", "[container]\npid = \"host\"\n");
        }
        images::add(&of(suite, name), &manifest, files)?;
    }
    for runtime in product::runtimes(suite)? {
        let scene = Scene {
            guest: &guest,
            suite,
            runtime,
        };
        let rows: &[Row] = &[
            (credentials, &["credentials.load", "credentials.encrypted"]),
            (stores, &["fdstore.restart"]),
            (serves, &["sockets.names", "sockets.first"]),
            (refuses_sockets, &["sockets.refused"]),
        ];
        for (show, checks) in rows {
            show(&scene).with_context(|| format!("{checks:?} with {runtime}"))?;
            fidelity::shown(suite, runtime, checks)?;
        }
    }
    Ok(())
}

/// The guests of both suites see one directory.
pub(crate) fn of(suite: Suite, image: &str) -> String {
    format!("{image}-{}", suite.name())
}

/// A guest, and the runtime whose turn it is.
pub(crate) struct Scene<'a> {
    pub(crate) guest: &'a Guest,
    pub(crate) suite: Suite,
    pub(crate) runtime: &'a str,
}

impl Scene<'_> {
    /// Installs an image under its name, not started.
    pub(crate) fn install(&self, name: &str, more: &[&str]) -> Result<()> {
        let image = product::image(&of(self.suite, name));
        let args = [
            "install",
            "--name",
            name,
            "--runtime",
            self.runtime,
            "--no-enable",
        ];
        product::does(self.guest, &[&args[..], more, &[&image]].concat())?;
        Ok(())
    }

    pub(crate) fn uninstall(&self, name: &str) -> Result<()> {
        let unit = format!("{name}.service");
        self.guest.ok(&["systemctl", "revert", "--quiet", &unit])?;
        product::does(self.guest, &["uninstall", name])?;
        product::is_gone(self.guest, &[name])
    }

    /// Starts the unit anew; what its payload has said until it was ready.
    pub(crate) fn restart(&self, name: &str) -> Result<String> {
        let unit = format!("{name}.service");
        self.guest.ok(&["systemctl", "restart", &unit])?;
        self.guest.wait_active(&unit, UP)?;
        self.said(name)
    }

    /// What has been said since the unit's last start.
    fn said(&self, name: &str) -> Result<String> {
        let id = self
            .guest
            .property(&format!("{name}.service"), "InvocationID")?;
        self.guest
            .messages(&[&format!("_SYSTEMD_INVOCATION_ID={id}")])
    }

    /// Gives the unit a drop-in: what its payload does, and lines.
    fn edit(&self, name: &str, script: &str, lines: &str) -> Result<()> {
        let text = format!("[Service]\nEnvironment=\"SCRIPT={script}\"\nRestart=no\n{lines}");
        product::edit(self.guest, &format!("{name}.service"), &text)
    }
}

/// `said` holds these lines.
fn holds(said: &str, lines: &[&str]) -> Result<()> {
    for line in lines {
        ensure!(
            said.lines().any(|other| other == *line),
            "no `{line}` in {said}"
        );
    }
    Ok(())
}

/// Of the manifest and of drop-ins, in clear and encrypted, for a payload that is root and one that is not.
fn credentials(scene: &Scene<'_>) -> Result<()> {
    let guest = scene.guest;
    guest.sh("mkdir -p /etc/credstore
         echo of-the-store >/etc/credstore/token
         echo of-a-file >/etc/cred-file
         echo of-the-contract >/etc/cred-key
         echo of-a-sealed-file | systemd-creds encrypt --name=sealed - /etc/cred-sealed")?;
    let lines = "LoadCredential=loaded:/etc/cred-file\n\
        LoadCredentialEncrypted=sealed:/etc/cred-sealed\nSetCredential=set:of-the-drop-in\n";
    let script = "env CREDENTIALS_DIRECTORY; show /run/credentials/token; show /run/credentials/loaded; \
        show /run/credentials/sealed; mirror /run/credentials/set; owner /run/credentials; \
        owner /run/credentials/token; tell READY=1; wait";
    for (user, owner) in [("user", "1000:1000"), ("0", "0:0")] {
        scene.install("creds", &["--set", &format!("USER={user}")])?;
        scene.edit("creds", script, lines)?;
        for _start in 0..2 {
            let said = scene.restart("creds")?;
            let expected = [
                "CREDENTIALS_DIRECTORY=/run/credentials",
                "of-the-store",
                "of-a-file",
                "of-a-sealed-file",
                "ni-pord-eht-fo",
            ];
            holds(&said, &expected).with_context(|| format!("as {user}"))?;
            // The modes are systemd's: it has changed them between versions.
            for file in ["/run/credentials", "/run/credentials/token"] {
                let line = format!("{file} {owner} ");
                ensure!(
                    said.lines().any(|other| other.starts_with(&line)),
                    "no {line} in {said}"
                );
            }
            guest.ok(&["systemctl", "reload", "creds.service"])?;
            let place = "/run/credentials/creds.service";
            let is = guest.sh(&format!("stat -c %u:%g {place} {place}/token"))?;
            ensure!(
                is == format!("{owner}\n{owner}"),
                "after a reload they are {is}'s"
            );
        }
        nowhere_else(guest, "creds")?;
        scene.uninstall("creds")?;
    }
    of_the_units_own(scene)?;
    where_the_host_has_them(scene)
}

/// A payload that sees the host's `/run` finds them there.
fn where_the_host_has_them(scene: &Scene<'_>) -> Result<()> {
    scene.install("sees", &[])?;
    let script =
        "env CREDENTIALS_DIRECTORY; show /run/credentials/sees.service/token; tell READY=1; wait";
    scene.edit("sees", script, "")?;
    let said = scene.restart("sees")?;
    let expected = [
        "CREDENTIALS_DIRECTORY=/run/credentials/sees.service",
        "of-the-store",
    ];
    holds(&said, &expected)?;
    scene.uninstall("sees")
}

/// The image's unit names them itself; the contract's secret is added.
fn of_the_units_own(scene: &Scene<'_>) -> Result<()> {
    let script = "show /run/credentials/loaded; show /run/credentials/sealed; \
        mirror /run/credentials/set; show /run/credentials/KEY; tell READY=1; wait";
    let script = format!("SCRIPT={script}");
    scene.install("own", &["--set", &script, "--secret=KEY=/etc/cred-key"])?;
    let said = scene.restart("own")?;
    let expected = [
        "of-a-file",
        "of-a-sealed-file",
        "tinu-eht-fo",
        "of-the-contract",
    ];
    holds(&said, &expected)?;
    nowhere_else(scene.guest, "own")?;
    scene.uninstall("own")
}

/// The credentials lie where systemd has put them, in memory that is not swapped, and nowhere below /run otherwise.
fn nowhere_else(guest: &Guest, name: &str) -> Result<()> {
    let found = guest.sh("grep -rlsF of-a-sealed-file /run --exclude-dir=journal || true")?;
    let place = format!("/run/credentials/{name}.service/sealed");
    ensure!(found == place, "not {place} alone: {found}");
    Ok(())
}

/// What a payload has stored is there after a restart, by name; a root payload may store when its notify socket is
/// systemd's own.
fn stores(scene: &Scene<'_>) -> Result<()> {
    for user in ["user", "0"] {
        scene.install("stores", &["--set", &format!("USER={user}")])?;
        scene.edit(
            "stores",
            "env FDSTORE; recall; store kept one two; store other three; tell READY=1; wait",
            "",
        )?;
        let said = scene.restart("stores")?;
        ensure!(!said.contains("kept"), "{said}");
        // systemd reads what a payload sends in order, and READY came last.
        scene.count_stored("2")?;
        scene.edit("stores", "recall; tell READY=1; wait", "")?;
        for _start in 0..2 {
            let said = scene.restart("stores")?;
            holds(&said, &["kept: one two", "other: three"])?;
            scene.count_stored("2")?;
        }
        scene.guest.ok(&["systemctl", "stop", "stores.service"])?;
        scene.count_stored("0")?;
        scene.uninstall("stores")?;
    }
    Ok(())
}

impl Scene<'_> {
    fn count_stored(&self, wanted: &str) -> Result<()> {
        let count = self
            .guest
            .property("stores.service", "NFileDescriptorStore")?;
        ensure!(
            count == wanted,
            "{count} descriptors are stored, not {wanted}"
        );
        Ok(())
    }
}

/// Three sockets of two units: whoever connects first starts the container and is answered by the payload itself.
fn serves(scene: &Scene<'_>) -> Result<()> {
    let guest = scene.guest;
    guest.write(
        "/etc/systemd/system/admin.socket",
        "[Socket]\nListenStream=/run/admin.socket\nFileDescriptorName=admin\nService=serves.service\n",
    )?;
    for user in ["user", "0"] {
        scene.install("serves", &["--set", &format!("USER={user}")])?;
        scene.edit("serves", "tell READY=1; serve", "")?;
        guest.ok(&["systemctl", "start", "serves.socket", "admin.socket"])?;
        for (first, name) in [
            (&["http://127.0.0.1:7002/"][..], "web"),
            (
                &["--unix-socket", "/run/admin.socket", "http://admin/"],
                "admin",
            ),
        ] {
            let state = guest.property("serves.service", "ActiveState")?;
            ensure!(
                state == "inactive",
                "serves.service is {state} before anybody connects"
            );
            let answer = asks(guest, first)?;
            ensure!(
                answer == name,
                "the first answer is `{answer}`, not `{name}`"
            );
            product::holds_payload_alone(guest, "serves", "payload")?;
            product::nothing_resident(guest)?;
            let again = asks(guest, &["http://127.0.0.1:7001/"])?;
            ensure!(again == "web", "port 7001 is `{again}`");
            guest.ok(&["systemctl", "stop", "serves.service"])?;
        }
        guest.ok(&["systemctl", "stop", "admin.socket"])?;
        scene.uninstall("serves")?;
    }
    guest.ok(&["rm", "/etc/systemd/system/admin.socket"])?;
    Ok(())
}

/// A payload that has the host's process ids cannot be told that sockets are for it.
fn refuses_sockets(scene: &Scene<'_>) -> Result<()> {
    for (name, what) in [
        ("strange", "manifest.toml: service.sockets: `admin.socket`"),
        ("stranger", "`socket.hbs`"),
    ] {
        let image = product::image(&of(scene.suite, name));
        let said = format!("{what}: a payload with the host's process ids takes no sockets");
        product::refuses(
            scene.guest,
            &["install", "--runtime", scene.runtime, &image],
            &[&said],
        )?;
    }
    Ok(())
}

fn asks(guest: &Guest, where_to: &[&str]) -> Result<String> {
    guest.ok(&[
        &["curl", "--silent", "--show-error", "--max-time", "30"][..],
        where_to,
    ]
    .concat())
}
