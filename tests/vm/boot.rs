//! The guests themselves: that they boot, run a container by both runtimes, and keep what they wrote.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::guest::{Guest, Suite};
use crate::host;
use crate::registry::{ADDRESS, Registry};
use crate::story::{Story, Told};

/// The stories of this file.
pub(crate) const STORIES: &[Told] = &[
    ("boot-trixie", |story| {
        boots(story, Suite::Trixie, "systemd 257")
    }),
    ("boot-bookworm", |story| {
        boots(story, Suite::Bookworm, "systemd 252")
    }),
    ("registry", registry),
];

/// An OCI runtime configuration's changes: no terminal, and a payload without a shell.
const BUNDLE: &str = r##"
mkdir -p /var/lib/bedplate/$0/rootfs/bin
cd /var/lib/bedplate/$0
cp /bin/busybox rootfs/bin/
$0 spec
sed -i -e 's/"terminal": true/"terminal": false/' -e 's#"sh"#"/bin/busybox", "echo", "hello from '$0'"#' config.json
"##;

fn boots(story: &Story, suite: Suite, version: &str) -> Result<()> {
    let mut guest = Guest::boot(story, suite)?;
    let systemd = guest.ok(&["systemctl", "--version"])?;
    ensure!(systemd.starts_with(version), "{systemd}");
    ensure!(guest.ok(&["stat", "-f", "-c", "%T", "/sys/fs/cgroup"])? == "cgroup2fs");
    ensure!(guest.ok(&["hostname"])? == format!("{}-{}", story.name(), suite.name()));
    ensure!(
        guest.ok(&[
            "busctl",
            "get-property",
            "org.freedesktop.systemd1",
            "/org/freedesktop/systemd1",
            "org.freedesktop.systemd1.Manager",
            "SystemState"
        ])? == r#"s "running""#
    );
    ensure!(
        guest
            .ok(&["systemctl", "--failed", "--plain", "--no-legend"])?
            .is_empty()
    );
    let libraries = guest.ok(&["ldd", "/usr/bin/bedplate"])?;
    ensure!(!libraries.contains("not found"), "{libraries}");
    let launcher = guest.ok(&["ldd", "/usr/libexec/bedplate/launch"])?;
    ensure!(launcher.contains("statically linked"), "{launcher}");
    ensure!(
        guest
            .run(&["sh", "-c", "echo out; echo err >&2; exit 7"])?
            .status
            == 7
    );

    let doctor = guest.ok(&["bedplate", "doctor"])?;
    for line in [
        "  ok      systemd ",
        "  ok      control groups ",
        "  ok      skopeo ",
    ] {
        ensure!(doctor.contains(line), "{doctor}");
    }

    for runtime in suite.runtimes()? {
        runs_container(&guest, runtime)?;
    }
    keeps_files(&mut guest, suite.runtimes()?)?;
    host::say(&format!(
        "{}: booted in {} ms",
        story.name(),
        guest.boot_time()?.as_millis()
    ));
    guest.poweroff()
}

/// A unit that a runtime runs a container for, enabled.
fn runs_container(guest: &Guest, runtime: &str) -> Result<()> {
    guest.ok(&["bash", "-ec", BUNDLE, runtime])?;
    let unit = format!(
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart={runtime} run --bundle /var/lib/bedplate/{runtime} hello\nSyslogIdentifier=hello\n\
             [Install]\nWantedBy=multi-user.target\n"
    );
    let name = format!("hello-{runtime}.service");
    guest.write(&format!("/etc/systemd/system/{name}"), unit)?;
    guest.ok(&["systemctl", "enable", "--now", "--quiet", &name])?;
    // By the identifier: by itself crun puts the payload outside of the unit's cgroup.
    let told = guest.messages(&["--identifier=hello"])?;
    ensure!(told.contains(&format!("hello from {runtime}")), "{told}");
    Ok(())
}

/// What was written is there after a reboot and after a power cut; what was enabled has been started.
fn keeps_files(guest: &mut Guest, runtimes: &[&str]) -> Result<()> {
    guest.reboot()?;
    for runtime in runtimes {
        guest.wait_active(&format!("hello-{runtime}.service"), Duration::ZERO)?;
    }
    let boots = guest.ok(&["journalctl", "--quiet", "--list-boots"])?;
    ensure!(boots.lines().count() == 2, "{boots}");
    let took = guest.boot_time()?;
    ensure!(took < Duration::from_secs(10), "a boot took {took:?}");

    guest.sh("echo kept >/etc/kept; echo kept >/var/lib/bedplate/kept")?;
    guest.cut_power()?;
    guest.start()?;
    ensure!(guest.sh("cat /etc/kept /var/lib/bedplate/kept")? == "kept\nkept");
    Ok(())
}

fn registry(story: &Story) -> Result<()> {
    let mut guest = Guest::boot(story, Suite::Trixie)?;
    let layout = story.dir().join("layout");
    let image = format!("{}:empty", layout.display());
    host::output("umoci", &["init", "--layout"], Some(&layout))?;
    host::output("umoci", &["new", "--image", &image], None)?;

    let registry = Registry::start(&guest)?;
    let reference = registry.push(&image, "test/empty:1")?;
    ensure!(reference == format!("docker://{ADDRESS}/test/empty:1"));
    let tags = guest.ok(&[
        "skopeo",
        "list-tags",
        &format!("docker://{ADDRESS}/test/empty"),
    ])?;
    ensure!(tags.contains(r#""1""#), "{tags}");
    drop(registry);
    ensure!(
        guest
            .run(&["skopeo", "inspect", &reference])?
            .stderr
            .contains("connection refused")
    );

    guest.reboot()?;
    let _again = Registry::start(&guest)?;
    guest.ok(&["skopeo", "inspect", &reference])?;
    Ok(())
}
