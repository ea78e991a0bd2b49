//! Images of real layouts, through the real skopeo, into a store and out again.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a panic is a test failure; tests look from outside"
)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use bedplate::image::reference::ImageRef;
use bedplate::image::remote;
use bedplate::progress::{Event, Report};
use bedplate::root::Root;
use bedplate::store::{Store, StoredImage};

/// A temporary root with a store, and an OCI layout beside it.
struct Host {
    dir: tempfile::TempDir,
    store: Store,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        let root = Root::open(&dir.path().join("root")).unwrap();
        let store = Store::open(&root).unwrap();
        Self { dir, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn reference(&self, tag: &str) -> ImageRef {
        let layout = self.path("layout");
        format!("oci:{}:{tag}", layout.display()).parse().unwrap()
    }

    fn import(&self, tag: &str) -> anyhow::Result<(StoredImage, Vec<Event>)> {
        let events = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&events);
        let report = Report::new(move |event| sink.lock().unwrap().push(event));
        let image = remote::open(&self.reference(tag))?;
        let stored = self.store.import(image, &report)?;
        Ok((stored, std::mem::take(&mut *events.lock().unwrap())))
    }

    /// An image of two layers, made by umoci of what the scripts do in the unpacked rootfs.
    fn make(&self, tag: &str, scripts: &[&str]) {
        let layout = self.path("layout");
        if !layout.exists() {
            run("umoci", &["init", "--layout", layout.to_str().unwrap()]);
        }
        let image = format!("{}:{tag}", layout.display());
        run("umoci", &["new", "--image", &image]);
        for (number, script) in scripts.iter().enumerate() {
            let bundle = self.path(&format!("bundle-{tag}-{number}"));
            let bundle = bundle.to_str().unwrap();
            run("umoci", &["unpack", "--image", &image, bundle]);
            run("sh", &["-ec", &format!("cd {bundle}/rootfs; {script}")]);
            for (path, name, value) in XATTRS.iter().filter(|_| script == &LOWER) {
                let path = format!("{bundle}/rootfs/{path}");
                rustix::fs::lsetxattr(path, *name, value, rustix::fs::XattrFlags::empty()).unwrap();
            }
            run("umoci", &["repack", "--image", &image, bundle]);
        }
    }
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {said}");
}

const LOWER: &str = "
    mkdir -p etc usr/bin opt/gone opt/opaque var/empty;
    echo one > etc/one; echo two > etc/two; ln etc/one etc/one-again;
    ln -s usr/bin bin; echo tool > usr/bin/tool; chmod 4755 usr/bin/tool; chown 7:8 usr/bin/tool;
    chmod 1777 var/empty; chown 9:9 var/empty; ln -s nowhere var/dangling; chown -h 5:6 var/dangling;
    echo gone > opt/gone/file; echo hidden > opt/opaque/file; : > etc/zero; : > etc/zero2;
    head -c 3000000 /dev/zero > opt/large; mkfifo var/fifo";

/// Values with newlines and NUL bytes; the capability is cap_net_raw+ep.
const XATTRS: &[(&str, &str, &[u8])] = &[
    ("usr/bin/tool", "user.note", b"\n\0\n"),
    ("var/empty", "user.dir", b"yes"),
    (
        "usr/bin/tool",
        "security.capability",
        b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    ),
];

const UPPER: &str = "
    rm -r opt/gone etc/two; rm -r opt/opaque; mkdir opt/opaque; echo new > opt/opaque/new;
    rm etc/one; mkdir etc/one; echo in > etc/one/in; rm bin; mkdir bin; echo real > bin/tool;
    chmod 700 opt; ln etc/one-again usr/linked";

#[test]
fn an_image_is_what_umoci_unpacks() {
    let host = Host::new();
    host.make("two", &[LOWER, UPPER]);
    let (stored, events) = host.import("two").unwrap();
    assert_eq!(stored.diff_ids.len(), 2);
    assert_eq!(stored.index_digest, stored.manifest_digest);
    let begun = events
        .iter()
        .filter(|e| matches!(e, Event::LayerBegin { .. }));
    assert_eq!(begun.count(), 2);

    run(
        "umoci",
        &[
            "unpack",
            "--image",
            &format!("{}:two", host.path("layout").display()),
            host.path("umoci").to_str().unwrap(),
        ],
    );
    let checkout = host.store.checkout(&stored, host.dir.path()).unwrap();
    let mut expected = listing(&host.path("umoci/rootfs"));
    // A FIFO is no object of OSTree's.
    expected.remove("var/fifo").unwrap();
    assert_eq!(listing(checkout.dir()), expected);

    let private = checkout.dir().parent().unwrap().to_owned();
    checkout.keep(&host.path("kept")).unwrap();
    assert!(!private.exists());
    assert_eq!(listing(&host.path("kept")), expected);
    let links = |path: &str| fs::metadata(host.path("kept").join(path)).unwrap().ino();
    assert_eq!(links("etc/one-again"), links("usr/linked"));
}

#[test]
fn what_is_known_is_not_fetched() {
    let host = Host::new();
    host.make("one", &[LOWER]);
    let (stored, events) = host.import("one").unwrap();
    let digest = stored.manifest_digest.clone();
    assert_eq!(host.store.find(&digest).unwrap(), Some(stored.clone()));
    assert!(events.iter().any(|e| matches!(e, Event::Note(note)
        if note.ends_with("1 of its files are left out, for the store keeps no devices, FIFOs or sockets: `var/fifo`"))));

    // The same image again, then another one above the same layer.
    let (again, events) = host.import("one").unwrap();
    assert_eq!((again, events), (stored.clone(), Vec::new()));
    let layout = host.path("layout");
    let (one, three) = (format!("{}:one", layout.display()), "three");
    let bundle = host.path("bundle");
    run(
        "umoci",
        &["unpack", "--image", &one, bundle.to_str().unwrap()],
    );
    fs::write(bundle.join("rootfs/etc/three"), "3").unwrap();
    let image = format!("{}:{three}", layout.display());
    run("umoci", &["tag", "--image", &one, three]);
    run(
        "umoci",
        &["repack", "--image", &image, bundle.to_str().unwrap()],
    );
    let (above, events) = host.import(three).unwrap();
    assert_eq!(above.diff_ids[0], stored.diff_ids[0]);
    let begun = events
        .iter()
        .filter(|e| matches!(e, Event::LayerBegin { .. }));
    assert_eq!(begun.count(), 1);

    host.store.remove_image(&digest).unwrap();
    host.store.remove_image(&digest).unwrap();
    assert_eq!(host.store.find(&digest).unwrap(), None);
    let (back, events) = host.import("one").unwrap();
    assert_eq!((back, events), (stored, Vec::new()));
}

/// Each path with its mode, owner, extended attributes, and content or target.
fn listing(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let what = if meta.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
            "dir".to_owned()
        } else if meta.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else if meta.is_file() {
            String::from_utf8(fs::read(&path).unwrap()).unwrap()
        } else {
            "other".to_owned()
        };
        let xattrs: Vec<_> = ["user.note", "user.dir", "security.capability"]
            .iter()
            .filter_map(|name| {
                let mut value = Vec::new();
                let length = rustix::fs::lgetxattr(&path, *name, &mut [0; 64][..]).ok()?;
                value.resize(length, 0);
                rustix::fs::lgetxattr(&path, *name, &mut value[..]).ok()?;
                Some((name, value))
            })
            .collect();
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let line = format!(
            "{:o} {}:{} {xattrs:?} {what}",
            meta.mode(),
            meta.uid(),
            meta.gid()
        );
        found.insert(name, line);
    }
    found
}
