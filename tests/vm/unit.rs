//! A container's unit is as a native one: readiness, main process, journal, stop, exit status, restart, drop-ins,
//! masking; and what its payload says cannot turn systemd against others.

use anyhow::{Context, Result, ensure};

use crate::fidelity;
use crate::guest::{Guest, Suite};
use crate::product::{self, UP};
use crate::story::{Story, Told};

/// The stories of this file.
pub(crate) const STORIES: &[Told] = &[
    ("unit-trixie", |story| unit(story, Suite::Trixie)),
    ("unit-bookworm", |story| unit(story, Suite::Bookworm)),
    ("notify-trixie", |story| notify(story, Suite::Trixie)),
    ("notify-bookworm", |story| notify(story, Suite::Bookworm)),
];

const UNIT: &str = "payload.service";

/// What the kernel calls the payload.
const COMM: &str = "payload";

/// What [`told_by`] shows.
const SHOWN: &[&str] = &[
    "main.alone",
    "main.resident",
    "notify.ready",
    "notify.status",
    "exit.status",
    "stop.term",
    "stop.kill",
    "kill.payload",
];

fn unit(story: &Story, suite: Suite) -> Result<()> {
    let guest = product::boot(story, suite)?;
    for runtime in product::runtimes(suite)? {
        told_by(&guest, runtime).with_context(|| format!("with {runtime}"))?;
        fidelity::shown(suite, runtime, SHOWN)?;
    }
    Ok(())
}

fn told_by(guest: &Guest, runtime: &str) -> Result<()> {
    let image = product::image("payload");
    product::does(guest, &["install", "--now", "--runtime", runtime, &image])?;
    runs(guest)?;
    stops(guest)?;
    is_ready_when_it_says_so(guest)?;
    keeps_exit_status(guest)?;
    restarts(guest)?;
    takes_drop_ins(guest)?;
    stops_slowly(guest)?;
    is_known_to_ignore_its_signal(guest)?;
    is_masked(guest)?;
    product::does(guest, &["uninstall", "payload"])?;
    product::is_gone(guest, &["payload"])
}

/// Lets a drop-in say what the payload does.
fn script(guest: &Guest, script: &str) -> Result<()> {
    let text = format!("[Service]\nEnvironment=\"SCRIPT={script}\"\nRestartSec=100ms\n");
    product::edit(guest, UNIT, &text)
}

fn properties(guest: &Guest, wanted: &[(&str, &str)]) -> Result<()> {
    for (property, value) in wanted {
        let is = guest.property(UNIT, property)?;
        ensure!(is == *value, "{UNIT} has {property}={is}, not {value}");
    }
    Ok(())
}

/// The payload itself is the main process, alone in the unit, and its lines are the unit's.
fn runs(guest: &Guest) -> Result<()> {
    let up = [
        ("ActiveState", "active"),
        ("SubState", "running"),
        ("Type", "notify"),
        ("StatusText", "working"),
        ("NRestarts", "0"),
        ("UnitFileState", "enabled"),
    ];
    properties(guest, &up)?;
    product::holds_payload_alone(guest, "payload", COMM)?;
    product::nothing_resident(guest)?;
    for filter in [["--unit", UNIT], ["--identifier", "payload"]] {
        let said = guest.messages(&filter)?;
        ensure!(said.lines().any(|line| line == "up"), "{filter:?}: {said}");
    }
    Ok(())
}

/// SIGTERM reaches the payload, which ends by itself: a clean stop.
fn stops(guest: &Guest) -> Result<()> {
    guest.ok(&["systemctl", "stop", UNIT])?;
    let clean = [
        ("ActiveState", "inactive"),
        ("Result", "success"),
        // CLD_EXITED
        ("ExecMainCode", "1"),
        ("ExecMainStatus", "0"),
        ("MainPID", "0"),
    ];
    properties(guest, &clean)?;
    let said = guest.journal(UNIT)?;
    ensure!(said.lines().any(|line| line == "bye"), "{said}");
    Ok(())
}

