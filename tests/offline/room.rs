//! A disk that is full at any point of what changes, mends or takes away what is installed, or adds to it: old or new, and
//! the room is free again.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::damage::{flip, listing, verify};
use crate::host::{Host, assert_same};
use crate::layout::{Image, PLAIN};
use crate::namespace::{self, Mounted};
use crate::process;
use crate::store::assert_no_garbage;

/// Where an argument is the image that is not here yet.
const IMAGE: &str = "IMAGE";

/// Two containers: one with a generation to go back to and an image to be updated to, one with generations to prune.
/// The reference of an image that neither has.
fn prepare(host: &Host) -> String {
    let version = |name: &str, version: &str| {
        // Small when compressed: that there is no room for it shows when it is written.
        let content = format!("{name} {version}").repeat(50_000);
        let image = Image::new(PLAIN).file("opt/large", content);
        let image = image.file("opt/small", format!("{name} {version}"));
        let image = image.file(&format!("exports/hostfs/etc/{name}"), version);
        host.image(name, &image)
    };
    let first = ["one", "two"].map(|name| version(name, "1").reference);
    host.ok(&["install", &first[0], &first[1]]);
    version("one", "2");
    host.ok(&["update", "one"]);
    version("one", "3");
    for number in [2, 3, 4] {
        crate::prune::generation(host, "two", number);
    }
    version("three", "1").reference
}

/// On ext4, where a name, a directory and a journal line take blocks: every block from none to enough.
#[test]
fn no_room_for_a_change_at_any_point() {
    if !namespace::own("room::no_room_for_a_change_at_any_point") {
        return;
    }
    for args in [
        &["uninstall", "two"][..],
        &["update", "one"],
        &["rollback", "one"],
        &["prune"],
    ] {
        on_a_small_disk(args);
    }
}

#[test]
fn no_room_for_an_image_at_any_point() {
    if namespace::own("room::no_room_for_an_image_at_any_point") {
        on_a_small_disk(&["install", IMAGE]);
        on_a_small_disk(&["pull", IMAGE]);
    }
}

/// What is damaged and cannot be brought back stays what it is, and nothing else is touched.
#[test]
fn no_room_for_a_repair_at_any_point() {
    if namespace::own("room::no_room_for_a_repair_at_any_point") {
        on_a_small_disk(&["repair"]);
    }
}

fn on_a_small_disk(args: &[&str]) {
    let host = Host::new();
    let disk = host.beside("disk");
    let disk = disk.to_str().unwrap();
    process::tool("truncate", &["--size=48M", disk]);
    process::tool("mkfs.ext4", &["-q", "-m", "0", "-b", "4096", disk]);
    let root = host.root();
    let _mounted = Mounted::over(&root, &["-o", "loop", disk]);
    let image = prepare(&host);
    if args == ["repair"] {
        for file in ["large", "small"] {
            flip(&host.at(&format!(
                "var/lib/bedplate/containers/two/1/rootfs/opt/{file}"
            )));
        }
    }
    let args = args.iter().map(|arg| match *arg {
        IMAGE => image.as_str(),
        arg => arg,
    });
    at_any_block(&host, &args.collect::<Vec<_>>());
}

fn at_any_block(host: &Host, args: &[&str]) {
    let root = host.root();
    let listing = || {
        let mut listing = listing(host);
        // What was tried is remembered where there is room for it.
        listing.retain(|path, _| !path.ends_with("lifecycle.toml"));
        listing
    };
    let (old, damage) = (listing(), verify(host));
    let (mut undone, mut blocks) = (0, 0);
    loop {
        let filler = fill(&root, blocks);
        let run = host.run(args);
        println!("{args:?}, {blocks} blocks: {}\n{}", run.status, run.stderr);
        fs::remove_file(filler).unwrap();
        if run.status == 3 {
            host.ok(&["recover"]);
        }
        let faults = verify(host);
        let is_old = |fault| run.status != 0 && damage.contains(fault);
        assert!(faults.iter().all(is_old), "{faults:?}");
        if run.status == 0 {
            break;
        }
        let found = listing();
        if args == ["repair"] {
            // In part, perhaps: what was brought back is whole.
            assert!(found.keys().eq(old.keys()), "{found:?}");
        } else if found != old {
            // It was done but for its last step, or, by prune, in part.
            if run.status != 3 && args != ["prune"] {
                assert_same(&old, &found);
            }
            break;
        }
        undone += 1;
        // Finely where the first files are written.
        blocks += if blocks < 40 { 1 } else { blocks / 4 };
        assert!(blocks < 12_000, "it never ends well");
    }
    println!("{args:?}: undone {undone} times, then done with {blocks} blocks");
    assert!(undone > 0 || args == ["prune"]);
    host.ok(&["prune"]);
    assert_no_garbage(host);
}

/// Fills the disk but for so many blocks; the file that does.
fn fill(root: &Path, blocks: u64) -> PathBuf {
    let path = root.join("filler");
    let filler = File::create(&path).unwrap();
    let fill = |much: u64| fallocate(&filler, FallocateFlags::empty(), 0, much);
    // Without what ext4 keeps back for itself.
    let free = statvfs(root).unwrap().f_bavail;
    let mut much = free.saturating_sub(blocks) * 4096;
    // What the file itself takes is not known before.
    while fill(much).is_err() {
        much = much.saturating_sub(4096);
    }
    process::tool("sync", &["--file-system", root.to_str().unwrap()]);
    path
}
