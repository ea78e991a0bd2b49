//! bedplate is killed in the middle of an install: then the host is as before or as after, and works.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::guest::{Guest, Suite};
use crate::host;
use crate::product;
use crate::story::{Story, Told};

/// The stories of this file.
pub(crate) const STORIES: &[Told] = &[
    ("crash-trixie", |story| crash(story, Suite::Trixie)),
    ("crash-bookworm", |story| crash(story, Suite::Bookworm)),
];

const SET: [&str; 2] = ["alpha", "beta"];

/// How many moments a story tries.
const MOMENTS: u64 = 7;

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

fn crash(story: &Story, suite: Suite) -> Result<()> {
    let guest = product::boot(story, suite)?;
    let images = SET.map(product::image);
    let mut install = vec!["bedplate", "install", "--now"];
    install.extend(images.iter().map(String::as_str));
    // The first also fills the store, so that the others reach the journal soon. A different part of the journal
    // for each: the same at every run, others on the other system.
    let seed = u64::from(suite == Suite::Bookworm);
    let mut killed = 0;
    for moment in 0..MOMENTS {
        let lines = 1 + seed + moment * 3;
        let outcome = killed_at(&guest, lines, &install, moment % 2 == 0)
            .with_context(|| format!("killed at line {lines} of the journal"))?;
        killed += u64::from(outcome);
    }
    host::say(&format!(
        "{}: killed {killed} of {MOMENTS} installs",
        story.name()
    ));
    ensure!(killed >= MOMENTS - 2, "only {killed} installs were killed");
    guest.ok(&install)?;
    both_run(&guest)?;
    product::no_transaction(&guest)
}

/// One install that is killed, and what comes after; whether it was killed at all.
fn killed_at(guest: &Guest, lines: u64, install: &[&str], recover: bool) -> Result<bool> {
    let lines = lines.to_string();
    let mut argv = vec!["bash", "-c", KILL_AT, "kill-at", &lines];
    argv.extend(install);
    let output = guest.run_with(&argv, Duration::from_mins(1), &[])?;
    ensure!(
        [0, 137].contains(&output.status),
        "status {}: {}",
        output.status,
        output.stderr
    );
    if recover {
        product::does(guest, &["recover"])?;
        old_or_new(guest)?;
    }
    // What was cut short is no obstacle to a second try.
    guest.ok(install)?;
    both_run(guest)?;
    product::does(guest, &["uninstall", "alpha", "beta"])?;
    product::is_gone(guest, &SET)?;
    Ok(output.status == 137)
}

/// All of the set is there, or nothing of it.
fn old_or_new(guest: &Guest) -> Result<()> {
    product::no_transaction(guest)?;
    let there = product::installed(guest)?;
    if there.is_empty() {
        return product::is_gone(guest, &SET);
    }
    ensure!(there == SET, "half of the set: {there:?}");
    both_run(guest)
}

fn both_run(guest: &Guest) -> Result<()> {
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
    product::started_after(guest, "beta", "alpha")
}
