//! Updates of running containers: a good one is live, a bad one goes back, a set goes as one, what hangs on a service
//! comes up again with it, and the timer leaves alone what has failed.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::guest::{Guest, Output, Suite};
use crate::product::{self, UP};
use crate::story::{Story, Told};
use crate::{host, images};

/// The stories of this file.
pub(crate) const STORIES: &[Told] = &[
    ("update-bad-trixie", |story| bad(story, Suite::Trixie)),
    ("update-bad-bookworm", |story| bad(story, Suite::Bookworm)),
    ("update-trixie", |story| good(story, Suite::Trixie)),
    ("update-bookworm", |story| good(story, Suite::Bookworm)),
    ("update-sets-trixie", |story| sets(story, Suite::Trixie)),
    ("update-sets-bookworm", |story| sets(story, Suite::Bookworm)),
];

/// Where the guest sees the versions.
const VERSIONS: &str = "/versions";

/// Does its work until it is told to end.
const GOOD: &str = "say up; tell STATUS=%; tell READY=1; wait; say bye";

/// A guest, and the versions that it sees.
struct Scene {
    guest: Guest,
    versions: PathBuf,
}

impl Scene {
    fn new(story: &Story, suite: Suite) -> Result<Self> {
        let versions = story.dir().join("versions");
        std::fs::create_dir_all(&versions)?;
        let mut guest = Guest::new(story, suite)?
            .bind(images::small()?, images::INSIDE)
            .bind(&versions, VERSIONS);
        if !suite.runtimes()?.contains(&"crun") {
            guest = guest.bind(host::newer_crun()?, "/opt/crun");
        }
        guest.start()?;
        product::only_what_works(&guest, suite)?;
        Ok(Self { guest, versions })
    }

    /// What the reference of `name` names from now on.
    fn publish(&self, name: &str, script: &str, service: &str) -> Result<String> {
        // The default is five seconds; one story waits for those.
        let brief = "\n[health]\nsettle = \"500ms\"";
        let service = if service.contains("[health]") || name == "web" {
            service.to_owned()
        } else {
            format!("{service}{brief}")
        };
        images::version(&self.versions.join(name), script, &service)?;
        Ok(format!("oci:{VERSIONS}/{name}:latest"))
    }

    /// A version that works and says which it is.
    fn good(&self, name: &str, version: &str, service: &str) -> Result<String> {
        self.publish(name, &GOOD.replace('%', version), service)
    }

    fn bedplate(&self, args: &[&str]) -> Result<Output> {
        product::bedplate(&self.guest, args)
    }

    fn does(&self, args: &[&str]) -> Result<String> {
        product::does(&self.guest, args)
    }

    /// The container runs, and is this version.
    fn runs(&self, name: &str, version: &str) -> Result<()> {
        let unit = format!("{name}.service");
        let is = |property: &str| self.guest.property(&unit, property);
        let (active, status) = (is("ActiveState")?, is("StatusText")?);
        ensure!(
            active == "active" && status == version,
            "{unit} is {active} with `{status}`, not {version}: {}",
            self.guest.journal(&unit)?
        );
        Ok(())
    }

    /// Runs bedplate, which must fail with status 4 and these texts in its error.
    fn goes_back(&self, args: &[&str], texts: &[&str]) -> Result<()> {
        let output = self.bedplate(args)?;
        ensure!(output.status == 4, "bedplate {args:?}: {output:?}");
        for text in texts {
            ensure!(
                output.stderr.contains(text),
                "no `{text}`: {}",
                output.stderr
            );
        }
        product::no_transaction(&self.guest)
    }

    fn action(&self, args: &[&str]) -> Result<String> {
        let seen: Value = serde_json::from_str(&self.does(args)?)?;
        let action = seen["containers"][0]["action"].as_str();
        Ok(action.context("no container")?.to_owned())
    }
}

