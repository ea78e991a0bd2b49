//! An operator finds a container's unit as any other: in the journal, under `systemctl` and `systemd-analyze`, with timers
//! and path units; and its mounts and devices are what the contract says.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::guest::{self, Guest, Suite};
use crate::product::{self, UP};
use crate::scene::{self, Image, Scene};
use crate::story::{Story, Told};

/// The stories of this file.
pub(crate) const STORIES: &[Told] = &[
    ("operated-trixie", |story| operated(story, Suite::Trixie)),
    ("operated-bookworm", |story| {
        operated(story, Suite::Bookworm)
    }),
];

const IMAGES: &[Image] = &[
    (
        "plain",
        "type = \"notify\"",
        &[("etc/machine-id", "the host's is mounted here\n")],
    ),
    (
        "mounted",
        "type = \"exec\"",
        &[("exports/manifest.toml", MOUNTED)],
    ),
    (
        "clocked",
        "type = \"oneshot\"",
        &[(
            "exports/timer.hbs",
            "[Timer]\nOnActiveSec=100ms\nAccuracySec=10ms\n[Install]\nWantedBy=timers.target\n",
        )],
    ),
    (
        "wished",
        "type = \"oneshot\"",
        &[(
            "exports/path.hbs",
            "[Path]\nPathExists={{state_dir}}/wish\n[Install]\nWantedBy=multi-user.target\n",
        )],
    ),
    ("later", "type = \"exec\"\nrequires = [\"clocked\"]", &[]),
];

/// journald's socket, mounts of each kind, a device.
const MOUNTED: &str = r#"contract = 1
description = "Mounts"

[container]
user = "0"
args = ["obey /data/step; obey /data/step; obey /data/step; obey /data/step; obey /data/step; obey /data/step; obey /data/step; obey /data/step; wait"]
capabilities = ["CAP_SYS_ADMIN"]
devices = ["/dev/extra"]
mounts = [
    { source = "{{state_dir}}", target = "/data", access = "rw" },
    { source = "/srv/shared", target = "/shared", access = "rw", propagation = "shared" },
    { source = "/srv/slave", target = "/slave", access = "rw", propagation = "slave" },
    { source = "/srv/private", target = "/private", access = "rw" },
    { source = "/srv/fixed", target = "/fixed" },
    { source = "/run/systemd/journal/socket", target = "/run/systemd/journal/socket", access = "rw" },
]

[service]
type = "exec"
directories = { state = ["{{name}}"] }
"#;

fn operated(story: &Story, suite: Suite) -> Result<()> {
    let guest = scene::boot(story, suite, IMAGES)?;
    // As on most hosts, where the store and what is mounted lie on one file system.
    guest.ok(&["umount", "/var/lib/bedplate"])?;
    guest.sh("mkdir -p /srv/{shared,slave,private,fixed} && mknod /dev/extra c 1 5")?;
    scene::with_each_runtime(&guest, suite, told_by)
}

fn told_by(scene: Scene<'_>) -> Result<()> {
    scene.install("plain", &[])?;
    writes_to_the_journal(scene).context("journal")?;
    is_edited(scene).context("edit")?;
    is_enabled_and_disabled(scene).context("enable")?;
    is_sound(scene)?;
    runs_on_through_a_repair(scene).context("repair")?;
    scene.uninstall("plain")?;
    runs_by_the_clock(scene).context("timer")?;
    runs_by_a_path(scene).context("path")?;
    scene.install("mounted", &[])?;
    scene.restart("mounted")?;
    mounts_pass(scene).context("mounts")?;
    has_walls(scene).context("walls")?;
    enters_fields(scene).context("journald's socket")?;
    scene.uninstall("mounted")
}

/// The last entry of the unit with a message.
fn entry(scene: Scene<'_>, name: &str, message: &str) -> Result<Value> {
    scene.guest.ok(&["journalctl", "--sync"])?;
    let filters = [
        format!("_SYSTEMD_UNIT={name}.service"),
        format!("MESSAGE={message}"),
    ];
    let argv = ["journalctl", "--quiet", "--output=json", "--lines=1"];
    let line = scene
        .guest
        .ok(&[&argv[..], &[&filters[0], &filters[1]]].concat())?;
    serde_json::from_str(&line).with_context(|| format!("`{message}` of {name}: {line}"))
}

