//! What each verb does and prints when all is well.

use serde_json::Value;

use crate::host::{Host, assert_same};
use crate::layout::{Image, PLAIN};

pub(crate) const ETCD: &str = "contract = 1
description = 'Distributed key-value store'
[values]
PORT = { type = 'integer', default = 2379, help = 'Where it listens' }
NODE = { type = 'string', default = 'a', help = 'Its name' }
[container]
capabilities = ['CAP_NET_ADMIN']
env = { PORT = '{{PORT}}', NODE = '{{NODE}}' }
[service]
provides = ['store']
";

const FLANNELD: &str = "contract = 1
[values]
NODE = { type = 'string', default = 'b', help = 'Its name' }
MTU = { type = 'integer', default = 1450, help = 'Of the link' }
[container]
env = { NODE = '{{NODE}}', MTU = '{{MTU}}' }
[service]
requires = ['store']
";

#[test]
fn install_and_uninstall() {
    let host = Host::new();
    let before = host.listing();
    let etcd = host.image_of("etcd", ETCD);
    let run = host.run(&["install", "--system", &etcd.reference]);
    let short = &etcd.layer[..19];
    assert_eq!(
        run.stderr,
        format!(
            "resolving {}\nfetching layer {short} ({} B)\nstored layer {short}\npreparing etcd\nenabling etcd\n",
            etcd.reference,
            std::fs::metadata(etcd.layer_path()).unwrap().len()
        )
    );
    assert_eq!(
        run.ok(),
        format!(
            "etcd: installed (generation 1, {})\n  privilege: runs as root\n  privilege: capability CAP_NET_ADMIN\n  privilege: host network\n",
            etcd.digest
        )
    );
    let dir = "var/lib/bedplate/containers/etcd";
    let unit = host.text("etc/systemd/system.attached/etcd.service");
    assert!(unit.contains(&format!(
        "\nExecStart=/usr/libexec/bedplate/launch /{dir}/1\n"
    )));
    assert_eq!(unit, host.text(&format!("{dir}/1/units/etcd.service")));
    let link = host.at("etc/systemd/system/multi-user.target.wants/etcd.service");
    assert_eq!(
        std::fs::read_link(link).unwrap().to_str().unwrap(),
        "/etc/systemd/system.attached/etcd.service"
    );
    assert_eq!(
        host.at(dir).join("current").read_link().unwrap().to_str(),
        Some("1")
    );

    assert_eq!(
        host.ok(&["uninstall", "--dry-run", "etcd"]),
        "would uninstall etcd; its data is kept\n"
    );
    assert_eq!(
        host.ok(&["uninstall", "etcd"]),
        "uninstalled etcd; its data is kept\n"
    );
    assert_same(&before, &host.listing());
}

#[test]
fn not_enabled() {
    let host = Host::new();
    let etcd = host.image_of("etcd", ETCD);
    let before = host.listing();
    let run = host.run(&["install", "--no-enable", &etcd.reference]);
    assert!(!run.stderr.contains("enabling"));
    run.ok();
    assert!(
        !host
            .at("etc/systemd/system/multi-user.target.wants")
            .exists()
    );
    assert!(host.ok(&["list"]).contains("inactive  disabled"));
    host.ok(&["uninstall", "etcd"]);
    assert_same(&before, &host.listing());
}

#[test]
fn now_needs_a_running_systemd() {
    let host = Host::new();
    let etcd = host.image_of("etcd", ETCD);
    host.refused(
        &["install", "--now", &etcd.reference],
        "error: `--now` starts units, and the systemd of a `--root` directory is not running\n\
         hint: leave `--now` out: what is installed starts when that root is booted",
    );
}

#[test]
fn a_dry_run_shows_and_changes_nothing() {
    let host = Host::new();
    host.put(
        "usr/lib/systemd/system/containerd.service",
        "[Service]\nExecStart=/bin/true\n",
    );
    let manifest = format!("{ETCD}before = ['cri']\n");
    let image = Image::new(&manifest).file("exports/hostfs/etc/etcd/etcd.conf", "x\n");
    let etcd = host.image("etcd", &image);
    host.unchanged(|| {
        let shown = host.ok(&[
            "install",
            "--dry-run",
            "--set",
            "PORT=4001",
            &etcd.reference,
        ]);
        for part in [
            format!("etcd: would be installed (generation 1, {})\n", etcd.digest).as_str(),
            "  privilege: capability CAP_NET_ADMIN\n",
            "  host file: /etc/etcd/etcd.conf\n",
            "--- etcd.service\n# Written by bedplate",
            "--- config.json\n{\n",
            "\"PORT=4001\"",
            "--- /etc/systemd/system.attached/containerd.service.d/50-bedplate-order.conf\n",
            "After=etcd.service",
        ] {
            assert!(shown.contains(part), "{part} is not in {shown}");
        }
        assert!(shown.ends_with("\nnothing was changed\n"), "{shown}");
        let json = host.ok(&["install", "--dry-run", "--json", &etcd.reference]);
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["dry_run"], true);
        assert_eq!(json["containers"][0]["rendered"][0][0], "etcd.service");
    });
    // What is there already is said so, in a dry run as well.
    host.ok(&["install", &etcd.reference]);
    host.unchanged(|| {
        let shown = host.ok(&["install", "--dry-run", &etcd.reference]);
        assert_eq!(
            shown,
            "etcd: already installed with this image and these values (generation 1)\nnothing was changed\n"
        );
    });
}