fn good(story: &Story, suite: Suite) -> Result<()> {
    let scene = Scene::new(story, suite)?;
    let image = scene.good("web", "one", "")?;
    scene.does(&["install", "--now", &image])?;
    scene.runs("web", "one")?;
    let before = scene.guest.property("web.service", "MainPID")?;
    scene.good("web", "two", "")?;
    let said = scene.does(&["update", "web"])?;
    ensure!(
        said.contains("web: updated (generation 2, sha256:"),
        "{said}"
    );
    ensure!(said.contains("  down for "), "{said}");
    scene.runs("web", "two")?;
    ensure!(scene.guest.property("web.service", "MainPID")? != before);
    ensure!(scene.guest.property("web.service", "NeedDaemonReload")? == "no");
    product::nothing_resident(&scene.guest)?;
    scene.does(&["verify"])?;

    let said = scene.does(&["rollback", "web"])?;
    ensure!(
        said.starts_with("web: back from generation 2 to 1 ("),
        "{said}"
    );
    scene.runs("web", "one")?;
    ensure!(scene.action(&["update", "web", "--json"])? == "bad");

    what_has_failed_is_mended(&scene)?;
    what_does_not_run_is_not_started(&scene)?;
    probes_decide(&scene)?;
    if suite == Suite::Trixie {
        // mount(8) of Debian 12 cannot mount such images in a guest.
        mounts_go_along(&scene)?;
    }
    the_timer_updates(&scene)
}

/// A service that has failed comes up with a version that works.
fn what_has_failed_is_mended(scene: &Scene) -> Result<()> {
    let image = scene.publish("db", "say no luck; exit 3", "restart = \"no\"")?;
    scene.does(&["install", &image])?;
    scene.guest.run(&["systemctl", "start", "db.service"])?;
    ensure!(scene.guest.property("db.service", "ActiveState")? == "failed");
    scene.good("db", "mended", "restart = \"no\"")?;
    scene.does(&["update", "db"])?;
    scene.runs("db", "mended")?;

    // The way back leads to one that does not work.
    let error = "the rollback of `db` failed, generation 2 runs again";
    scene.goes_back(&["rollback", "db"], &[error])?;
    scene.runs("db", "mended")?;
    let history: Value = serde_json::from_str(&scene.does(&["history", "db", "--json"])?)?;
    let last = history["events"].as_array().and_then(|all| all.last());
    let last = last.context("no events")?;
    let failed = last["failed"].as_str().unwrap_or_default();
    ensure!(
        last["what"] == "rolled-back" && last["generation"] == 1 && !failed.is_empty(),
        "{last:#}"
    );
    Ok(())
}

fn what_does_not_run_is_not_started(scene: &Scene) -> Result<()> {
    scene.guest.ok(&["systemctl", "stop", "db.service"])?;
    scene.good("db", "later", "")?;
    let said = scene.does(&["update", "db"])?;
    ensure!(!said.contains("down for"), "{said}");
    ensure!(scene.guest.property("db.service", "ActiveState")? == "inactive");
    scene.guest.ok(&["systemctl", "start", "db.service"])?;
    scene.runs("db", "later")
}

/// Each kind of probe, passing and not.
fn probes_decide(scene: &Scene) -> Result<()> {
    scene.guest.sh(
        "mkdir -p /srv/probe && echo fine >/srv/probe/health
         systemd-run --quiet --unit=probed --property=Type=exec \
             busybox httpd -f -p 127.0.0.1:8080 -h /srv/probe
         until ss --listening --tcp --numeric --no-header 'sport = :8080' | grep -q .; do sleep 0.05; done",
    )?;
    let probes = [
        ("http = \"http://127.0.0.1:8080/health\"", true, ""),
        ("tcp = \"127.0.0.1:8080\"", true, ""),
        ("exec = [\"/payload\", \"exit 0\"]", true, ""),
        (
            "http = \"http://127.0.0.1:8080/nothing\"",
            false,
            "its probe has not passed in 1 s: asking http://127.0.0.1:8080/nothing: it answers 404 Not Found",
        ),
        (
            "tcp = \"127.0.0.1:9\"",
            false,
            "connecting to 127.0.0.1:9: Connection refused",
        ),
        (
            "exec = [\"/payload\", \"say not now; exit 1\"]",
            false,
            "running `/payload say not now; exit 1` in it: it fails: not now",
        ),
    ];
    let mut live = "later".to_owned();
    for (number, (probe, passes, why)) in probes.into_iter().enumerate() {
        let version = format!("probe {number}");
        let health = format!("[health]\nprobe = {{ {probe} }}\ntimeout = \"1s\"\nsettle = \"1s\"");
        scene.good("db", &version, &health)?;
        if passes {
            scene.does(&["update", "db"])?;
            live = version;
        } else {
            scene.goes_back(&["update", "db"], &["`db` is not healthy", why])?;
        }
        scene.runs("db", &live).with_context(|| probe.to_owned())?;
    }
    scene.guest.ok(&["systemctl", "stop", "probed.service"])?;
    Ok(())
}

