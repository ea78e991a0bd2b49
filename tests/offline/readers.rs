//! What the verbs that only look print, for people and for programs.

use serde_json::Value;

use crate::host::{Host, assert_same, listing};
use crate::verbs::ETCD;

/// The keys of an object.
fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[test]
fn json_keys_are_stable() {
    let host = Host::new();
    let etcd = host.image_of("etcd", ETCD);
    let json = |args: &[&str]| -> Value {
        let text = host.ok(&[args, &["--json"]].concat());
        serde_json::from_str(&text).unwrap()
    };
    let installed = json(&["install", &etcd.reference]);
    assert_eq!(keys(&installed), ["dry_run", "containers", "order"]);
    assert_eq!(
        keys(&installed["containers"][0]),
        [
            "name",
            "generation",
            "image",
            "digest",
            "action",
            "privileges",
            "notes",
            "host_files",
            "rendered"
        ]
    );
    assert_eq!(installed["containers"][0]["action"], "installed");
    assert_eq!(
        json(&["install", &etcd.reference])["containers"][0]["action"],
        "unchanged"
    );
    let list = json(&["list"]);
    assert_eq!(
        keys(&list[0]).join(" "),
        "name generation image digest unit state enabled held"
    );
    assert_eq!(
        (&list[0]["state"], &list[0]["enabled"]),
        (&"inactive".into(), &"enabled".into())
    );
    let shown = json(&["show", "etcd"]);
    assert_eq!(
        keys(&shown).join(" "),
        "record name generation description image index_digest manifest_digest platform runtime contract shape installed \
         units privileges integrity order commit rendered values files directory state required_by notes"
    );
    assert_eq!(
        keys(&json(&["graph"])),
        ["nodes", "edges", "order", "missing"]
    );
    assert_eq!(keys(&json(&["recover"])), ["command", "outcome"]);
    assert_eq!(
        keys(&json(&["uninstall", "etcd"])),
        ["uninstalled", "dry_run", "stopped", "kept", "left_running"]
    );
    assert_eq!(json(&["list"]), Value::Array(vec![]));
}

#[test]
fn a_host_without_containers_stays_as_it_is() {
    let host = Host::new();
    let before = listing(&host.root());
    for (args, said) in [
        (&["list"][..], "No system container is installed.\n"),
        (&["verify"], "verified 0 images: 0 files, 0 B, no fault\n"),
        (&["update", "--check"], "no system container is installed\n"),
        (&["prune"], "freed 0 B\n"),
        (&["prune", "--dry-run"], "would free 0 B\n"),
        (&["repair"], "nothing to repair\n"),
        (&["repair", "--dry-run"], "nothing to repair\n"),
        (&["recover"], "nothing to recover\n"),
    ] {
        assert_eq!(host.ok(args), said, "{args:?}");
        assert_same(&before, &listing(&host.root()));
    }
    host.ok(&["doctor"]);
    host.ok(&["df"]);
    for verb in ["repair", "verify"] {
        host.refused(
            &[verb, "etcd"],
            "error: `etcd` is not installed\nhint: `bedplate list` shows what is",
        );
    }
    assert_same(&before, &listing(&host.root()));
}

#[test]
fn list_show_and_graph_for_people() {
    let host = Host::new();
    let etcd = host.image_of("etcd", ETCD);
    host.ok(&["install", &etcd.reference, "--set", "PORT=4001"]);
    assert_eq!(
        host.ok(&["list"]),
        format!(
            "NAME  GENERATION  STATE     ENABLED  DIGEST               IMAGE\n\
             etcd  1           inactive  enabled  {}  {}\n",
            &etcd.digest[..19],
            etcd.reference
        )
    );
    assert_eq!(
        host.ok(&["show", "etcd"]),
        format!(
            "etcd - Distributed key-value store
  image       {}
  digest      {digest}
  generation  1
  directory   /var/lib/bedplate/containers/etcd/1
  runtime     /usr/bin/crun
  state       inactive
  units       etcd.service
  provides    store
  privileges  runs as root
              capability CAP_NET_ADMIN
              host network
  values      PORT=4001 (--set)
",
            etcd.reference,
            digest = etcd.digest
        )
    );
    assert_eq!(
        host.ok(&["graph"]),
        "Boot order: a unit starts when all that it waits for are ready.\n\netcd [store]   inactive\n"
    );
    assert!(host.ok(&["graph", "--dot"]).starts_with("digraph "));
    assert!(host.ok(&["graph", "--svg"]).starts_with("<svg "));
    host.unchanged(|| {
        let run = host.run(&["show", "flanneld"]);
        assert_eq!(
            run.failed(1),
            "error: `flanneld` is not installed\nhint: `bedplate list` shows what is"
        );
    });
}