fn is_ready_when_it_says_so(guest: &Guest) -> Result<()> {
    guest.sh("rm -f /var/lib/payload/go")?;
    script(guest, "say loading; await /data/go; tell READY=1; wait")?;
    let before = count(guest, "loading")?;
    guest.ok(&["systemctl", "start", "--no-block", UNIT])?;
    product::wait_said(guest, UNIT, "loading", before + 1)?;
    properties(guest, &[("ActiveState", "activating")])?;
    guest.sh("touch /var/lib/payload/go")?;
    guest.wait_active(UNIT, UP)?;
    product::holds_payload_alone(guest, "payload", COMM)?;
    guest.ok(&["systemctl", "stop", UNIT])?;
    Ok(())
}

/// How often the unit has said a line in this boot.
fn count(guest: &Guest, line: &str) -> Result<usize> {
    Ok(guest
        .journal(UNIT)?
        .lines()
        .filter(|said| *said == line)
        .count())
}

/// A payload's exit status is the unit's, also when it ends at once, before or after it was ready.
fn keeps_exit_status(guest: &Guest) -> Result<()> {
    for (steps, status) in [("exit 7", "7"), ("tell READY=1; exit 9", "9")] {
        let text = format!("[Service]\nEnvironment=\"SCRIPT={steps}\"\nRestart=no\n");
        product::edit(guest, UNIT, &text)?;
        // One that was ready for a moment may count as started.
        let _either = guest.run(&["systemctl", "start", UNIT])?;
        guest
            .wait_property(UNIT, "SubState", "failed", UP)
            .with_context(|| format!("after `{steps}`"))?;
        let kept = [
            ("Result", "exit-code"),
            ("ExecMainCode", "1"),
            ("ExecMainStatus", status),
        ];
        properties(guest, &kept)?;
    }
    let text = "[Service]\nEnvironment=\"SCRIPT=exit 0\"\nRestart=no\n";
    product::edit(guest, UNIT, text)?;
    let status = guest.run(&["systemctl", "start", UNIT])?.status;
    ensure!(
        status == 1,
        "a payload that ends before it is ready counts as started"
    );
    properties(guest, &[("Result", "protocol")])?;
    guest.ok(&["systemctl", "reset-failed", UNIT])?;
    Ok(())
}

/// A payload that is killed comes back as a new process; the unit has seen the signal.
fn restarts(guest: &Guest) -> Result<()> {
    script(guest, "tell READY=1; wait")?;
    guest.ok(&["systemctl", "start", UNIT])?;
    let first = guest.property(UNIT, "MainPID")?;
    guest.ok(&["kill", "-KILL", &first])?;
    guest.wait_property(UNIT, "NRestarts", "1", UP)?;
    guest.wait_active(UNIT, UP)?;
    let second = product::holds_payload_alone(guest, "payload", COMM)?;
    ensure!(first != second, "the main process is still {first}");
    let said = guest.journal(UNIT)?;
    ensure!(said.contains("code=killed, status=9/KILL"), "{said}");
    guest.ok(&["systemctl", "stop", UNIT])?;
    Ok(())
}

/// `systemctl edit` and `systemctl revert` work as on any unit.
fn takes_drop_ins(guest: &Guest) -> Result<()> {
    let text = "[Service]\nEnvironment=GREETING=hello\n\
         Environment=\"SCRIPT=env GREETING; env PATH; tell READY=1; wait\"\n";
    product::edit(guest, UNIT, text)?;
    guest.ok(&["systemctl", "start", UNIT])?;
    product::wait_said(guest, UNIT, "GREETING=hello", 1)?;
    guest.ok(&["systemctl", "revert", "--quiet", UNIT])?;
    guest.ok(&["systemctl", "restart", UNIT])?;
    properties(
        guest,
        &[("StatusText", "working"), ("ActiveState", "active")],
    )
}

fn stops_slowly(guest: &Guest) -> Result<()> {
    script(guest, "tell READY=1; wait; pause 400; say late")?;
    guest.ok(&["systemctl", "restart", UNIT])?;
    guest.ok(&["systemctl", "stop", UNIT])?;
    properties(guest, &[("Result", "success"), ("ExecMainStatus", "0")])?;
    let late = count(guest, "late")?;
    ensure!(late > 0, "it was not let finish");
    guest.ok(&["systemctl", "revert", "--quiet", UNIT])?;
    Ok(())
}

