//! An install whose start fails says why and leaves nothing; an update goes back. What is said then is a chapter of
//! `docs/errors.md`.

#[path = "../offline/errors/page.rs"]
#[expect(
    dead_code,
    reason = "tests/offline/errors.rs, whose it is, uses all of it"
)]
mod page;

use anyhow::{Error, Result, ensure};

use crate::failing::page::Entry;
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
    let mut entries = vec![exits(&guest)?, takes_too_long(&guest)?];
    fails_in_a_set(&guest)?;
    if suite == Suite::Trixie {
        entries.push(waits_for_one_that_fails(&guest)?);
    }
    entries.push(is_masked(&guest)?);
    is_rejected(&guest)?;
    entries.append(&mut changed(&guest)?);
    if suite == Suite::Trixie {
        page::settle("A service that does not come up", &entries).map_err(Error::msg)?;
    }
    let failed = guest.ok(&["systemctl", "--failed", "--plain", "--no-legend"])?;
    ensure!(failed.is_empty(), "{failed}");
    // After all that an install works.
    product::does(&guest, &["install", "--now", &product::image("payload")])?;
    Ok(())
}

/// What was said, for this cause, without the lines of the journal, which vary.
fn told(cause: &'static str, stderr: &str) -> Entry {
    // Progress comes before.
    let from = stderr.find("error: ").unwrap_or_default();
    let is_quoted = |line: &&str| line.starts_with("    ");
    let own = |line: &&str| !is_quoted(line);
    let mut lines: Vec<&str> = stderr[from..].lines().filter(own).collect();
    if stderr.lines().any(|line| is_quoted(&line)) {
        lines.insert(1, "    …");
    }
    Entry::new(cause, &lines.join("\n"))
}

fn exits(guest: &Guest) -> Result<Entry> {
    let image = product::image("payload");
    let script = "SCRIPT=say the vault is locked; exit 7";
    let said = product::refuses(
        guest,
        &["install", "--now", "--set", script, &image],
        &[
            "error: starting payload.service: it exited with status 7\n",
            "\n    the vault is locked\n",
            "hint: all it said: `journalctl --unit payload.service --boot`",
        ],
    )?;
    product::is_gone(guest, &["payload"])?;
    Ok(told(
        "What is installed with `--now` ends before it is ready. Nothing of it stays installed.",
        &said,
    ))
}

fn takes_too_long(guest: &Guest) -> Result<Entry> {
    let image = product::image("payload");
    let script = "SCRIPT=say still loading; wait";
    let said = product::refuses(
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
    product::is_gone(guest, &["payload"])?;
    Ok(told("It is not ready within its time.", &said))
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
fn waits_for_one_that_fails(guest: &Guest) -> Result<Entry> {
    let script = "SCRIPT=say no luck; exit 3";
    product::does(
        guest,
        &["install", "--set", script, &product::image("alpha")],
    )?;
    product::edit(guest, "alpha.service", "[Service]\nRestartSec=100ms\n")?;
    let said = product::refuses(
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
    product::is_gone(guest, &["alpha"])?;
    Ok(told("One that it requires does not come up.", &said))
}

fn is_masked(guest: &Guest) -> Result<Entry> {
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
    let said = product::refuses(
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
    product::is_gone(guest, &["payload"])?;
    Ok(told(
        "It is installed already, and an operator has masked its unit. It stays as it is.",
        &said,
    ))
}

/// What the signature policy rejects is not installed, also when the store has it from before.
fn is_rejected(guest: &Guest) -> Result<()> {
    let image = product::image("payload");
    product::does(guest, &["pull", &image])?;
    let policy = "/etc/containers/policy.json";
    guest.ok(&["cp", policy, "/run/policy.json"])?;
    guest.write(policy, r#"{"default":[{"type":"reject"}]}"#)?;
    product::refuses(
        guest,
        &["install", &image],
        &[&format!("`{image}` is rejected by policy")],
    )?;
    guest.ok(&["mv", "/run/policy.json", policy])?;
    product::does(guest, &["images", "remove", &image])?;
    Ok(())
}

/// An update and a rollback that fail: what ran before runs again.
fn changed(guest: &Guest) -> Result<Vec<Entry>> {
    let image = product::image("payload");
    // The first version does as it is told, once.
    let tell = |order: &str| {
        guest.sh(&format!(
            "mkdir -p /var/lib/payload; echo '{order}' >/var/lib/payload/order"
        ))
    };
    let first = "--set=SCRIPT=obey /data/order; tell READY=1; wait";
    tell("say well")?;
    product::does(guest, &["install", "--now", first, &image])?;
    tell("say well again")?;
    let broken = "--set=SCRIPT=say no luck; exit 3";
    let update = goes_back(guest, &["update", broken, "payload"])?;
    let second = "--set=SCRIPT=tell READY=1; wait";
    product::does(guest, &["update", second, "payload"])?;
    tell("exit 5")?;
    let rollback = goes_back(guest, &["rollback", "payload"])?;
    product::does(guest, &["uninstall", "payload"])?;
    product::is_gone(guest, &["payload"])?;
    Ok(vec![
        told(
            "The new version does not come up. What ran before runs again; exit status 4.",
            &update,
        ),
        told(
            "The version that was gone back to does not come up any more. What ran before runs again; exit status 4.",
            &rollback,
        ),
    ])
}

/// What is said by a command with exit status 4, after which the payload runs as before.
fn goes_back(guest: &Guest, args: &[&str]) -> Result<String> {
    let output = product::bedplate(guest, args)?;
    ensure!(output.status == 4, "bedplate {args:?}: {output:?}");
    let active = guest.property("payload.service", "ActiveState")?;
    ensure!(active == "active", "it is {active}");
    product::no_transaction(guest)?;
    Ok(output.stderr)
}
