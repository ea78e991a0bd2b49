//! `bedplate df`: every byte counted once, and shown with whom it belongs to.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde_json::Value;

use crate::host::Host;
use crate::layout::{Image, PLAIN};
use crate::process;
use crate::store::{assert_near_du, df, du, files};

const MIB: u64 = 1 << 20;

/// Bytes that no compression and no other file shares.
pub(crate) fn noise(seed: u8, size: u64) -> Vec<u8> {
    let mut state = u64::from(seed) | 1;
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

/// The row of that list of which the member is this.
fn row<'a>(usage: &'a Value, list: &str, member: &str, is: &str) -> &'a Value {
    let rows = usage[list].as_array().unwrap();
    let found = rows.iter().find(|row| row[member] == is);
    found.unwrap_or_else(|| panic!("{is}: {usage:#}"))
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap()
}

fn assert_about(found: u64, expected: u64) {
    let slack = 512 << 10;
    assert!(
        found.abs_diff(expected) < slack,
        "{found} is not about {expected}"
    );
}

#[test]
fn shared_bytes_count_once() {
    let host = Host::new();
    let base = Image::bare().file("usr/lib/base", noise(1, 3 * MIB));
    let base = (0..300).fold(base, |image, n| {
        image.file(&format!("usr/share/{}/{n}", n % 20), format!("file {n}\n"))
    });
    // A layer of its own with a file that another image has in a layer of its own.
    let common = noise(2, 2 * MIB);
    let etcd = Image::new(PLAIN).file("usr/bin/etcd", noise(3, 5 * MIB));
    let etcd = host.image("etcd", &etcd.file("usr/lib/common", &common).over(&base));
    let httpd = Image::new(PLAIN)
        .file("srv/common", &common)
        .file("empty", "");
    let httpd = host.image("httpd", &httpd.over(&base));
    let alone = Image::new(PLAIN).file("big", noise(4, 20 * MIB));
    let alone = host.image("alone", &alone);
    assert_eq!(df(&host)["disk"]["total"], 0);
    host.ok(&[
        "install",
        &etcd.reference,
        &httpd.reference,
        &alone.reference,
    ]);
    host.ok(&["install", &etcd.reference, "--name=second"]);

    let usage = df(&host);
    println!("{}", host.ok(&["df"]));
    assert_near_du(&host, &usage);
    let image = |reference: &str| row(&usage, "images", "image", reference);
    let [etcd_row, httpd_row, alone_row] = [&etcd, &httpd, &alone].map(|i| image(&i.reference));
    assert_eq!(
        etcd_row["containers"],
        serde_json::json!(["etcd", "second"])
    );
    assert_eq!(etcd_row["kept"], false);
    assert_eq!(etcd_row["digest"], etcd.digest.as_str());
    assert_about(number(etcd_row, "logical"), 10 * MIB);
    assert_about(number(httpd_row, "logical"), 5 * MIB);
    assert_about(number(alone_row, "logical"), 20 * MIB);
    // The base with its small files, 4 KiB each and more, and the common file.
    let shared = number(etcd_row, "shared");
    assert_eq!(shared, number(httpd_row, "shared"));
    assert!(shared > 5 * MIB && shared < 9 * MIB, "{shared}");
    assert_about(number(etcd_row, "unique"), 5 * MIB);
    assert_about(number(httpd_row, "unique"), 0);
    assert_about(number(alone_row, "unique"), 20 * MIB);

    let container = |name: &str| row(&usage, "containers", "name", name);
    assert_eq!(container("etcd")["generations"], 1);
    assert_about(number(container("etcd"), "logical"), 10 * MIB);
    // The two of one image have all but their directories in common.
    assert_about(number(container("etcd"), "unique"), 0);
    assert!(number(container("etcd"), "shared") > 10 * MIB);
    assert_about(number(container("alone"), "unique"), 20 * MIB);

    let disk = &usage["disk"];
    let parts = ["reclaimable", "images", "containers", "overhead"];
    let sum: u64 = parts.iter().map(|part| number(disk, part)).sum();
    assert_eq!(sum, number(disk, "total"));
    assert_eq!(number(disk, "reclaimable"), 0);
    println!("df {}, du {}", disk["total"], du(&host));
}