/// A process 1 without a handler: said beforehand, and the stop takes all of its time.
fn is_known_to_ignore_its_signal(guest: &Guest) -> Result<()> {
    let shown = product::does(guest, &["show", "payload"])?;
    ensure!(!shown.contains("does not handle"), "{shown}");
    product::edit(
        guest,
        UNIT,
        "[Service]\nKillSignal=SIGHUP\nTimeoutStopSec=300ms\n",
    )?;
    guest.ok(&["systemctl", "restart", UNIT])?;
    let shown = product::does(guest, &["show", "payload"])?;
    ensure!(
        shown.contains("does not handle signal 1: a stop waits for its timeout and kills it"),
        "{shown}"
    );
    guest.ok(&["systemctl", "stop", UNIT])?;
    properties(guest, &[("Result", "timeout")])?;
    guest.ok(&["systemctl", "revert", "--quiet", UNIT])?;
    Ok(())
}

fn is_masked(guest: &Guest) -> Result<()> {
    guest.ok(&["systemctl", "mask", "--quiet", UNIT])?;
    let start = guest.run(&["systemctl", "start", UNIT])?;
    ensure!(
        start.status != 0 && start.stderr.contains("masked"),
        "{}",
        start.stderr
    );
    guest.ok(&["systemctl", "unmask", "--quiet", UNIT])?;
    guest.ok(&["systemctl", "start", UNIT])?;
    properties(
        guest,
        &[("ActiveState", "active"), ("UnitFileState", "enabled")],
    )
}

/// A payload that names a foreign main process: image, user, what it does, and whether the victim lives.
type Forger = (&'static str, &'static str, &'static str, bool);

const FORGERS: &[Forger] = &[
    // Root is heard by the launcher's proxy alone, others by systemd itself.
    ("payload", "0", EARLY_AND_LATE, true),
    ("payload", "1000", EARLY_AND_LATE, true),
    // The privilege to say everything: this is what it means, and it shows that the two above are put to a test.
    (
        "payload-full",
        "0",
        "tell READY=1; forge /data/victim; say forged; wait",
        false,
    ),
];

const EARLY_AND_LATE: &str =
    "forge /data/victim; tell READY=1; forge /data/victim; say forged; wait";

fn notify(story: &Story, suite: Suite) -> Result<()> {
    let guest = product::boot(story, suite)?;
    for runtime in product::runtimes(suite)? {
        for forger in FORGERS {
            let (image, user, ..) = forger;
            forges(&guest, runtime, forger)
                .with_context(|| format!("{image} as user {user} with {runtime}"))?;
        }
        fidelity::shown(suite, runtime, &["notify.foreign"])?;
    }
    Ok(())
}

/// A payload names a process of the host as its main process, and is stopped.
fn forges(guest: &Guest, runtime: &str, (image, user, steps, lives): &Forger) -> Result<()> {
    guest.ok(&[
        "systemd-run",
        "--quiet",
        "--unit=victim",
        "sleep",
        "infinity",
    ])?;
    let victim = guest.property("victim.service", "MainPID")?;
    let unit = format!("{image}.service");
    let state = format!("/var/lib/{image}");
    guest.write(&format!("{state}/victim"), &victim)?;
    // An install refuses a directory with another user's files.
    guest.ok(&["chown", "--recursive", user, &state])?;
    let told = guest
        .journal(&unit)?
        .lines()
        .filter(|line| *line == "forged")
        .count();

    let reference = product::image(image);
    let (user, script) = (format!("USER={user}"), format!("SCRIPT={steps}"));
    let args = [
        "install",
        "--now",
        "--runtime",
        runtime,
        "--set",
        &user,
        "--set",
        &script,
        &reference,
    ];
    product::does(guest, &args)?;
    product::wait_said(guest, &unit, "forged", told + 1)?;
    // systemd answers when it has read what was sent before.
    guest.ok(&["systemctl", "daemon-reload"])?;
    let main = guest.property(&unit, "MainPID")?;
    ensure!(
        (main != victim) == *lives,
        "main process {main}, victim {victim}"
    );
    guest.ok(&["systemctl", "stop", &unit])?;
    let alive = guest.property("victim.service", "ActiveState")? == "active";
    ensure!(alive == *lives, "the victim lives: {alive}, not {lives}");
    product::does(guest, &["uninstall", image])?;
    if alive {
        guest.ok(&["systemctl", "stop", "victim.service"])?;
    }
    Ok(())
}
