//! The boot of containers: early ones are up before basic.target, what would be a cycle is refused, what would reach the
//! network is named, and fifty cost what their payloads and runtimes cost.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::fidelity;
use crate::guest::{Guest, Suite};
use crate::host;
use crate::product;
use crate::story::{Story, Told};

/// The stories of this file.
pub(crate) const STORIES: &[Told] = &[
    ("early-trixie", |story| early(story, Suite::Trixie)),
    ("early-bookworm", |story| early(story, Suite::Bookworm)),
];

/// A service of the host's that starts late in the boot, as most do.
const LATE: &str = "/etc/systemd/system/late.service";

/// Where an operator adds to the container of the first runtime.
const DROP_IN: &str = "/etc/systemd/system/early-0.service.d/override.conf";

/// How many containers a boot has that starts many.
const MANY: usize = 50;

/// What a container may add to a boot, in starts of the same program as a native service. It is about five to ten; a
/// machine that is busy with others, or stands still for seconds, is no failure.
const TIMES: u32 = 40;

fn early(story: &Story, suite: Suite) -> Result<()> {
    let mut guest = product::boot(story, suite)?;
    let runtimes = product::runtimes(suite)?;
    let empty = boot_time(&guest)?;
    cycles(&guest)?;
    let mut names = Vec::new();
    for (number, runtime) in runtimes.iter().enumerate() {
        let (name, image) = (format!("early-{number}"), product::image("early"));
        product::does(
            &guest,
            &["install", "--name", &name, "--runtime", runtime, &image],
        )?;
        names.push(name);
    }
    network(&guest)?;
    many(&mut guest, &runtimes, &names, empty)?;
    for runtime in runtimes {
        for check in ["order", "cycles", "check", "many"] {
            fidelity::shown(suite, runtime, &[&format!("early.{check}")])?;
        }
    }
    Ok(())
}

/// An early container that must wait for what starts late is refused, and nothing of it is left: a role of the host's, and
/// a drop-in that was there before.
fn cycles(guest: &Guest) -> Result<()> {
    let late = "[Service]\nExecStart=sleep infinity\n[Install]\nWantedBy=multi-user.target\n";
    guest.write(LATE, late)?;
    let role = "[roles]\nlate = [\"late.service\"]\n";
    guest.write("/etc/bedplate/bedplate.toml", role)?;
    guest.ok(&["systemctl", "enable", "--quiet", "late.service"])?;
    let cycle = "ordering cycle";
    product::refuses(guest, &["install", &product::image("early-late")], &[cycle])?;
    product::is_gone(guest, &["early-late"])?;

    guest.write(DROP_IN, "[Unit]\nAfter=late.service\n")?;
    let early = product::image("early");
    let install = ["install", "--name", "early-0", &early];
    product::refuses(guest, &install, &[cycle])?;
    guest.sh(&format!(
        "rm -r $(dirname {DROP_IN}) /etc/bedplate/bedplate.toml
         systemctl disable --quiet late.service"
    ))?;
    product::is_gone(guest, &["early-0"])
}

/// What is installed needs no network; a drop-in that brings one in is found; an image may ask for it.
fn network(guest: &Guest) -> Result<()> {
    let clean = product::does(guest, &["check", "--boot"])?;
    ensure!(clean.ends_with(", no fault\n"), "{clean}");
    ensure!(!clean.contains("asked"), "{clean}");
    guest.write(DROP_IN, "[Unit]\nWants=network-online.target\n")?;
    // systemd has not read it yet, and that of Debian 12 does not even know.
    let found = product::bedplate(guest, &["check", "--boot"])?;
    let line =
        "fault  early-0 reaches the network: early-0.service → network-online.target (Wants=)\n";
    ensure!(
        found.status == 1 && found.stdout.starts_with(line),
        "{}{}",
        found.stdout,
        found.stderr
    );
    guest.ok(&["systemctl", "daemon-reload"])?;
    let again = product::bedplate(guest, &["check", "--boot"])?;
    ensure!(again.stdout == found.stdout, "{}", again.stdout);
    guest.sh(&format!(
        "rm -r $(dirname {DROP_IN}); systemctl daemon-reload"
    ))?;
    product::does(guest, &["install", &product::image("online")])?;
    let asked = product::does(guest, &["check", "--boot"])?;
    let line =
        "asked  online reaches the network: online.service → network-online.target (After=)\n";
    ensure!(asked.starts_with(line), "{asked}");
    product::does(guest, &["uninstall", "online"])?;
    Ok(())
}

