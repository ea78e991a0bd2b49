//! Images that are legal and monstrous: what can be kept is kept whole, what cannot is refused with the reason.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use crate::host::{BEDPLATE, Host};
use crate::layout::{Image, PLAIN};
use crate::process::{self, Run};
use crate::store::{assert_no_garbage, du, files};

const GIB: u64 = 1 << 30;

/// Bytes of a path: what Linux allows for one, without room for where it lies on the host.
const LONGEST: usize = 4095 - 255;

/// Files in all.
const FILES: usize = 200_000;

/// Of these, empty ones: more than ext4 lets a file have names.
const EMPTY: usize = 70_000;

/// Installs an image with so much memory of its own for each process (`RLIMIT_DATA`).
fn install_within(memory: u64, host: &Host, reference: &str) -> Run {
    let limit = format!("--data={memory}");
    process::run(&mut host.command_as(
        "prlimit".as_ref(),
        &[&limit, BEDPLATE, "install", reference],
    ))
}

/// Of an entry some hundred bytes are kept.
#[test]
fn two_hundred_thousand_files() {
    let host = Host::new();
    let image = (0..FILES).fold(Image::new(PLAIN), |image, i| {
        let content = if i < EMPTY {
            String::new()
        } else {
            format!("{}\n", i % 5000)
        };
        image.file(&format!("opt/{}/{i}", i % 100), content)
    });
    let layout = host.image("many", &image);
    install_within(256 << 20, &host, &layout.reference).ok();
    let rootfs = host.at("var/lib/bedplate/containers/many/1/rootfs");
    let count = |dir: usize| {
        let dir = rootfs.join(format!("opt/{dir}"));
        fs::read_dir(dir).unwrap().count()
    };
    assert_eq!((0..100).map(count).sum::<usize>(), FILES);
    let file = |path: &str| {
        let meta = rootfs.join(path).metadata().unwrap();
        (meta.size(), meta.mode() & 0o7777)
    };
    assert_eq!(file("opt/99/69999"), (0, 0o644));
    assert_eq!(file("opt/99/199999"), (5, 0o644));
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
}

/// What is accepted can be looked at, mended and removed, with no more open files than a shell allows.
#[test]
fn paths_as_long_as_can_be() {
    let host = Host::new();
    let limited = |args: &[&str]| {
        let args = [&["--nofile=1024", BEDPLATE][..], args].concat();
        process::run(&mut host.command_as("prlimit".as_ref(), &args))
    };
    let long = |name: &str, length: usize| {
        let mut path = format!("{name}/").repeat(length);
        path.truncate(length - 1);
        path + "x"
    };
    // As deep as can be, and with names as long as can be.
    let name = &"d".repeat(254);
    let image = |file: &str, dir: &str| Image::new(PLAIN).file(file, "long\n").dir(dir, 0o750, 7);
    let (file, dir) = (long("f", LONGEST), long(name, LONGEST));
    assert_eq!((file.len(), dir.len()), (LONGEST, LONGEST));
    let layout = host.image("long", &image(&file, &dir));
    limited(&["install", &layout.reference]).ok();
    limited(&["verify"]).ok();
    let at = |path: &str| host.at(&format!("var/lib/bedplate/containers/long/1/rootfs/{path}"));
    fs::remove_file(at(&file)).unwrap();
    fs::set_permissions(at(&dir), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(limited(&["verify"]).status, 1);
    limited(&["repair"]).ok();
    limited(&["verify"]).ok();
    assert_eq!(fs::read_to_string(at(&file)).unwrap(), "long\n");
    let meta = at(&dir).metadata().unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o750, 7));
    fs::write(at(&file), "damaged\n").unwrap();
    limited(&["repair"]).ok();
    limited(&["verify"]).ok();
    limited(&["df"]).ok();
    limited(&["uninstall", "long"]).ok();
    limited(&["prune"]).ok();
    assert_no_garbage(&host);

    let (file, dir) = (long("f", LONGEST + 1), long(name, LONGEST + 1));
    for (path, image) in [(&file, image(&file, "d")), (&dir, image("f", &dir))] {
        let layout = host.image("longer", &image);
        let error = format!(
            "error: importing `{}`: layer {}: entry `{path}`: its name is longer than {LONGEST} bytes",
            layout.reference, layout.layer
        );
        host.refused(&["install", &layout.reference], &error);
    }
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

