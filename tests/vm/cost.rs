//! What containers add to the boot of a whole machine, beside native services of the same program; told on request:
//! `make measure-boot`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::guest::Suite;
use crate::host;
use crate::qemu::Computer;
use crate::story::{Story, Told};

/// The stories of this file; one that begins with `measure-` is told when it is asked for by `--ignored`.
pub(crate) const STORIES: &[Told] = &[
    ("measure-boot-trixie", |story| cost(story, Suite::Trixie)),
    ("measure-boot-bookworm", |story| {
        cost(story, Suite::Bookworm)
    }),
];

/// How many there are of each.
const MANY: u32 = 50;

/// Makes the machine one whose boot starts none of them: what was enabled before is no longer.
const NONE: &str =
    r#"rm -f "$root"/etc/systemd/system/multi-user.target.wants/{crun,runc,native@}-*.service"#;

/// Native services of the program that the containers have.
const NATIVE: &str = r#"
cp "$payload" "$root"/usr/libexec/payload
cat >"$root"/etc/systemd/system/native@.service <<'UNIT'
[Service]
Type=notify
TimeoutStartSec=600s
Environment="SCRIPT=tell READY=1; wait"
ExecStart=/usr/libexec/payload
UNIT
for number in $(seq 0 $((many - 1))); do
    ln -s ../native@.service "$root"/etc/systemd/system/multi-user.target.wants/native@-$number.service
done
"#;

/// Containers of one runtime, each by a name of its own.
const CONTAINERS: &str = r#"
references=()
for number in $(seq 0 $((many - 1))); do
    ln -s "$images"/payload $what-$number
    references+=("oci:$PWD/$what-$number:latest")
done
bedplate install --runtime $what --set 'SCRIPT=tell READY=1; wait' --set START_TIMEOUT=600s "${references[@]}"
"#;

/// What a boot takes.
struct Boot {
    /// By systemd's clock, from its start until all was up.
    took: Duration,
    /// Of the host's processors, which is the same when these have more to do.
    worked: Duration,
}

impl Boot {
    /// What each of many adds to an empty boot.
    fn each(&self, empty: &Self) -> String {
        let took = self.took.saturating_sub(empty.took) / MANY;
        let worked = self.worked.saturating_sub(empty.worked) / MANY;
        format!("{took:.2?} ({worked:.2?})")
    }
}

fn cost(story: &Story, suite: Suite) -> Result<()> {
    let mut machine = Computer::new(story, suite)?;
    // Fifty of runc at once take more than the gigabyte that others have.
    machine.enlarge();
    // The first boot of a disk does what no other has to.
    boot(&mut machine, None)?;
    let empty = boot(&mut machine, None)?;
    let mut added = Vec::new();
    for (what, make, called) in [
        ("native@", NATIVE, "as a native service"),
        ("crun", CONTAINERS, "with crun"),
        ("runc", CONTAINERS, "with runc"),
    ] {
        machine.prepare(&format!(
            "{NONE}\nmany={MANY} what={what} payload={}\n{make}",
            host::payload()?.display()
        ))?;
        let each = boot(&mut machine, Some(what))?.each(&empty);
        added.push(format!("{each} {called}"));
    }
    host::say(&format!(
        "{}: a boot takes {:.1?} with nothing; each of {MANY} adds (and of the host's processors): {}",
        suite.name(),
        empty.took,
        added.join(", ")
    ));
    Ok(())
}

/// Boots the machine and turns it off; what it was to start is up.
fn boot(machine: &mut Computer, what: Option<&str>) -> Result<Boot> {
    machine.start()?;
    let at = machine.ok("for tick in {1..300}; do
            at=$(systemctl show --value --property=FinishTimestampMonotonic)
            [[ $at == 0 ]] || break
            sleep 0.2
        done
        echo $at $(systemctl show --value --property=UserspaceTimestampMonotonic)")?;
    let worked = machine.processor_time()?;
    let (end, start) = at.split_once(' ').context(at.clone())?;
    let (end, start): (u64, u64) = (end.parse()?, start.parse()?);
    ensure!(end > start, "the boot has not ended: {at}");
    let up = machine.ok(
        "systemctl list-units --plain --no-legend --state=active 'crun-*.service' 'runc-*.service' 'native@-*.service' |
            cut -d - -f 1 | uniq --count",
    )?;
    let expected = what.map(|what| format!("{MANY} {what}"));
    ensure!(
        up.trim() == expected.unwrap_or_default(),
        "these are up: {up}"
    );
    machine.poweroff()?;
    let took = Duration::from_micros(end - start);
    Ok(Boot { took, worked })
}
