//! `update`, `rollback` and what belongs to them, on a host whose systemd does not run: what changes on disk.

use std::fs;

use serde_json::Value;

use crate::host::{Host, assert_same};
use crate::layout::{Image, Layout, PLAIN};
use crate::registry::registry;

const MANIFEST: &str = "contract = 1
[values.PORT]
type = 'integer'
default = 2379
help = 'x'
[values.PEER]
type = 'string'
help = 'x'
[container]
env = { PORT = '{{PORT}}', PEER = '{{PEER}}' }
";

/// A version of an image, under the reference that every version of it has.
fn version(host: &Host, name: &str, manifest: &str, content: &str) -> Layout {
    let image = Image::new(manifest).file("opt/version", content);
    host.image(name, &image)
}

fn outcome(host: &Host, args: &[&str]) -> Value {
    serde_json::from_str(&host.ok(args)).unwrap()
}

fn unit(host: &Host) -> String {
    host.text("etc/systemd/system.attached/etcd.service")
}

#[test]
fn the_next_generation_is_live() {
    let host = Host::new();
    let one = version(&host, "etcd", MANIFEST, "1");
    host.ok(&["install", &one.reference, "--set", "PEER=a"]);
    assert!(unit(&host).contains("/containers/etcd/1"));
    assert_eq!(
        host.ok(&["update", "etcd"]),
        format!("etcd: up to date (generation 1, {})\n", one.digest)
    );
    let newer = MANIFEST.replace("2379", "4001");
    let two = version(&host, "etcd", &newer, "2");
    assert_eq!(
        host.ok(&["update", "etcd"]),
        format!("etcd: updated (generation 2, {})\n", two.digest)
    );
    assert!(unit(&host).contains("/containers/etcd/2"));
    let current = fs::read_link(host.at("var/lib/bedplate/containers/etcd/current")).unwrap();
    assert_eq!(current.to_str(), Some("2"));
    assert_eq!(
        host.text("var/lib/bedplate/containers/etcd/2/rootfs/opt/version"),
        "2"
    );
    // What somebody set is kept, a new default reaches the rest.
    let config = host.text("var/lib/bedplate/containers/etcd/2/config.json");
    assert!(
        config.contains("PEER=a") && config.contains("PORT=4001"),
        "{config}"
    );
    host.ok(&["verify"]);
}

#[test]
fn a_look_changes_nothing() {
    let host = Host::new();
    let one = version(&host, "etcd", MANIFEST, "1");
    host.ok(&["install", &one.reference]);
    let two = version(&host, "etcd", MANIFEST, "2");
    host.unchanged(|| {
        let said = host.ok(&["update", "--check"]);
        assert!(said.starts_with("etcd: a newer image is there"), "{said}");
        let seen = outcome(&host, &["update", "--check", "--json"]);
        let row = &seen["containers"][0];
        assert_eq!(row["action"], "available");
        assert_eq!(row["new_digest"], two.digest.as_str());
    });
    host.unchanged(|| {
        let said = host.ok(&["update", "etcd", "--dry-run", "--set", "PEER=x"]);
        let wanted = [
            "etcd: would be updated (generation 2, ",
            "--- config.json\n",
            "+      \"PEER=x\"",
            "--- etcd.service\n",
            "+ExecStart=/usr/libexec/bedplate/launch /var/lib/bedplate/containers/etcd/2",
            "nothing was changed",
        ];
        for line in wanted {
            assert!(said.contains(line), "{line}: {said}");
        }
    });
}

