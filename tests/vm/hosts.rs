//! The host around the containers: without D-Bus, with a second bedplate, with units of its own that make a cycle.

use std::thread;

use anyhow::{Result, anyhow, ensure};

use crate::guest::{Guest, Suite};
use crate::product::{self, UP};
use crate::story::{Story, Told};

/// The stories of this file.
pub(crate) const STORIES: &[Told] = &[
    ("host-trixie", |story| host(story, Suite::Trixie)),
    ("host-bookworm", |story| host(story, Suite::Bookworm)),
];

fn host(story: &Story, suite: Suite) -> Result<()> {
    let guest = product::boot(story, suite)?;
    has_no_bus(&guest)?;
    two_at_once(&guest)?;
    makes_a_cycle(&guest)?;
    has_that_unit(&guest)?;
    Ok(())
}

fn has_no_bus(guest: &Guest) -> Result<()> {
    let image = product::image("payload");
    product::does(guest, &["install", "--now", &product::image("alpha")])?;
    guest.ok(&[
        "systemctl",
        "stop",
        "--quiet",
        "dbus.socket",
        "dbus.service",
    ])?;
    for args in [
        vec!["install", "--now", &image],
        vec!["uninstall", "alpha"],
        vec!["recover"],
    ] {
        product::refuses(
            guest,
            &args,
            &[
                "connecting to systemd over D-Bus",
                "`systemctl status dbus.socket`",
            ],
        )?;
    }
    ensure!(product::installed(guest)? == ["alpha"]);
    for verb in ["list", "graph"] {
        let said = product::does(guest, &[verb])?;
        ensure!(said.contains("alpha"), "{said}");
    }
    product::does(guest, &["show", "alpha"])?;
    let doctor = guest.run(&["bedplate", "doctor"])?;
    ensure!(doctor.status == 1, "{}", doctor.stdout);
    let says = "  broken  systemd           connecting to systemd over D-Bus";
    ensure!(doctor.stdout.contains(says), "{}", doctor.stdout);
    guest.ok(&["systemctl", "start", "dbus.socket"])?;
    product::is_gone(guest, &["payload"])?;
    product::does(guest, &["uninstall", "alpha"])?;
    Ok(())
}

/// The second waits for the first, says so, and then does its work.
fn two_at_once(guest: &Guest) -> Result<()> {
    let script = "SCRIPT=say loading; await /data/go; tell READY=1; wait";
    let (first, second) = (product::image("alpha"), product::image("payload"));
    let background = "bedplate install --now \"$@\" >/tmp/second.out 2>/tmp/second.err";
    thread::scope(|scope| {
        let holds =
            scope.spawn(|| product::does(guest, &["install", "--now", "--set", script, &first]));
        product::wait_said(guest, "alpha.service", "loading", 1)?;
        let waits =
            scope.spawn(|| guest.run_with(&["sh", "-c", background, "second", &second], UP, &[]));
        let seen = guest.run_with(
            &[
                "sh",
                "-c",
                "until grep -s '^note: waiting for `bedplate install` (pid [0-9]*) to finish$' /tmp/second.err; do sleep 0.05; done",
            ],
            UP,
            &[],
        );
        guest.sh("touch /var/lib/alpha/go")?;
        ensure!(seen?.status == 0, "the second does not say that it waits");
        let join = |error| anyhow!("a thread panicked: {error:?}");
        holds.join().map_err(join)??;
        let second = waits.join().map_err(join)??;
        ensure!(second.status == 0, "{}", guest.sh("cat /tmp/second.err")?);
        Ok(())
    })?;
    ensure!(product::installed(guest)? == ["alpha", "payload"]);
    product::does(guest, &["uninstall", "alpha", "payload"])?;
    product::is_gone(guest, &["alpha", "payload"])
}

/// alpha → beta → gamma, and a unit of the host that wants to start after gamma and before alpha.
fn makes_a_cycle(guest: &Guest) -> Result<()> {
    guest.write(
        "/etc/systemd/system/foo.service",
        "[Unit]\nAfter=gamma.service\nBefore=alpha.service\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n\
         [Install]\nWantedBy=multi-user.target\n",
    )?;
    guest.ok(&["systemctl", "enable", "--quiet", "--now", "foo.service"])?;
    let set = ["alpha", "beta", "gamma"];
    let images = set.map(product::image);
    let mut args = vec!["install", "--now"];
    args.extend(images.iter().map(String::as_str));
    let said = product::refuses(guest, &args, &["ordering cycle", "foo.service"])?;
    for name in set {
        ensure!(said.contains(&format!("{name}.service")), "{said}");
    }
    product::is_gone(guest, &set)?;
    // Without it there is no cycle.
    guest.sh("systemctl disable --quiet --now foo.service; rm /etc/systemd/system/foo.service; systemctl daemon-reload")?;
    product::does(guest, &args)?;
    product::does(guest, &["uninstall", "gamma", "beta", "alpha"])?;
    Ok(())
}

/// A unit of the host's by the container's name is never replaced.
fn has_that_unit(guest: &Guest) -> Result<()> {
    let path = "/etc/systemd/system/payload.service";
    let text = "[Service]\nExecStart=/bin/sleep infinity\n";
    guest.write(path, text)?;
    guest.ok(&["systemctl", "daemon-reload"])?;
    let image = product::image("payload");
    product::refuses(
        guest,
        &["install", &image],
        &[
            "installing `payload`: the unit payload.service exists already (`/etc/systemd/system/payload.service`) and is not bedplate's",
        ],
    )?;
    ensure!(guest.ok(&["cat", path])? == text.trim_end());
    ensure!(product::installed(guest)?.is_empty());
    Ok(())
}
