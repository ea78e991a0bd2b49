//! Cold boots of a whole machine, as bare as a boot can be: a read-only root, `/var` on a disk of its own, no machine id,
//! no network. Early containers are up before basic.target and a chain in its order, also after an update and a rollback.

use anyhow::{Context, Result, ensure};

use crate::fidelity;
use crate::guest::Suite;
use crate::images;
use crate::qemu::{Computer, RUNTIMES};
use crate::story::{Story, Told};

/// The stories of this file; they are of the tier `machine`.
pub(crate) const STORIES: &[Told] = &[
    ("machine-cold-trixie", |story| cold(story, Suite::Trixie)),
    ("machine-cold-bookworm", |story| {
        cold(story, Suite::Bookworm)
    }),
];

/// Makes the machine one whose /var is a disk of its own; no udev runs that would find that, and so its unit must not name
/// a device. Then it gets its containers, the early ones named after what runs them, and loses its id.
const PREPARE: &str = r#"
mkdir -p "$root"/etc/systemd/system/local-fs.target.requires
cat >"$root"/etc/systemd/system/var-disk.service <<'UNIT'
[Unit]
DefaultDependencies=no
Requires=virtio.service
After=virtio.service
[Service]
Type=oneshot
ExecStart=bash -c 'ln -sfn /dev/$(basename $(dirname $(grep -l -x var /sys/block/*/serial))) /run/var-disk'
UNIT
cat >"$root"/etc/systemd/system/var.mount <<'UNIT'
[Unit]
Requires=var-disk.service
After=var-disk.service
[Mount]
What=/run/var-disk
Where=/var
Type=ext4
UNIT
ln -s ../var.mount "$root"/etc/systemd/system/local-fs.target.requires/
mount -o loop var.img "$root"/mnt
cp --archive "$root"/var/. "$root"/mnt/
mount --move "$root"/mnt "$root"/var
for runtime in crun runc; do
    bedplate install --name early-$runtime --runtime $runtime "oci:$images/early:latest"
done
bedplate install "oci:$images"/{alpha,beta,gamma}:latest
: >"$root"/etc/machine-id
"#;

fn cold(story: &Story, suite: Suite) -> Result<()> {
    let mut machine = Computer::new(story, suite)?;
    machine.add_disk("var", "512M")?;
    machine.prepare(PREPARE)?;
    machine.read_only();
    machine.start()?;
    bare(&mut machine)?;
    booted(&mut machine, "working").context("after install")?;
    machine.ok(&format!(
        "mount -o remount,rw /
        bedplate update beta --rebase oci:/host{}/beta:latest --set 'SCRIPT=tell STATUS=changed; tell READY=1; wait'",
        images::INSIDE
    ))?;
    machine.poweroff()?;

    machine.start()?;
    booted(&mut machine, "changed").context("after update")?;
    machine.ok("mount -o remount,rw /; bedplate rollback beta")?;
    machine.poweroff()?;

    machine.start()?;
    booted(&mut machine, "working").context("after rollback")?;
    machine.poweroff()?;
    for runtime in RUNTIMES {
        fidelity::shown(suite, runtime, &["early.order", "early.bare"])?;
    }
    Ok(())
}

/// The machine is as bare as it should be, and is asked nothing that it does not have.
fn bare(machine: &mut Computer) -> Result<()> {
    let (status, said) = machine.run("touch /etc/written")?;
    ensure!(status != 0 && said.contains("Read-only"), "{said}");
    // systemd has made one up for this boot and laid it over the empty file.
    machine.ok("mountpoint --quiet /etc/machine-id; mountpoint --quiet /var")?;
    let links = machine.ok("ls /sys/class/net")?;
    ensure!(links == "lo", "{links}");
    let checked = machine.ok("bedplate check --boot 2>&1")?;
    ensure!(checked.ends_with("no fault"), "{checked}");
    Ok(())
}

/// All is up, each at its time; beta says this.
fn booted(machine: &mut Computer, status: &str) -> Result<()> {
    for runtime in RUNTIMES {
        let unit = format!("early-{runtime}.service");
        comes_after(machine, &unit, "var.mount")?;
        let (ready, basic) = (ready(machine, &unit)?, ready(machine, "basic.target")?);
        ensure!(
            ready <= basic,
            "{unit} was ready at {ready} µs, basic.target at {basic} µs"
        );
    }
    comes_after(machine, "beta.service", "alpha.service")?;
    comes_after(machine, "gamma.service", "beta.service")?;
    let says = machine.property("beta.service", "StatusText")?;
    ensure!(says == status, "beta says {says}");
    let left =
        machine.ok("ps -e -o comm= | grep -E '^(bedplate|launch|crun|runc|skopeo)' || true")?;
    ensure!(left.is_empty(), "resident: {left}");
    Ok(())
}

/// When a unit was up, by systemd's clock.
fn ready(machine: &mut Computer, unit: &str) -> Result<u64> {
    let at = machine.property(unit, "ActiveEnterTimestampMonotonic")?;
    let at: u64 = at.parse().with_context(|| format!("{unit}: {at}"))?;
    ensure!(at > 0, "{unit} has not been up");
    Ok(at)
}

/// The one's main process began when the other was up, and it needed no second try.
fn comes_after(machine: &mut Computer, later: &str, earlier: &str) -> Result<()> {
    let began = machine.property(later, "ExecMainStartTimestampMonotonic")?;
    let began: u64 = began.parse().with_context(|| format!("{later}: {began}"))?;
    let up = ready(machine, earlier)?;
    ensure!(
        began > up,
        "{later} began at {began} µs, {earlier} was up at {up} µs"
    );
    let tries = machine.property(later, "NRestarts")?;
    ensure!(tries == "0", "{later} was restarted {tries} times");
    ready(machine, later)?;
    Ok(())
}
