//! `check --boot` on a root that does not run: unit files alone.

use serde_json::{Value, json};

use crate::host::Host;

const PLAIN: &str = "contract = 1\n";
const ASKS: &str = "contract = 1\n[service]\nrequires = ['network-online']\n";
const NOTE: &str = "note: the systemd of this root cannot be asked: unit files were read; what generators make of /etc/fstab and \
                    the like, and most of what systemd adds by itself, was not seen";

/// A host on which a boot is as it should be.
fn host() -> Host {
    let host = Host::new();
    for (unit, text) in [
        ("sysinit.target", "[Unit]\nWants=local-fs.target\n"),
        ("local-fs.target", "[Unit]\nAfter=local-fs-pre.target\n"),
        ("network-online.target", "[Unit]\nAfter=network.target\n"),
    ] {
        host.put(&format!("usr/lib/systemd/system/{unit}"), text);
    }
    host
}

fn drop_in(host: &Host, unit: &str, text: &str) {
    host.put(&format!("etc/systemd/system/{unit}.d/test.conf"), text);
}

#[test]
fn a_clean_set_passes() {
    let host = host();
    assert_eq!(
        host.ok(&["check", "--boot"]),
        "No system container is installed.\n"
    );
    let image = host.image_of("etcd", PLAIN);
    host.ok(&["install", &image.reference]);
    let before = host.listing();
    let run = host.run(&["check", "--boot"]);
    assert!(run.stderr.contains(NOTE), "{}", run.stderr);
    assert_eq!(run.ok(), "checked etcd: 3 units, no fault\n");
    crate::host::assert_same(&before, &host.listing());
}

#[test]
fn what_a_boot_should_not_need_is_named_with_the_way_there() {
    let host = host();
    for name in ["etcd", "other"] {
        let image = host.image_of(name, PLAIN);
        host.ok(&["install", &image.reference]);
    }
    host.put(
        "usr/lib/systemd/system/store.service",
        "[Unit]\nDefaultDependencies=no\nAfter=network-online.target\n[Service]\nExecStart=/bin/sh -c 'exec skopeo copy a b'\n",
    );
    let cases = [
        (
            "[Unit]\nWants=network-online.target\n",
            "etcd reaches the network: etcd.service → network-online.target (Wants=)",
        ),
        (
            "[Unit]\nAfter=remote-fs.target\n",
            "etcd reaches the network: etcd.service → remote-fs.target (After=)",
        ),
        (
            "[Unit]\nUpholds=store.service\nAfter=store.service\n",
            "etcd reaches a registry: etcd.service → store.service → /bin/sh -c 'exec skopeo copy a b' (ExecStart=)\n\
             fault  etcd reaches the network: etcd.service → store.service → network-online.target (After=)",
        ),
        (
            "[Service]\nExecStartPre=-/usr/bin/bedplate recover\n",
            "etcd reaches bedplate: etcd.service → /usr/bin/bedplate recover (ExecStartPre=)",
        ),
    ];
    for (text, found) in cases {
        drop_in(&host, "etcd.service", text);
        let run = host.run(&["check", "--boot"]);
        assert_eq!(run.status, 1, "{text}");
        let faults = found.lines().count();
        let plural = if faults == 1 { "fault" } else { "faults" };
        assert!(
            run.stdout
                .starts_with(&format!("fault  {found}\nchecked etcd, other: ")),
            "{}",
            run.stdout
        );
        let error = format!("error: {faults} {plural} found in etcd\n");
        assert!(run.stderr.contains(&error), "{}", run.stderr);
        assert_eq!(host.run(&["check", "--boot", "other"]).status, 0);
    }
}

/// By a link of `systemctl add-wants`, by way of the target that every service needs.
#[test]
fn the_way_is_followed_through_the_units_of_the_host() {
    let host = host();
    let image = host.image_of("etcd", PLAIN);
    host.ok(&["install", &image.reference]);
    let wants = host.at("etc/systemd/system/local-fs.target.wants");
    std::fs::create_dir_all(&wants).unwrap();
    let unit = "NetworkManager-wait-online.service";
    std::os::unix::fs::symlink(format!("/usr/lib/systemd/system/{unit}"), wants.join(unit))
        .unwrap();
    let run = host.run(&["check", "--boot", "--json", "etcd"]);
    assert_eq!(run.status, 1);
    let outcome: Value = serde_json::from_str(&run.stdout).unwrap();
    let fault = json!({
        "container": "etcd",
        "reaches": "network",
        "path": [
            {"by": "", "name": "etcd.service"},
            {"by": "Requires", "name": "sysinit.target"},
            {"by": "Wants", "name": "local-fs.target"},
            {"by": "Wants", "name": unit},
        ],
    });
    assert_eq!(outcome["faults"], json!([fault]));
}

#[test]
fn what_an_image_asks_for_is_no_fault() {
    let host = host();
    for (name, manifest) in [
        ("asks", ASKS),
        ("etcd", "contract = 1\n[service]\nrequires = ['asks']\n"),
    ] {
        let image = host.image_of(name, manifest);
        host.ok(&["install", &image.reference]);
    }
    // Others are judged for themselves: what etcd requires is what etcd's image asks for.
    assert_eq!(
        host.ok(&["check", "--boot"]),
        "asked  asks reaches the network: asks.service → network-online.target (After=)\n\
         checked asks, etcd: 4 units, no fault\n"
    );
    // Another way to the same is not the image's.
    host.put(
        "usr/lib/systemd/system/a.service",
        "[Unit]\nWants=remote-fs.target\n[Service]\nExecStart=/bin/true\n",
    );
    drop_in(&host, "asks.service", "[Unit]\nWants=a.service\n");
    let run = host.run(&["check", "--boot"]);
    assert_eq!(run.status, 1);
    assert!(run.stdout.starts_with(
        "fault  asks reaches the network: asks.service → a.service → remote-fs.target (Wants=)\nasked  asks"
    ));
}

#[test]
fn it_must_be_told_what_to_check() {
    let host = host();
    assert_eq!(host.run(&["check"]).status, 2);
    host.refused(
        &["check", "--boot", "none"],
        "error: `none` is not installed\nhint: `bedplate list` shows what is",
    );
}
