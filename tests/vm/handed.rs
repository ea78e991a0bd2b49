//! What systemd hands a service reaches the payload: credentials, stored descriptors, sockets.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::guest::{Guest, Suite};
use crate::images;
use crate::product::{self, UP};
use crate::scene::{self, Image, Scene};
use crate::story::{Story, Told};

/// The stories of this file.
pub(crate) const STORIES: &[Told] = &[
    ("handed-trixie", |story| handed(story, Suite::Trixie)),
    ("handed-bookworm", |story| handed(story, Suite::Bookworm)),
];

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

/// What all of them say; what else stands in `[service]` follows.
const SERVICE: &str = "type = \"notify\"\nreload = \"SIGHUP\"";

/// What one sees of the host beside its data, and what another has of it.
const SEES: &str = "mounts = [{ source = \"/run\", target = \"/run\", access = \"rw\" }, ";
const STRANGE: &str = "[container]\npid = \"host\"";

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
        let (found, container) = match *name {
            "sees" => ("mounts = [", SEES),
            "strange" | "stranger" => ("[container]", STRANGE),
            _ => ("", ""),
        };
        let manifest = scene::MANIFEST.replacen(found, container, 1);
        let manifest = format!("{manifest}{SERVICE}\n{service}\n");
        images::add(&scene::of(suite, name), &manifest, files)?;
    }
    scene::with_each_runtime(&guest, suite, |scene| {
        let rows: &[Row] = &[
            (credentials, &["credentials.load", "credentials.encrypted"]),
            (stores, &["fdstore.restart"]),
            (serves, &["sockets.names", "sockets.first"]),
            (refuses_sockets, &["sockets.refused"]),
        ];
        for (show, checks) in rows {
            show(&scene).with_context(|| format!("{checks:?}"))?;
            scene.shown(checks)?;
        }
        Ok(())
    })
}

/// Starts it anew; what it has said until it was ready.
pub(crate) fn says(scene: &Scene<'_>, name: &str) -> Result<String> {
    scene.restart(name)?;
    scene.said(name)
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
    // The last one gives the unit a mount namespace of its own.
    let lines = "LoadCredential=loaded:/etc/cred-file\n\
        LoadCredentialEncrypted=sealed:/etc/cred-sealed\nSetCredential=set:of-the-drop-in\n\
        PrivateTmp=yes\n";
    let script = "env CREDENTIALS_DIRECTORY; show /run/credentials/token; show /run/credentials/loaded; \
        show /run/credentials/sealed; mirror /run/credentials/set; owner /run/credentials; \
        owner /run/credentials/token; tell READY=1; wait";
    for (user, owner) in [("user", "1000:1000"), ("0", "0:0")] {
        scene.install("creds", &["--set", &format!("USER={user}")])?;
        scene.edit("creds", script, lines)?;
        // What systemd does at a second start, it does for each.
        let starts = if user == "0" { 1 } else { 2 };
        for _start in 0..starts {
            let said = says(scene, "creds")?;
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
    let said = says(scene, "sees")?;
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
    let said = says(scene, "own")?;
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
        let said = says(scene, "stores")?;
        ensure!(!said.contains("kept"), "{said}");
        // systemd reads what a payload sends in order, and READY came last.
        scene.has("stores", &[("NFileDescriptorStore", "2")])?;
        scene.edit("stores", "recall; tell READY=1; wait", "")?;
        let starts = if user == "0" { 1 } else { 2 };
        for _start in 0..starts {
            let said = says(scene, "stores")?;
            holds(&said, &["kept: one two", "other: three"])?;
            scene.has("stores", &[("NFileDescriptorStore", "2")])?;
        }
        scene.guest.ok(&["systemctl", "stop", "stores.service"])?;
        // systemd closes them some time after the stop.
        scene.wait("stores", "NFileDescriptorStore", "0")?;
        scene.uninstall("stores")?;
    }
    Ok(())
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
            is_left_alone(guest)?;
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

/// The payload may answer before the launcher has ended; then it is alone.
fn is_left_alone(guest: &Guest) -> Result<()> {
    let end = Instant::now() + UP;
    loop {
        let alone = product::holds_payload_alone(guest, "serves", "payload")
            .and_then(|_main| product::nothing_resident(guest));
        if alone.is_ok() || Instant::now() > end {
            return alone;
        }
        sleep(Duration::from_millis(50));
    }
}

/// A payload that has the host's process ids cannot be told that sockets are for it.
fn refuses_sockets(scene: &Scene<'_>) -> Result<()> {
    for (name, what) in [
        ("strange", "manifest.toml: service.sockets: `admin.socket`"),
        ("stranger", "`socket.hbs`"),
    ] {
        let image = product::image(&scene::of(scene.suite, name));
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
