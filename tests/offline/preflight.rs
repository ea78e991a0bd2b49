//! Machines and users on which nothing is tried.

use std::process::Command;

use crate::host::{BEDPLATE, Host};
use crate::layout::PLAIN;
use crate::namespace;
use crate::process;

/// Runs `install` on the machine's own root, where nothing it could write is the machine's.
fn live(mounts: &str) -> process::Run {
    let host = Host::new();
    let image = host.image_of("etcd", PLAIN);
    namespace::script(
        &host,
        &format!(
            "{mounts}
            mount -t tmpfs none /var/lib
            status=0
            bedplate install \"$1\" || status=$?
            ls -A /var/lib
            exit $status"
        ),
        &[&image.reference],
    )
}

#[test]
fn hybrid_cgroups() {
    let hint = "hint: boot with `systemd.unified_cgroup_hierarchy=1` on the kernel command line";
    let run = live("mount -t tmpfs none /sys/fs/cgroup; mkdir /sys/fs/cgroup/unified");
    assert_eq!(
        run.failed(1),
        format!(
            "error: this host uses hybrid control groups; bedplate needs the unified hierarchy (cgroup v2)\n{hint}"
        )
    );
    let run = live("mount -t tmpfs none /sys/fs/cgroup");
    assert_eq!(
        run.failed(1),
        format!(
            "error: this host has no unified control group hierarchy (cgroup v2) at `/sys/fs/cgroup`\n{hint}"
        )
    );
}

#[test]
fn no_dbus() {
    let run = live("mount -t cgroup2 none /sys/fs/cgroup; mount -t tmpfs none /run");
    assert_eq!(
        run.failed(1),
        "error: connecting to systemd over D-Bus: failed to connect to `unix:path=/var/run/dbus/system_bus_socket`: \
         No such file or directory (os error 2)\n\
         hint: see whether the bus runs: `systemctl status dbus.socket`; \
         for a root that is not the running host's, give `--root DIR`"
    );
}

#[test]
fn not_root() {
    let host = Host::new();
    let image = host.image_of("etcd", PLAIN);
    for args in [
        &["install", &image.reference][..],
        &["uninstall", "etcd"],
        &["recover"],
    ] {
        host.unchanged(|| {
            assert_eq!(
                host.as_nobody(args).failed(1),
                "error: this needs root\nhint: run it with `sudo`, or as root"
            );
        });
    }
    let nothing = "No system container is installed.\n";
    assert_eq!(host.as_nobody(&["list"]).ok(), nothing);
    host.ok(&["install", &image.reference]);
    // The directory is root's alone; a reader says so instead of showing nothing.
    assert_eq!(
        host.as_nobody(&["list"]).failed(1),
        "error: listing `/var/lib/bedplate/containers`: Permission denied (os error 13)\n\
         hint: run it with `sudo`, or as root"
    );
}

#[test]
fn no_root_directory() {
    let run = process::run(Command::new(BEDPLATE).args(["list", "--root=/nowhere"]));
    assert_eq!(
        run.failed(1),
        "error: opening the root `/nowhere`: No such file or directory (os error 2)"
    );
}