/// A container whose tree is a mounted image: the mounts of the generation that is left go, whoever else sees them.
fn mounts_go_along(scene: &Scene) -> Result<()> {
    let guest = &scene.guest;
    product::set_integrity(guest, "composefs")?;
    let image = scene.good("tree", "one", "")?;
    scene.does(&["install", "--now", &image])?;
    // A service of the host's whose mounts are its own sees them as well, and uses none.
    guest.ok(&[
        "systemd-run",
        "--quiet",
        "--unit=beside",
        "--property=PrivateMounts=yes",
        "--property=Type=exec",
        "sleep",
        "infinity",
    ])?;
    let mounted = |generation: &str| -> Result<()> {
        let seen = guest.sh(
            r"sed --quiet 's|.* /var/lib/bedplate/containers/tree/\([0-9]*/[a-z]*\) .*|\1|p' /proc/1/mountinfo |
              sort | paste --serial --delimiters=' '",
        )?;
        let expected = format!("{generation}/rootfs {generation}/tree");
        ensure!(seen == expected, "mounted are {seen}");
        let units = guest.sh("ls /etc/systemd/system.attached | grep tree-.*mount | wc -l")?;
        ensure!(units == "2", "{units} units");
        Ok(())
    };
    mounted("1")?;
    scene.good("tree", "two", "")?;
    scene.does(&["update", "tree"])?;
    scene.runs("tree", "two")?;
    mounted("2")?;
    scene.publish("tree", "say dying; exit 3", "")?;
    scene.goes_back(&["update", "tree"], &["it exited with status 3"])?;
    scene.runs("tree", "two")?;
    mounted("2")?;
    scene.good("tree", "four", "")?;
    scene.does(&["update", "tree"])?;
    mounted("4")?;
    let pruned: Value = serde_json::from_str(&scene.does(&["prune", "--json"])?)?;
    let gone = pruned["generations"].as_array().context("generations")?;
    let gone: Vec<_> = gone
        .iter()
        .filter(|one| one["container"] == "tree")
        .collect();
    ensure!(gone.len() == 1 && gone[0]["generation"] == 1, "{pruned:#}");
    scene.does(&["rollback", "tree"])?;
    scene.runs("tree", "two")?;
    mounted("2")?;
    scene.does(&["verify"])?;
    scene.does(&["uninstall", "tree"])?;
    let left = guest.sh("grep -c containers/tree /proc/1/mountinfo || true")?;
    ensure!(left == "0", "{left} mounts are left");
    guest.ok(&["systemctl", "stop", "beside.service"])?;
    product::set_integrity(guest, "none")
}

