//! What bedplate changes is in the system journal, by MESSAGE_ID and fields, and `journalctl -x` explains it.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::guest::{Guest, Suite};
use crate::story::{Story, Told};
use crate::{host, images, product};

/// The stories of this file.
pub(crate) const STORIES: &[Told] = &[
    ("journal-trixie", |story| journal(story, Suite::Trixie)),
    ("journal-bookworm", |story| journal(story, Suite::Bookworm)),
];

const CATALOGUE: &str = "/usr/lib/systemd/catalog/bedplate.catalog";

// As in docs/automation.md, which programs read.
const INSTALLED: &str = "e5cc8ffb9086490eb97ab309cd0a342d";
const UNINSTALLED: &str = "1d3a5fedf2a84aa1aa067b0195349f5e";
const PULLED: &str = "a75e6e8b19284ce4bbd5511d80f3a848";
const RELEASED: &str = "ea7be958738545759e29809e48fbee46";
const REPAIRED: &str = "f3e5b696779542b7b56ab88acab3e939";
const LEFT: &str = "23919ceebc424488908b8b9dbddc24cd";
const IMAGE_REMOVED: &str = "6265036a44a34f569357b48e4b823e4f";
const PRUNED: &str = "e4d2e5202875413a92b9106040344fb9";
const RECOVERED: &str = "8b33dbab5c6e49979b24374aa09e3f37";
const UNDONE: &str = "cf3847d3807a4a55b11548fd93831364";

fn journal(story: &Story, suite: Suite) -> Result<()> {
    let catalogue = host::project("dist/bedplate.catalog");
    let mut guest = Guest::new(story, suite)?
        .bind(images::small()?, images::INSIDE)
        .bind(&catalogue, CATALOGUE);
    if !suite.runtimes()?.contains(&"crun") {
        guest = guest.bind(host::newer_crun()?, "/opt/crun");
    }
    guest.start()?;
    product::only_what_works(&guest, suite)?;
    guest.ok(&["journalctl", "--update-catalog"])?;
    is_told_of_images(&guest)?;
    is_told_of_containers(&guest)?;
    is_told_of_repairs(&guest)?;
    is_told_of_failures(&guest)?;
    is_not_told_of_other_roots(&guest)
}

/// The entries of a kind, in the order in which they were written.
fn entries(guest: &Guest, id: &str) -> Result<Vec<Value>> {
    guest.ok(&["journalctl", "--sync"])?;
    let matching = format!("MESSAGE_ID={id}");
    let found = guest.ok(&["journalctl", "--quiet", "--output=json", &matching])?;
    let parsed = found.lines().map(|line| Ok(serde_json::from_str(line)?));
    parsed.collect()
}

/// The only entry of a kind; it has these fields.
fn entry(guest: &Guest, id: &str, fields: &[(&str, &str)]) -> Result<Value> {
    let found = entries(guest, id)?;
    ensure!(found.len() == 1, "{id}: {found:#?}");
    let entry = found.into_iter().next().context("one")?;
    for (name, value) in fields {
        ensure!(entry[name] == *value, "{name} is not {value}: {entry:#}");
    }
    ensure!(entry["SYSLOG_IDENTIFIER"] == "bedplate", "{entry:#}");
    Ok(entry)
}

fn is_told_of_images(guest: &Guest) -> Result<()> {
    let image = product::image("alpha");
    product::does(guest, &["pull", "--dry-run", &image])?;
    ensure!(entries(guest, PULLED)?.is_empty());
    product::does(guest, &["pull", &image])?;
    // What is kept already is no change.
    product::does(guest, &["pull", &image])?;
    let pulled = entry(guest, PULLED, &[("IMAGE", &image), ("VERB", "pull")])?;
    let digest = pulled["IMAGE_DIGEST"].as_str().unwrap_or_default();
    ensure!(digest.starts_with("sha256:"), "{pulled:#}");
    product::does(guest, &["images", "remove", &image])?;
    product::does(guest, &["prune"])?;
    for id in [RELEASED, IMAGE_REMOVED] {
        entry(guest, id, &[("IMAGE", &image), ("IMAGE_DIGEST", digest)])?;
    }
    let pruned = entry(guest, PRUNED, &[("VERB", "prune")])?;
    let freed: u64 = pruned["FREED"].as_str().unwrap_or_default().parse()?;
    ensure!(freed > 0, "{pruned:#}");
    Ok(())
}

