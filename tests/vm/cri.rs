//! A CRI daemon and what it has started: the containers of pods go on while the daemon is restarted, killed, updated
//! and taken back, and it finds them again.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::fidelity;
use crate::guest::{Guest, Suite};
use crate::product::{self, UP};
use crate::story::{Story, Told};
use crate::{host, images};

/// The stories of this file.
pub(crate) const STORIES: &[Told] = &[("cri-trixie", outlives), ("cri-bookworm", ends)];

/// Where the guest sees the versions of containerd.
const VERSIONS: &str = "/versions";

/// Its reference, whatever it names at the time.
const IMAGE: &str = "oci:/versions/containerd:latest";

/// The unit, and the container of a pod.
const UNIT: &str = "containerd.service";
const POD: &str = "one";

/// How often the daemon is restarted.
const RESTARTS: usize = 5;

/// What systemd 252 gives instead.
const ENDS: &str =
    "below systemd 254 the daemon's containers end with it, and it starts cleanly without them";

/// What goes on elsewhere.
const CHECKS: &[&str] = &["cri.restart", "cri.update", "cri.leaks"];

struct Scene {
    guest: Guest,
    versions: PathBuf,
}

fn outlives(story: &Story) -> Result<()> {
    let scene = Scene::new(story, Suite::Trixie)?;
    let untouched = scene.mounts()?;
    for runtime in product::runtimes(Suite::Trixie)? {
        scene.publish("one")?;
        let pod = scene.begins(runtime)?;
        scene.lives_through_restarts(&pod)?;
        scene.dies_and_comes_back(&pod)?;
        scene.lives_through_an_update(&pod)?;
        scene.leaves_nothing(untouched)?;
        fidelity::shown(Suite::Trixie, runtime, CHECKS)?;
    }
    scene.publish("one")?;
    let pod = scene.begins("crun")?;
    scene.lives_through_prune(&pod)?;
    scene.is_left_alone()
}

/// systemd below 254 cannot start it beside what is left: a stop ends all, and the daemon is none the worse for it.
fn ends(story: &Story) -> Result<()> {
    let scene = Scene::new(story, Suite::Bookworm)?;
    let untouched = scene.mounts()?;
    for runtime in product::runtimes(Suite::Bookworm)? {
        scene.publish("one")?;
        let pod = scene.begins(runtime)?;
        let mounts = scene.mounts()?;
        for _ in 0..RESTARTS {
            scene.guest.ok(&["systemctl", "restart", UNIT])?;
            product::holds_payload_alone(&scene.guest, "containerd", "containerd")?;
        }
        scene.is_over(&pod, mounts)?;
        fidelity::degraded(Suite::Bookworm, runtime, "cri.restart", ENDS)?;

        let pod = scene.run_pod()?;
        scene.publish("two")?;
        product::does(&scene.guest, &["update", "containerd"])?;
        scene.is_over(&pod, mounts)?;
        let pod = scene.run_pod()?;
        product::does(&scene.guest, &["rollback", "containerd"])?;
        scene.is_over(&pod, mounts)?;
        product::does(&scene.guest, &["verify"])?;
        fidelity::degraded(Suite::Bookworm, runtime, "cri.update", ENDS)?;

        scene.removed(untouched)?;
        fidelity::shown(Suite::Bookworm, runtime, &["cri.leaks"])?;
    }
    Ok(())
}

