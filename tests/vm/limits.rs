//! On a machine that can limit: what the operator says of memory, tasks, processor and disk holds for the payload, and
//! what the kernel killed for it is told as of any service.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::fidelity;
use crate::guest::Suite;
use crate::images;
use crate::qemu::Computer;
use crate::story::{Story, Told};

/// The stories of this file; they are of the tier `machine`.
pub(crate) const STORIES: &[Told] = &[
    ("machine-limits-trixie", |story| {
        limits(story, Suite::Trixie)
    }),
    ("machine-limits-bookworm", |story| {
        limits(story, Suite::Bookworm)
    }),
];

/// What it shows.
const CHECKS: &[&str] = &[
    "resources.memory",
    "resources.weights",
    "resources.set-property",
];

const UNIT: &str = "payload.service";

fn limits(story: &Story, suite: Suite) -> Result<()> {
    let mut machine = Computer::new(story, suite)?;
    machine.start()?;
    for runtime in ["crun", "runc"] {
        bite(&mut machine, runtime).with_context(|| format!("with {runtime}"))?;
        fidelity::shown(suite, runtime, CHECKS)?;
    }
    Ok(())
}

fn bite(machine: &mut Computer, runtime: &str) -> Result<()> {
    let image = format!("oci:/host{}/payload:latest", images::INSIDE);
    machine.ok(&format!(
        "bedplate install --now --runtime {runtime} {image}
        systemctl set-property {UNIT} CPUQuota=90% IOWeight=50"
    ))?;
    shares(machine, "system.slice")?;
    memory_and_tasks(machine)?;
    if runtime == "crun" {
        oom_policies(machine)?;
    }
    machine.ok("bedplate uninstall payload")?;
    Ok(())
}

/// A drop-in as `systemctl edit` writes it, and a start with it.
fn edit(machine: &mut Computer, text: &str) -> Result<()> {
    let at = format!("/etc/systemd/system/{UNIT}.d");
    machine.ok(&format!(
        "mkdir -p {at}
        printf '%s' '[Service]\n{text}' >{at}/override.conf
        systemctl daemon-reload
        systemctl restart {UNIT}"
    ))?;
    Ok(())
}

/// The control group of the main process.
fn group(machine: &mut Computer) -> Result<String> {
    let main = machine.property(UNIT, "MainPID")?;
    let line = machine.ok(&format!("cat /proc/{main}/cgroup"))?;
    let group = line.strip_prefix("0::").context(line.clone())?;
    Ok(group.to_owned())
}

/// `CPUQuota=` and `IOWeight=`, given to the running service: the payload's group is below the one that has them.
fn shares(machine: &mut Computer, slice: &str) -> Result<()> {
    let group = group(machine)?;
    let unit = format!("/{slice}/{UNIT}");
    ensure!(group == format!("{unit}/container"), "{group}");
    let files = machine.ok(&format!("cd /sys/fs/cgroup{unit}; cat cpu.max io.weight"))?;
    ensure!(files == "90000 100000\ndefault 50", "{files}");
    Ok(())
}

/// `MemoryMax=`, `TasksMax=` and `Slice=` of a drop-in, by what they do to the payload.
fn memory_and_tasks(machine: &mut Computer) -> Result<()> {
    machine.ok("rm -f /var/lib/payload/go")?;
    let steps = "tell READY=1; await /data/go; tasks 40; grow 96; wait";
    edit(
        machine,
        &format!(
            "Environment=\"SCRIPT={steps}\"\nMemoryMax=48M\nMemorySwapMax=0\nTasksMax=17\nSlice=story.slice\nRestart=no\n"
        ),
    )?;
    shares(machine, "story.slice")?;
    // Nothing of it is left where it was; the launcher goes in its own time.
    machine.ok(&format!(
        "test ! -e /sys/fs/cgroup/system.slice/{UNIT}
        for tick in {{1..100}}; do
            [[ $(cat /sys/fs/cgroup/story.slice/{UNIT}/pids.current) != 1 ]] || break
            sleep 0.2
        done
        touch /var/lib/payload/go"
    ))?;
    machine.until(UNIT, "ActiveState", "failed")?;
    let result = machine.property(UNIT, "Result")?;
    ensure!(result == "oom-kill", "{result}");
    let said = machine.ok(&format!(
        "journalctl --output=cat _SYSTEMD_INVOCATION_ID=$(systemctl show --value --property=InvocationID {UNIT})"
    ))?;
    ensure!(said.lines().any(|line| line == "tasks=16"), "{said}");
    ensure!(!said.contains("grown="), "{said}");
    let shown = machine.ok("bedplate show --json payload 2>/dev/null")?;
    let shown: Value = serde_json::from_str(&shown).context(shown)?;
    ensure!(shown["state"]["result"] == "oom-kill", "{shown}");
    Ok(())
}

/// A second process of the container takes too much: the service ends and comes back, or goes on where the operator
/// wants that.
fn oom_policies(machine: &mut Computer) -> Result<()> {
    let limit = "MemoryMax=48M\nMemorySwapMax=0\nRestartSec=100ms\n";
    let grow = "bedplate exec payload -- /payload 'grow 96' 2>&1";
    edit(machine, limit)?;
    let (status, said) = machine.run(grow)?;
    ensure!(status != 0, "{said}");
    machine.until(UNIT, "NRestarts", "1")?;
    machine.until(UNIT, "ActiveState", "active")?;
    let said = machine.ok(&format!("journalctl --output=cat --unit={UNIT}"))?;
    let told = said.matches("Failed with result 'oom-kill'").count();
    ensure!(told >= 2, "{said}");

    edit(machine, &format!("{limit}OOMPolicy=continue\n"))?;
    let main = machine.property(UNIT, "MainPID")?;
    let (status, said) = machine.run(grow)?;
    ensure!(status == 137, "{status}: {said}");
    let now = machine.property(UNIT, "MainPID")?;
    ensure!(now == main, "its main process is {now}, no longer {main}");
    machine.ok(&format!("systemctl revert {UNIT} 2>&1"))?;
    Ok(())
}
