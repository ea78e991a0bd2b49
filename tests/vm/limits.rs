//! On a machine that can limit: what the operator says of memory, tasks, processor and disk holds for the payload, and
//! what the kernel killed for it is told as of any service.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::fidelity;
use crate::guest::Suite;
use crate::qemu::{Computer, RUNTIMES};
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
    "resources.oom-policy",
];

/// What `OOMPolicy=` may be; the first is what an image has by default. Each has a container with each runtime, whose name
/// is made of both.
const POLICIES: [&str; 3] = ["stop", "kill", "continue"];

/// Installs them, with a limit that they reach only when they are made to.
const PREPARE: &str = r#"
for name in {stop,kill,continue}-{crun,runc}; do
    bedplate install --name $name --runtime ${name#*-} "oci:$images/payload:latest"
    edited="$root"/etc/systemd/system/$name.service.d
    mkdir -p "$edited"
    printf '[Service]\nMemoryMax=48M\nMemorySwapMax=0\nRestartSec=100ms\n' >"$edited"/override.conf
    [[ $name == stop-* ]] || echo OOMPolicy=${name%-*} >>"$edited"/override.conf
done
"#;

fn limits(story: &Story, suite: Suite) -> Result<()> {
    let mut machine = Computer::new(story, suite)?;
    machine.prepare(PREPARE)?;
    machine.start()?;
    for runtime in RUNTIMES {
        bite(&mut machine, runtime).with_context(|| format!("with {runtime}"))?;
        fidelity::shown(suite, runtime, CHECKS)?;
    }
    Ok(())
}

fn bite(machine: &mut Computer, runtime: &str) -> Result<()> {
    for policy in POLICIES {
        out_of_memory(machine, policy, &format!("{policy}-{runtime}"))
            .with_context(|| format!("OOMPolicy={policy}"))?;
    }
    let name = format!("stop-{runtime}");
    machine.ok(&format!(
        "systemctl set-property {name}.service CPUQuota=90% IOWeight=50"
    ))?;
    shares(machine, &name, "system.slice")?;
    memory_and_tasks(machine, &name)
}

/// A second process of the container takes too much: the service is stopped or killed and comes back, or goes on.
fn out_of_memory(machine: &mut Computer, policy: &str, name: &str) -> Result<()> {
    let unit = format!("{name}.service");
    machine.until(&unit, "ActiveState", "active")?;
    let told = machine.ok(&format!(
        "cat /sys/fs/cgroup/system.slice/{unit}/memory.oom.group
        systemctl show --value --property=MainPID {unit}
        systemctl show --value --property=InvocationID {unit}"
    ))?;
    let [group, main, first] = told.lines().collect::<Vec<_>>()[..] else {
        bail!("{told}");
    };
    // By this the kernel kills all of it at once.
    ensure!((group == "1") == (policy == "kill"), "{group}");
    let (status, said) =
        machine.run(&format!("bedplate exec {name} -- /payload 'grow 96' 2>&1"))?;
    if policy == "continue" {
        ensure!(status == 137, "{status}: {said}");
        let now = machine.property(&unit, "MainPID")?;
        ensure!(now == main, "its main process is {now}, no longer {main}");
        return Ok(());
    }
    ensure!(status != 0, "{said}");
    machine.until(&unit, "NRestarts", "1")?;
    machine.until(&unit, "ActiveState", "active")?;
    // The last line of a process may be taken for one of the next start, by all but its process id.
    let said = machine.ok(&format!(
        "journalctl --output=cat INVOCATION_ID={first} + _PID={main}"
    ))?;
    ensure!(said.contains("Failed with result 'oom-kill'"), "{said}");
    // What it says when it is asked to stop.
    let bye = said.lines().any(|line| line == "bye");
    ensure!(bye == (policy == "stop"), "{said}");
    Ok(())
}

/// A drop-in as `systemctl edit` writes it, and a start with it.
fn edit(machine: &mut Computer, name: &str, text: &str) -> Result<()> {
    let at = format!("/etc/systemd/system/{name}.service.d");
    machine.ok(&format!(
        "mkdir -p {at}
        printf '%s' '[Service]\n{text}' >{at}/override.conf
        systemctl daemon-reload
        systemctl restart {name}.service"
    ))?;
    Ok(())
}

/// The control group of the main process.
fn group(machine: &mut Computer, name: &str) -> Result<String> {
    let main = machine.property(&format!("{name}.service"), "MainPID")?;
    let line = machine.ok(&format!("cat /proc/{main}/cgroup"))?;
    let group = line.strip_prefix("0::").context(line.clone())?;
    Ok(group.to_owned())
}

/// `CPUQuota=` and `IOWeight=`, given to the running service: the payload's group is below the one that has them.
fn shares(machine: &mut Computer, name: &str, slice: &str) -> Result<()> {
    let group = group(machine, name)?;
    let unit = format!("/{slice}/{name}.service");
    ensure!(group == format!("{unit}/container"), "{group}");
    let files = machine.ok(&format!("cd /sys/fs/cgroup{unit}; cat cpu.max io.weight"))?;
    ensure!(files == "90000 100000\ndefault 50", "{files}");
    Ok(())
}

/// `MemoryMax=`, `TasksMax=` and `Slice=` of a drop-in, by what they do to the payload.
fn memory_and_tasks(machine: &mut Computer, name: &str) -> Result<()> {
    let unit = format!("{name}.service");
    let steps = "tell READY=1; await /data/go; tasks 40; grow 96; wait";
    edit(
        machine,
        name,
        &format!(
            "Environment=\"SCRIPT={steps}\"\nMemoryMax=48M\nMemorySwapMax=0\nTasksMax=17\nSlice=story.slice\nRestart=no\n"
        ),
    )?;
    shares(machine, name, "story.slice")?;
    // Nothing of it is left where it was; the launcher goes in its own time.
    machine.ok(&format!(
        "test ! -e /sys/fs/cgroup/system.slice/{name}.service
        for tick in {{1..100}}; do
            [[ $(cat /sys/fs/cgroup/story.slice/{name}.service/pids.current) != 1 ]] || break
            sleep 0.2
        done
        touch /var/lib/{name}/go"
    ))?;
    machine.until(&unit, "ActiveState", "failed")?;
    let result = machine.property(&unit, "Result")?;
    ensure!(result == "oom-kill", "{result}");
    let said = machine.ok(&format!(
        "journalctl --output=cat _SYSTEMD_INVOCATION_ID=$(systemctl show --value --property=InvocationID {name}.service)"
    ))?;
    ensure!(said.lines().any(|line| line == "tasks=16"), "{said}");
    ensure!(!said.contains("grown="), "{said}");
    let shown = machine.ok(&format!("bedplate show --json {name} 2>/dev/null"))?;
    let shown: Value = serde_json::from_str(&shown).context(shown)?;
    ensure!(shown["state"]["result"] == "oom-kill", "{shown}");
    Ok(())
}
