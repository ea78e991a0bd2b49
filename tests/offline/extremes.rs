//! Images that are legal and monstrous: what can be kept is kept whole, what cannot is refused with the reason.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::host::Host;
use crate::layout::{Image, PLAIN};

/// More than ext4 lets a file have names, with and without the image's other empty files.
const FILES: usize = 70_000;

#[test]
fn more_equal_files_than_a_file_may_have_names() {
    let host = Host::new();
    let files = (0..FILES).fold(Image::new(PLAIN), |image, i| {
        image.file(&format!("opt/{}/{i}", i % 100), "")
    });
    let layout = host.image("many", &files);
    host.ok(&["install", &layout.reference]);
    let rootfs = host.at("var/lib/bedplate/containers/many/1/rootfs");
    let count = |dir: usize| {
        let dir = rootfs.join(format!("opt/{dir}"));
        fs::read_dir(dir).unwrap().count()
    };
    assert_eq!((0..100).map(count).sum::<usize>(), FILES);
    let file = rootfs.join("opt/99/99").metadata().unwrap();
    assert_eq!((file.size(), file.mode() & 0o7777), (0, 0o644));
    host.ok(&["verify"]);
}

#[test]
fn names_as_long_and_as_deep_as_linux_allows() {
    let host = Host::new();
    let deep = "d/".repeat(1500);
    let long = "n".repeat(255);
    let image = Image::new(PLAIN)
        .file(&format!("{deep}file"), "deep\n")
        .file(&format!("opt/{long}"), "long\n");
    let layout = host.image("deep", &image);
    host.ok(&["install", &layout.reference]);
    let rootfs = host.at("var/lib/bedplate/containers/deep/1/rootfs");
    let read = |path: String| fs::read_to_string(rootfs.join(path)).unwrap();
    assert_eq!(read(format!("{deep}file")), "deep\n");
    assert_eq!(read(format!("opt/{long}")), "long\n");
    host.ok(&["verify"]);
    host.ok(&["uninstall", "deep"]);
    host.ok(&["prune"]);

    let path = format!("{}x", "d/".repeat(2048));
    assert!(path.len() > 4096);
    let layout = host.image("longer", &Image::new(PLAIN).file(&path, ""));
    let error = format!(
        "error: importing `{}`: layer {}: entry `{path}`: its name is longer than Linux allows",
        layout.reference, layout.layer
    );
    host.refused(&["install", &layout.reference], &error);
}

#[test]
fn a_layer_that_unpacks_to_more_than_the_limit() {
    let host = Host::new();
    host.put(
        "etc/bedplate/bedplate.toml",
        "[store]\nlayer_limit = \"16M\"\n",
    );
    let zeros = vec![0; 64 << 20];
    let layout = host.image("bomb", &Image::new(PLAIN).file("opt/zeros", &zeros));
    assert!(fs::metadata(layout.layer_path()).unwrap().len() < 1 << 20);
    let error = format!(
        "error: importing `{}`: layer {}: entry `opt/zeros`: it unpacks to more than 16777216 bytes, the most that a \
         layer may have here\n\
         hint: if the image is meant to be so large, raise `layer_limit` in `[store]` of bedplate.toml",
        layout.reference, layout.layer
    );
    host.refused(&["install", &layout.reference], &error);
    host.put("etc/bedplate/bedplate.toml", "");
    host.ok(&["install", &layout.reference]);
}