fn has_fields(entry: &Value, fields: &[(&str, &str)]) -> Result<()> {
    for (field, value) in fields {
        ensure!(
            entry[*field] == **value,
            "{field} is not {value}: {entry:#}"
        );
    }
    Ok(())
}

fn writes_to_the_journal(scene: Scene<'_>) -> Result<()> {
    let script = "say out; complain err; say <3>bad; complain <4>worse; tell READY=1; wait";
    scene.edit("plain", script, "")?;
    scene.restart("plain")?;
    let main = scene.guest.property("plain.service", "MainPID")?;
    for (message, priority) in [("out", "6"), ("err", "6"), ("bad", "3"), ("worse", "4")] {
        let fields = [
            ("PRIORITY", priority),
            ("SYSLOG_IDENTIFIER", "plain"),
            ("_PID", &main),
            ("_COMM", "payload"),
            ("_TRANSPORT", "stdout"),
            ("_UID", "1000"),
        ];
        has_fields(&entry(scene, "plain", message)?, &fields)?;
    }
    // Nobody is between.
    product::holds_payload_alone(scene.guest, "plain", "payload")?;
    product::nothing_resident(scene.guest)?;
    let status = scene
        .guest
        .ok(&["systemctl", "status", "--no-pager", "plain.service"])?;
    for line in ["out", "err", "bad", "worse"] {
        let line = format!("plain[{main}]: {line}");
        ensure!(status.contains(&line), "no `{line}` in {status}");
    }
    scene.shown(&["journal.streams", "journal.priorities", "journal.shown"])
}

/// As with a terminal and an editor, which gets perhaps a line's number, and a copy, which it changes.
fn edit(scene: Scene<'_>, change: &str, options: &str) -> Result<()> {
    let editor = "/opt/editor";
    let text = format!("#!/bin/sh\nfor file; do :; done\n{change} \"$file\"\n");
    scene.guest.write(editor, text)?;
    scene.guest.ok(&["chmod", "+x", editor])?;
    let command = format!("SYSTEMD_EDITOR={editor} systemctl edit {options} plain.service");
    let script = format!("script --quiet --return --command \"{command}\" /dev/null </dev/null");
    scene.guest.sh(&script)?;
    Ok(())
}

fn is_edited(scene: Scene<'_>) -> Result<()> {
    scene.guest.ok(&["systemctl", "revert", "plain.service"])?;
    let text = "[Service]\nEnvironment=GREETING=hi\n\
        Environment=\"SCRIPT=env GREETING; tell READY=1; wait\"\n";
    scene.guest.write("/run/scene/drop-in", text)?;
    edit(scene, "cp /run/scene/drop-in", "")?;
    scene.restart("plain")?;
    let said = scene.said("plain")?;
    ensure!(said.lines().any(|line| line == "GREETING=hi"), "{said}");
    let shown = scene.guest.ok(&["systemctl", "cat", "plain.service"])?;
    let file = "# /etc/systemd/system.attached/plain.service\n";
    ensure!(
        shown.contains(file) && shown.contains("GREETING=hi"),
        "{shown}"
    );

    // A whole unit of the operator's, above bedplate's.
    edit(
        scene,
        "sed -i s/^Description=.*/Description=Mine/",
        "--full",
    )?;
    scene.restart("plain")?;
    scene.has("plain", &[("Description", "Mine")])?;
    scene
        .guest
        .ok(&["rm", "/etc/systemd/system/plain.service"])?;
    scene.guest.ok(&["systemctl", "revert", "plain.service"])?;
    scene.restart("plain")?;
    let native = [("Description", "Payload of a story"), ("DropInPaths", "")];
    scene.has("plain", &native)?;
    scene.shown(&["edit.drop-in"])
}

fn is_enabled_and_disabled(scene: Scene<'_>) -> Result<()> {
    let guest = scene.guest;
    let is = |state: &str| scene.has("plain", &[("UnitFileState", state)]);
    is("enabled")?;
    guest.ok(&["systemctl", "disable", "--quiet", "plain.service"])?;
    is("disabled")?;
    guest.ok(&["systemctl", "enable", "--quiet", "plain.service"])?;
    is("enabled")?;
    let preset = "/etc/systemd/system-preset/00-story.preset";
    guest.write(preset, "disable plain.service\n")?;
    guest.ok(&["systemctl", "preset", "--quiet", "plain.service"])?;
    is("disabled")?;
    guest.ok(&["rm", preset])?;
    guest.ok(&["systemctl", "preset", "--quiet", "plain.service"])?;
    is("enabled")?;
    guest.ok(&["systemctl", "mask", "--quiet", "plain.service"])?;
    scene.has("plain", &[("LoadState", "masked")])?;
    guest.ok(&["systemctl", "unmask", "--quiet", "plain.service"])?;
    is("enabled")?;
    scene.shown(&["edit.enable"])
}

