//! What the stories do with bedplate in a guest, and what they ask of the result.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::guest::{self, Guest, Output, Suite};
use crate::story::Story;
use crate::{host, images};

/// Within which a command of bedplate must have ended, images and starts included.
pub(crate) const COMMAND: Duration = Duration::from_mins(3);

/// Within which a unit must be up that nothing holds up.
pub(crate) const UP: Duration = Duration::from_secs(40);

/// Within which the launcher of a container that is ready is gone.
const LAUNCHER: Duration = Duration::from_secs(10);

/// Where a guest whose own crun does not work on this host sees a newer one.
const NEWER_CRUN: &str = "/opt/crun/crun";

/// Where packages put what says that a unit runs at boot.
const PRESET: &str = "/usr/lib/systemd/system-preset/50-bedplate.preset";

/// The runtimes that bedplate is tried with in the guests of [`boot`]: crun and runc, on every host.
pub(crate) fn runtimes(suite: Suite) -> Result<Vec<&'static str>> {
    let mut runtimes = suite.runtimes()?.to_vec();
    if !runtimes.contains(&"crun") {
        runtimes.push(NEWER_CRUN);
    }
    Ok(runtimes)
}

/// A booted guest that sees the small images.
pub(crate) fn boot(story: &Story, suite: Suite) -> Result<Guest> {
    let mut guest = Guest::new(story, suite)?
        .bind(images::small()?, images::INSIDE)
        .bind(&host::project("dist/bedplate.preset"), PRESET);
    if !suite.runtimes()?.contains(&"crun") {
        guest = guest.bind(host::newer_crun()?, "/opt/crun");
    }
    guest.start()?;
    only_what_works(&guest, suite)?;
    Ok(guest)
}

/// Gives the guest units of `dist/` as packages install them.
pub(crate) fn add_units(guest: &Guest, units: &[&str]) -> Result<()> {
    let program = guest.sh("dirname $(command -v bedplate)")?;
    for unit in units {
        let text = std::fs::read_to_string(host::project("dist").join(unit))?;
        let text = text.replace("@bindir@", &program);
        guest.write(&format!("/usr/lib/systemd/system/{unit}"), text)?;
    }
    guest.ok(&["systemctl", "daemon-reload"])?;
    Ok(())
}

/// Leaves the guest with the runtimes that work on this host, so that the default is one of them.
pub(crate) fn only_what_works(guest: &Guest, suite: Suite) -> Result<()> {
    if !suite.runtimes()?.contains(&"crun") {
        guest.ok(&["rm", "-f", "/usr/bin/crun"])?;
    }
    Ok(())
}

/// The reference of an image by which a guest installs it without a registry.
pub(crate) fn image(name: &str) -> String {
    format!("oci:{}/{name}:latest", images::INSIDE)
}

/// Sets `integrity` in the guest's configuration.
pub(crate) fn set_integrity(guest: &Guest, integrity: &str) -> Result<()> {
    let text = format!("[store]\nintegrity = \"{integrity}\"\n");
    guest.write("/etc/bedplate/bedplate.toml", text)
}

/// Runs bedplate, however it ends.
pub(crate) fn bedplate(guest: &Guest, args: &[&str]) -> Result<Output> {
    let argv: Vec<&str> = std::iter::once("bedplate")
        .chain(args.iter().copied())
        .collect();
    guest.run_with(&argv, COMMAND, &[])
}

/// Runs bedplate, which must succeed; its stdout.
pub(crate) fn does(guest: &Guest, args: &[&str]) -> Result<String> {
    let output = bedplate(guest, args)?;
    ensure!(
        output.status == 0,
        "bedplate {args:?}: status {}: {}{}",
        output.status,
        output.stdout,
        output.stderr
    );
    Ok(output.stdout)
}

/// Runs bedplate, which must fail with status 1 and these texts in its error; its stderr.
pub(crate) fn refuses(guest: &Guest, args: &[&str], texts: &[&str]) -> Result<String> {
    let output = bedplate(guest, args)?;
    ensure!(
        output.status == 1,
        "bedplate {args:?}: status {}, not 1: {}{}",
        output.status,
        output.stdout,
        output.stderr
    );
    for text in texts {
        ensure!(
            output.stderr.contains(text),
            "bedplate {args:?} does not say `{text}`: {}",
            output.stderr
        );
    }
    Ok(output.stderr)
}

/// The names of the installed containers.
pub(crate) fn installed(guest: &Guest) -> Result<Vec<String>> {
    let rows: serde_json::Value = serde_json::from_str(&does(guest, &["list", "--json"])?)?;
    let rows = rows.as_array().context("the list is no list")?;
    Ok(rows
        .iter()
        .filter_map(|row| row["name"].as_str())
        .map(str::to_owned)
        .collect())
}