fn is_told_of_containers(guest: &Guest) -> Result<()> {
    let image = product::image("payload");
    product::does(guest, &["install", "--now", &image])?;
    product::does(guest, &["install", &image])?;
    let shown: Value =
        serde_json::from_str(&product::does(guest, &["show", "payload", "--json"])?)?;
    let digest = shown["manifest_digest"].as_str().unwrap_or_default();
    let fields = [
        ("CONTAINER", "payload"),
        ("GENERATION", "1"),
        ("IMAGE", &image),
        ("IMAGE_DIGEST", digest),
    ];
    let told = entry(guest, INSTALLED, &fields)?;
    ensure!(
        told["VERB"] == "install" && told["PRIORITY"] == "5",
        "{told:#}"
    );
    // It is one of the unit's own messages, and explained.
    let message = format!("Installed payload, generation 1, from {image} ({digest})");
    let said = guest.journal("payload.service")?;
    ensure!(said.lines().any(|line| line == message), "{said}");
    let explained = guest.ok(&[
        "journalctl",
        "--catalog",
        &format!("MESSAGE_ID={INSTALLED}"),
    ])?;
    for text in [
        "Subject: System container payload was installed",
        "Defined-By: bedplate",
        "made generation 1 of the system container payload live",
    ] {
        ensure!(explained.contains(text), "no `{text}`: {explained}");
    }
    Ok(())
}

fn is_told_of_repairs(guest: &Guest) -> Result<()> {
    let config = "/var/lib/bedplate/containers/payload/1/config.json";
    guest.sh(&format!("echo >>{config}"))?;
    product::does(guest, &["repair", "--dry-run"])?;
    ensure!(entries(guest, REPAIRED)?.is_empty());
    product::does(guest, &["repair"])?;
    let fields = [("THING", "file"), ("NAME", config), ("VERB", "repair")];
    entry(guest, REPAIRED, &fields)?;
    ensure!(entries(guest, LEFT)?.is_empty());
    product::does(guest, &["uninstall", "payload"])?;
    let fields = [("CONTAINER", "payload"), ("GENERATION", "1")];
    entry(guest, UNINSTALLED, &fields)?;
    Ok(())
}

fn is_told_of_failures(guest: &Guest) -> Result<()> {
    let image = product::image("payload");
    let script = "SCRIPT=exit 3";
    let args = ["install", "--now", "--set", script, &image];
    product::refuses(guest, &args, &["payload.service"])?;
    let undone = entry(guest, UNDONE, &[("VERB", "install"), ("PRIORITY", "4")])?;
    let reason = undone["REASON"].as_str().unwrap_or_default();
    ensure!(reason.contains("payload.service"), "{undone:#}");
    ensure!(entries(guest, INSTALLED)?.len() == 1);
    // As a command leaves it that was killed before its first step.
    guest.write(
        "/var/lib/bedplate/journal/transaction",
        "{\"begin\":{\"format\":1,\"verb\":\"install\"}}\n",
    )?;
    product::does(guest, &["recover"])?;
    let fields = [
        ("INTERRUPTED", "install"),
        ("OUTCOME", "undone"),
        ("VERB", "recover"),
    ];
    entry(guest, RECOVERED, &fields)?;
    Ok(())
}

fn is_not_told_of_other_roots(guest: &Guest) -> Result<()> {
    let image = product::image("alpha");
    let before = entries(guest, PULLED)?.len();
    guest.ok(&["mkdir", "-p", "/srv/root"])?;
    product::does(guest, &["pull", "--root", "/srv/root", &image])?;
    ensure!(entries(guest, PULLED)?.len() == before);
    // Without journald nothing fails.
    guest.ok(&[
        "mv",
        "/run/systemd/journal/socket",
        "/run/systemd/journal/away",
    ])?;
    product::does(guest, &["pull", &image])?;
    guest.ok(&[
        "mv",
        "/run/systemd/journal/away",
        "/run/systemd/journal/socket",
    ])?;
    ensure!(entries(guest, PULLED)?.len() == before);
    Ok(())
}
