//! Installed containers being damaged, looked at and mended: the tools of `verify`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::host::{Host, Listing, assert_same};
use crate::layout::{Image, Layout};
use crate::process::{self, Run};
use crate::registry::registry;

pub(crate) const FILES: &str = "contract = 1
[values.PORT]
type = 'integer'
default = 2379
help = 'x'
[files]
template = ['/etc/app/app.conf']
rename = { '/etc/app' = '/etc/{{name}}' }
";

/// Something big, so that a cut is a cut.
pub(crate) fn program() -> Vec<u8> {
    b"0123456789abcdef".repeat(20_000)
}

/// An extended attribute of a file of the image.
pub(crate) const NOTE: &str = "user.note";

/// Two layers and a container of everything: links, empty files, mount targets, attributes, host files.
pub(crate) fn layers() -> (Image, Image) {
    let base = Image::bare()
        .file("bin/program", program())
        .file("etc/hosts", "")
        .file("usr/empty", "")
        .file("usr/hidden", "below\n")
        .symlink("etc/resolv.conf", "/run/nowhere")
        .symlink("etc/link", "passwd")
        .dir("var/data", 0o1770, 7)
        .file("var/data/deep/file", "deep\n")
        .xattr(NOTE, "ours");
    let upper = Image::default()
        .file("exports/manifest.toml", FILES)
        .file("exports/hostfs/etc/app/app.conf", "port = {{PORT}}\n")
        .file("exports/hostfs/etc/app/plain.conf", "plain\n")
        .file("opt/upper", "of the upper layer\n")
        .file("usr/hidden", "above\n");
    (base, upper)
}

/// The same under a name of its own, from the registry: each has the same upper layer. With the digest of the lower one.
pub(crate) fn pushed(host: &Host, name: &str) -> (String, Layout, String) {
    registry().allow(host);
    let (base, upper) = layers();
    let base = base.file(&format!("opt/{name}"), name);
    let (layout, lower) = upper.write_over(&base, &host.beside(name));
    (
        registry().push(&layout, &format!("verify-{name}/{name}:1")),
        layout,
        lower,
    )
}

/// An installed etcd from a layout.
pub(crate) fn etcd() -> Host {
    let host = Host::new();
    let (base, upper) = layers();
    let (layout, _) = upper.write_over(&base, &host.beside("etcd"));
    host.ok(&["install", &layout.reference]);
    host
}

pub(crate) const ROOTFS: &str = "var/lib/bedplate/containers/etcd/1/rootfs";
pub(crate) const OBJECTS: &str = "var/lib/bedplate/repo/objects";

pub(crate) fn at(host: &Host, path: &str) -> PathBuf {
    host.at(&format!("{ROOTFS}/{path}"))
}

/// Every object of the store.
pub(crate) fn objects(host: &Host) -> Vec<PathBuf> {
    let dirs = fs::read_dir(host.at(OBJECTS)).unwrap();
    let dirs = dirs.map(|dir| dir.unwrap().path());
    let mut found: Vec<_> = dirs
        .flat_map(|dir| fs::read_dir(dir).unwrap().map(|f| f.unwrap().path()))
        .collect();
    found.sort();
    found
}

/// The object that is linked at a path of the rootfs.
pub(crate) fn object(host: &Host, path: &str) -> PathBuf {
    let inode = fs::symlink_metadata(at(host, path)).unwrap().ino();
    let same = |object: &PathBuf| fs::symlink_metadata(object).unwrap().ino() == inode;
    objects(host).into_iter().find(same).unwrap()
}

/// The objects of a kind.
pub(crate) fn of_kind(host: &Host, kind: &str) -> Vec<PathBuf> {
    let mut found = objects(host);
    found.retain(|object| object.extension().is_some_and(|e| e == kind));
    found
}

/// The file object with this content.
pub(crate) fn with_content(host: &Host, start: &[u8]) -> PathBuf {
    let starts =
        |object: &PathBuf| !object.is_symlink() && fs::read(object).unwrap().starts_with(start);
    of_kind(host, "file").into_iter().find(starts).unwrap()
}