/// A boot with many containers against one with as many native services of the same program.
fn many(guest: &mut Guest, runtimes: &[&str], early: &[String], empty: Duration) -> Result<()> {
    let mut images = Vec::new();
    for number in 0..MANY {
        images.push(format!("oci:/many/many-{number}:latest"));
    }
    guest.sh(&format!(
        "mkdir /many
         for number in {{0..{}}}; do ln -s /images/payload /many/many-$number; done",
        MANY - 1
    ))?;
    let script = "SCRIPT=tell READY=1; wait";
    for (runtime, images) in runtimes.iter().zip(images.chunks(MANY / runtimes.len())) {
        let install = ["install", "--runtime", runtime, "--set", script];
        let images = images.iter().map(String::as_str);
        product::does(
            guest,
            &install.into_iter().chain(images).collect::<Vec<_>>(),
        )?;
    }
    guest.reboot()?;
    let up =
        "systemctl list-units --plain --no-legend --state=active 'many-*.service' | wc --lines";
    ensure!(guest.sh(up)? == MANY.to_string());
    before_basic(guest, early)?;
    product::nothing_resident(guest)?;
    ensure!(reloads(guest)? == 0, "systemd has read its units again");
    let containers = boot_time(guest)?;
    guest.ok(&["systemctl", "daemon-reload"])?;
    ensure!(reloads(guest)? > 0, "a reload is not seen in the journal");

    let native = "[Service]\nType=notify\nEnvironment=\"SCRIPT=tell READY=1; wait\"\n\
         ExecStart=/var/lib/bedplate/containers/many-0/1/rootfs/payload\n[Install]\nWantedBy=multi-user.target\n";
    guest.write("/etc/systemd/system/native@.service", native)?;
    guest.sh(&format!(
        "systemctl disable --quiet many-{{0..{0}}}.service early-{{0..{1}}}.service
         systemctl enable --quiet native@{{0..{0}}}.service",
        MANY - 1,
        early.len() - 1
    ))?;
    guest.reboot()?;
    let native = boot_time(guest)?;
    let each =
        |took: Duration| took.saturating_sub(empty) / u32::try_from(MANY).unwrap_or(u32::MAX);
    host::say(&format!(
        "boot: {empty:?} with nothing, {containers:?} with {MANY} containers and {} early ones, {native:?} with {MANY} \
         native services: a container adds {:?}, a native service {:?}",
        early.len(),
        each(containers),
        each(native)
    ));
    // One that is as quick as nothing would make any number of times too little.
    let one = each(native).max(Duration::from_millis(10));
    ensure!(each(containers) < one * TIMES, "containers take too long");
    Ok(())
}

/// The early ones were up when basic.target was, and that waited for them; nothing that is needed for a network had.
fn before_basic(guest: &Guest, early: &[String]) -> Result<()> {
    let at = |unit: &str, property: &str| -> Result<u64> {
        let text = guest.property(unit, property)?;
        text.parse()
            .with_context(|| format!("{unit}: {property}={text}"))
    };
    let basic = at("basic.target", "ActiveEnterTimestampMonotonic")?;
    for name in early {
        let unit = format!("{name}.service");
        let ready = at(&unit, "ActiveEnterTimestampMonotonic")?;
        ensure!(
            ready > 0 && ready <= basic,
            "{unit} was ready at {ready} µs, basic.target at {basic} µs"
        );
        ensure!(guest.property(&unit, "NRestarts")? == "0");
        let waits = guest.property(&unit, "After")?;
        ensure!(!waits.contains("network"), "{unit} is after {waits}");
    }
    Ok(())
}

/// How often systemd says that it has read all units again in this boot.
fn reloads(guest: &Guest) -> Result<usize> {
    let said = guest.messages(&["_PID=1"])?;
    Ok(said
        .lines()
        .filter(|line| line.starts_with("Reload"))
        .count())
}

/// From systemd's start to the end of the boot, by its own clock.
fn boot_time(guest: &Guest) -> Result<Duration> {
    let at = |property: &str| -> Result<u64> {
        let text = guest.ok(&["systemctl", "show", "--value", "--property", property])?;
        text.parse().with_context(|| format!("{property}={text}"))
    };
    let took = at("FinishTimestampMonotonic")?.saturating_sub(at("UserspaceTimestampMonotonic")?);
    Ok(Duration::from_micros(took))
}
