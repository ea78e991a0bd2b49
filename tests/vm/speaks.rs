//! What a payload says by sd_notify(3) systemd takes as from a native service, and what systemd asks of it arrives.

use anyhow::{Context, Result, ensure};

use crate::guest::Suite;
use crate::product::{self, UP};
use crate::scene::{self, Image, Scene};
use crate::story::{Story, Told};
use crate::{fidelity, guest};

/// The stories of this file.
pub(crate) const STORIES: &[Told] = &[
    ("speaks-trixie", |story| speaks(story, Suite::Trixie)),
    ("speaks-bookworm", |story| speaks(story, Suite::Bookworm)),
];

const IMAGES: &[Image] = &[
    (
        "talks",
        "type = \"notify\"\nreload = \"SIGHUP\"\nwatchdog = \"1s\"",
        &[],
    ),
    (
        "asked",
        "type = \"notify\"\nreload = \"/payload 'make /data/reloaded'\"",
        &[],
    ),
    ("answers", "type = \"notify-reload\"", &[]),
];

/// What systemd 252 gives instead of `Type=notify-reload`.
const NO_NOTIFY_RELOAD: &str = "below systemd 253 `notify-reload` is `notify`: the signal is sent, and `systemctl reload` does not wait";

fn speaks(story: &Story, suite: Suite) -> Result<()> {
    let guest = scene::boot(story, suite, IMAGES)?;
    scene::with_each_runtime(&guest, suite, told_by)
}

fn told_by(scene: Scene<'_>) -> Result<()> {
    for user in ["user", "0"] {
        scene.install("talks", &["--set", &format!("USER={user}")])?;
        extends(scene).with_context(|| format!("as {user}"))?;
        reloads_by_signal(scene, user == "user").with_context(|| format!("as {user}"))?;
        if user == "user" {
            says_that_it_stops(scene)?;
            is_watched(scene)?;
        }
        scene.uninstall("talks")?;
    }
    reloads_by_command(scene)?;
    reloads_and_says_so(scene)
}

/// More time than the limit, for the one that asks for it.
fn extends(scene: Scene<'_>) -> Result<()> {
    let slow = "tell EXTEND_TIMEOUT_USEC=30000000; pause 2200; tell READY=1; wait";
    scene.edit("talks", slow, "TimeoutStartSec=2s\nRestart=no\n")?;
    scene.restart("talks")?;
    scene.edit("talks", "wait", "TimeoutStartSec=500ms\nRestart=no\n")?;
    let start = scene
        .guest
        .run(&["systemctl", "restart", "talks.service"])?;
    ensure!(start.status == 1, "{start:?}");
    scene.wait("talks", "SubState", "failed")?;
    scene.has("talks", &[("Result", "timeout")])?;
    scene.shown(&["notify.extend"])
}

/// The signal of the contract; who may say so tells of the reload and of what comes after.
fn reloads_by_signal(scene: Scene<'_>, heard: bool) -> Result<()> {
    scene.edit("talks", "reloads", "WatchdogSec=0\n")?;
    scene.restart("talks")?;
    let main = scene.guest.property("talks.service", "MainPID")?;
    scene.guest.ok(&["systemctl", "reload", "talks.service"])?;
    product::wait_said(scene.guest, "talks.service", "reloading", 1)?;
    if heard {
        scene.wait("talks", "StatusText", "reloaded")?;
    }
    scene.wait("talks", "ActiveState", "active")?;
    scene.has("talks", &[("MainPID", &main), ("NRestarts", "0")])?;
    product::holds_payload_alone(scene.guest, "talks", "payload")?;
    scene.shown(&["notify.reload-signal"])
}

fn says_that_it_stops(scene: Scene<'_>) -> Result<()> {
    let script = "tell READY=1; await /data/end; tell STOPPING=1|STATUS=ending; await /data/ended";
    scene.edit("talks", script, "WatchdogSec=0\n")?;
    scene.restart("talks")?;
    scene.guest.ok(&["touch", "/var/lib/talks/end"])?;
    scene.wait("talks", "ActiveState", "deactivating")?;
    scene.has("talks", &[("StatusText", "ending")])?;
    scene.guest.ok(&["touch", "/var/lib/talks/ended"])?;
    scene.wait("talks", "ActiveState", "inactive")?;
    scene.has("talks", &[("Result", "success"), ("NRestarts", "0")])?;
    scene.shown(&["notify.stopping"])
}

/// It is heard as long as it pings, and killed when it does not.
fn is_watched(scene: Scene<'_>) -> Result<()> {
    let script = "tell READY=1; ping /data/hang; await /data/never";
    scene.edit("talks", script, "RestartSec=100ms\n")?;
    scene.restart("talks")?;
    let heard = |scene: Scene<'_>| {
        scene
            .guest
            .property("talks.service", "WatchdogTimestampMonotonic")
    };
    for _ping in 0..3 {
        let last = heard(scene)?;
        guest::until(UP, "a ping", || Ok(heard(scene)? != last))?;
    }
    let main = scene.guest.property("talks.service", "MainPID")?;
    scene.guest.ok(&["touch", "/var/lib/talks/hang"])?;
    guest::until(UP, "the watchdog", || {
        let said = scene.guest.journal("talks.service")?;
        let told = [
            "Watchdog timeout (limit 1s)!",
            "Failed with result 'watchdog'.",
        ];
        Ok(told.iter().all(|line| said.contains(line)))
    })?;
    scene.guest.ok(&["rm", "/var/lib/talks/hang"])?;
    guest::until(UP, "another payload", || {
        let now = scene.guest.property("talks.service", "MainPID")?;
        Ok(now != "0" && now != main)
    })?;
    scene.guest.wait_active("talks.service", UP)?;
    scene.shown(&["watchdog.pings", "watchdog.hang"])
}

/// The command runs in the container, and the reload ends with it.
fn reloads_by_command(scene: Scene<'_>) -> Result<()> {
    scene.install("asked", &[])?;
    scene.restart("asked")?;
    let main = scene.guest.property("asked.service", "MainPID")?;
    scene.guest.ok(&["systemctl", "reload", "asked.service"])?;
    scene.guest.ok(&["test", "-e", "/var/lib/asked/reloaded"])?;
    scene.has("asked", &[("ActiveState", "active"), ("MainPID", &main)])?;
    product::holds_payload_alone(scene.guest, "asked", "payload")?;
    scene.uninstall("asked")?;
    scene.shown(&["notify.reload-command"])
}

/// When `systemctl reload` has ended, so has the reload.
fn reloads_and_says_so(scene: Scene<'_>) -> Result<()> {
    scene.install("answers", &["--set", "SCRIPT=reloads"])?;
    scene.restart("answers")?;
    scene
        .guest
        .ok(&["systemctl", "reload", "answers.service"])?;
    let check = "notify.reload-notify";
    if scene.suite == Suite::Trixie {
        scene.has(
            "answers",
            &[("Type", "notify-reload"), ("StatusText", "reloaded")],
        )?;
        scene.shown(&[check])?;
    } else {
        scene.has("answers", &[("Type", "notify")])?;
        scene.wait("answers", "StatusText", "reloaded")?;
        fidelity::degraded(scene.suite, scene.runtime, check, NO_NOTIFY_RELOAD)?;
    }
    scene.wait("answers", "ActiveState", "active")?;
    scene.uninstall("answers")
}