#[test]
fn values_change_without_a_new_image() {
    let host = Host::new();
    let one = version(&host, "etcd", MANIFEST, "1");
    host.ok(&["install", &one.reference, "--set", "PEER=a"]);
    let said = host.ok(&["update", "etcd", "--set", "PORT=1"]);
    assert_eq!(said, "etcd: updated (generation 2, the same image)\n");
    let config = host.text("var/lib/bedplate/containers/etcd/2/config.json");
    assert!(
        config.contains("PEER=a") && config.contains("PORT=1\""),
        "{config}"
    );
    host.unchanged(|| {
        let said = host.ok(&["update", "etcd", "--set", "PORT=1"]);
        assert!(said.starts_with("etcd: up to date (generation 2"), "{said}");
    });
    host.ok(&["update", "etcd", "--unset", "PEER", "--unset", "PORT"]);
    let config = host.text("var/lib/bedplate/containers/etcd/3/config.json");
    assert!(config.contains("PORT=2379"), "{config}");
    host.refused(
        &["update", "etcd", "--unset", "PEER"],
        "error: `--unset PEER`: nobody has set it\n\
         hint: `bedplate values NAME` shows what is set, and by whom",
    );
    assert!(
        host.fails(&["update", "etcd", "--set", "PROT=1"])
            .contains("did you mean `PORT`?")
    );
}

#[test]
fn a_new_privilege_is_shown() {
    let host = Host::new();
    let one = version(&host, "etcd", PLAIN, "1");
    host.ok(&["install", &one.reference]);
    let asks = format!("{PLAIN}[container]\npid = \"host\"\n");
    version(&host, "etcd", &asks, "2");
    let said = host.ok(&["update", "etcd", "--dry-run"]);
    assert!(said.contains("  new privilege: "), "{said}");
    host.ok(&["update", "etcd"]);
    version(&host, "etcd", PLAIN, "3");
    let said = host.ok(&["update", "etcd"]);
    assert!(said.contains("  dropped privilege: "), "{said}");
}

/// Host files, units, order: byte for byte what each generation had, whichever way it is reached.
#[test]
fn every_generation_can_be_reached_again() {
    let host = Host::new();
    let image = |number: u32, extra: &str| {
        let manifest = format!("contract = 1\n[service]\nbefore = [\"cri\"]\n{extra}");
        Image::new(&manifest)
            .file("opt/version", number.to_string())
            .file(
                "exports/hostfs/etc/etcd.conf",
                format!("version {number}\n"),
            )
            .dir(&format!("exports/hostfs/srv/etcd{number}"), 0o750, 7)
            .symlink("exports/hostfs/etc/etcd.link", &format!("v{number}"))
            .file(&format!("exports/hostfs/etc/only{number}/x"), "x\n")
    };
    let mut live = Vec::new();
    let layout = host.image("etcd", &image(1, ""));
    host.ok(&["install", &layout.reference]);
    live.push(outside(&host));
    for (number, extra) in [
        (2, "after = [\"cloud\"]\n"),
        (3, ""),
        (4, "stage = \"early\"\n"),
    ] {
        host.image("etcd", &image(number, extra));
        host.ok(&["update", "etcd"]);
        live.push(outside(&host));
    }
    for to in [3, 1, 4, 2] {
        let said = host.ok(&["rollback", "etcd", "--to", &to.to_string()]);
        assert!(
            said.contains("what `etcd` keeps below /var/lib stays as it is"),
            "{said}"
        );
        assert_same(&live[to - 1], &outside(&host));
        host.ok(&["verify"]);
    }
    // The one before the live one.
    host.ok(&["rollback", "etcd"]);
    assert_same(&live[0], &outside(&host));
    host.refused(
        &["rollback", "etcd"],
        "error: `etcd` has no generation before 1\n\
         hint: on disk are 1, 2, 3, 4; `bedplate history etcd` tells of all",
    );
    host.ok(&["uninstall", "etcd"]);
    assert!(!host.at("etc/etcd.conf").exists());
}

/// Everything outside the store.
fn outside(host: &Host) -> crate::host::Listing {
    let mut found = host.listing();
    found.retain(|path, _| !path.starts_with("var/lib/bedplate"));
    found
}

