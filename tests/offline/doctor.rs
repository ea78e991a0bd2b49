//! `bedplate doctor`: what is broken is found, and each finding says what to do.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::Value;

use crate::host::Host;
use crate::layout::{Image, PLAIN};
use crate::process::{self, Run};
use crate::store::{assert_whole, repo};

/// What it finds broken: each subject with what is said of it, and its first remedy.
fn broken(host: &Host) -> Vec<(String, String, String)> {
    let run = host.run(&["doctor", "--json"]);
    let outcome: Value = serde_json::from_str(&run.stdout).unwrap();
    let checks = outcome["checks"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut found: Vec<_> = checks
        .filter(|check| check["verdict"] == "broken")
        .map(|c| {
            (
                text(&c["subject"]),
                text(&c["found"]),
                text(&c["remedies"][0]),
            )
        })
        .collect();
    let drift = outcome["drift"].as_array().unwrap().iter();
    found.extend(drift.map(|f| (text(&f["thing"]), text(&f["name"]), text(&f["defects"][0]))));
    assert_eq!(run.status, i32::from(!found.is_empty()), "{found:?}");
    found
}

fn installed() -> Host {
    let host = Host::new();
    let image = host.image("etcd", &Image::new(PLAIN).file("opt/it", "it"));
    host.ok(&["install", &image.reference]);
    host
}

#[test]
fn a_healthy_host() {
    let empty = Host::new();
    let text = empty.ok(&["doctor"]);
    for line in [
        "  ok      systemd",
        "  ok      crun",
        "  ok      repository",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let host = installed();
    assert_eq!(broken(&host), []);
    let text = host.ok(&["doctor"]);
    assert!(text.contains("containers\n  ok      etcd"), "{text}");
    assert!(text.contains("1 image"), "{text}");
}

#[test]
fn what_programs_are_missing() {
    let host = installed();
    fs::remove_file(host.at("usr/bin/crun")).unwrap();
    let found = broken(&host);
    let subjects: Vec<_> = found.iter().map(|(subject, ..)| subject.as_str()).collect();
    assert_eq!(subjects, ["runtime", "etcd"], "{found:?}");
    assert_eq!(
        found[0].1,
        "the host has no OCI runtime: neither `crun` nor `runc`"
    );
    assert!(
        found[0].2.starts_with("install the package `crun`"),
        "{found:?}"
    );
    let run = host
        .command(&["doctor"])
        .env("PATH", "/nonexistent")
        .output()
        .unwrap();
    let text = String::from_utf8(run.stdout).unwrap();
    assert_eq!(run.status.code(), Some(1));
    assert!(text.contains("broken  skopeo"), "{text}");
    assert!(text.contains("hint: apt-get install skopeo"), "{text}");
}

#[test]
fn what_the_operator_wrote_wrong() {
    let host = installed();
    host.put(
        "etc/bedplate/bedplate.toml",
        "[store]\nintegritty = \"none\"\n",
    );
    let found = broken(&host);
    assert_eq!(found[0].0, "configuration");
    assert!(found[0].1.contains("integritty"), "{found:?}");
}

#[test]
fn what_a_command_left_and_what_drifted() {
    let host = installed();
    let unit = "etc/systemd/system.attached/etcd.service";
    host.put(unit, "[Service]\n");
    fs::remove_file(host.at("var/lib/bedplate/containers/etcd/1/config.json")).unwrap();
    let found = broken(&host);
    let drift: Vec<_> = found
        .iter()
        .map(|(thing, name, _)| (thing.as_str(), name.as_str()))
        .collect();
    assert_eq!(
        drift,
        [
            (
                "generation",
                "/var/lib/bedplate/containers/etcd/1/config.json"
            ),
            ("unit", &*format!("/{unit}")),
        ]
    );
    let run = host.run(&["doctor"]);
    assert!(
        run.stderr
            .contains("error: 2 problems found\nhint: `bedplate repair`"),
        "{}",
        run.stderr
    );
    host.ok(&["repair"]);
    assert_eq!(broken(&host), []);
    // The operator's own are no fault.
    symlink("/dev/null", host.at("etc/systemd/system/etcd.service")).unwrap();
    assert_eq!(broken(&host), []);
    let text = host.ok(&["doctor"]);
    assert!(text.contains("note    operator's changes"), "{text}");
}

/// Runs it with a skopeo of this release.
fn with_skopeo(host: &Host, version: &str) -> Run {
    let bin = host.beside(version);
    fs::create_dir(&bin).unwrap();
    let path = bin.join("skopeo");
    // Not written by this process: see `Host::as_nobody`.
    let script =
        format!("printf '#!/bin/sh\\necho skopeo version {version}\\n' >\"$0\"; chmod 755 \"$0\"");
    process::tool("sh", &["-ec", &script, path.to_str().unwrap()]);
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    process::run(host.command(&["doctor"]).env("PATH", path))
}

#[test]
fn a_policy_that_asks_for_what_an_old_skopeo_does_not_check() {
    let host = installed();
    let policy = host.beside("home/.config/containers/policy.json");
    fs::create_dir_all(policy.parent().unwrap()).unwrap();
    let text = r#"{"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"}]}"#;
    fs::write(&policy, text).unwrap();
    let run = with_skopeo(&host, "1.9.3");
    assert_eq!(run.status, 1, "{}", run.stdout);
    let said = format!(
        "broken  signature policy  opening `oci:{}:latest` again: applying the signature policy `{}`: it asks for \
         `signedBy`, which this skopeo does not check",
        host.beside("etcd").display(),
        policy.display()
    );
    assert!(run.stdout.contains(&said), "{}", run.stdout);
    let remedy = "hint: install skopeo 1.14 or newer";
    assert!(run.stdout.contains(remedy), "{}", run.stdout);
    // Said before there is any.
    let none = "by default `signedBy`; this skopeo checks no signatures";
    assert!(run.stdout.contains(none), "{}", run.stdout);
    // A newer one checks it itself.
    let run = with_skopeo(&host, "1.14.0");
    assert_eq!(run.status, 0, "{}", run.stdout);
    assert!(!run.stdout.contains("no signatures"), "{}", run.stdout);
}

#[test]
fn a_store_that_is_gone() {
    let host = installed();
    fs::rename(repo(&host), host.beside("repo")).unwrap();
    let found = broken(&host);
    let lost = "there is no store, but there are containers".to_owned();
    let remedy = "`bedplate repair` brings it back".to_owned();
    assert_eq!(found, [("repository".to_owned(), lost, remedy)]);
    host.fails(&["verify"]);
    host.fails(&["repair", "--dry-run"]);
    // The rootfs has a name of each file that is needed.
    host.ok(&["repair"]);
    host.ok(&["verify"]);
    assert_eq!(broken(&host), []);
    assert_whole(&host);
}