impl Scene {
    fn new(story: &Story, suite: Suite) -> Result<Self> {
        let images = images::examples(&["containerd", "hello"])?;
        let versions = story.dir().join("versions");
        std::fs::create_dir_all(&versions)?;
        let mut guest = Guest::new(story, suite)?
            .bind(images, images::INSIDE)
            .bind(&versions, VERSIONS);
        if !suite.runtimes()?.contains(&"crun") {
            guest = guest.bind(host::newer_crun()?, "/opt/crun");
        }
        guest.start()?;
        product::only_what_works(&guest, suite)?;
        // The machine's own containerd makes way for the one that is installed by that name.
        guest.sh("dpkg --purge --force-depends containerd >/dev/null 2>&1
             rm -f /etc/systemd/system/containerd.service
             systemctl daemon-reload")?;
        Ok(Self { guest, versions })
    }

    /// What the reference names from now on.
    fn publish(&self, version: &str) -> Result<()> {
        let images = images::examples(&["containerd"])?;
        let dir = self.versions.join("containerd");
        images::republish(&images.join("containerd"), version, &dir)
    }

    /// containerd's own client, in containerd's own view of the machine.
    fn ctr(&self, command: &str) -> Result<String> {
        let main = self.guest.property(UNIT, "MainPID")?;
        self.guest.sh(&format!(
            "nsenter --target {main} --mount -- ctr --namespace k8s.io {command}"
        ))
    }

    /// Starts a container that goes on until it is ended; its process.
    fn run_pod(&self) -> Result<String> {
        let hello = format!("{}/hello", images::INSIDE);
        let main = self.guest.property(UNIT, "MainPID")?;
        self.guest.sh(&format!(
            "tar --create --directory {hello} . |
                 nsenter --target {main} --mount -- ctr --namespace k8s.io images import --base-name hello -"
        ))?;
        self.ctr(&format!(
            "run --detach --null-io --cpu-shares 0 hello:latest {POD} sleep 1000000"
        ))?;
        self.pod()
    }

    /// The process of the pod's container, which runs, as containerd sees it.
    fn pod(&self) -> Result<String> {
        let tasks = self.ctr("task list")?;
        let task = tasks
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|task| task.first() == Some(&POD));
        match task.as_deref() {
            Some([_, pid, "RUNNING"]) => Ok((*pid).to_owned()),
            _ => anyhow::bail!("containerd has the tasks {tasks}"),
        }
    }

    /// The daemon is up, it is the main process, and the pod's process is still the one that it was.
    fn goes_on(&self, pod: &str, after: &str) -> Result<()> {
        self.guest.wait_active(UNIT, UP)?;
        let main = self.guest.property(UNIT, "MainPID")?;
        let comm = self.guest.ok(&["cat", &format!("/proc/{main}/comm")])?;
        ensure!(
            comm == "containerd",
            "after {after} the main process is `{comm}`"
        );
        let now = self.pod().with_context(|| format!("after {after}"))?;
        ensure!(
            now == pod,
            "after {after} the pod's process is {now}, not {pod}"
        );
        let comm = self.guest.ok(&["cat", &format!("/proc/{pod}/comm")])?;
        ensure!(comm == "sleep", "after {after} {pod} is `{comm}`");
        Ok(())
    }

    /// The pod has ended with the daemon, which is alone in its unit; what was mounted for the pod is gone with it.
    fn is_over(&self, pod: &str, mounts: usize) -> Result<()> {
        let guest = &self.guest;
        product::holds_payload_alone(guest, "containerd", "containerd")?;
        guest.ok(&["test", "!", "-e", &format!("/proc/{pod}")])?;
        ensure!(self.pod().is_err(), "containerd has the pod's process");
        self.ctr(&format!("container delete {POD}"))?;
        let now = self.mounts()?;
        ensure!(now <= mounts, "{mounts} mounts before, {now} afterwards");
        Ok(())
    }

