//! An install whose start fails says why and leaves nothing.

use anyhow::{Result, ensure};

use crate::guest::{Guest, Suite};
use crate::product;
use crate::story::{Story, Told};

/// The stories of this file.
pub(crate) const STORIES: &[Told] = &[
    ("failing-trixie", |story| failing(story, Suite::Trixie)),
    ("failing-bookworm", |story| failing(story, Suite::Bookworm)),
];

fn failing(story: &Story, suite: Suite) -> Result<()> {
    let guest = product::boot(story, suite)?;
    exits(&guest)?;
    takes_too_long(&guest)?;
    fails_in_a_set(&guest)?;
    if suite == Suite::Trixie {
        waits_for_one_that_fails(&guest)?;
    }
    is_masked(&guest)?;
    let failed = guest.ok(&["systemctl", "--failed", "--plain", "--no-legend"])?;
    ensure!(failed.is_empty(), "{failed}");
    // After all that an install works.
    product::does(&guest, &["install", "--now", &product::image("payload")])?;
    Ok(())
}

fn exits(guest: &Guest) -> Result<()> {
    let image = product::image("payload");
    let script = "SCRIPT=say the vault is locked; exit 7";
    product::refuses(
        guest,
        &["install", "--now", "--set", script, &image],
        &[
            "error: starting payload.service: it exited with status 7\n",
            "\n    the vault is locked\n",
            "hint: all it said: `journalctl --unit payload.service --boot`",
        ],
    )?;
    product::is_gone(guest, &["payload"])
}

fn takes_too_long(guest: &Guest) -> Result<()> {
    let image = product::image("payload");
    let script = "SCRIPT=say still loading; wait";
    product::refuses(
        guest,
        &[
            "install",
            "--now",
            "--set",
            script,
            "--set",
            "START_TIMEOUT=1s",
            &image,
        ],
        &[
            "error: starting payload.service: it was not ready in time\n",
            "\n    still loading\n",
        ],
    )?;
    product::is_gone(guest, &["payload"])
}

/// The one that fails is in the middle: the one before it is stopped again, the one after it never starts.
fn fails_in_a_set(guest: &Guest) -> Result<()> {
    let set = ["alpha", "beta", "gamma"];
    let images = set.map(product::image);
    let mut args = vec![
        "install",
        "--now",
        "--set",
        "beta.SCRIPT=say no luck; exit 3",
    ];
    args.extend(images.iter().rev().map(String::as_str));
    product::refuses(
        guest,
        &args,
        &[
            "error: starting beta.service: it exited with status 3\n",
            "\n    no luck\n",
        ],
    )?;
    product::is_gone(guest, &set)?;
    let said = guest.journal("alpha.service")?;
    ensure!(
        said.lines().any(|line| line == "bye"),
        "alpha was not stopped: {said}"
    );
    let said = guest.journal("gamma.service")?;
    ensure!(said.is_empty(), "gamma was started: {said}");
    Ok(())
}

/// What it requires was installed before and never comes up: the install ends, and names that one.
///
/// Before systemd 254 nothing is required but wanted, so there it starts.
fn waits_for_one_that_fails(guest: &Guest) -> Result<()> {
    let script = "SCRIPT=say no luck; exit 3";
    product::does(
        guest,
        &["install", "--set", script, &product::image("alpha")],
    )?;
    product::edit(guest, "alpha.service", "[Service]\nRestartSec=100ms\n")?;
    product::refuses(
        guest,
        &["install", "--now", &product::image("beta")],
        &[
            "error: starting beta.service: alpha.service, which it requires, does not come up: it exited with status 3\n",
            "\n    no luck\n",
        ],
    )?;
    product::is_gone(guest, &["beta"])?;
    product::does(guest, &["uninstall", "alpha"])?;
    guest.sh("rm -r /etc/systemd/system/alpha.service.d; systemctl daemon-reload")?;
    product::is_gone(guest, &["alpha"])
}

fn is_masked(guest: &Guest) -> Result<()> {
    let image = product::image("payload");
    guest.ok(&["systemctl", "mask", "--quiet", "payload.service"])?;
    product::refuses(
        guest,
        &["install", "--now", &image],
        &[
            "installing `payload`: the unit payload.service is masked",
            "systemctl unmask payload.service",
        ],
    )?;
    guest.ok(&["systemctl", "unmask", "--quiet", "payload.service"])?;
    product::is_gone(guest, &["payload"])?;

    // Masked when it was there already: it stays, and stays masked.
    product::does(guest, &["install", &image])?;
    guest.ok(&["systemctl", "mask", "--quiet", "payload.service"])?;
    product::refuses(
        guest,
        &["install", "--now", &image],
        &[
            "error: starting payload.service: the unit is masked\nhint: `systemctl unmask payload.service` first\n",
        ],
    )?;
    ensure!(product::installed(guest)? == ["payload"]);
    product::no_transaction(guest)?;
    product::does(guest, &["uninstall", "payload"])?;
    guest.ok(&["systemctl", "unmask", "--quiet", "payload.service"])?;
    product::is_gone(guest, &["payload"])
}