fn is_sound(scene: Scene<'_>) -> Result<()> {
    let output = scene
        .guest
        .run(&["systemd-analyze", "verify", "--man=no", "plain.service"])?;
    ensure!(
        output.status == 0 && output.stdout.is_empty() && output.stderr.is_empty(),
        "{output:?}"
    );
    let shown = product::does(scene.guest, &["show", "plain"])?;
    for privilege in ["host network", "writes /var/lib/plain"] {
        ensure!(shown.contains(privilege), "no `{privilege}` in {shown}");
    }
    scene.shown(&["edit.verify", "edit.privileges"])
}

/// What is being executed cannot be written to: its object goes.
const DAMAGE: &str = "cd /var/lib/bedplate
rootfs=containers/plain/1/rootfs
find repo/objects -samefile $rootfs/payload -delete
for file in passwd machine-id; do printf x | dd of=$rootfs/etc/$file conv=notrunc status=none; done";

/// What a running payload consists of is damaged and repaired, and it notices nothing.
fn runs_on_through_a_repair(scene: Scene<'_>) -> Result<()> {
    let guest = scene.guest;
    scene.restart("plain")?;
    let before = running(guest)?;
    guest.sh(DAMAGE)?;
    let repair = product::bedplate(guest, &["repair"])?;
    let repaired = repair.stdout.matches("repaired object ").count();
    // To replace it would take away what is mounted over it.
    let covered = "left file /var/lib/bedplate/containers/plain/1/rootfs/etc/machine-id: \
        something is mounted there while the container runs: stop it first\n";
    let said = repair.stdout.contains(covered);
    ensure!(repair.status == 1 && repaired == 3 && said, "{repair:?}");
    let after = running(guest)?;
    ensure!(after == before, "{before:#?} became {after:#?}");

    guest.ok(&["systemctl", "stop", "plain.service"])?;
    product::does(guest, &["repair"])?;
    product::does(guest, &["verify"])?;
    guest.ok(&["rm", "-r", "/var/lib/bedplate/containers/plain/replaced"])?;
    scene.restart("plain")
}

/// All by which one run of a unit differs from another, and what is mounted in it.
fn running(guest: &Guest) -> Result<Vec<String>> {
    let property = |name: &str| guest.property("plain.service", name);
    ensure!(property("ActiveState")? == "active");
    let main = property("MainPID")?;
    Ok(vec![
        property("InvocationID")?,
        property("NRestarts")?,
        property("ActiveEnterTimestampMonotonic")?,
        guest.ok(&["cat", &format!("/proc/{main}/mountinfo")])?,
        main,
    ])
}

fn runs_by_the_clock(scene: Scene<'_>) -> Result<()> {
    scene.install("clocked", &["--set", "SCRIPT=say ticked"])?;
    scene.guest.ok(&["systemctl", "start", "clocked.timer"])?;
    product::wait_said(scene.guest, "clocked.service", "ticked", 1)?;
    scene.wait("clocked", "ActiveState", "inactive")?;
    scene.has("clocked", &[("Result", "success"), ("ExecMainStatus", "0")])?;
    scene.guest.ok(&["systemctl", "stop", "clocked.timer"])?;

    // Who requires it waits until it is done.
    scene.install("later", &["--set", "SCRIPT=wait"])?;
    scene.edit("clocked", "pause 300; say done", "")?;
    scene.restart("later")?;
    let at = |unit: &str, property: &str| -> Result<u64> {
        Ok(scene.guest.property(unit, property)?.parse()?)
    };
    let done = at("clocked.service", "ExecMainExitTimestampMonotonic")?;
    let began = at("later.service", "ExecMainStartTimestampMonotonic")?;
    ensure!(
        0 < done && done <= began,
        "done at {done}, began at {began}"
    );
    scene.uninstall("later")?;
    scene.uninstall("clocked")?;
    scene.shown(&["timers.timer", "timers.oneshot"])
}