    /// containerd ends the pod, and with it the shim.
    fn end_pod(&self) -> Result<()> {
        self.ctr(&format!("task kill --signal SIGKILL {POD}"))?;
        self.guest.sh(&format!(
            "main=$(systemctl show --value --property MainPID {UNIT})
             ctr() {{ nsenter --target $main --mount -- ctr --namespace k8s.io \"$@\"; }}
             until ctr task list | grep -q '^{POD} .*STOPPED'; do sleep 0.05; done
             # The exit status of what was killed is ctr's too.
             ctr task delete {POD} || true
             ctr container delete {POD}
             while pgrep --exact containerd-shim >/dev/null; do sleep 0.05; done"
        ))?;
        Ok(())
    }

    /// How many mounts the machine has.
    fn mounts(&self) -> Result<usize> {
        Ok(self
            .guest
            .ok(&["cat", "/proc/1/mountinfo"])?
            .lines()
            .count())
    }

    /// Alone in its unit, then with a pod, whose process this is.
    fn begins(&self, runtime: &str) -> Result<String> {
        let guest = &self.guest;
        product::does(guest, &["install", "--now", "--runtime", runtime, IMAGE])?;
        product::holds_payload_alone(guest, "containerd", "containerd")?;
        product::nothing_resident(guest)?;
        self.run_pod()
    }

    fn lives_through_restarts(&self, pod: &str) -> Result<()> {
        let guest = &self.guest;
        let mounts = self.mounts()?;
        for _ in 0..RESTARTS {
            guest.ok(&["systemctl", "restart", UNIT])?;
            self.goes_on(pod, "a restart")?;
        }
        let now = self.mounts()?;
        ensure!(
            now == mounts,
            "{mounts} mounts before, {now} after {RESTARTS} restarts"
        );
        // The unit's processes: the daemon in a group of its own, the shim where it was started.
        let group = format!("/sys/fs/cgroup{}", guest.property(UNIT, "ControlGroup")?);
        let held = guest.sh(&format!("cat {group}/container-2/cgroup.procs"))?;
        ensure!(held == guest.property(UNIT, "MainPID")?, "{held}");
        let groups = guest.sh(&format!("cd {group} && ls --directory container*"))?;
        ensure!(groups == "container\ncontainer-2", "{groups}");
        Ok(())
    }

    fn dies_and_comes_back(&self, pod: &str) -> Result<()> {
        let guest = &self.guest;
        let before = guest.property(UNIT, "MainPID")?;
        guest.ok(&["kill", "-KILL", &before])?;
        guest.sh(&format!(
            "until main=$(systemctl show --value --property MainPID {UNIT}) && [ $main != {before} ] &&
                 systemctl --quiet is-active {UNIT}; do sleep 0.05; done"
        ))?;
        self.goes_on(pod, "its death")
    }

    fn lives_through_an_update(&self, pod: &str) -> Result<()> {
        let guest = &self.guest;
        self.publish("two")?;
        product::does(guest, &["update", "containerd"])?;
        self.goes_on(pod, "the update")?;
        product::does(guest, &["rollback", "containerd"])?;
        self.goes_on(pod, "the rollback")?;
        product::does(guest, &["verify"])?;
        Ok(())
    }

    fn lives_through_prune(&self, pod: &str) -> Result<()> {
        let guest = &self.guest;
        for version in ["two", "three"] {
            self.publish(version)?;
            product::does(guest, &["update", "containerd"])?;
            self.goes_on(pod, "another update")?;
        }

        // The shim keeps the generation that it was started from, and no longer than it runs.
        let pruned = self.prune()?;
        let held = &pruned["in_use"][0];
        ensure!(
            held["generation"] == 1 && held["process"]["name"] == "containerd-shim",
            "{pruned:#}"
        );
        self.goes_on(pod, "prune")?;
        self.end_pod()?;
        let pruned = self.prune()?;
        ensure!(pruned["generations"][0]["generation"] == 1, "{pruned:#}");
        Ok(())
    }

    fn prune(&self) -> Result<Value> {
        Ok(serde_json::from_str(&product::does(
            &self.guest,
            &["prune", "--json"],
        )?)?)
    }

    /// Ends all of it.
    fn leaves_nothing(&self, mounts: usize) -> Result<()> {
        let guest = &self.guest;
        product::refuses(
            guest,
            &["uninstall", "containerd"],
            &["a stop of `containerd` does not end what it has started: containerd-shim (process "],
        )?;
        let shown = product::does(guest, &["uninstall", "--dry-run", "containerd"])?;
        let outlives = "would not end containerd-shim (process ";
        ensure!(shown.contains(outlives), "{shown}");
        self.end_pod()?;
        // Without shims the next start has the first group again.
        guest.ok(&["systemctl", "restart", UNIT])?;
        product::holds_payload_alone(guest, "containerd", "containerd")?;
        self.removed(mounts)
    }

    /// It is taken away, and the machine is as it was.
    fn removed(&self, mounts: usize) -> Result<()> {
        let guest = &self.guest;
        product::does(guest, &["uninstall", "containerd"])?;
        product::is_gone(guest, &["containerd"])?;
        let left = guest.sh("ps -e -o args= | grep '^[^ ]*containerd' || true
             find /sys/fs/cgroup -type d '(' -name 'container*' -o -path '*/k8s.io/*' ')'")?;
        ensure!(left.is_empty(), "left over: {left}");
        let now = self.mounts()?;
        ensure!(now == mounts, "{mounts} mounts before, {now} afterwards");
        Ok(())
    }

    /// Taken away by force, it says what goes on.
    fn is_left_alone(&self) -> Result<()> {
        let pod = self.run_pod()?;
        let guest = &self.guest;
        let said = product::does(guest, &["uninstall", "--force", "containerd"])?;
        ensure!(
            said.contains("still running: containerd-shim (process "),
            "{said}"
        );
        product::is_gone(guest, &["containerd"])?;
        guest.ok(&["kill", "-KILL", &pod])?;
        Ok(())
    }
}
