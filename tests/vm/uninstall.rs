//! What is uninstalled stops in the reverse order, goes without a trace, and leaves its data.

use anyhow::{Result, ensure};

use crate::guest::{Guest, Suite};
use crate::product;
use crate::story::{Story, Told};

/// The stories of this file.
pub(crate) const STORIES: &[Told] = &[
    ("uninstall-trixie", |story| uninstall(story, Suite::Trixie)),
    ("uninstall-bookworm", |story| {
        uninstall(story, Suite::Bookworm)
    }),
];

const CHAIN: [&str; 3] = ["alpha", "beta", "gamma"];

fn uninstall(story: &Story, suite: Suite) -> Result<()> {
    let guest = product::boot(story, suite)?;
    let images = CHAIN.map(product::image);
    let [alpha, beta, gamma] = images.each_ref().map(String::as_str);
    product::does(&guest, &["install", "--now", gamma, alpha, beta])?;
    guest.write("/var/lib/alpha/kept", "by alpha")?;

    product::refuses(
        &guest,
        &["uninstall", "alpha"],
        &["`alpha` is required by `beta`", "or give `--force`"],
    )?;
    product::refuses(
        &guest,
        &["uninstall", "delta"],
        &["`delta` is not installed"],
    )?;
    ensure!(product::installed(&guest)? == CHAIN);
    for name in CHAIN {
        let active = guest.property(&format!("{name}.service"), "ActiveState")?;
        ensure!(active == "active", "{name} is {active}");
    }

    let would = product::does(
        &guest,
        &["uninstall", "--dry-run", "--json", "alpha", "beta", "gamma"],
    )?;
    let would: serde_json::Value = serde_json::from_str(&would)?;
    ensure!(
        would["uninstalled"] == serde_json::json!(["gamma", "beta", "alpha"]),
        "{would}"
    );
    ensure!(product::installed(&guest)? == CHAIN);

    by_force(&guest, alpha)?;
    all(&guest)?;
    ensure!(guest.ok(&["cat", "/var/lib/alpha/kept"])? == "by alpha");
    Ok(())
}

/// One that others require goes alone; its data is there when it comes back.
fn by_force(guest: &Guest, alpha: &str) -> Result<()> {
    product::does(guest, &["uninstall", "--force", "alpha"])?;
    product::is_gone(guest, &["alpha"])?;
    ensure!(product::installed(guest)? == ["beta", "gamma"]);
    ensure!(guest.ok(&["cat", "/var/lib/alpha/kept"])? == "by alpha");
    let script = "SCRIPT=await /data/kept; tell READY=1; wait; say bye";
    product::does(guest, &["install", "--now", "--set", script, alpha])?;
    guest.ok(&["systemctl", "start", "gamma.service"])?;
    for name in CHAIN {
        product::holds_payload_alone(guest, name, "payload")?;
    }
    Ok(())
}

fn all(guest: &Guest) -> Result<()> {
    let cursor =
        guest.sh("journalctl --sync; journalctl --quiet --lines=0 --show-cursor | tail -n 1")?;
    let cursor = cursor.trim_start_matches("-- cursor: ").to_owned();
    product::does(guest, &["uninstall", "alpha", "beta", "gamma"])?;
    product::is_gone(guest, &CHAIN)?;
    let said = guest.messages(&[
        "--after-cursor",
        &cursor,
        "--identifier=systemd",
        "--grep=^Stopped (alpha|beta|gamma)",
    ])?;
    let order: Vec<&str> = said
        .lines()
        .filter_map(|line| line.split([' ', '.']).nth(1))
        .collect();
    ensure!(order == ["gamma", "beta", "alpha"], "{said}");
    Ok(())
}
