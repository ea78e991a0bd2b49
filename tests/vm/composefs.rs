//! A container whose tree is an image: it starts, restarts and survives a reboot, nobody can write to it, and no mount
//! is left of it. A host that cannot do it says why.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::guest::{Guest, Suite};
use crate::product::{self, UP};
use crate::story::{Story, Told};

/// The stories of this file.
pub(crate) const STORIES: &[Told] = &[
    ("composefs-trixie", works),
    ("composefs-bookworm", does_not_work),
];

const SERVICE: &str = "payload.service";
const ROOTFS: &str = "/var/lib/bedplate/containers/payload/1/rootfs";
/// The units of the mounts, by the path that names them.
const MOUNTS: [&str; 2] = [
    "var-lib-bedplate-containers-payload-1-tree.mount",
    "var-lib-bedplate-containers-payload-1-rootfs.mount",
];

fn works(story: &Story) -> Result<()> {
    let mut guest = product::boot(story, Suite::Trixie)?;
    takes_what_works(&guest)?;
    let image = product::image("payload");
    product::set_integrity(&guest, "composefs")?;
    fails(&guest, &image)?;
    product::does(&guest, &["install", "--now", &image])?;
    runs_from_an_image(&guest)?;
    ensure!(product::does(&guest, &["show", "payload"])?.contains("composefs"));

    guest.ok(&["systemctl", "restart", SERVICE])?;
    runs_from_an_image(&guest)?;
    guest.reboot()?;
    guest.wait_active(SERVICE, UP)?;
    runs_from_an_image(&guest)?;

    is_whole_and_needed(&guest)?;
    is_known(&guest, &image)?;
    guest.ok(&["systemctl", "stop", SERVICE, MOUNTS[0], MOUNTS[1]])?;
    no_mounts(&guest)?;
    is_known(&guest, &image)?;
    guest.ok(&["systemctl", "start", SERVICE])?;
    runs_from_an_image(&guest)?;
    product::nothing_resident(&guest)?;

    product::does(&guest, &["uninstall", "payload"])?;
    is_gone(&guest, "payload")
}

/// The payload's root is overlayfs, and not writable by the host's root either.
fn runs_from_an_image(guest: &Guest) -> Result<()> {
    for unit in MOUNTS {
        guest.wait_property(unit, "ActiveState", "active", Duration::ZERO)?;
    }
    let pid = product::holds_payload_alone(guest, "payload", "payload")?;
    let root = format!("/proc/{pid}/root");
    let kind = guest.ok(&["stat", "--file-system", "--format=%T", &root])?;
    ensure!(kind == "overlayfs", "its root is {kind}");
    for write in [
        format!("touch {root}/new"),
        format!("touch {ROOTFS}/new"),
        format!("sh -c 'echo >>{ROOTFS}/payload'"),
        format!("chmod 0 {ROOTFS}/payload"),
    ] {
        let output = guest.run(&["sh", "-c", &write])?;
        ensure!(
            output.status != 0 && output.stderr.contains("Read-only file system"),
            "{write}: {}",
            output.stderr
        );
    }
    Ok(())
}

/// An install whose start fails leaves no mount, and no unit.
fn fails(guest: &Guest, image: &str) -> Result<()> {
    product::refuses(
        guest,
        &["install", "--now", "--set", "SCRIPT=say no; exit 3", image],
        &["starting payload.service"],
    )?;
    is_gone(guest, "payload")
}

/// What is mounted is neither counted nor damaged nor removed.
fn is_whole_and_needed(guest: &Guest) -> Result<()> {
    product::does(guest, &["verify"])?;
    let used: Value = serde_json::from_str(&product::does(guest, &["df", "--json"])?)?;
    let total = used["disk"]["total"].as_f64().context("no total")?;
    let du = "du --summarize --one-file-system --block-size=1 /var/lib/bedplate | cut -f1";
    let du: f64 = guest.sh(du)?.parse()?;
    ensure!((total / du - 1.0).abs() < 0.02, "{total}, du says {du}");
    product::does(guest, &["prune"])?;
    guest.ok(&["systemctl", "restart", SERVICE])?;
    runs_from_an_image(guest)
}

/// Installing it again finds it as it is.
fn is_known(guest: &Guest, image: &str) -> Result<()> {
    let outcome = product::does(guest, &["install", "--json", image])?;
    let outcome: Value = serde_json::from_str(&outcome)?;
    let action = &outcome["containers"][0]["action"];
    ensure!(action == "unchanged", "{outcome}");
    Ok(())
}