#[test]
fn values_of_a_set() {
    let host = Host::new();
    let etcd = host.image_of("etcd", ETCD);
    let flanneld = host.image_of("flanneld", FLANNELD);
    let set = ["install", &flanneld.reference, &etcd.reference];
    host.refused(
        &[&set[..], &["--set", "PROT=1", "--set", "cri.MTU=1"]].concat(),
        "error: no image of the set declares `PROT`, `cri.MTU`, and no container of it is called so",
    );
    let file = host.beside("values.toml");
    std::fs::write(&file, "MTU = 1400\n[etcd]\nPORT = 4001\n").unwrap();
    let given = [
        "--set",
        "NODE=x",
        "--set",
        "flanneld.NODE=y",
        "--values",
        file.to_str().unwrap(),
    ];
    let said = host.ok(&[&set[..], &given].concat());
    // In the order in which they start.
    let names: Vec<_> = said
        .lines()
        .filter(|l| !l.starts_with(' '))
        .map(|l| l.split(':').next().unwrap())
        .collect();
    assert_eq!(names, ["etcd", "flanneld"]);
    for (name, parts) in [
        ("etcd", ["\"NODE=x\"", "\"PORT=4001\""]),
        ("flanneld", ["\"NODE=y\"", "\"MTU=1400\""]),
    ] {
        let config = host.text(&format!("var/lib/bedplate/containers/{name}/1/config.json"));
        assert!(parts.iter().all(|part| config.contains(part)), "{config}");
    }
}

#[test]
fn uninstall_guards() {
    let host = Host::new();
    let before = host.listing();
    let etcd = host.image_of("etcd", ETCD);
    let flanneld = host.image_of("flanneld", FLANNELD);
    host.ok(&["install", &etcd.reference, &flanneld.reference]);
    host.refused(
        &["uninstall", "etcd"],
        "error: `etcd` is required by `flanneld`\n\
         hint: uninstall them in the same call, or give `--force`",
    );
    host.refused(
        &["uninstall", "flanneld", "etdc"],
        "error: `etdc` is not installed\nhint: `bedplate list` shows what is",
    );
    host.ok(&["uninstall", "--force", "etcd"]);
    assert!(host.ok(&["list"]).contains("flanneld"));
    host.ok(&["graph"]);
    host.ok(&["show", "flanneld"]);
    host.ok(&["install", &etcd.reference]);
    assert_eq!(
        host.ok(&["uninstall", "etcd", "flanneld"]),
        "uninstalled flanneld; its data is kept\nuninstalled etcd; its data is kept\n"
    );
    assert_same(&before, &host.listing());
}

#[test]
fn an_image_without_a_contract() {
    let host = Host::new();
    let image = host.image("tool", &Image::bare());
    host.ok(&[
        "install",
        &image.reference,
        "--name",
        "my-tool",
        "--runtime",
        "/usr/bin/crun",
    ]);
    assert!(
        host.at("etc/systemd/system.attached/my-tool.service")
            .exists()
    );
    host.ok(&["uninstall", "my-tool"]);
    let plain = host.image_of("plain", PLAIN);
    host.ok(&["install", &plain.reference]);
}

/// One damaged record holds every change up, as the order of the set cannot be known; what the hint says helps. Who
/// only looks sees the container all the same, and the others.
#[test]
fn a_container_with_a_damaged_record_can_be_uninstalled() {
    let host = Host::new();
    let before = host.listing();
    let layout = host.image_of("etcd", "contract = 1\n");
    let record = "var/lib/bedplate/containers/etcd/1/record.toml";
    let at = format!("/{record}");
    for newer in [false, true] {
        host.ok(&["install", &layout.reference]);
        host.put(record, if newer { "record = 9\n" } else { "" });
        for verb in ["list", "graph"] {
            let run = host.run(&[verb]);
            assert!(run.stdout.contains("etcd"), "{}", run.stdout);
            assert!(
                run.stderr.starts_with(&format!("note: reading `{at}`: ")),
                "{}",
                run.stderr
            );
        }
        if newer {
            host.refused(
                &["uninstall", "etcd"],
                &format!(
                    "error: reading `{at}`: it was written by a newer bedplate (format 9, this one knows 1)\n\
                     hint: install that bedplate again, or a newer one: this one cannot know what is installed"
                ),
            );
            continue;
        }
        let said = host.fails(&[
            "install",
            &host.image_of("other", "contract = 1\n").reference,
        ]);
        assert!(
            said.ends_with(
                "hint: the record is damaged: uninstall the container and install it again; \
                 its data is not touched by that"
            ),
            "{said}"
        );
        host.ok(&["uninstall", "etcd"]);
        assert_same(&before, &host.listing());
    }
}
