//! bedplate is killed in the middle of an install, an update, a rollback and an uninstall: then the host is as before
//! or as after, and works. At the next boot bedplate-recover.service sees to it, and nothing waits for that.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::guest::{Guest, Suite};
use crate::host;
use crate::product;
use crate::story::{Story, Told};

/// The stories of this file.
pub(crate) const STORIES: &[Told] = &[
    ("crash-trixie", |story| crash(story, Suite::Trixie)),
    ("crash-bookworm", |story| crash(story, Suite::Bookworm)),
    ("recover-trixie", |story| at_boot(story, Suite::Trixie)),
    ("recover-bookworm", |story| at_boot(story, Suite::Bookworm)),
];

const SET: [&str; 2] = ["alpha", "beta"];

/// What runs at boot.
const SERVICE: &str = "bedplate-recover.service";

/// Runs the rest of its arguments and kills it when the journal has as many lines as the first says; 137 when it
/// was killed. Nothing is forked while it looks, so that it sees a line as soon as it can be seen.
const KILL_AT: &str = r#"
lines=$1; shift
"$@" & victim=$!
while kill -0 $victim 2>/dev/null; do
    mapfile -t seen 2>/dev/null </var/lib/bedplate/journal/transaction || seen=()
    if ((${#seen[@]} >= lines)); then kill -KILL $victim; break; fi
done 2>/dev/null
wait $victim
"#;

/// Kills each at lines of its journal: all with `BEDPLATE_POINTS`, else every third, on the other system another third.
fn crash(story: &Story, suite: Suite) -> Result<()> {
    let guest = product::boot(story, suite)?;
    product::add_units(&guest, &[SERVICE])?;
    let images = SET.map(product::image);
    let mut install = vec!["bedplate", "install", "--now"];
    install.extend(images.iter().map(String::as_str));
    let uninstall = ["bedplate", "uninstall", SET[0], SET[1]];
    // The first also fills the store, so that the others reach the journal soon.
    guest.ok(&install)?;
    guest.ok(&uninstall)?;
    let is_full = std::env::var_os("BEDPLATE_POINTS").is_some();
    let (first, step) = match suite {
        _ if is_full => (1, 1),
        Suite::Trixie => (1, 3),
        Suite::Bookworm => (2, 3),
    };
    let (mut installs, mut uninstalls) = (0, 0);
    let mut line = first;
    loop {
        let at = || format!("killed at line {line} of the journal");
        let by_hand = line % 2 == 0;
        let was_killed = killed_at(&guest, line, &install)?;
        recovered(&guest, by_hand).with_context(at)?;
        // What was cut short is no obstacle to a second try.
        guest.ok(&install)?;
        both_run(&guest).with_context(at)?;
        let was_killed_again = killed_at(&guest, line, &uninstall)?;
        recovered(&guest, by_hand).with_context(at)?;
        if product::installed(&guest)? == SET {
            guest.ok(&uninstall)?;
        }
        product::is_gone(&guest, &SET).with_context(at)?;
        installs += u64::from(was_killed);
        uninstalls += u64::from(was_killed_again);
        if !was_killed && !was_killed_again {
            break;
        }
        line += step;
    }
    host::say(&format!(
        "{}: lines {first} to {line} by {step}: killed {installs} installs, {uninstalls} uninstalls",
        story.name()
    ));
    ensure!(installs > 2 && uninstalls > 2, "too few were killed");
    product::no_transaction(&guest)?;
    switches(story, &guest, &install, (first, step))
}

/// What the payload of a version says of itself.
fn version(text: &str) -> String {
    format!("SCRIPT=tell STATUS={text}; tell READY=1; wait")
}

/// What each of the set says of itself now.
fn versions(guest: &Guest) -> Result<[String; 2]> {
    let [alpha, beta] = SET.map(|name| guest.property(&format!("{name}.service"), "StatusText"));
    Ok([alpha?, beta?])
}

/// A generation on disk that is not the live one.
fn another_generation(guest: &Guest, name: &str) -> Result<String> {
    let history: Value =
        serde_json::from_str(&guest.ok(&["bedplate", "history", name, "--json"])?)?;
    let all = history["generations"].as_array().context("generations")?;
    let other = all.iter().rfind(|one| one["live"] == false);
    Ok(other.context("no other generation")?["generation"].to_string())
}

/// The same for what takes a service from one generation to another.
fn switches(
    story: &Story,
    guest: &Guest,
    install: &[&str],
    (first, step): (u64, u64),
) -> Result<()> {
    let mut install = install.to_vec();
    let one = version("one");
    install.extend(["--set", &one]);
    guest.ok(&install)?;
    let update_to = |text: &str| -> Vec<String> {
        let words = ["bedplate", "update", SET[0], SET[1], "--set"].map(str::to_owned);
        words.into_iter().chain([version(text)]).collect()
    };
    let two = update_to("two");
    guest.ok(&two.iter().map(String::as_str).collect::<Vec<_>>())?;
    let (mut updates, mut rollbacks, mut line) = (0, 0, first);
    loop {
        let at = || format!("killed at line {line} of the journal");
        let before = versions(guest)?;
        let text = format!("line {line}");
        let update = update_to(&text);
        let update: Vec<&str> = update.iter().map(String::as_str).collect();
        let was_killed = killed_at(guest, line, &update)?;
        recovered(guest, line % 2 == 0).with_context(at)?;
        let after = versions(guest)?;
        let all_new = after.iter().all(|version| *version == text);
        let is_old_or_new = all_new || was_killed && after == before;
        ensure!(is_old_or_new, "{}: {before:?} became {after:?}", at());

        let other = another_generation(guest, SET[0])?;
        let rollback = ["bedplate", "rollback", "--to", &other, SET[0]];
        let was_killed_again = killed_at(guest, line, &rollback)?;
        recovered(guest, line % 2 == 1).with_context(at)?;
        let last = versions(guest)?;
        let is_back = last[0] != after[0] && last[1] == after[1];
        let is_old_or_new = is_back || was_killed_again && last == after;
        ensure!(is_old_or_new, "{}: {after:?} became {last:?}", at());
        updates += u64::from(was_killed);
        rollbacks += u64::from(was_killed_again);
        if !was_killed && !was_killed_again {
            break;
        }
        line += step;
    }
    host::say(&format!(
        "{}: lines {first} to {line} by {step}: killed {updates} updates, {rollbacks} rollbacks",
        story.name()
    ));
    ensure!(updates > 2 && rollbacks > 1, "too few were killed");
    guest.ok(&["bedplate", "verify"])?;
    guest.ok(&["bedplate", "uninstall", SET[0], SET[1]])?;
    product::is_gone(guest, &SET)
}

/// A command that is killed; whether it was before it ended.
fn killed_at(guest: &Guest, line: u64, command: &[&str]) -> Result<bool> {
    let line = line.to_string();
    let mut argv = vec!["bash", "-c", KILL_AT, "kill-at", &line];
    argv.extend(command);
    let output = guest.run_with(&argv, Duration::from_mins(1), &[])?;
    ensure!(
        [0, 137].contains(&output.status),
        "status {}: {}",
        output.status,
        output.stderr
    );
    Ok(output.status == 137)
}

/// Recovers by hand or by the service, and looks whether the host is as before or as after.
fn recovered(guest: &Guest, by_hand: bool) -> Result<()> {
    if by_hand {
        product::does(guest, &["recover"])?;
    } else {
        guest.ok(&["systemctl", "start", SERVICE])?;
        guest.wait_property(SERVICE, "SubState", "dead", product::UP)?;
    }
    old_or_new(guest)
}

/// The power goes in the middle of an install.
fn at_boot(story: &Story, suite: Suite) -> Result<()> {
    let mut guest = product::boot(story, suite)?;
    product::add_units(&guest, &[SERVICE])?;
    let image = product::image("payload");
    guest.ok(&["bedplate", "install", "--now", &image])?;
    guest.ok(&["systemctl", "preset", "--quiet", SERVICE])?;
    let enabled = guest.property(SERVICE, "UnitFileState")?;
    ensure!(enabled == "enabled", "after a preset it is {enabled}");
    let verified = guest.sh(&format!("systemd-analyze verify --man=no {SERVICE} 2>&1"))?;
    ensure!(!verified.contains(SERVICE), "{verified}");
    let exposure = guest.sh(&format!("systemd-analyze security {SERVICE} | tail -n 1"))?;
    host::say(&format!("{}: {}", story.name(), exposure.trim()));

    let images = SET.map(product::image);
    let mut install = vec!["bedplate", "install", "--now"];
    install.extend(images.iter().map(String::as_str));
    ensure!(killed_at(&guest, 9, &install)?, "it was not killed");
    guest.sh("test -s /var/lib/bedplate/journal/transaction")?;
    guest.cut_power()?;
    guest.start()?;
    // It may still be at work: a boot does not wait for it.
    guest.wait_property("payload.service", "ActiveState", "active", product::UP)?;
    guest.sh(&format!(
        "until [[ $(systemctl show --value --property ExecMainExitTimestampMonotonic {SERVICE}) != 0 ]]; do sleep 0.05; done"
    ))?;
    product::no_transaction(&guest)?;
    product::is_gone(&guest, &SET)?;
    let said = guest.journal(SERVICE)?;
    ensure!(said.contains("undone: the interrupted install"), "{said}");
    nothing_waited(&guest)?;

    // The next boot has nothing for it to do.
    guest.reboot()?;
    guest.wait_property("payload.service", "ActiveState", "active", product::UP)?;
    let (ran, met) = (
        guest.property(SERVICE, "ExecMainStartTimestampMonotonic")?,
        guest.property(SERVICE, "ConditionResult")?,
    );
    ensure!(
        ran == "0" && met == "no",
        "started at {ran}, condition {met}"
    );
    guest.poweroff()
}

/// Neither a container nor the boot is ordered behind the service, or was behind it.
fn nothing_waited(guest: &Guest) -> Result<()> {
    let before = guest.property(SERVICE, "Before")?;
    let expected = ["multi-user.target", "shutdown.target"];
    ensure!(
        before
            .split_whitespace()
            .all(|unit| expected.contains(&unit)),
        "it is before {before}"
    );
    let at = |unit: &str, property: &str| -> Result<u64> {
        let text = guest.property(unit, property)?;
        text.parse()
            .with_context(|| format!("{unit}: {property}={text}"))
    };
    let ended = at(SERVICE, "ExecMainExitTimestampMonotonic")?;
    for unit in ["payload.service", "multi-user.target"] {
        let ready = at(unit, "ActiveEnterTimestampMonotonic")?;
        ensure!(
            0 < ready && ready < ended,
            "{unit} was ready at {ready} µs, the recovery ended at {ended} µs"
        );
        host::say(&format!(
            "{unit} was ready {} ms before the recovery ended",
            (ended - ready) / 1000
        ));
    }
    Ok(())
}

/// All of the set is there, or nothing of it.
fn old_or_new(guest: &Guest) -> Result<()> {
    product::no_transaction(guest)?;
    let there = product::installed(guest)?;
    if there.is_empty() {
        return product::is_gone(guest, &SET);
    }
    ensure!(there == SET, "half of the set: {there:?}");
    each_runs(guest)
}

fn both_run(guest: &Guest) -> Result<()> {
    each_runs(guest)?;
    product::started_after(guest, "beta", "alpha")
}

/// Before systemd 254 one does not stop when what it waits for is taken back to another generation.
fn each_runs(guest: &Guest) -> Result<()> {
    for name in SET {
        let unit = format!("{name}.service");
        for (property, wanted) in [("ActiveState", "active"), ("UnitFileState", "enabled")] {
            let is = guest.property(&unit, property)?;
            ensure!(is == wanted, "{unit} has {property}={is}");
        }
        let reload = guest.property(&unit, "NeedDaemonReload")?;
        ensure!(reload == "no", "systemd has not read what {unit} is now");
        product::holds_payload_alone(guest, name, "payload")?;
    }
    Ok(())
}