fn runs_by_a_path(scene: Scene<'_>) -> Result<()> {
    scene.install("wished", &["--set", "SCRIPT=obey /data/wish"])?;
    scene.guest.ok(&["systemctl", "start", "wished.path"])?;
    for wish in ["one", "two"] {
        let script = format!(
            "mkdir -p /var/lib/wished && cd /var/lib/wished && chown 1000:1000 . && echo say {wish} >new && mv new wish"
        );
        scene.guest.sh(&script)?;
        product::wait_said(scene.guest, "wished.service", wish, 1)?;
        scene.wait("wished", "ActiveState", "inactive")?;
    }
    scene.guest.ok(&["systemctl", "stop", "wished.path"])?;
    scene.uninstall("wished")?;
    scene.shown(&["timers.path"])
}

/// Lets the payload do a step, and waits until it has.
fn told(scene: Scene<'_>, step: &str) -> Result<()> {
    let script = format!("cd /var/lib/mounted && echo '{step}' >next && mv next step");
    scene.guest.sh(&script)?;
    guest::until(UP, "the payload", || {
        Ok(scene
            .guest
            .run(&["test", "-e", "/var/lib/mounted/step"])?
            .status
            != 0)
    })
}

/// What each kind of propagation lets through: from the host, and to it.
pub(crate) const PASSES: &[(&str, bool, bool)] = &[
    ("shared", true, true),
    ("slave", true, false),
    ("private", false, false),
];

fn mounts_pass(scene: Scene<'_>) -> Result<()> {
    let guest = scene.guest;
    let main = guest.property("mounted.service", "MainPID")?;
    for (kind, inwards, outwards) in PASSES {
        guest.sh(&format!(
            "mkdir -p /srv/{kind}/{{host,inside}} && mount -t tmpfs story /srv/{kind}/host && touch /srv/{kind}/host/there"
        ))?;
        let seen = format!("/proc/{main}/root/{kind}/host/there");
        let passed = guest.run(&["test", "-e", &seen])?.status == 0;
        ensure!(passed == *inwards, "{kind}: from the host: {passed}");
        told(scene, &format!("mount /{kind}/inside"))?;
        product::wait_said(
            guest,
            "mounted.service",
            &format!("mounted /{kind}/inside"),
            1,
        )?;
        let seen = format!("/srv/{kind}/inside");
        let passed = guest.run(&["mountpoint", "--quiet", &seen])?.status == 0;
        ensure!(passed == *outwards, "{kind}: to the host: {passed}");
        guest.sh(&format!(
            "umount /srv/{kind}/host; if {outwards}; then umount /srv/{kind}/inside; fi"
        ))?;
    }
    scene.shown(&["mounts.shared", "mounts.slave", "mounts.private"])
}

fn has_walls(scene: Scene<'_>) -> Result<()> {
    scene.guest.sh("mknod /var/lib/mounted/foreign c 1 11")?;
    let cases = [
        (
            "make /fixed/file",
            "make /fixed/file: Read-only file system (os error 30)",
        ),
        (
            "make /file",
            "make /file: Read-only file system (os error 30)",
        ),
        (
            "open /data/foreign",
            "open /data/foreign: Permission denied (os error 13)",
        ),
        ("open /dev/extra", "opened /dev/extra"),
    ];
    for (step, line) in cases {
        told(scene, step)?;
        product::wait_said(scene.guest, "mounted.service", line, 1)?;
    }
    scene.shown(&["mounts.devices", "mounts.read-only"])
}

/// An entry with a field of its own is the unit's, as the journal's own.
fn enters_fields(scene: Scene<'_>) -> Result<()> {
    told(scene, "enter MESSAGE=entered|PRIORITY=5|COLOUR=blue")?;
    let main = scene.guest.property("mounted.service", "MainPID")?;
    guest::until(UP, "the entry", || {
        Ok(entry(scene, "mounted", "entered").is_ok())
    })?;
    let fields = [
        ("PRIORITY", "5"),
        ("COLOUR", "blue"),
        ("_TRANSPORT", "journal"),
        ("_PID", &main),
        ("_COMM", "payload"),
    ];
    has_fields(&entry(scene, "mounted", "entered")?, &fields)?;
    scene.shown(&["journal.native"])
}