/// The units as they are installed, and what they leave in journal and status.
fn the_timer_updates(scene: &Scene) -> Result<()> {
    let guest = &scene.guest;
    product::add_units(guest, &["bedplate-update.service", "bedplate-update.timer"])?;
    let settings = "[update]\nschedule = \"*-*-* *:*:*\"\n[schedules]\ndb = \"2100-01-01\"\n";
    guest.write("/etc/bedplate/bedplate.toml", settings)?;
    guest.ok(&["systemctl", "daemon-reload"])?;
    let complaints = guest.run(&[
        "systemd-analyze",
        "verify",
        "--man=no",
        "bedplate-update.timer",
    ])?;
    ensure!(
        !complaints.stderr.contains("bedplate-update"),
        "{complaints:?}"
    );
    guest.ok(&[
        "systemctl",
        "enable",
        "--quiet",
        "--now",
        "bedplate-update.timer",
    ])?;

    scene.good("web", "three", "")?;
    scene.good("db", "not yet", "")?;
    guest.ok(&["systemctl", "start", "bedplate-update.service"])?;
    scene.runs("web", "three")?;
    let status: Value = serde_json::from_str(&scene.does(&["status", "--json"])?)?;
    ensure!(status["automatic"] == true, "{status:#}");
    let rows = status["containers"].as_array().context("rows")?;
    let web = rows
        .iter()
        .find(|row| row["name"] == "web")
        .context("web")?;
    ensure!(web["last"]["what"] == "updated-automatically", "{web:#}");
    ensure!(web["checked"]["result"] == "updated", "{web:#}");
    ensure!(web["due"].is_number(), "{web:#}");
    let db = rows.iter().find(|row| row["name"] == "db").context("db")?;
    ensure!(db["checked"].is_null(), "{db:#}");

    // One that fails is tried once, and the unit does not count as failed for that.
    scene.publish("web", "say dying; exit 3", "")?;
    the_next_second(guest)?;
    guest.ok(&["systemctl", "start", "bedplate-update.service"])?;
    scene.runs("web", "three")?;
    let began = guest.property("web.service", "ExecMainStartTimestampMonotonic")?;
    the_next_second(guest)?;
    guest.ok(&["systemctl", "start", "bedplate-update.service"])?;
    ensure!(guest.property("web.service", "ExecMainStartTimestampMonotonic")? == began);
    let text = scene.does(&["status", "web"])?;
    ensure!(text.contains("what is newer failed before"), "{text}");
    ensure!(text.contains("not taken"), "{text}");
    let told = guest.messages(&["SYSLOG_IDENTIFIER=bedplate", "VERB=update"])?;
    ensure!(told.contains("Updated web to generation"), "{told}");
    ensure!(told.contains("Update of web to sha256:"), "{told}");
    Ok(())
}

/// What is due every second is due again.
fn the_next_second(guest: &Guest) -> Result<()> {
    let wait = "now=$(date +%s); until (($(date +%s) > now)); do sleep 0.05; done";
    guest.sh(wait).map(drop)
}

/// What an image that is no good does: name, script, what else its manifest says, and what the error says.
const BAD: &[(&str, &str, &str, &str)] = &[
    (
        "exits at once",
        "say dying; exit 3",
        "",
        "it exited with status 3",
    ),
    (
        "dies after it was ready",
        "tell READY=1; pause 1500; say dying; exit 4",
        "[health]\nsettle = \"20s\"",
        "it was ready and did not stay up",
    ),
    (
        "is never ready",
        "say still loading; wait",
        "start_timeout = \"2s\"",
        "it was not ready in time",
    ),
];

fn bad(story: &Story, suite: Suite) -> Result<()> {
    let scene = Scene::new(story, suite)?;
    for restart in ["on-failure", "always"] {
        let name = restart.replace("on-", "");
        let service = format!("restart = \"{restart}\"");
        let image = scene.good(&name, "one", &service)?;
        scene.does(&["install", "--now", &image])?;
        for (what, script, more, why) in BAD {
            let told = |error: anyhow::Error| error.context(format!("{what}, Restart={restart}"));
            goes_back(&scene, &name, (script, &format!("{service}\n{more}"), why)).map_err(told)?;
        }
        scene.good(&name, "two", &service)?;
        scene.does(&["update", &name])?;
        scene.runs(&name, "two")?;
    }
    let failed = scene
        .guest
        .ok(&["systemctl", "--failed", "--plain", "--no-legend"])?;
    ensure!(failed.is_empty(), "{failed}");
    scene.does(&["uninstall", "failure", "always"])?;
    a_full_disk_stops_nothing(&scene)
}

