//! What is there already: units and files that are not ours, containers that are.

use std::os::unix::fs::symlink;

use crate::host::Host;
use crate::layout::{Image, PLAIN};

#[test]
fn a_unit_that_is_not_ours() {
    let host = Host::new();
    let image = host.image_of("etcd", PLAIN);
    for path in [
        "/usr/lib/systemd/system/etcd.service",
        "/etc/systemd/system/etcd.service",
        "/etc/systemd/system.attached/etcd.service",
    ] {
        host.put(path, "[Service]\nExecStart=/bin/true\n");
        let error = format!(
            "error: installing `etcd`: the unit etcd.service exists already (`{path}`) and is not bedplate's\n\
             hint: choose another `--name`, or remove that unit first"
        );
        host.refused(&["install", &image.reference], &error);
        std::fs::remove_file(host.at(path)).unwrap();
    }
    symlink("/dev/null", host.at("/etc/systemd/system/etcd.service")).unwrap();
    host.refused(
        &["install", &image.reference],
        "error: installing `etcd`: the unit etcd.service is masked\n\
         hint: `systemctl unmask etcd.service` first",
    );
}

#[test]
fn a_file_that_is_not_ours() {
    let host = Host::new();
    let image = Image::new(PLAIN).file("exports/hostfs/etc/etcd.conf", "ours\n");
    let image = host.image("etcd", &image);
    let error = "error: installing `etcd`: the host file `/etc/etcd.conf` exists already and is not its own\n\
        hint: move that file away first, if nothing else needs it";
    host.put("/etc/etcd.conf", "theirs\n");
    host.refused(&["install", &image.reference], error);
    // A link is as good as a file, also one that leads nowhere.
    std::fs::remove_file(host.at("/etc/etcd.conf")).unwrap();
    symlink("/nowhere", host.at("/etc/etcd.conf")).unwrap();
    host.refused(&["install", &image.reference], error);
}

/// The launcher would give it to the payload, whatever service it is of.
#[test]
fn a_directory_of_another_user() {
    let host = Host::new();
    let image = host.image_of(
        "db",
        "contract = 1\n[container]\nuser = \"967\"\n[service]\ndirectories = { state = [\"db\"] }\n",
    );
    host.put("/var/lib/db/precious", "");
    host.refused(
        &["install", &image.reference],
        "error: installing `db`: the directory `/var/lib/db` holds files of user 0, and the payload is user 967\n\
         hint: if they are its own: `chown --recursive 967 /var/lib/db`; if not, another `--name` or value may \
         lead elsewhere",
    );
    std::fs::remove_file(host.at("/var/lib/db/precious")).unwrap();
    host.ok(&["install", &image.reference]);
}

#[test]
fn two_of_a_set() {
    let host = Host::new();
    let image = Image::new(PLAIN).file("exports/hostfs/etc/shared.conf", "x\n");
    let one = host.image("one", &image);
    let other = Image::new(PLAIN).file("exports/hostfs/etc/shared.conf", "y\n");
    let two = host.image("two", &other);
    host.refused(
        &["install", &one.reference, &two.reference],
        "error: installing `two`: `one` of the same set brings another host file `/etc/shared.conf`\n\
         hint: leave one of them out",
    );
    host.refused(
        &["install", &one.reference, &one.reference],
        "error: two images of the set would both be called `one`",
    );
}

#[test]
fn another_image_or_other_values() {
    let host = Host::new();
    let manifest = "contract = 1\n[values.PORT]\ntype = 'integer'\ndefault = 1\nhelp = 'x'\n";
    let first = host.image_of("etcd", manifest);
    let installed = host.ok(&["install", &first.reference, "--set", "PORT=2"]);
    let digest = &first.digest;
    assert_eq!(
        installed.lines().next().unwrap(),
        format!("etcd: installed (generation 1, {digest})")
    );

    host.unchanged(|| {
        let again = host.run(&["install", &first.reference, "--set", "PORT=2"]);
        assert_eq!(
            again.ok(),
            "etcd: already installed with this image and these values (generation 1)\n"
        );
    });
    let error = "error: installing `etcd`: it is already installed (generation 1) with other values\n\
         hint: `bedplate update etcd --set KEY=VALUE` changes them, `--secret KEY=FILE` a secret; or choose another `--name`";
    host.refused(&["install", &first.reference, "--set", "PORT=3"], error);
    host.refused(&["install", &first.reference], error);

    let other = host.image("other", &Image::new(manifest).file("opt/new", "x"));
    let error = format!(
        "error: installing `{0}`: `etcd` is already installed from `{1}`, another image ({digest})\n\
         hint: `bedplate update etcd` takes what its reference names now, with `--rebase {0}` that; or choose another \
         `--name`",
        other.reference, first.reference
    );
    host.refused(&["install", &other.reference, "--name", "etcd"], &error);
    // The same image under another name is another container.
    host.ok(&["install", &first.reference, "--name", "second"]);
}

#[test]
fn no_runtime() {
    let host = Host::new();
    let image = host.image_of("etcd", PLAIN);
    std::fs::remove_file(host.at("usr/bin/crun")).unwrap();
    host.refused(
        &["install", &image.reference],
        "error: the host has no OCI runtime: neither `crun` nor `runc`\n\
         hint: install the package `crun` or `runc`, or name another: `bedplate install --runtime PATH`",
    );
    host.refused(
        &["install", &image.reference, "--runtime", "runc"],
        "error: the host has no OCI runtime `runc`\n\
         hint: install the package `runc`, or name another: `bedplate install --runtime PATH`",
    );
}
