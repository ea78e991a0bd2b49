//! One writer at a time: the others queue, in any mixture of commands. Readers never wait; that they never see a change
//! half done is shown in `prefixes`.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use rustix::fs::FlockOperation;
use serde_json::Value;

use crate::host::{Host, assert_same};
use crate::layout::{Image, PLAIN};
use crate::process::{self, DEADLINE};
use crate::store::{assert_no_garbage, assert_whole};

/// The lines that a program writes to stderr, as they come.
pub(crate) fn lines(child: &mut Child) -> Receiver<String> {
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let (send, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            let _nobody_listens = send.send(line);
        }
    });
    lines
}

#[test]
fn the_second_waits_and_says_so() {
    let host = Host::new();
    let image = host.image_of("etcd", PLAIN);
    std::fs::create_dir_all(host.at("var/lib/bedplate")).unwrap();
    for (holder, named) in [
        ("", "note: waiting for another bedplate command to finish"),
        (
            "`bedplate uninstall` (pid 7)\n",
            "note: waiting for `bedplate uninstall` (pid 7) to finish",
        ),
    ] {
        let mut lock = File::create(host.at("var/lib/bedplate/lock")).unwrap();
        lock.write_all(holder.as_bytes()).unwrap();
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
        let mut second = host
            .command(&["install", &image.reference])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = lines(&mut second);
        assert_eq!(said.recv_timeout(DEADLINE).unwrap(), named);
        // A reader does not wait.
        host.ok(&["list"]);
        // Not by closing it: other tests' children may have inherited it for a moment.
        rustix::fs::flock(&lock, FlockOperation::Unlock).unwrap();
        assert!(process::ends_within(&second, DEADLINE));
        assert!(second.wait().unwrap().success());
    }
    assert!(host.ok(&["list"]).contains("etcd  1"));
}

#[test]
fn two_at_once_both_end_well() {
    let host = Host::new();
    let images = ["one", "two", "three"].map(|name| host.image_of(name, PLAIN));
    let children = images.each_ref().map(|image| {
        let mut command = host.command(&["install", &image.reference]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    });
    for mut child in children {
        assert!(process::ends_within(&child, DEADLINE));
        assert!(child.wait().unwrap().success());
    }
    let list = host.ok(&["list"]);
    assert!(
        ["one", "two", "three"]
            .iter()
            .all(|name| list.contains(name)),
        "{list}"
    );
    host.ok(&["uninstall", "one", "two", "three"]);
}

#[test]
fn readers_do_not_wait() {
    let host = Host::new();
    let image = host.image_of("etcd", PLAIN);
    host.ok(&["install", &image.reference]);
    let lock = File::open(host.at("var/lib/bedplate/lock")).unwrap();
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
    for args in [
        &["list"][..],
        &["show", "etcd"],
        &["values", "etcd"],
        &["graph"],
        &["images"],
        &["df"],
        &["config"],
        &["verify"],
    ] {
        host.ok(args);
    }
    // It may have findings.
    host.run(&["doctor"]);
}

/// One and the same image by two commands: one does it, the other finds it done.
#[test]
fn the_same_twice_at_once() {
    let host = Host::new();
    let image = host.image_of("etcd", PLAIN);
    let install = ["install", "--json", &image.reference];
    let mut said = thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| host.ok(&install)));
        both.map(|one| one.join().unwrap())
    })
    .map(|text| serde_json::from_str::<Value>(&text).unwrap()["containers"][0]["action"].clone());
    said.sort_by_key(ToString::to_string);
    assert_eq!(said, ["installed", "unchanged"]);
    host.ok(&["verify"]);
    assert_no_garbage(&host);
}

/// What one command needs is never taken away by another that sees nobody who needs it.
#[test]
fn install_pull_and_uninstall_beside_prune() {
    const ROUNDS: usize = 3;
    let host = Host::new();
    let [one, two, kept] = ["one", "two", "kept"].map(|name| {
        let content = name.repeat(20_000);
        let image = Image::new(PLAIN).file("usr/share/it", content);
        host.image(name, &image)
    });
    let host_of = &host;
    thread::scope(|scope| {
        let set = scope.spawn(move || {
            for _ in 0..ROUNDS {
                host_of.ok(&["install", &one.reference, &two.reference]);
                host_of.ok(&["verify", "one", "two"]);
                host_of.ok(&["uninstall", "one", "two"]);
            }
        });
        let pulled = scope.spawn(move || {
            for _ in 0..ROUNDS {
                host_of.ok(&["pull", &kept.reference]);
                host_of.ok(&["install", "--pull", "never", &kept.reference]);
                host_of.ok(&["uninstall", "kept"]);
                host_of.ok(&["images", "remove", &kept.reference]);
            }
        });
        while !set.is_finished() || !pulled.is_finished() {
            host.ok(&["prune"]);
        }
    });
    // The last of the others may have ended after the last of these.
    host.ok(&["prune"]);
    assert_whole(&host);
    assert_no_garbage(&host);
}

/// Whichever is first: what the other says goes with it, and the host is one or the other.
#[test]
fn install_against_uninstall() {
    let host = Host::new();
    let image = host.image_of("etcd", PLAIN);
    let without = host.listing();
    host.ok(&["install", &image.reference]);
    let with = host.listing();
    let (install, uninstall) = thread::scope(|scope| {
        let install = scope.spawn(|| host.run(&["install", "--json", &image.reference]));
        let uninstall = scope.spawn(|| host.run(&["uninstall", "etcd"]));
        (install.join().unwrap(), uninstall.join().unwrap())
    });
    uninstall.ok();
    let is_there = install.ok().contains("\"installed\"");
    assert_same(if is_there { &with } else { &without }, &host.listing());
    host.ok(&["recover"]);
    host.ok(&["verify"]);
}