/// A layer that was rebuilt, of which one small file differs.
#[test]
fn generations_share_files() {
    let host = Host::new();
    let version = |version: &str| {
        let image = Image::new(PLAIN).file("usr/lib/large", noise(1, 8 * MIB));
        let image = (0..300).fold(image, |image, n| {
            image.file(&format!("usr/share/{}/{n}", n % 20), format!("file {n}\n"))
        });
        host.image("etcd", &image.file("opt/version", version))
    };
    // What has not been written to disk yet may be counted otherwise a moment later.
    let on_disk = || {
        process::tool("sync", &["--file-system", host.root().to_str().unwrap()]);
        du(&host)
    };
    let first = version("1");
    host.ok(&["install", &first.reference]);
    let before = on_disk();
    assert_ne!(version("2").layer, first.layer);
    host.ok(&["update", "etcd"]);
    let grown = on_disk() - before;
    assert!(grown < 512 << 10, "{grown}");

    let usage = df(&host);
    assert_near_du(&host, &usage);
    let etcd = row(&usage, "containers", "name", "etcd");
    assert_eq!(etcd["generations"], 2);
    let [old, new] =
        [1, 2].map(|number| host.at(&format!("var/lib/bedplate/containers/etcd/{number}/rootfs")));
    let mut shared = 0;
    // What is empty may be a place for what is mounted at a start, of each generation's own.
    let has_content = |file: &PathBuf| file.symlink_metadata().unwrap().len() > 0;
    for file in files(&old).into_iter().filter(has_content) {
        let path = file.strip_prefix(&old).unwrap();
        let [was, is] = [&file, &new.join(path)].map(|path| path.symlink_metadata().unwrap());
        let changed = path.as_os_str() == "opt/version";
        assert_eq!(was.ino() == is.ino(), !changed, "{}", path.display());
        shared += usize::from(!changed);
    }
    // The small ones, the large one, the program.
    assert!(shared > 301, "{shared}");
}

#[test]
fn what_nobody_uses_is_told_apart() {
    let host = Host::new();
    let image = host.image("etcd", &Image::new(PLAIN).file("big", noise(1, 4 * MIB)));
    host.ok(&["install", &image.reference]);
    host.ok(&["uninstall", "etcd"]);
    let usage = df(&host);
    assert_near_du(&host, &usage);
    let reclaimable = number(&usage["disk"], "reclaimable");
    assert_about(reclaimable, 4 * MIB);
    let image = row(&usage, "images", "image", &image.reference);
    assert_eq!(image["containers"], serde_json::json!([]));
    let pruned: Value = serde_json::from_str(&host.ok(&["prune", "--json"])).unwrap();
    assert_eq!(number(&pruned, "freed"), reclaimable);
    assert_eq!(number(&df(&host)["disk"], "reclaimable"), 0);
}

/// A generation whose rootfs is an image of its tree uses the objects all the same.
#[test]
fn a_tree_in_an_image_uses_objects() {
    let host = Host::new();
    let image = host.image("etcd", &Image::new(PLAIN).file("big", noise(1, 4 * MIB)));
    host.ok(&["install", &image.reference]);
    let generation = host.at("var/lib/bedplate/containers/etcd/1");
    fs::remove_dir_all(generation.join("rootfs")).unwrap();
    fs::create_dir(generation.join("rootfs")).unwrap();
    fs::write(generation.join("tree.erofs"), vec![1; 20_000]).unwrap();
    let usage = df(&host);
    assert_near_du(&host, &usage);
    let etcd = row(&usage, "containers", "name", "etcd");
    assert_about(number(etcd, "logical"), 4 * MIB);
    assert_about(number(etcd, "unique"), 4 * MIB);
    assert_eq!(host.ok(&["prune"]), "freed 0 B\n");
}

#[test]
fn reading_makes_nothing() {
    let host = Host::new();
    let before = host.listing();
    let nothing = "ON DISK      SIZE\nimages       0 B\ncontainers   0 B\noverhead     0 B\nreclaimable  0 B\ntotal        0 B\n";
    assert_eq!(host.ok(&["df"]), nothing);
    assert!(!host.at("var/lib/bedplate").exists());
    crate::host::assert_same(&before, &host.listing());
}
