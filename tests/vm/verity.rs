//! On a machine with fs-verity: a byte that changes on the disk, or an object that is replaced, is an error of whoever
//! reads it. Without fs-verity the change is not noticed, as the same machine shows.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::guest::Suite;
use crate::images;
use crate::qemu::Computer;
use crate::story::{Story, Told};

/// The stories of this file; they are the tier `machine`.
pub(crate) const STORIES: &[Told] = &[("machine-verity", verity)];

/// What stands in every small image's manifest, and what it is changed to.
const TEXT: &str = "Payload of a story";
const CHANGED: &str = "Mayload of a story";

const CONTAINERS: &str = "/var/lib/bedplate/containers";
const OBJECTS: &str = "/var/lib/bedplate/repo/objects";

fn verity(story: &Story) -> Result<()> {
    let mut machine = Computer::new(story, Suite::Trixie)?;
    machine.start()?;
    // The one that is sealed comes last: sealing changes the objects that both have, not their own manifests.
    install(&mut machine, "composefs", "payload-full", "composefs")?;
    install(&mut machine, "auto", "payload", "verity")?;
    // Whatever else it finds: an emulated machine is short of this and that.
    let (_, said) = machine.run("bedplate doctor 2>/dev/null")?;
    let expected = "`verity` is used, `verity` works here";
    ensure!(said.lines().any(|line| line.ends_with(expected)), "{said}");
    sealed(&mut machine)?;
    let objects = ["payload", "payload-full"].map(|name| object(&mut machine, name));
    let [safe, unsafe_one] = objects;
    let (safe, unsafe_one) = (safe?, unsafe_one?);
    machine.poweroff()?;

    machine.change(&safe, TEXT, CHANGED)?;
    machine.change(&unsafe_one, TEXT, CHANGED)?;
    machine.start()?;
    // Enabled, it has started: what it needs is whole.
    machine.ok("systemctl start payload.service")?;
    let read = format!("cat {CONTAINERS}/payload/1/rootfs/exports/manifest.toml");
    let (status, said) = machine.run(&read)?;
    ensure!(status != 0 && said.contains("Input/output error"), "{said}");
    ensure!(!said.contains(CHANGED), "{said}");
    machine.ok("systemctl start payload-full.service")?;
    let read = format!("cat {CONTAINERS}/payload-full/1/rootfs/exports/manifest.toml");
    let said = machine.ok(&read)?;
    ensure!(said.contains(CHANGED), "nothing has changed: {said}");
    repaired(&mut machine, &safe)?;
    replaced(&mut machine)
}

/// `verify` names what cannot be read, and `repair` brings it back, sealed.
fn repaired(machine: &mut Computer, object: &str) -> Result<()> {
    let (status, said) = machine.run("bedplate verify payload 2>&1")?;
    let name: String = object.replace(OBJECTS, "").replace('/', "");
    let name = name.trim_end_matches(".file");
    ensure!(status == 1 && said.contains(name), "{status}: {said}");
    machine.ok("bedplate repair payload")?;
    machine.ok(
        "systemctl stop payload.service '*-containers-payload-1-*.mount'
        systemctl start payload.service",
    )?;
    let read = format!("cat {CONTAINERS}/payload/1/rootfs/exports/manifest.toml");
    let said = machine.ok(&read)?;
    ensure!(said.contains(TEXT), "{said}");
    Ok(())
}

/// Installs an image with a setting; what that comes to.
fn install(machine: &mut Computer, setting: &str, name: &str, integrity: &str) -> Result<()> {
    let image = format!("oci:/host{}/{name}:latest", images::INSIDE);
    let outcome = machine.ok(&format!(
        "mkdir -p /etc/bedplate
        printf '[store]\\nintegrity = \"{setting}\"\\n' >/etc/bedplate/bedplate.toml
        bedplate install --now --json {image} 2>/dev/null"
    ))?;
    ensure!(!outcome.contains("no verity"), "{outcome}");
    let shown = machine.ok(&format!("bedplate show --json {name} 2>/dev/null"))?;
    let shown: Value = serde_json::from_str(&shown).context(shown)?;
    ensure!(shown["integrity"] == integrity, "{shown}");
    ensure!(shown["state"]["active"] == "active", "{shown}");
    let kind = machine.ok(&format!(
        "stat --file-system --format=%T /proc/$(systemctl show --value --property MainPID {name}.service)/root"
    ))?;
    ensure!(kind == "overlayfs", "its root is {kind}");
    Ok(())
}

/// Neither the objects nor the image can be written to, and overlayfs insists on the seals.
fn sealed(machine: &mut Computer) -> Result<()> {
    let object = object(machine, "payload")?;
    for file in [object, format!("{CONTAINERS}/payload/1/tree.erofs")] {
        let (status, said) = machine.run(&format!("echo >>{file}"))?;
        ensure!(
            status != 0 && said.contains("Operation not permitted"),
            "{file}: {said}"
        );
    }
    machine.ok(&format!(
        "grep ' {CONTAINERS}/payload/1/rootfs overlay .*verity=require' /proc/mounts
        test -z \"$(grep ' {CONTAINERS}/payload-full/1/rootfs overlay .*verity=' /proc/mounts)\""
    ))?;
    Ok(())
}

/// The object that a container's manifest is.
fn object(machine: &mut Computer, name: &str) -> Result<String> {
    let not = if name == "payload" {
        "--files-without-match"
    } else {
        "--files-with-matches"
    };
    machine.ok(&format!(
        "grep --recursive --files-with-matches --null '{TEXT}' {OBJECTS} | xargs -0 grep {not} '^notify = \"full\"'"
    ))
}

/// A program that somebody puts in the place of the right one does not run, be it the same but for the seal.
fn replaced(machine: &mut Computer) -> Result<()> {
    let rootfs = format!("{CONTAINERS}/payload/1/rootfs");
    let program = machine.ok(&format!(
        "find {OBJECTS} -name '*.file' -size $(stat --format=%s {rootfs}/payload)c"
    ))?;
    machine.ok(&format!(
        "systemctl stop payload.service '*-containers-payload-1-*.mount'
        cp --preserve=all {program} /var/lib/bedplate/other
        mv /var/lib/bedplate/other {program}"
    ))?;
    let (status, said) = machine.run("systemctl start payload.service")?;
    ensure!(status != 0, "it starts: {said}");
    let (status, said) = machine.run(&format!("cat {rootfs}/payload"))?;
    ensure!(
        status != 0 && said.contains("Input/output error"),
        "{status}"
    );
    // Without the seals it runs whatever lies there.
    machine.ok("systemctl restart payload-full.service")?;
    let (status, said) = machine.run("bedplate verify payload 2>&1")?;
    ensure!(
        status == 1 && said.contains("not sealed by fs-verity"),
        "{status}: {said}"
    );
    machine.ok("bedplate repair payload
        bedplate verify payload
        systemctl start payload.service")?;
    Ok(())
}