#[test]
fn going_back_is_remembered() {
    let host = Host::new();
    let one = version(&host, "etcd", MANIFEST, "1");
    host.ok(&["install", &one.reference]);
    let two = version(&host, "etcd", MANIFEST, "2");
    host.ok(&["update", "etcd"]);
    host.unchanged(|| {
        let said = host.ok(&["rollback", "etcd", "--dry-run"]);
        assert!(
            said.starts_with("etcd: would go back from generation 2 to 1"),
            "{said}"
        );
    });
    host.ok(&["rollback", "etcd"]);
    // The next automatic update would else undo it.
    let seen = outcome(&host, &["update", "etcd", "--json"]);
    assert_eq!(seen["containers"][0]["action"], "bad");
    let said = host.ok(&["update", "etcd"]);
    assert!(
        said.contains("it failed before: rolled back to generation 1; `--retry`"),
        "{said}"
    );
    host.ok(&["update", "etcd", "--retry"]);
    assert!(unit(&host).contains("/containers/etcd/3"));
    let history = outcome(&host, &["history", "etcd", "--json"]);
    let events = history["events"].as_array().unwrap();
    let told = |key: &str| {
        events
            .iter()
            .map(|e| e[key].to_string())
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(
        told("what"),
        r#""installed" "updated" "rolled-back" "updated""#
    );
    assert_eq!(told("generation"), "1 2 1 3");
    assert_eq!(events[3]["digest"], two.digest.as_str());
    let text = host.ok(&["history", "etcd"]);
    assert!(text.starts_with("GENERATION  WHEN"), "{text}");
    assert!(text.lines().last().unwrap().contains("live"), "{text}");
}

#[test]
fn what_the_operator_changed_stays() {
    let host = Host::new();
    let image = |number: u32, conf: &str| {
        Image::new(PLAIN)
            .file("opt/version", number.to_string())
            .file("exports/hostfs/etc/etcd.conf", conf)
    };
    let layout = host.image("etcd", &image(1, "one\n"));
    host.ok(&["install", &layout.reference]);
    host.put("etc/etcd.conf", "mine\n");
    host.image("etcd", &image(2, "two\n"));
    let said = host.ok(&["update", "etcd"]);
    assert!(
        said.contains("  kept /etc/etcd.conf: it was changed since; the new version is /etc/etcd.conf.bedplate-new\n"),
        "{said}"
    );
    assert_eq!(host.text("etc/etcd.conf"), "mine\n");
    assert_eq!(host.text("etc/etcd.conf.bedplate-new"), "two\n");
    host.ok(&["verify"]);
    // The same version again: they have seen it.
    host.image("etcd", &image(3, "two\n"));
    let said = host.ok(&["update", "etcd"]);
    assert!(!said.contains("kept"), "{said}");
    assert_eq!(host.text("etc/etcd.conf.bedplate-new"), "two\n");
    // One that they have taken is ours again.
    fs::rename(
        host.at("etc/etcd.conf.bedplate-new"),
        host.at("etc/etcd.conf"),
    )
    .unwrap();
    host.ok(&["verify"]);
    host.image("etcd", &image(4, "four\n"));
    host.ok(&["update", "etcd"]);
    assert_eq!(host.text("etc/etcd.conf"), "four\n");
    assert!(!host.at("etc/etcd.conf.bedplate-new").exists());
    host.put("etc/etcd.conf", "mine\n");
    host.image("etcd", &image(5, "five\n"));
    host.ok(&["update", "etcd"]);
    assert_eq!(
        host.ok(&["uninstall", "etcd"]),
        "uninstalled etcd; its data is kept\nkept /etc/etcd.conf: it was changed since\n"
    );
    assert!(!host.at("etc/etcd.conf.bedplate-new").exists());
}

#[test]
fn two_may_bring_the_same_file() {
    let host = Host::new();
    let before = host.listing();
    let image = |conf: &str| Image::new(PLAIN).file("exports/hostfs/etc/shared.conf", conf);
    let one = host.image("one", &image("x\n"));
    let two = host.image("two", &image("x\n"));
    host.ok(&["install", &one.reference]);
    host.ok(&["install", &two.reference]);
    // Another version of it belongs to both.
    host.image("one", &image("y\n"));
    host.refused(
        &["update", "one"],
        "error: installing `one`: `two` has brought another host file `/etc/shared.conf`\n\
         hint: they share it: bring both to versions that agree in one command, or leave one of them out",
    );
    host.image("two", &image("y\n"));
    host.ok(&["update", "one", "two"]);
    assert_eq!(host.text("etc/shared.conf"), "y\n");
    host.ok(&["uninstall", "one"]);
    assert_eq!(host.text("etc/shared.conf"), "y\n");
    host.ok(&["uninstall", "two"]);
    assert_same(&before, &host.listing());
}

#[test]
fn a_set_is_one_change() {
    let host = Host::new();
    let names = ["etcd", "flanneld"];
    let layouts = names.map(|name| version(&host, name, PLAIN, "1"));
    host.ok(&["install", &layouts[0].reference, &layouts[1].reference]);
    version(&host, "etcd", PLAIN, "2");
    // Something of the operator's is where a file of the second goes.
    let clash = Image::new(PLAIN).file("exports/hostfs/etc/mine", "x\n");
    host.image("flanneld", &clash);
    host.put("etc/mine", "theirs\n");
    let error = "error: installing `flanneld`: the host file `/etc/mine` exists already and is not its own\n\
                 hint: move that file away first, if nothing else needs it";
    host.refused(&["update", "--all"], error);
    // Each by itself: one that fails keeps no other from it.
    let run = host.run(&["update", "--all", "--each", "--json"]);
    assert_eq!(run.status, 1);
    let seen: Value = serde_json::from_str(&run.stdout).unwrap();
    let actions: Vec<_> = seen["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["action"].to_string())
        .collect();
    assert_eq!(actions, ["\"updated\"", "\"failed\""]);
    assert!(unit(&host).contains("/containers/etcd/2"));
    fs::remove_file(host.at("etc/mine")).unwrap();
    // What could not even begin is not held against the image.
    let said = host.ok(&["update", "--all"]);
    assert!(said.contains("flanneld: updated (generation 2"), "{said}");
}

/// `--each`: what is said for one is no matter for the others.
#[test]
fn each_takes_what_is_its_own() {
    let host = Host::new();
    for name in ["etcd", "other"] {
        let image = version(&host, name, MANIFEST, name);
        host.ok(&["install", &image.reference, "--set", "PEER=a"]);
    }
    let set = ["--set", "other.PORT=7", "--set", "etcd.PORT=8"];
    let unset = ["--unset", "other.PEER"];
    let words = ["update", "etcd", "other", "--each"];
    host.ok(&[&words[..], &set[..], &unset[..]].concat());
    for (name, port, peer) in [("etcd", "PORT=8\"", true), ("other", "PORT=7\"", false)] {
        let config = format!("var/lib/bedplate/containers/{name}/2/config.json");
        let config = host.text(&config);
        let is_right = config.contains(port) && config.contains("PEER=a") == peer;
        assert!(is_right, "{name}: {config}");
    }
}

#[test]
fn held_and_pinned() {
    let host = Host::new();
    let one = version(&host, "etcd", PLAIN, "1");
    host.ok(&["install", &one.reference]);
    assert_eq!(
        host.ok(&["hold", "etcd", "--reason", "until the audit"]),
        "etcd: held: no update touches it\n"
    );
    version(&host, "etcd", PLAIN, "2");
    host.refused(
        &["update", "etcd"],
        "error: `etcd` is held: until the audit\nhint: `bedplate unhold etcd` lets it be updated again",
    );
    let seen = outcome(&host, &["update", "--all", "--json"]);
    assert_eq!(seen["containers"][0]["action"], "held");
    assert!(host.ok(&["list"]).contains("held"));
    assert!(host.ok(&["status"]).contains("until the audit"));
    host.ok(&["unhold", "etcd"]);
    assert_eq!(host.ok(&["unhold", "etcd"]), "etcd: was not held\n");
    host.ok(&["pin", "etcd"]);
    for number in ["2", "3", "4"] {
        version(&host, "etcd", PLAIN, number);
        host.ok(&["update", "etcd"]);
    }
    host.ok(&["prune"]);
    let there = |number: u32| {
        host.at(&format!("var/lib/bedplate/containers/etcd/{number}"))
            .exists()
    };
    assert_eq!([1, 2, 3, 4].map(there), [true, false, true, true]);
    // The number is not used again, though its directory is gone.
    host.ok(&["rollback", "etcd", "--to", "1"]);
    host.refused(
        &["rollback", "etcd", "--to", "2"],
        "error: generation 2 of `etcd` is not on disk\n\
         hint: on disk are 1, 3, 4; `bedplate history etcd` tells of all",
    );
    host.ok(&["unpin", "etcd", "1"]);
    host.refused(
        &["pin", "etcd", "7"],
        "error: generation 7 of `etcd` is not on disk\nhint: `bedplate history etcd` shows which are",
    );
}

#[test]
fn downloaded_now_and_used_later() {
    let host = Host::new();
    let registry = registry();
    registry.allow(&host);
    let push =
        |content: &str| registry.push(&version(&host, "etcd", PLAIN, content), "later/etcd:1");
    let reference = push("1");
    host.ok(&["install", &reference]);
    push("2");
    let said = host.ok(&["update", "etcd", "--download-only"]);
    assert!(
        said.starts_with("etcd: the newer image is in the store"),
        "{said}"
    );
    assert!(unit(&host).contains("/containers/etcd/1"));
    host.ok(&["prune"]);
    let blob = {
        let layout = version(&host, "etcd", PLAIN, "2");
        registry.blob(&layout.layer)
    };
    // Nothing more is fetched: the registry has lost it.
    let aside = blob.with_extension("aside");
    fs::rename(&blob, &aside).unwrap();
    let done = host.run(&["update", "etcd"]);
    fs::rename(&aside, &blob).unwrap();
    assert!(done.ok().starts_with("etcd: updated (generation 2"));
}

#[test]
fn another_image_from_now_on() {
    let host = Host::new();
    let one = version(&host, "etcd", MANIFEST, "1");
    let other = version(&host, "other", MANIFEST, "2");
    host.ok(&["install", &one.reference, "--set", "PEER=a"]);
    let done = outcome(
        &host,
        &["update", "etcd", "--rebase", &other.reference, "--json"],
    );
    assert_eq!(done["containers"][0]["image"], other.reference.as_str());
    let shown = outcome(&host, &["show", "etcd", "--json"]);
    assert_eq!(shown["image"], other.reference.as_str());
    assert_eq!(shown["values"]["PEER"]["data"], "a");
    let usage = host.run(&["update", "--all", "--rebase", &other.reference]);
    assert!(
        usage
            .failed(1)
            .contains("`--rebase` is for one container; 0 are named")
    );
}

#[test]
fn what_cannot_be_updated_says_why() {
    let host = Host::new();
    host.refused(
        &["update", "etcd"],
        "error: `etcd` is not installed\nhint: `bedplate list` shows what is",
    );
    let one = version(&host, "etcd", PLAIN, "1");
    host.ok(&["install", &one.reference]);
    host.refused(
        &["rollback", "etcd"],
        "error: `etcd` has no generation before 1\n\
         hint: on disk are 1; `bedplate history etcd` tells of all",
    );
    // The image is gone from where it came from.
    fs::rename(&one.dir, host.beside("away")).unwrap();
    let said = host.fails(&["update", "etcd"]);
    let wanted = format!("error: looking for what `{}` is now: ", one.reference);
    assert!(said.starts_with(&wanted), "{said}");
    fs::rename(host.beside("away"), &one.dir).unwrap();
    // A generation that somebody removed by hand.
    version(&host, "etcd", PLAIN, "2");
    host.ok(&["update", "etcd"]);
    fs::remove_dir_all(host.at("var/lib/bedplate/containers/etcd/1/rootfs")).unwrap();
    host.refused(
        &["rollback", "etcd"],
        "error: reading generation 1 of `etcd`: its rootfs `/var/lib/bedplate/containers/etcd/1/rootfs` is gone\n\
         hint: `bedplate repair etcd` brings it back",
    );
    fs::remove_dir_all(host.at("var/lib/bedplate/containers/etcd/1")).unwrap();
    assert!(
        host.fails(&["rollback", "etcd"])
            .contains("no generation before 2")
    );
    // A unit that somebody edited or deleted is as rendered again.
    host.put(
        "etc/systemd/system.attached/etcd.service",
        "[Service]\nExecStart=/bin/true\n",
    );
    version(&host, "etcd", PLAIN, "3");
    let run = host.run(&["update", "etcd"]);
    assert_eq!(run.status, 0, "{}", run.stderr);
    let said = "etcd.service was edited in its place, and that goes";
    assert!(run.stderr.contains(said), "{}", run.stderr);
    assert!(unit(&host).contains("/containers/etcd/3"));
    fs::remove_file(host.at("etc/systemd/system.attached/etcd.service")).unwrap();
    version(&host, "etcd", PLAIN, "4");
    host.ok(&["update", "etcd"]);
    assert!(unit(&host).contains("/containers/etcd/4"));
    // One that `systemctl edit --full` has put above it would win.
    let above = "etc/systemd/system/etcd.service";
    host.put(above, &unit(&host));
    version(&host, "etcd", PLAIN, "5");
    for verb in ["update", "rollback"] {
        host.refused(
            &[verb, "etcd"],
            "error: `etcd` would stay as it is: the operator's `/etc/systemd/system/etcd.service` stands above \
             bedplate's etcd.service\n\
             hint: `systemctl revert etcd.service` removes it; what it changes can go into a drop-in: \
             `systemctl edit etcd.service`",
        );
    }
    fs::remove_file(host.at(above)).unwrap();
    host.ok(&["update", "etcd"]);
}

/// A newer bedplate's records, and damaged ones.
#[test]
fn what_another_bedplate_wrote_is_left_alone() {
    let host = Host::new();
    let one = version(&host, "etcd", PLAIN, "1");
    host.ok(&["install", &one.reference]);
    let record = "var/lib/bedplate/containers/etcd/1/record.toml";
    let text = host.text(record);
    host.put(record, &text.replace("record = 1", "record = 9"));
    let said = host.fails(&["update", "etcd"]);
    assert!(
        said.contains("it was written by a newer bedplate (format 9"),
        "{said}"
    );
    host.put(record, "record = 1\n");
    assert!(
        host.fails(&["update", "etcd"])
            .contains("the record is damaged")
    );
    host.put(record, &text);
    let life = "var/lib/bedplate/containers/etcd/lifecycle.toml";
    let kept = host.text(life);
    host.put(life, "format = 9\n");
    assert!(
        host.fails(&["update", "etcd"])
            .contains("it was written by a newer bedplate (format 9")
    );
    host.put(life, &kept);
    host.ok(&["update", "etcd"]);
}

#[test]
fn a_digest_stays_what_it_is() {
    let host = Host::new();
    let registry = registry();
    registry.allow(&host);
    let layout = version(&host, "etcd", PLAIN, "1");
    registry.push(&layout, "pinned/etcd:1");
    let reference = format!(
        "docker://{}/pinned/etcd@{}",
        registry.address, layout.digest
    );
    host.ok(&["install", &reference]);
    registry.push(&version(&host, "etcd", PLAIN, "2"), "pinned/etcd:1");
    let said = host.ok(&["update", "etcd"]);
    assert!(
        said.contains("its reference names a digest: nothing newer can be there"),
        "{said}"
    );
}

#[test]
fn the_timer_keeps_to_the_schedule() {
    let host = Host::new();
    for name in ["etcd", "flanneld"] {
        let one = version(&host, name, PLAIN, "1");
        host.ok(&["install", &one.reference]);
        version(&host, name, PLAIN, "2");
    }
    let config = "[update]\nschedule = \"*-*-* *:*:*\"\n[schedules]\nflanneld = \"2100-01-01\"\n";
    host.put("etc/bedplate/bedplate.toml", config);
    // As if the last look had been long ago.
    let forget = |file: &str, key: &str| {
        let path = format!("var/lib/bedplate/containers/etcd/{file}");
        let text = host.text(&path);
        let lines = text.lines().map(|line| {
            if line.starts_with(key) {
                format!("{key} = 0")
            } else {
                line.to_owned()
            }
        });
        let lines: Vec<_> = lines.collect();
        host.put(&path, &lines.join("\n"));
    };
    forget("1/record.toml", "installed");
    let seen = outcome(&host, &["update", "--automatic", "--json"]);
    let actions = |seen: &Value| {
        let rows = seen["containers"].as_array().unwrap();
        rows.iter()
            .map(|r| r["action"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(actions(&seen), ["updated", "not-due"]);
    let life = host.text("var/lib/bedplate/containers/etcd/lifecycle.toml");
    assert!(
        life.contains("result = \"updated\"") && life.contains("updated-automatically"),
        "{life}"
    );
    // A window that is never open keeps all from it.
    version(&host, "etcd", PLAIN, "3");
    host.put(
        "etc/bedplate/bedplate.toml",
        &format!("{config}[windows]\netcd = \"2100-01-01 + 1h\"\n"),
    );
    forget("lifecycle.toml", "when");
    let seen = outcome(&host, &["update", "--automatic", "--json"]);
    assert_eq!(actions(&seen), ["not-due", "not-due"]);
    // By hand is by hand.
    assert!(host.ok(&["update", "etcd"]).contains("etcd: updated"));
}

#[test]
fn passwords_for_the_timer_are_roots_alone() {
    let host = Host::new();
    let secured = crate::registry::secured();
    let ca = host.beside("certs");
    fs::create_dir_all(&ca).unwrap();
    fs::write(ca.join("ca.crt"), &secured.ca).unwrap();
    let certs = format!("--cert-dir={}", ca.display());
    let layout = version(&host, "etcd", PLAIN, "1");
    let creds = format!(
        "--dest-creds={}:{}",
        crate::registry::USER,
        crate::registry::PASSWORD
    );
    let cert = format!("--dest-cert-dir={}", ca.display());
    let reference = format!("docker://{}/auth/etcd:1", secured.registry.address);
    crate::process::tool(
        "skopeo",
        &[
            "--insecure-policy",
            "copy",
            "--quiet",
            &creds,
            &cert,
            &layout.reference,
            &reference,
        ],
    );
    let given = format!(
        "--creds={}:{}",
        crate::registry::USER,
        crate::registry::PASSWORD
    );
    host.ok(&["install", &reference, &certs, &given]);
    let update = ["update", "etcd", certs.as_str()];
    assert!(
        host.fails(&update).contains("error: looking for what"),
        "without a password"
    );
    let auth = openssl::base64::encode_block(
        format!("{}:{}", crate::registry::USER, crate::registry::PASSWORD).as_bytes(),
    );
    let text = format!(
        "{{\"auths\":{{\"{}\":{{\"auth\":\"{auth}\"}}}}}}",
        secured.registry.address
    );
    host.put("etc/bedplate/auth.json", &text);
    host.refused(
        &update,
        "error: taking the registries' passwords from `/etc/bedplate/auth.json`: others than root could read or change it\n\
         hint: `chown root:root /etc/bedplate/auth.json; chmod 600 /etc/bedplate/auth.json`",
    );
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(host.at("etc/bedplate/auth.json"), private).unwrap();
    assert!(host.ok(&update).starts_with("etcd: up to date"));
}