/// Fills the disk but for so many blocks, as its first argument says.
const FILL: &str = "sync --file-system /var/lib/bedplate
    avail=$(stat --file-system --format=%a /var/lib/bedplate)
    if ((avail > $1)); then fallocate --length=$(((avail - $1) * 4096)) /var/lib/bedplate/filler; fi";

/// The disk is full at one stage of an update after another: what ran runs, and the room is free again.
fn a_full_disk_stops_nothing(scene: &Scene) -> Result<()> {
    let guest = &scene.guest;
    guest.sh("mount -t tmpfs -o size=64M,mode=0700 none /var/lib/bedplate")?;
    let image = scene.good("full", "one", "")?;
    scene.does(&["install", "--now", &image])?;
    let began = guest.property("full.service", "ExecMainStartTimestampMonotonic")?;
    let used = || -> Result<u64> {
        scene.does(&["prune"])?;
        let used = guest.sh("df --block-size=4096 --output=used /var/lib/bedplate | tail -n 1")?;
        used.trim().parse().context("blocks used")
    };
    // What an image takes is asked for beforehand: with that at hand it is the change that meets the end of the disk.
    scene.good("full", "two", "")?;
    scene.does(&["update", "full", "--download-only"])?;
    let before = used()?;
    let (mut undone, mut restarted, mut blocks) = (0, 0, 0_u64);
    loop {
        let at = || format!("with {blocks} blocks left");
        guest.ok(&["bash", "-ec", FILL, "fill", &blocks.to_string()])?;
        let output = scene.bedplate(&["update", "full"])?;
        guest.ok(&["rm", "--force", "/var/lib/bedplate/filler"])?;
        if output.status == 0 {
            break;
        }
        if output.status == 3 {
            scene.does(&["recover"])?;
            // Done but for its last step.
            if scene.runs("full", "two").is_ok() {
                break;
            }
        }
        ensure!([1, 3, 4].contains(&output.status), "{}: {output:?}", at());
        scene.runs("full", "one").with_context(at)?;
        product::no_transaction(guest)?;
        let is = guest.property("full.service", "ExecMainStartTimestampMonotonic")?;
        restarted += u32::from(is != began);
        // What failed is remembered, in a block or two.
        let now = used()?;
        ensure!(now <= before + 2, "{}: {before} blocks, {now} now", at());
        undone += 1;
        blocks += if blocks < 16 { 2 } else { blocks / 3 };
        ensure!(blocks < 16_384, "it never ends well");
    }
    host::say(&format!(
        "full: undone {undone} times, {restarted} of them after a stop; done with {blocks} blocks"
    ));
    ensure!(undone > 2, "the disk was never full");
    scene.runs("full", "two")?;
    scene.does(&["verify"])?;
    scene.does(&["uninstall", "full"])?;
    guest.sh("umount /var/lib/bedplate").map(drop)
}

fn goes_back(scene: &Scene, name: &str, (script, more, why): (&str, &str, &str)) -> Result<()> {
    // The manifest of all small images sets this one itself.
    let (more, timeout) = match more.split_once("start_timeout = \"2s\"") {
        Some((before, after)) => (format!("{before}{after}"), Some("START_TIMEOUT=2s")),
        None => (more.to_owned(), None),
    };
    scene.publish(name, script, &more)?;
    let mut update = vec!["update", name];
    update.extend(timeout.into_iter().flat_map(|value| ["--set", value]));
    let back = format!("the update of `{name}` failed, the version before runs again");
    scene.goes_back(&update, &[&back, why])?;
    scene.runs(name, "one")?;
    // The same image is not tried again, by whomever.
    let restarted = scene.guest.property(
        &format!("{name}.service"),
        "ExecMainStartTimestampMonotonic",
    )?;
    ensure!(scene.action(&["update", "--all", "--json"])? == "bad");
    scene.runs(name, "one")?;
    let now = scene.guest.property(
        &format!("{name}.service"),
        "ExecMainStartTimestampMonotonic",
    )?;
    ensure!(now == restarted, "it was started again");
    scene.does(&["verify"])?;
    Ok(())
}

