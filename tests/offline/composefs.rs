//! Containers whose tree is an image: what is written, what the kernel makes of it, and that it goes again.

use std::fs;
use std::process::Command;

use openssl::sha::sha256;
use serde_json::Value;

use crate::host::{Host, assert_same};
use crate::layout::{Image, PLAIN};
use crate::process;

const MANIFEST: &str = r#"contract = 1
description = "A test"

[container]
mounts = [{ source = "{{state_dir}}", target = "/srv/data", access = "rw" }]

[service]
directories = { state = ["{{name}}"] }
"#;

const GENERATION: &str = "/var/lib/bedplate/containers/an-image/1";

const TREE_MOUNT: &str = "\
# Written by bedplate for the system container `an-image`, generation 1: the image of its tree.

[Unit]
Description=Tree of the system container an-image
X-Bedplate-Container=an-image
X-Bedplate-Generation=1
DefaultDependencies=no
Conflicts=umount.target
Before=umount.target

[Mount]
What=/var/lib/bedplate/containers/an-image/1/tree.erofs
Where=/var/lib/bedplate/containers/an-image/1/tree
Type=erofs
Options=ro,nodev
# Nothing of it is ever written: what still uses it may end in its own time.
LazyUnmount=yes
";

const ROOTFS_MOUNT: &str = "\
# Written by bedplate for the system container `an-image`, generation 1: its rootfs.

[Unit]
Description=Root file system of the system container an-image
X-Bedplate-Container=an-image
X-Bedplate-Generation=1
DefaultDependencies=no
Conflicts=umount.target
Before=umount.target
RequiresMountsFor=/var/lib/bedplate/containers/an-image/1/tree

[Mount]
What=bedplate-an-image
Where=/var/lib/bedplate/containers/an-image/1/rootfs
Type=overlay
Options=ro,nodev,lowerdir=/var/lib/bedplate/containers/an-image/1/tree::/var/lib/bedplate/repo/objects,metacopy=on,redirect_dir=on
LazyUnmount=yes
";

fn host(integrity: &str) -> Host {
    let host = Host::new();
    host.put(
        "etc/bedplate/bedplate.toml",
        &format!("[store]\nintegrity = \"{integrity}\"\n"),
    );
    host
}

/// The path of a mount unit.
fn unit(place: &str) -> String {
    format!("etc/systemd/system.attached/var-lib-bedplate-containers-an\\x2dimage-1-{place}.mount")
}

#[test]
fn a_tree_is_an_image() {
    let host = host("composefs");
    let image = Image::new(MANIFEST).symlink("etc/link", "../bin/sleep");
    let layout = host.image("an-image", &image);
    let before = host.listing();
    host.ok(&["install", &layout.reference]);

    assert_eq!(host.text(&unit("tree")), TREE_MOUNT);
    assert_eq!(host.text(&unit("rootfs")), ROOTFS_MOUNT);
    let service = host.text("etc/systemd/system.attached/an-image.service");
    assert!(
        service.contains(&format!("\nRequiresMountsFor={GENERATION}/rootfs ")),
        "{service}"
    );
    let links: Vec<_> = host
        .listing()
        .into_keys()
        .filter(|path| path.starts_with("etc/systemd/system/"))
        .filter(|path| path.extension().is_some_and(|e| e == "mount"))
        .collect();
    assert!(links.is_empty(), "{links:?}");
    for place in ["tree", "rootfs"] {
        let mut empty = fs::read_dir(host.at(&format!("{GENERATION}/{place}"))).unwrap();
        assert!(empty.next().is_none());
    }
    let shown: Value = serde_json::from_str(&host.ok(&["show", "--json", "an-image"])).unwrap();
    assert_eq!(shown["integrity"], "composefs");
    let tree = fs::read(host.at(&format!("{GENERATION}/tree.erofs"))).unwrap();
    let sum = sha256(&tree);
    let sum = sum
        .iter()
        .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    assert_eq!(shown["rendered"]["tree.erofs"], sum);
    mounts(&host);

    // It is known again although nothing is mounted, and goes without a trace.
    host.unchanged(|| {
        let said = host.ok(&["install", &layout.reference]);
        assert!(said.starts_with("an-image: already installed"), "{said}");
    });
    host.ok(&["uninstall", "an-image"]);
    assert_same(&before, &host.listing());
}

/// What the two units say, done by hand.
fn mounts(host: &Host) {
    let script = r#"
        mount -t erofs -o ro "$1/tree.erofs" "$1/tree"
        mount -t overlay -o "ro,lowerdir=$1/tree::$2,metacopy=on,redirect_dir=on" overlay "$1/rootfs"
        cat "$1/rootfs/etc/link"
        test -d "$1/rootfs/srv/data"
        ! rmdir "$1/rootfs/srv/data" 2>/dev/null
        stat --format=%U "$1/rootfs/proc""#;
    let mut command = Command::new("unshare");
    command
        .args([
            "--mount",
            "--propagation",
            "private",
            "--",
            "sh",
            "-ec",
            script,
            "sh",
        ])
        .arg(host.at(GENERATION))
        .arg(host.at("/var/lib/bedplate/repo/objects"));
    let said = process::run(&mut command).ok();
    assert_eq!(said, "not really a program\nroot\n");
}

