//! One writer at a time.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use rustix::fs::FlockOperation;

use crate::host::Host;
use crate::layout::PLAIN;
use crate::process::{self, DEADLINE};

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
