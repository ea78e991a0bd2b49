//! How a payload ends is how its unit ends: status and signal, `Result`, what is started again and what is not; and how
//! systemd ends it.

use anyhow::{Context, Result, ensure};

use crate::guest::{self, Suite};
use crate::images;
use crate::product::UP;
use crate::scene::{self, Image, Scene};
use crate::story::{Story, Told};

/// The stories of this file.
pub(crate) const STORIES: &[Told] = &[
    ("ends-trixie", |story| ends(story, Suite::Trixie)),
    ("ends-bookworm", |story| ends(story, Suite::Bookworm)),
];

const IMAGES: &[Image] = &[
    ("tells", "type = \"notify\"", &[]),
    ("execs", "type = \"exec\"", &[]),
    ("once", "type = \"oneshot\"", &[]),
    (
        "quits",
        "type = \"notify\"",
        &[(images::CONFIG, r#"{"StopSignal":"SIGQUIT"}"#)],
    ),
    // What is no program: the runtime sees it too late.
    (
        "broken",
        "type = \"exec\"",
        &[("payload", "neither this nor that\n")],
    ),
    (
        "ordered",
        "type = \"notify\"",
        &[("exports/service.hbs", OWN_UNIT)],
    ),
];

/// A unit of an image's own, with a command that ends the payload.
const OWN_UNIT: &str = "[Unit]
Description=With a unit of its own

[Service]
Type=notify
NotifyAccess=all
ExecStart={{{launch}}}
ExecStop=/bin/touch {{state_dir}}/asked
ExecStop=/bin/sh -c 'while kill -0 $$MAINPID; do sleep 0.05; done'
RuntimeDirectory=bedplate/{{name}}
StateDirectory={{name}}
Delegate=yes
KillMode=mixed

[Install]
WantedBy=multi-user.target
";

/// An end: the image, its steps, lines of the unit, whether the start succeeds, and what the unit has in the end.
struct End {
    image: &'static str,
    script: &'static str,
    lines: &'static str,
    starts: bool,
    /// `Result`, `ExecMainCode` (CLD_EXITED, CLD_KILLED), `ExecMainStatus`.
    left: [&'static str; 3],
}

const fn end(
    image: &'static str,
    script: &'static str,
    lines: &'static str,
    starts: bool,
    left: [&'static str; 3],
) -> End {
    End {
        image,
        script,
        lines,
        starts,
        left,
    }
}

/// As root, which the launcher speaks for, and as another, who speaks to systemd.
#[rustfmt::skip]
const ENDS: &[End] = &[
    end("tells", "tell READY=1; pause 200; exit 0", "", true, ["success", "1", "0"]),
    end("tells", "tell READY=1; pause 200; exit 7", "", true, ["exit-code", "1", "7"]),
    end("tells", "tell READY=1; pause 200; exit 7", "SuccessExitStatus=7\n", true, ["success", "1", "7"]),
    end("tells", "tell READY=1; pause 200; exit 7", "SuccessExitStatus=8 9\n", true, ["exit-code", "1", "7"]),
    end("tells", "exit 0", "", false, ["protocol", "1", "0"]),
    end("tells", "exit 7", "", false, ["exit-code", "1", "7"]),
    end("tells", "exit 7", "SuccessExitStatus=7\n", false, ["protocol", "1", "7"]),
    end("tells", "wait", "TimeoutStartSec=500ms\n", false, ["timeout", "1", "0"]),
    end("execs", "exit 0", "", true, ["success", "1", "0"]),
    end("execs", "exit 7", "", true, ["exit-code", "1", "7"]),
    end("execs", "exit 7", "SuccessExitStatus=7\n", true, ["success", "1", "7"]),
    end("once", "exit 0", "", true, ["success", "1", "0"]),
    end("once", "exit 7", "", false, ["exit-code", "1", "7"]),
    end("once", "exit 7", "SuccessExitStatus=7\n", true, ["success", "1", "7"]),
];

/// How often what ends at once: a race would show.
const TIMES: usize = 3;

/// Each kind of `Restart=`, and whether it starts again what has ended well, with a status, by a signal, and what hung:
/// systemd.service(5).
const RESTARTS: &[(&str, [bool; 4])] = &[
    ("no", [false, false, false, false]),
    ("always", [true, true, true, true]),
    ("on-success", [true, false, false, false]),
    ("on-failure", [false, true, true, true]),
    ("on-abnormal", [false, false, true, true]),
    ("on-abort", [false, false, true, false]),
    ("on-watchdog", [false, false, false, true]),
];

fn ends(story: &Story, suite: Suite) -> Result<()> {
    let guest = scene::boot(story, suite, IMAGES)?;
    scene::with_each_runtime(&guest, suite, told_by)
}

fn told_by(scene: Scene<'_>) -> Result<()> {
    for user in ["user", "0"] {
        for image in ["tells", "execs", "once"] {
            scene.install(image, &["--set", &format!("USER={user}")])?;
            let ends = ENDS.iter().filter(|end| end.image == image);
            // What is success is systemd's to say, whoever it is.
            for end in ends.filter(|end| user == "0" || !end.lines.contains("SuccessExit")) {
                leaves(scene, end).with_context(|| {
                    format!("{image} as {user}: `{}` {}", end.script, end.lines)
                })?;
            }
            scene.uninstall(image)?;
        }
    }
    scene.shown(&["exit.result", "exit.success"])?;
    cannot_be_executed(scene)?;
    crashes(scene)?;
    is_started_again(scene)?;
    is_given_up(scene)?;
    is_stopped(scene)
}

fn leaves(scene: Scene<'_>, end: &End) -> Result<()> {
    scene.edit(end.image, end.script, &format!("Restart=no\n{}", end.lines))?;
    let unit = format!("{}.service", end.image);
    let times = if end.image == "execs" { TIMES } else { 1 };
    for _time in 0..times {
        let start = scene.guest.run(&["systemctl", "start", &unit])?;
        ensure!((start.status == 0) == end.starts, "{start:?}");
        let [result, code, status] = end.left;
        let state = if result == "success" {
            "dead"
        } else {
            "failed"
        };
        scene.wait(end.image, "SubState", state)?;
        let left = [
            ("Result", result),
            ("ExecMainCode", code),
            ("ExecMainStatus", status),
            ("MainPID", "0"),
        ];
        scene.has(end.image, &left)?;
    }
    Ok(())
}

/// A start fails when there is nothing that could run.
fn cannot_be_executed(scene: Scene<'_>) -> Result<()> {
    scene.install("broken", &[])?;
    scene.edit("broken", "", "Restart=no\n")?;
    for _time in 0..TIMES {
        let start = scene.guest.run(&["systemctl", "start", "broken.service"])?;
        ensure!(start.status == 1, "{start:?}");
        scene.has("broken", &[("Result", "exit-code")])?;
    }
    scene.uninstall("broken")
}

/// A signal of its own making, and one from elsewhere.
fn crashes(scene: Scene<'_>) -> Result<()> {
    scene.install("tells", &[])?;
    scene.edit("tells", "tell READY=1; obey /data/step", "Restart=no\n")?;
    scene.restart("tells")?;
    told(scene, "crash")?;
    scene.wait("tells", "SubState", "failed")?;
    // Whether there is a core dump is the kernel's setting. As process 1 it is deaf to abort(3)'s own signal, and the
    // C library has another way.
    let result = scene.guest.property("tells.service", "Result")?;
    let status = scene.guest.property("tells.service", "ExecMainStatus")?;
    ensure!(
        ["signal", "core-dump"].contains(&result.as_str())
            && ["6", "11"].contains(&status.as_str()),
        "Result={result}, ExecMainStatus={status}"
    );
    scene.restart("tells")?;
    killed(scene)?;
    scene.wait("tells", "SubState", "failed")?;
    let left = [
        ("Result", "signal"),
        ("ExecMainCode", "2"),
        ("ExecMainStatus", "9"),
    ];
    scene.has("tells", &left)?;
    scene.uninstall("tells")
}

/// Lets the payload do a step.
fn told(scene: Scene<'_>, step: &str) -> Result<()> {
    let script = format!("cd /var/lib/tells && echo {step} >next && mv next step");
    scene.guest.sh(&script)?;
    Ok(())
}

fn killed(scene: Scene<'_>) -> Result<()> {
    let main = scene.guest.property("tells.service", "MainPID")?;
    scene.guest.ok(&["kill", "-KILL", &main])?;
    Ok(())
}

fn is_started_again(scene: Scene<'_>) -> Result<()> {
    scene.install("tells", &[])?;
    for (restart, again) in RESTARTS {
        let lines = format!("Restart={restart}\nRestartSec=10ms\n");
        let hangs = format!("{lines}WatchdogSec=300ms\nWatchdogSignal=SIGKILL\n");
        let script = "tell READY=1; ping /data/step; obey /data/step; await /data/never";
        scene.edit("tells", script, &lines)?;
        for (ending, wanted) in ["exit 0", "exit 7", "killed", "hang"].iter().zip(again) {
            if *ending == "hang" {
                scene.edit("tells", script, &hangs)?;
            }
            scene.guest.ok(&["rm", "-f", "/var/lib/tells/step"])?;
            scene.restart("tells")?;
            let main = scene.guest.property("tells.service", "MainPID")?;
            match *ending {
                "killed" => killed(scene)?,
                // It does something else than to ping.
                "hang" => told(scene, "await /data/never")?,
                step => told(scene, step)?,
            }
            ended(scene, &main, *wanted).with_context(|| format!("Restart={restart}: {ending}"))?;
            if *wanted {
                scene.guest.wait_active("tells.service", UP)?;
            }
        }
    }
    scene.uninstall("tells")?;
    scene.shown(&["exit.restart"])
}

/// There is another payload, or none and there will be none.
fn ended(scene: Scene<'_>, main: &str, again: bool) -> Result<()> {
    guest::until(UP, "its end", || {
        let properties = ["--property=MainPID", "--property=SubState"];
        let shown = [&["systemctl", "show"][..], &properties, &["tells.service"]].concat();
        let shown = scene.guest.ok(&shown)?;
        let is = |property: &str| {
            shown
                .lines()
                .find_map(|line| line.strip_prefix(property))
                .unwrap_or_default()
                .to_owned()
        };
        let over = ["dead", "failed"].contains(&is("SubState=").as_str());
        ensure!(!(over && again), "it was not started again");
        let another = !["0", main].contains(&is("MainPID=").as_str());
        ensure!(again || !another, "it was started again");
        Ok(over || another)
    })
}

/// More starts than it may have.
fn is_given_up(scene: Scene<'_>) -> Result<()> {
    scene.install("tells", &[])?;
    let lines = "Restart=on-failure\nRestartSec=10ms\n[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=3\n";
    scene.edit("tells", "say begun; exit 7", lines)?;
    let begun = |scene: Scene<'_>| -> Result<usize> {
        let said = scene.guest.journal("tells.service")?;
        Ok(said.lines().filter(|line| *line == "begun").count())
    };
    let before = begun(scene)?;
    scene.guest.run(&["systemctl", "start", "tells.service"])?;
    scene.wait("tells", "SubState", "failed")?;
    let starts = begun(scene)? - before;
    ensure!(starts == 3, "{starts} starts, not 3");
    scene.has("tells", &[("Result", "exit-code"), ("ExecMainStatus", "7")])?;
    let start = scene.guest.run(&["systemctl", "start", "tells.service"])?;
    ensure!(start.status == 1, "{start:?}");
    let said = scene.guest.journal("tells.service")?;
    ensure!(
        said.contains("Start request repeated too quickly."),
        "{said}"
    );
    scene
        .guest
        .ok(&["systemctl", "reset-failed", "tells.service"])?;
    scene.uninstall("tells")?;
    scene.shown(&["exit.limit"])
}

/// By the signal of the image, and by a command of the image's own unit.
fn is_stopped(scene: Scene<'_>) -> Result<()> {
    scene.install("quits", &[])?;
    scene.edit("quits", "tell READY=1; heed 3; make /data/quit", "")?;
    scene.restart("quits")?;
    scene.guest.ok(&["systemctl", "stop", "quits.service"])?;
    scene.has("quits", &[("Result", "success"), ("ExecMainStatus", "0")])?;
    scene.guest.ok(&["test", "-e", "/var/lib/quits/quit"])?;
    scene.uninstall("quits")?;

    scene.install("ordered", &["--set", "USER=0"])?;
    scene.edit(
        "ordered",
        "tell READY=1; await /data/asked; make /data/ended",
        "",
    )?;
    scene.restart("ordered")?;
    scene.guest.ok(&["systemctl", "stop", "ordered.service"])?;
    scene.has("ordered", &[("Result", "success"), ("ExecMainStatus", "0")])?;
    scene.guest.ok(&["test", "-e", "/var/lib/ordered/ended"])?;
    scene.uninstall("ordered")?;
    scene.shown(&["stop.command", "stop.signal"])
}