/// Ten gigabytes in ten megabytes: reading ends at the limit, and nothing of it stays on the disk.
#[test]
fn a_bomb() {
    let host = Host::new();
    let kept = host.image_of("kept", PLAIN);
    host.ok(&["install", &kept.reference]);
    host.put(
        "etc/bedplate/bedplate.toml",
        "[store]\nlayer_limit = \"64M\"\n",
    );
    let before = du(&host);
    let layout = Image::write_zeros(&host.beside("bomb"), "opt/zeros", 10 * GIB);
    let said = host.fails(&["install", &layout.reference]);
    let error = format!(
        "layer {}: entry `opt/zeros`: it unpacks to more than 67108864 bytes",
        layout.layer
    );
    assert!(said.contains(&error), "{said}");
    assert!(du(&host) - before < 1 << 20);
    host.ok(&["prune"]);
    assert_no_garbage(&host);
}

/// Whatever the size of a file, there is less of it in memory than this.
#[test]
fn a_file_larger_than_memory() {
    const MEMORY: u64 = 128 << 20;
    let host = Host::new();
    let layout = Image::write_zeros(&host.beside("large"), "opt/zeros", 4 * MEMORY);
    let run = install_within(MEMORY, &host, &layout.reference);
    // All of it has been read.
    assert!(
        run.failed(1).contains("its content has the diff_id"),
        "{run:?}"
    );
    host.ok(&["prune"]);
    assert_no_garbage(&host);
}

/// Whatever waits to be written, of however many layers at once, the same holds.
#[test]
fn layers_larger_than_memory() {
    // Skopeo's threads alone have a hundred.
    const MEMORY: u64 = 256 << 20;
    const MIB: usize = 1 << 20;
    let host = Host::new();
    let layer = |number: u8| {
        let image = if number == 3 {
            Image::new(PLAIN)
        } else {
            Image::default()
        };
        (0..200_u8).fold(image, |image, n| {
            let mut content = vec![number; MIB];
            content[MIB / 2] = n;
            image.file(&format!("opt/{number}/{n}"), content)
        })
    };
    let layout = Image::write_each((0..4).map(layer), &host.beside("large"));
    install_within(MEMORY, &host, &layout.reference).ok();
    let rootfs = host.at("var/lib/bedplate/containers/large/1/rootfs/opt");
    let found = files(&rootfs);
    assert_eq!(found.len(), 800);
    let whole = |file: &Path| file.metadata().unwrap().size() == MIB as u64;
    assert!(found.iter().all(|file| whole(file)));
    host.ok(&["verify"]);
}

/// As GNU tar writes them, in each of its forms.
#[test]
fn sparse_files() {
    let host = Host::new();
    let dir = host.beside("sparse");
    fs::create_dir_all(dir.join("opt")).unwrap();
    let file = fs::File::create(dir.join("opt/sparse")).unwrap();
    file.set_len(10 * GIB).unwrap();
    for form in [
        &["--format=gnu"][..],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ] {
        let archive = tar(&dir, form);
        assert!(archive.len() < 1 << 20);
        let layout = Image::write_archive(&host.beside("image"), &archive);
        let error = format!(
            "error: importing `{}`: layer {}: entry `opt/sparse`: sparse files are not supported\n\
             hint: build the image anew without `--sparse` of tar",
            layout.reference, layout.layer
        );
        host.refused(&["install", &layout.reference], &error);
    }
}

/// GNU tar's archive of the `opt` in a directory.
fn tar(dir: &Path, options: &[&str]) -> Vec<u8> {
    let archive = dir.join("archive");
    let mut command = Command::new("tar");
    command
        .args(["--create", "--sparse", "--file"])
        .arg(&archive)
        .args(options)
        .arg("--directory")
        .args([dir, Path::new("opt")]);
    process::run(&mut command).ok();
    fs::read(archive).unwrap()
}