const CHAIN: [&str; 3] = ["alpha", "beta", "gamma"];

/// Each requires the one before.
fn requires(name: &str) -> String {
    let at = CHAIN.iter().position(|known| *known == name);
    match at.and_then(|at| at.checked_sub(1)).map(|at| CHAIN[at]) {
        Some(before) => format!("requires = [\"{before}\"]"),
        None => String::new(),
    }
}

fn sets(story: &Story, suite: Suite) -> Result<()> {
    let scene = Scene::new(story, suite)?;
    let images = CHAIN.map(|name| scene.good(name, "one", &requires(name)));
    let images: Vec<String> = images.into_iter().collect::<Result<_>>()?;
    let mut install = vec!["install", "--now"];
    install.extend(images.iter().map(String::as_str));
    scene.does(&install)?;

    for name in CHAIN {
        scene.good(name, "two", &requires(name))?;
    }
    scene.does(&["update", "--all"])?;
    for name in CHAIN {
        scene.runs(name, "two")?;
    }
    product::started_after(&scene.guest, "beta", "alpha")?;
    product::started_after(&scene.guest, "gamma", "beta")?;

    // One of them is bad: all go back, in order, and only that one is not taken again.
    scene.good("alpha", "three", "")?;
    scene.publish("beta", "say dying; exit 3", &requires("beta"))?;
    scene.good("gamma", "three", &requires("gamma"))?;
    scene.goes_back(&["update", "--all"], &["it exited with status 3"])?;
    for name in CHAIN {
        scene.runs(name, "two")?;
    }
    let seen: Value = serde_json::from_str(&scene.does(&["update", "--check", "--json"])?)?;
    let rows = seen["containers"].as_array().context("rows")?;
    let bad: Vec<_> = rows
        .iter()
        .filter(|row| row["action"] == "bad")
        .map(|row| &row["name"])
        .collect();
    ensure!(bad == ["beta"], "{seen:#}");
    scene.does(&["update", "--all"])?;
    for (name, version) in [("alpha", "three"), ("beta", "two"), ("gamma", "three")] {
        scene.runs(name, version)?;
    }
    taken_along(&scene, suite)
}

/// What hangs on the service comes up again with it: other containers, and a unit of the host's own.
fn taken_along(scene: &Scene, suite: Suite) -> Result<()> {
    let guest = &scene.guest;
    guest.write(
        "/etc/systemd/system/mine.service",
        "[Unit]\nRequires=alpha.service\nAfter=alpha.service\n[Service]\nExecStart=sleep infinity\n",
    )?;
    guest.ok(&["systemctl", "daemon-reload"])?;
    guest.ok(&["systemctl", "start", "mine.service"])?;
    let before = guest.property("mine.service", "MainPID")?;
    scene.good("alpha", "four", "")?;
    let said = scene.does(&["update", "alpha", "--dry-run"])?;
    ensure!(said.contains("stopped and started with it: "), "{said}");
    ensure!(said.contains("mine.service"), "{said}");
    // Before systemd 254 our own are wanted, not required: they stay.
    let with_ours = said.contains("beta.service") && said.contains("gamma.service");
    ensure!(with_ours == (suite == Suite::Trixie), "{said}");
    ensure!(
        guest.property("mine.service", "MainPID")? == before,
        "a dry run stopped it"
    );
    scene.does(&["update", "alpha"])?;
    scene.runs("alpha", "four")?;
    for unit in ["mine.service", "beta.service", "gamma.service"] {
        guest.wait_active(unit, UP)?;
    }
    ensure!(guest.property("mine.service", "MainPID")? != before);

    // And also when it goes back.
    scene.publish("alpha", "say dying; exit 3", "")?;
    scene.goes_back(&["update", "alpha"], &["it exited with status 3"])?;
    scene.runs("alpha", "four")?;
    for unit in ["mine.service", "beta.service", "gamma.service"] {
        guest.wait_active(unit, UP)?;
    }
    Ok(())
}
