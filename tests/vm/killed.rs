//! Whatever is killed, and whatever systemd does to itself: a container goes on or is started again, and is never lost.

use anyhow::{Context, Result, ensure};

use crate::guest::{self, Suite};
use crate::product::{self, UP};
use crate::scene::{self, Image, Scene};
use crate::story::{Story, Told};

/// The stories of this file.
pub(crate) const STORIES: &[Told] = &[
    ("killed-trixie", |story| killed(story, Suite::Trixie)),
    ("killed-bookworm", |story| killed(story, Suite::Bookworm)),
];

const IMAGES: &[Image] = &[("stays", "type = \"notify\"", &[])];

/// A runtime that stands still before it does anything, while a file is there. It says which process it is.
const SLOW: &str = "#!/bin/sh
for verb; do
    [ \"$verb\" != create ] || { echo $$ >/run/slow/pid; while [ -e /run/slow/wait ]; do sleep 0.05; done; }
done
exec RUNTIME \"$@\"
";

/// How often systemd reads its units while the container starts and stops.
const RELOADS: usize = 10;

fn killed(story: &Story, suite: Suite) -> Result<()> {
    let guest = scene::boot(story, suite, IMAGES)?;
    scene::with_each_runtime(&guest, suite, told_by)
}

fn told_by(scene: Scene<'_>) -> Result<()> {
    dies_while_it_starts(scene)?;
    scene.install("stays", &[])?;
    scene.edit("stays", "tell READY=1; wait", "RestartSec=100ms\n")?;
    scene.restart("stays")?;
    outlives_systemd(scene)?;
    outlives_reloads(scene)?;
    scene.uninstall("stays")
}

fn main_pid(scene: Scene<'_>) -> Result<String> {
    scene.guest.property("stays.service", "MainPID")
}

/// It is up, alone in its unit, and of bedplate nothing is left.
fn is_well(scene: Scene<'_>) -> Result<()> {
    scene.guest.wait_active("stays.service", UP)?;
    product::holds_payload_alone(scene.guest, "stays", "payload")?;
    product::nothing_resident(scene.guest)
}

/// The launcher, its runtime, and the launcher that waits for READY.
fn dies_while_it_starts(scene: Scene<'_>) -> Result<()> {
    let guest = scene.guest;
    let path = guest.sh(&format!("command -v {}", scene.runtime))?;
    let name = path.rsplit('/').next().unwrap_or_default();
    let slow = format!("/opt/slow/{name}");
    guest.write(&slow, SLOW.replace("RUNTIME", &path))?;
    guest.ok(&["chmod", "+x", &slow])?;
    guest.ok(&["mkdir", "-p", "/run/slow"])?;
    let slowly = Scene {
        runtime: &slow,
        ..scene
    };
    slowly.install("stays", &["--set", "USER=0"])?;
    slowly.edit("stays", "tell READY=1; wait", "RestartSec=100ms\n")?;
    for victim in ["runtime", "launcher"] {
        guest.sh("rm -f /run/slow/pid; touch /run/slow/wait")?;
        guest.ok(&["systemctl", "start", "--no-block", "stays.service"])?;
        guest::until(UP, "the runtime", || {
            Ok(guest.run(&["test", "-s", "/run/slow/pid"])?.status == 0)
        })?;
        let pid = match victim {
            "runtime" => guest.ok(&["cat", "/run/slow/pid"])?,
            _ => main_pid(scene)?,
        };
        guest.ok(&["kill", "-KILL", &pid])?;
        guest.ok(&["rm", "/run/slow/wait"])?;
        is_well(scene).with_context(|| format!("after the death of the {victim}"))?;
        let again = guest.property("stays.service", "NRestarts")?;
        ensure!(again != "0", "the death of the {victim} was no failure");
        guest.ok(&["systemctl", "stop", "stays.service"])?;
    }
    loses_its_listener(scene)?;
    slowly.uninstall("stays")?;
    scene.shown(&["kill.launcher"])
}

/// The payload is there, and who would tell systemd that it is ready is dead.
fn loses_its_listener(scene: Scene<'_>) -> Result<()> {
    let guest = scene.guest;
    let lines = "RestartSec=100ms\nTimeoutStartSec=3s\nTimeoutStopSec=300ms\n";
    scene.edit(
        "stays",
        "say loading; await /data/go; tell READY=1; wait",
        lines,
    )?;
    guest.ok(&["systemctl", "start", "--no-block", "stays.service"])?;
    product::wait_said(guest, "stays.service", "loading", 1)?;
    let group = guest.property("stays.service", "ControlGroup")?;
    // The runtime may be there still.
    guest.sh(&format!(
        "kill -KILL $(cat /sys/fs/cgroup{group}/supervisor/cgroup.procs)"
    ))?;
    product::wait_said(guest, "stays.service", "loading", 2)?;
    guest.ok(&["touch", "/var/lib/stays/go"])?;
    is_well(scene).context("after the death of the launcher that listened")?;
    guest.ok(&["systemctl", "stop", "stays.service"])?;
    Ok(())
}

/// systemd executes itself anew, and knows it still.
fn outlives_systemd(scene: Scene<'_>) -> Result<()> {
    let before = main_pid(scene)?;
    scene.guest.ok(&["systemctl", "daemon-reexec"])?;
    is_well(scene)?;
    let after = main_pid(scene)?;
    ensure!(before == after, "{before} before, {after} afterwards");
    scene.guest.ok(&["kill", "-KILL", &after])?;
    guest::until(UP, "another payload", || {
        Ok(!["0", &after].contains(&main_pid(scene)?.as_str()))
    })?;
    is_well(scene)?;
    scene.shown(&["kill.reexec"])
}

/// Units are read while it starts, runs and stops.
fn outlives_reloads(scene: Scene<'_>) -> Result<()> {
    scene.guest.sh(&format!(
        "for i in {{1..{RELOADS}}}; do systemctl daemon-reload; done &
         for i in {{1..5}}; do
             systemctl restart stays.service
             systemctl is-active --quiet stays.service
         done
         wait $!"
    ))?;
    is_well(scene)?;
    scene.has("stays", &[("NRestarts", "0"), ("Result", "success")])?;
    scene.shown(&["kill.reload"])
}
