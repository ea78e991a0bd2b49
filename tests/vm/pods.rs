//! A CRI daemon on a machine that can limit: what a pod was given of memory and processor holds, through the daemon's
//! restarts, death, update and rollback; the daemon's own limits hold for what runs in its unit; nothing is left.

use anyhow::{Context, Result, ensure};

use crate::fidelity;
use crate::guest::Suite;
use crate::images;
use crate::qemu::{Computer, RUNTIMES};
use crate::registry::{self, ADDRESS};
use crate::story::{Story, Told};

/// The stories of this file; they are of the tier `machine`.
pub(crate) const STORIES: &[Told] = &[("machine-cri-trixie", pods)];

const UNIT: &str = "containerd.service";

/// What it shows.
const CHECKS: &[&str] = &["cri.leaks", "cri.limits"];

/// Gives the machine a registry with the images in it, and installs the daemon from there. The machine's own containerd
/// makes way for it.
const PREPARE: &str = r#"
chroot "$root" dpkg --purge --force-depends containerd >/dev/null 2>&1
rm -f "$root"/etc/systemd/system/containerd.service
cp "$(command -v docker-registry)" "$root"/usr/bin/
mount --bind "$root"/etc/containers /etc/containers
mount --bind "$root"/mnt /mnt
export root versions images ADDRESS
unshare --net bash -euo pipefail <<'ALONE'
    ip link set lo up
    OTEL_TRACES_EXPORTER=none setpriv --pdeathsig KILL docker-registry serve "$root"/etc/registry.yml >registry.log 2>&1 &
    registry=$!
    for tick in {1..300}; do
        ! (: </dev/tcp/${ADDRESS/://}) 2>/dev/null || break
        sleep 0.05
    done
    push() { skopeo --insecure-policy copy --quiet --dest-tls-verify=false "oci:$1:latest" "docker://$ADDRESS/$2"; }
    push "$images"/hello hello:1
    push "$images"/containerd containerd:1
    push "$versions"/two containerd:2
    "$BEDPLATE" --root="$root" install --runtime crun docker://$ADDRESS/containerd:1
    kill $registry
    wait $registry || true
ALONE
"#;

/// What each step begins with: the daemon's client in its view of the machine, and what is asked of the pod after each
/// thing that has happened to the daemon.
const HEAD: &str = r#"
unit=containerd.service
group=/sys/fs/cgroup/system.slice/$unit
main() { systemctl show --value --property=MainPID $unit; }
ctr() { nsenter --target "$(main)" --mount -- ctr --namespace k8s.io "$@"; }
mounts() { wc -l </proc/1/mountinfo; }
die() { echo "$*"; exit 1; }
pid() { ctr task list | sed -n 's/^one  *\([0-9]*\)  *RUNNING *$/\1/p'; }
goes_on() {
    [[ $(systemctl is-active $unit) == active ]] || die "after $1 the daemon is not up"
    [[ $(cat /proc/"$(main)"/comm) == containerd ]] || die "after $1 it is no containerd"
    [[ $(pid) == "$(</run/pod)" ]] || die "after $1 the pod's process is $(pid), not $(</run/pod)"
    [[ $(cat /proc/"$(</run/pod)"/comm) == sleep ]] || die "after $1 the pod's process is another"
    [[ $(cd /sys/fs/cgroup/k8s.io/one; cat memory.max cpu.max | xargs) == '33554432 50000 100000' ]] ||
        die "after $1 the pod has other limits"
    [[ $(mounts) == "$(</run/mounts)" ]] || die "after $1 there are $(mounts) mounts, not $(</run/mounts)"
}
"#;

/// A pod with limits, whose process this is; it gets no more memory, and a process of it that wants more ends alone.
const BEGINS: &str = r#"
[[ $(ctr images list --quiet) == *hello* ]] || ctr images pull --plain-http $ADDRESS/hello:1 >/dev/null 2>&1
ctr run --detach --null-io --memory-limit 33554432 --cpus 0.5 $ADDRESS/hello:1 one sleep 1000000
pid >/run/pod
mounts >/run/mounts
[[ $(cat /proc/"$(</run/pod)"/cgroup) == 0::/k8s.io/one ]] || die 'the pod is not in its group'
goes_on 'its start'
status=0
ctr task exec --exec-id grow one busybox dd if=/dev/zero of=/dev/null bs=64M count=1 || status=$?
[[ $status == 137 ]] || die "too much memory for the pod: status $status"
grep -q -x 'oom_kill [1-9]' /sys/fs/cgroup/k8s.io/one/memory.events
goes_on 'the kill of a process'
"#;

/// The daemon is restarted.
const RESTARTS: &str = r"
for try in 1 2 3; do
    systemctl restart $unit
done
goes_on '3 restarts'
";

/// The daemon is killed.
const DIES: &str = r#"
old=$(main)
kill -KILL "$old"
for tick in {1..300}; do
    [[ $(main) == @($old|0) || $(systemctl is-active $unit) != active ]] || break
    sleep 0.2
done
goes_on 'its death'
"#;

/// Another version takes its place, and makes way again.
const VERSIONS: &str = r"
bedplate update --rebase docker://$ADDRESS/containerd:2 containerd
goes_on 'the update'
bedplate rollback containerd
goes_on 'the rollback'
";

/// What the unit may have holds for what runs in it, and the kernel's kill is the end of neither daemon nor pod.
const BOUND: &str = r#"
old=$(main)
systemctl set-property --runtime $unit MemoryMax=192M MemorySwapMax=0 TasksMax=$(($(cat $group/pids.current) + 24))
status=0
bedplate exec containerd -- dd if=/dev/zero of=/dev/null bs=256M count=1 || status=$?
[[ $status == 137 ]] || die "too much memory for the unit: status $status"
grep -q -x 'oom_kill [1-9]' $group/memory.events
[[ $(main) == "$old" ]] || die "the daemon has not lived through it"
status=0
bedplate exec containerd -- sh -c 'trap "kill \$all" EXIT
    for task in $(seq 60); do sleep 60 & all="$all $!"; done' >/run/forked 2>&1 || status=$?
[[ $status == 2 && $(</run/forked) == *'Cannot fork'* ]] || die "60 tasks: status $status, $(</run/forked)"
goes_on 'too much of everything'
systemctl revert $unit
"#;

/// The daemon ends its pod and goes; of neither is anything left.
const ENDS: &str = r#"
# The exit status of what was killed is ctr's too.
ctr task delete --force one || true
[[ ! -e /proc/$(</run/pod) ]] || die 'the pod has not ended'
ctr container delete one
for tick in {1..300}; do
    pgrep --exact containerd-shim >/dev/null || break
    sleep 0.2
done
bedplate uninstall containerd
left=$(ps -e -o args= | grep '^[^ ]*containerd' || true
    find /sys/fs/cgroup -type d '(' -name 'container*' -o -path '*/k8s.io/*' ')'
    grep -E 'containerd|k8s|bedplate' /proc/1/mountinfo || true
    find /run/netns /run/systemd/system -name '*containerd*' 2>/dev/null || true
    ls /sys/class/net | grep -v -x lo || true)
[[ -z $left ]] || die "left over: $left"
"#;

fn pods(story: &Story) -> Result<()> {
    let mut machine = Computer::new(story, Suite::Trixie)?;
    prepare(story, &machine)?;
    machine.start()?;
    machine.ok(&format!(
        "systemd-run --quiet --setenv=OTEL_TRACES_EXPORTER=none docker-registry serve /etc/registry.yml
        for tick in {{1..300}}; do
            ! (: </dev/tcp/{}) 2>/dev/null || exit 0
            sleep 0.1
        done
        exit 1",
        ADDRESS.replace(':', "/")
    ))?;
    for runtime in RUNTIMES {
        tell(&mut machine, runtime).with_context(|| format!("with {runtime}"))?;
        fidelity::shown(Suite::Trixie, runtime, CHECKS)?;
    }
    Ok(())
}

fn prepare(story: &Story, machine: &Computer) -> Result<()> {
    let images = images::examples(&["containerd", "hello"])?;
    let versions = story.dir().join("versions");
    images::republish(&images.join("containerd"), "two", &versions.join("two"))?;
    machine.prepare(&format!(
        "ADDRESS={ADDRESS}\nversions={}\ncat >\"$root\"/etc/registry.yml <<'END'\n{}END\n{PREPARE}",
        versions.display(),
        registry::configuration("/mnt".as_ref())
    ))
}

fn tell(machine: &mut Computer, runtime: &str) -> Result<()> {
    // The first was installed from outside and came up with the machine.
    let first = runtime == "crun";
    let state = machine.property(UNIT, "ActiveState")?;
    ensure!((state == "active") == first, "the daemon is {state}");
    if !first {
        machine.ok(&format!(
            "bedplate install --runtime {runtime} docker://{ADDRESS}/containerd:1
            systemctl start {UNIT}"
        ))?;
    }
    let shown = machine.ok("bedplate show --json containerd 2>/dev/null")?;
    let runs_it = format!("bin/{runtime}\"");
    ensure!(shown.contains(&runs_it), "{shown}");
    let all: &[&str] = &[BEGINS, RESTARTS, DIES, VERSIONS, BOUND, ENDS];
    // An update takes a minute here; with runc the story `cri-trixie` has it.
    let some: &[&str] = &[BEGINS, RESTARTS, BOUND, ENDS];
    for step in if first { all } else { some } {
        machine.ok(&format!("ADDRESS={ADDRESS}\n{HEAD}\n{step}"))?;
    }
    Ok(())
}