pub(crate) fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    // In place, as a failing disk does it.
    let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all(&bytes).unwrap();
}

/// What `verify` finds: each fault as `thing defects places`, the object's or the path's end left to the places.
pub(crate) fn verify(host: &Host) -> Vec<String> {
    let run = host.run(&["verify", "--json"]);
    let outcome: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{run:?}"));
    let faults = outcome["faults"].as_array().unwrap();
    assert_eq!(run.status, i32::from(!faults.is_empty()), "{run:?}");
    faults.iter().map(said).collect()
}

pub(crate) fn said(fault: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| {
        value
            .as_array()
            .unwrap()
            .iter()
            .map(text)
            .collect::<Vec<_>>()
    };
    let places = fault["places"].as_array().unwrap();
    let place = |place: &Value| {
        let path = text(&place["path"]);
        // A layer's digest is another with each build.
        let words: Vec<_> = path
            .split(' ')
            .filter(|w| !w.starts_with("sha256:"))
            .collect();
        let name = text(&place["container"]);
        format!("{name} {}", words.join(" ")).trim().to_owned()
    };
    let mut places: Vec<_> = places.iter().map(place).collect();
    places.dedup();
    let name = match text(&fault["thing"]).as_str() {
        "object" => text(&fault["name"]).rsplit('.').next().unwrap().to_owned(),
        "rootfs" => String::new(),
        _ => text(&fault["name"]),
    };
    let defects = list(&fault["defects"]).join("+");
    let words = [text(&fault["thing"]), name, defects, places.join(", ")];
    words
        .iter()
        .filter(|w| !w.is_empty())
        .cloned()
        .collect::<Vec<_>>()
        .join(" ")
}

/// After a repair all must be well, as libostree sees it too.
pub(crate) fn well(host: &Host) {
    assert_eq!(verify(host), Vec::<String>::new());
    let repo = host.at("var/lib/bedplate/repo");
    process::tool(
        "ostree",
        &["fsck", "--quiet", "--repo", repo.to_str().unwrap()],
    );
}

pub(crate) fn repair(host: &Host) -> Run {
    let run = host.run(&["repair"]);
    assert_eq!(run.status, 0, "{run:?}");
    run
}

/// Every file of the store with its inode, its size and the time of its last change.
pub(crate) fn store(host: &Host) -> Vec<(PathBuf, u64, u64, i64)> {
    let mut left = vec![host.at("var/lib/bedplate/repo")];
    let mut found = Vec::new();
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let stat = fs::symlink_metadata(&path).unwrap();
            if stat.is_dir() {
                left.push(path);
            } else {
                found.push((path, stat.ino(), stat.size(), stat.ctime_nsec()));
            }
        }
    }
    found.sort();
    found
}

/// All but what was moved out of the way.
pub(crate) fn listing(host: &Host) -> Listing {
    let mut found = host.listing();
    found.retain(|path, _| !path.to_string_lossy().contains("/replaced"));
    found
}

/// Damages, looks, mends, looks again.
pub(crate) fn mended(host: &Host, what: &str, damage: impl FnOnce(), expected: &[&str]) -> String {
    let before = listing(host);
    damage();
    assert_eq!(verify(host), expected, "{what}");
    let damaged = (host.listing(), store(host));
    let dry = host.run(&["repair", "--dry-run"]);
    assert_eq!(dry.status, 0, "{what}: {dry:?}");
    assert_same(&damaged.0, &host.listing());
    assert_eq!(damaged.1, store(host), "{what}");
    let said = repair(host).stdout;
    well(host);
    assert_same(&before, &listing(host));
    assert_eq!(repair(host).stdout, "nothing to repair\n", "{what}");
    said
}

/// As [`mended`], where some fault of that kind must be found.
pub(crate) fn some_mended(host: &Host, what: &str, damage: impl FnOnce(), kind: &str) {
    let before = listing(host);
    damage();
    let found = verify(host);
    assert!(
        found.iter().any(|fault| fault.contains(kind)),
        "{what}: {found:?}"
    );
    repair(host);
    well(host);
    assert_same(&before, &listing(host));
}