fn is_gone(guest: &Guest, name: &str) -> Result<()> {
    product::is_gone(guest, &[name])?;
    no_mounts(guest)?;
    let units = guest.sh(
        "find /etc/systemd /run/systemd -name '*bedplate-containers*'; \
         systemctl list-units --all --plain --no-legend '*bedplate-containers*'",
    )?;
    ensure!(units.is_empty(), "units are left: {units}");
    Ok(())
}

fn no_mounts(guest: &Guest) -> Result<()> {
    let mounts = guest.sh("grep /var/lib/bedplate/containers /proc/1/mountinfo || true")?;
    ensure!(mounts.is_empty(), "mounts are left: {mounts}");
    Ok(())
}

/// `auto` takes composefs, says what keeps it from fs-verity, and that alone is refused; unless the disk of whoever
/// runs the tests has fs-verity.
fn takes_what_works(guest: &Guest) -> Result<()> {
    product::set_integrity(guest, "auto")?;
    let alpha = product::image("alpha");
    let outcome = product::does(guest, &["install", "--now", "--json", &alpha])?;
    let strongest = integrity(guest, "alpha")?;
    let found = diagnosis(guest, "ok")?;
    product::does(guest, &["uninstall", "alpha"])?;
    is_gone(guest, "alpha")?;
    if strongest == "verity" {
        ensure!(!outcome.contains("no verity: "), "{outcome}");
        ensure!(found == "`verity` is used, `verity` works here", "{found}");
        return Ok(());
    }
    ensure!(strongest == "composefs", "{strongest}");
    ensure!(outcome.contains("no verity: "), "{outcome}");
    let says = "`composefs` is used, `composefs` works here; no verity: ";
    ensure!(
        found.starts_with(says) && found.contains("fs-verity"),
        "{found}"
    );
    product::set_integrity(guest, "verity")?;
    let found = diagnosis(guest, "broken")?;
    ensure!(
        found.starts_with("`integrity = \"verity\"` does not work on this host: "),
        "{found}"
    );
    product::refuses(
        guest,
        &["install", &alpha],
        &[
            "`integrity = \"verity\"` does not work on this host: ",
            "fs-verity",
            "set `integrity = \"auto\"`",
        ],
    )?;
    is_gone(guest, "alpha")
}

fn integrity(guest: &Guest, name: &str) -> Result<String> {
    let shown: Value = serde_json::from_str(&product::does(guest, &["show", "--json", name])?)?;
    let integrity = shown["integrity"].as_str();
    Ok(integrity.context("no integrity")?.to_owned())
}

/// What `doctor` says of it, with this verdict.
fn diagnosis(guest: &Guest, verdict: &str) -> Result<String> {
    let output = product::bedplate(guest, &["doctor", "--json"])?;
    let outcome: Value = serde_json::from_str(&output.stdout).context(output.stderr)?;
    let checks = outcome["checks"].as_array().context("no checks")?;
    let check = checks.iter().find(|check| check["subject"] == "integrity");
    let check = check.context("nothing is said of it")?;
    ensure!(check["verdict"] == verdict, "{check}");
    Ok(check["found"].as_str().context("no words")?.to_owned())
}

/// mount(8) of Debian 12 wants a loop device for an image, which a guest of systemd-nspawn has not.
fn does_not_work(story: &Story) -> Result<()> {
    let guest = product::boot(story, Suite::Bookworm)?;
    let image = product::image("payload");
    product::set_integrity(&guest, "composefs")?;
    product::refuses(
        &guest,
        &["install", &image],
        &[
            "`integrity = \"composefs\"` does not work on this host: an EROFS image cannot be mounted: ",
        ],
    )?;
    product::set_integrity(&guest, "auto")?;
    let outcome = product::does(&guest, &["install", "--now", "--json", &image])?;
    ensure!(
        outcome.contains("no composefs: an EROFS image cannot be mounted: "),
        "{outcome}"
    );
    ensure!(integrity(&guest, "payload")? == "none");
    let found = diagnosis(&guest, "ok")?;
    let says =
        "`none` is used, `none` works here; no composefs: an EROFS image cannot be mounted: ";
    ensure!(found.starts_with(says), "{found}");
    no_mounts(&guest)
}