#[test]
fn a_unit_of_the_images_own_needs_its_rootfs_too() {
    let host = host("composefs");
    let own = "[Unit]\nDescription=own\n\n[Service]\nExecStart={{launch}}\n";
    let image = Image::new(PLAIN).file("exports/service.hbs", own);
    host.ok(&["install", &host.image("an-image", &image).reference]);
    assert_eq!(
        host.text("etc/systemd/system.attached/an-image.service"),
        format!(
            "[Unit]\nDescription=own\n\n[Service]\nExecStart=/usr/libexec/bedplate/launch {GENERATION}\n\n\
             # Added by bedplate: the rootfs is mounted.\n[Unit]\nRequiresMountsFor={GENERATION}/rootfs\n"
        )
    );
}

#[test]
fn an_image_is_verified_and_made_again() {
    let host = host("composefs");
    let layout = host.image_of("an-image", MANIFEST);
    host.ok(&["install", &layout.reference]);
    host.ok(&["verify"]);
    let tree = host.at(&format!("{GENERATION}/tree.erofs"));
    let whole = fs::read(&tree).unwrap();
    let mut damaged = whole.clone();
    damaged[1200] ^= 1;
    fs::write(&tree, damaged).unwrap();
    let run = host.run(&["verify", "--json"]);
    assert_eq!(run.status, 1, "{}", run.stderr);
    let found: Value = serde_json::from_str(&run.stdout).unwrap();
    let faults = found["faults"].as_array().unwrap();
    assert_eq!(faults.len(), 1, "{found}");
    assert_eq!(faults[0]["name"], format!("{GENERATION}/tree.erofs"));
    host.ok(&["repair"]);
    assert_eq!(fs::read(&tree).unwrap(), whole);
    fs::remove_file(&tree).unwrap();
    // Nothing is mounted: a text is rendered again from a checkout, and the places of the mounts stay empty.
    host.put(&format!("{GENERATION}/launch.json"), "damaged");
    host.ok(&["repair"]);
    assert_eq!(fs::read(&tree).unwrap(), whole);
    host.ok(&["verify"]);
    let mut rootfs = fs::read_dir(host.at(&format!("{GENERATION}/rootfs"))).unwrap();
    assert!(rootfs.next().is_none());
}

/// The record says that the kernel looks after the files, and it does not: so far a machine without fs-verity shows it.
#[test]
fn what_is_not_sealed_is_named() {
    let host = host("composefs");
    let image = Image::new(PLAIN).file("empty", "").symlink("link", "empty");
    let layout = host.image("an-image", &image);
    host.ok(&["install", &layout.reference]);
    host.ok(&["verify"]);
    let record = format!("{GENERATION}/record.toml");
    let text = host.text(&record);
    let sealed = text.replace("\"composefs\"", "\"verity\"");
    assert_ne!(text, sealed);
    host.put(&record, &sealed);
    let run = host.run(&["verify", "--json"]);
    assert_eq!(run.status, 1, "{}", run.stderr);
    let found: Value = serde_json::from_str(&run.stdout).unwrap();
    let faults = found["faults"].as_array().unwrap();
    assert!(
        faults
            .iter()
            .all(|f| f["defects"] == serde_json::json!(["unsealed"]))
    );
    let path = |fault: &Value| fault["places"][0]["path"].as_str().map(str::to_owned);
    let mut paths: Vec<_> = faults.iter().filter_map(path).collect();
    paths.sort();
    assert_eq!(
        paths,
        ["/bin/sleep", "/etc/passwd", "/exports/manifest.toml"]
    );
    // The image of the tree has no path in it.
    assert_eq!(faults.len(), 4, "{found}");
    let said = host.run(&["verify"]).stdout;
    assert!(said.contains("not sealed by fs-verity"), "{said}");
}

#[test]
fn what_cannot_be_tried_is_not_chosen() {
    let host = host("auto");
    let layout = host.image_of("an-image", PLAIN);
    let said: Value =
        serde_json::from_str(&host.ok(&["install", "--json", &layout.reference])).unwrap();
    assert_eq!(
        said["containers"][0]["notes"],
        serde_json::json!([
            "no composefs: what a `--root` directory's kernel will do cannot be tried"
        ])
    );
    assert!(host.at(&format!("{GENERATION}/rootfs/bin/sleep")).exists());
    assert!(!host.at(&unit("rootfs")).exists());
}

#[test]
fn a_name_that_no_mount_unit_can_hold_is_refused() {
    let host = host("composefs");
    let layout = host.image_of("an-image", PLAIN);
    let name = format!("a{}", "-".repeat(60));
    let said = host.fails(&["install", "--name", &name, &layout.reference]);
    assert!(
        said.contains("is longer than 255 characters")
            && said.contains("choose a shorter `--name`"),
        "{said}"
    );
}
