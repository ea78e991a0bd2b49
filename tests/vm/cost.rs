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

/// Native services of the payload that the containers have.
const NATIVE: &str = r#"
cat >"$root"/etc/systemd/system/native@.service <<'UNIT'
[Service]
Type=notify
TimeoutStartSec=600s
Environment="SCRIPT=tell READY=1; wait"
ExecStart=/var/lib/bedplate/containers/crun-0/1/rootfs/payload
UNIT
for number in $(seq 0 $((many - 1))); do
    ln -s ../native@.service "$root"/etc/systemd/system/multi-user.target.wants/native@-$number.service
done
"#;

/// Containers of one runtime, each by a name of its own.
const CONTAINERS: &str = r#"
for number in $(seq 0 $((many - 1))); do
    ln -s "$images"/payload $runtime-$number
    references+=("oci:$PWD/$runtime-$number:latest")
done
bedplate install --runtime $runtime --set 'SCRIPT=tell READY=1; wait' --set START_TIMEOUT=600s "${references[@]}"
"#;

fn cost(story: &Story, suite: Suite) -> Result<()> {
    let mut machine = Computer::new(story, suite)?;
    // Fifty of runc at once take more than the gigabyte that others have.
    machine.enlarge();
    let empty = boot(&mut machine, None)?;
    let each = |took: Duration| took.saturating_sub(empty) / MANY;
    let mut added = Vec::new();
    for runtime in ["crun", "runc"] {
        let install = format!("many={MANY} runtime={runtime} references=()\n{CONTAINERS}");
        machine.prepare(&format!("{NONE}\n{install}"))?;
        let took = boot(&mut machine, Some(runtime))?;
        added.push(format!("{:.2?} with {runtime}", each(took)));
    }
    machine.prepare(&format!("{NONE}\nmany={MANY}\n{NATIVE}"))?;
    let took = boot(&mut machine, Some("native@"))?;
    host::say(&format!(
        "{}: a boot takes {empty:.1?} with nothing; each of {MANY} adds {}, {:.2?} as a native service",
        suite.name(),
        added.join(", "),
        each(took)
    ));
    Ok(())
}

/// Boots the machine and turns it off; how long the boot took by systemd's clock, from its start until all was up. What
/// it was to start is up.
fn boot(machine: &mut Computer, what: Option<&str>) -> Result<Duration> {
    machine.start()?;
    let at = machine.ok("for tick in {1..300}; do
            at=$(systemctl show --value --property=FinishTimestampMonotonic)
            [[ $at == 0 ]] || break
            sleep 0.2
        done
        echo $at $(systemctl show --value --property=UserspaceTimestampMonotonic)")?;
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
    Ok(Duration::from_micros(end - start))
}