/// Nothing of these containers is left: no record, no file, no link, nothing that systemd knows; no transaction
/// either.
pub(crate) fn is_gone(guest: &Guest, names: &[&str]) -> Result<()> {
    let there = installed(guest)?;
    for name in names {
        let unit = format!("{name}.service");
        ensure!(!there.iter().any(|other| other == name), "{name} is listed");
        let load = guest.property(&unit, "LoadState")?;
        ensure!(load == "not-found", "{unit} has LoadState={load}");
        let active = guest.property(&unit, "ActiveState")?;
        ensure!(active == "inactive", "{unit} has ActiveState={active}");
        // Not all of these directories are always there.
        let left = guest.sh(&format!(
            "find /etc/systemd /etc/tmpfiles.d /run/systemd/system /run/bedplate \
             /var/lib/bedplate/containers -name rootfs -prune -o -name '{name}*' -print 2>/dev/null || true"
        ))?;
        ensure!(left.is_empty(), "of {name} is left: {left}");
    }
    no_transaction(guest)
}

/// No transaction is under way and nothing is half-made.
pub(crate) fn no_transaction(guest: &Guest) -> Result<()> {
    let left = guest
        .sh("ls -d /var/lib/bedplate/journal /var/lib/bedplate/staging/* 2>/dev/null || true")?;
    ensure!(left.is_empty(), "left over: {left}");
    Ok(())
}

/// `later`'s main process began after `earlier` was ready, by systemd's own clock.
pub(crate) fn started_after(guest: &Guest, later: &str, earlier: &str) -> Result<()> {
    let at = |unit: &str, property: &str| -> Result<u64> {
        let text = guest.property(&format!("{unit}.service"), property)?;
        text.parse()
            .with_context(|| format!("{unit}: {property}={text}"))
    };
    let ready = at(earlier, "ActiveEnterTimestampMonotonic")?;
    let began = at(later, "ExecMainStartTimestampMonotonic")?;
    ensure!(
        ready > 0 && began > ready,
        "{later} began at {began} µs, {earlier} was ready at {ready} µs"
    );
    Ok(())
}

/// The unit's control group holds its main process and nothing else, which is called `comm`; its pid. The launcher goes
/// in its own time once the payload is ready: on a busy machine the kernel needs a while for its mount namespace.
pub(crate) fn holds_payload_alone(guest: &Guest, name: &str, comm: &str) -> Result<String> {
    let unit = format!("{name}.service");
    let main = guest.property(&unit, "MainPID")?;
    let group = guest.property(&unit, "ControlGroup")?;
    let script =
        format!(r#"find "/sys/fs/cgroup{group}" -name cgroup.procs -exec cat {{}} + | sort -un"#);
    let alone = || Ok(guest.sh(&script)? == main);
    let what = format!("{unit} with its main process {main} alone");
    guest::until(LAUNCHER, &what, alone)
        .with_context(|| format!("its control group holds {:?}", guest.sh(&script)))?;
    let is = guest.ok(&["cat", &format!("/proc/{main}/comm")])?;
    ensure!(
        is == comm,
        "{unit}: the main process is `{is}`, not `{comm}`"
    );
    Ok(main)
}

/// No process of bedplate or of a runtime is there.
pub(crate) fn nothing_resident(guest: &Guest) -> Result<()> {
    let found =
        || guest.sh("ps -e -o comm=,args= | grep -E '^(bedplate|launch|crun|runc|skopeo)' || true");
    let what = "the end of the last process of bedplate";
    guest::until(LAUNCHER, what, || Ok(found()?.is_empty()))
        .with_context(|| format!("resident: {:?}", found()))
}

/// Gives a unit a drop-in as `systemctl edit` writes it.
pub(crate) fn edit(guest: &Guest, unit: &str, text: &str) -> Result<()> {
    guest.write(&format!("/etc/systemd/system/{unit}.d/override.conf"), text)?;
    guest.ok(&["systemctl", "daemon-reload"])?;
    Ok(())
}

/// Waits until the journal has a line of the unit's, `times` times.
pub(crate) fn wait_said(guest: &Guest, unit: &str, line: &str, times: usize) -> Result<()> {
    let end = std::time::Instant::now() + UP;
    loop {
        let said = guest.journal(unit)?;
        if said.lines().filter(|said| *said == line).count() >= times {
            return Ok(());
        }
        ensure!(
            std::time::Instant::now() < end,
            "{unit} never said `{line}` {times} times: {said}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}
