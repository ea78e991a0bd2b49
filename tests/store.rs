//! Images of real layouts, through the real skopeo, into a store and out again.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a panic is a test failure; tests look from outside"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use bedplate::image::access::Access;
use bedplate::image::platform::Platform;
use bedplate::image::reference::ImageRef;
use bedplate::image::remote;
use bedplate::image::resolve::resolve;
use bedplate::progress::{Event, Report};
use bedplate::root::Root;
use bedplate::store::settings::Settings;
use bedplate::store::{Store, StoredImage};
use serde_json::{Value, json};

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
        let store = Store::open(&root, Settings::default()).unwrap();
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
        let image = remote::open(&self.reference(tag), &Access::default())?;
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

/// Blobs and an index written by hand, for images that no tool would make.
struct Layout(PathBuf);

/// A layer to be written: the blob, its media type and the diff_id that the config claims.
struct Blob {
    data: Vec<u8>,
    kind: &'static str,
    diff_id: String,
}

const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

impl Layout {
    fn new(host: &Host) -> Self {
        let dir = host.path("layout");
        fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self(dir)
    }

    fn blob(&self, data: &[u8], kind: &str) -> Value {
        let digest = sha256(data);
        fs::write(self.0.join("blobs/sha256").join(&digest[7..]), data).unwrap();
        json!({"mediaType": kind, "digest": digest, "size": data.len()})
    }

    /// Writes an image for an architecture and returns its manifest's descriptor.
    fn image(&self, arch: &str, layers: &[Blob]) -> Value {
        let diff_ids: Vec<_> = layers.iter().map(|layer| &layer.diff_id).collect();
        let config = json!({"architecture": arch, "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config = self.blob(
            config.to_string().as_bytes(),
            "application/vnd.oci.image.config.v1+json",
        );
        let layers: Vec<_> = layers
            .iter()
            .map(|layer| self.blob(&layer.data, layer.kind))
            .collect();
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        let mut descriptor = self.blob(manifest.to_string().as_bytes(), MANIFEST);
        descriptor["platform"] = json!({"architecture": arch, "os": "linux"});
        descriptor
    }

    fn tag(&self, mut descriptor: Value) {
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": "tag"});
        let index = json!({"schemaVersion": 2, "manifests": [descriptor]});
        fs::write(self.0.join("index.json"), index.to_string()).unwrap();
    }

    /// Replaces a blob by another content under its old name.
    fn corrupt(&self, digest: &str, data: &[u8]) {
        fs::write(self.0.join("blobs/sha256").join(&digest[7..]), data).unwrap();
    }
}

fn sha256(data: &[u8]) -> String {
    let sum = openssl::sha::sha256(data);
    let hex: String = sum
        .iter()
        .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    format!("sha256:{hex}")
}

fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        // Names are written as they are.
        header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn plain(files: &[(&str, &str)]) -> Blob {
    let data = archive(files);
    let diff_id = sha256(&data);
    let kind = TAR;
    Blob {
        data,
        kind,
        diff_id,
    }
}

#[test]
fn every_compression_is_read() {
    let host = Host::new();
    let layout = Layout::new(&host);
    let zstd = |data: &[u8]| zstd::stream::encode_all(data, 0).unwrap();
    let gzip = |data: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    };
    let packed = |name: &str, kind, pack: &dyn Fn(&[u8]) -> Vec<u8>| {
        let data = archive(&[(name, name)]);
        let diff_id = sha256(&data);
        // Two members or frames, cut in the middle of the archive.
        let (front, back) = data.split_at(700);
        let data = [pack(front), pack(back)].concat();
        Blob {
            data,
            kind,
            diff_id,
        }
    };
    layout.tag(layout.image(
        "amd64",
        &[
            packed("plain", TAR, &<[u8]>::to_vec),
            packed("gzip", "application/vnd.oci.image.layer.v1.tar+gzip", &gzip),
            packed("zstd", "application/vnd.oci.image.layer.v1.tar+zstd", &zstd),
        ],
    ));
    let (stored, _) = host.import("tag").unwrap();
    let checkout = host.store.checkout(&stored, host.dir.path()).unwrap();
    let names: Vec<_> = listing(checkout.dir()).into_keys().collect();
    assert_eq!(names, ["", "gzip", "plain", "zstd"]);
}

#[test]
fn an_index_and_its_manifest_have_a_digest_each() {
    let host = Host::new();
    let layout = Layout::new(&host);
    let arch = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    let ours = layout.image(arch, &[plain(&[("ours", "1")])]);
    let other = layout.image("s390x", &[plain(&[("other", "1")])]);
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [other, ours]});
    let index = layout.blob(index.to_string().as_bytes(), INDEX);
    layout.tag(index.clone());
    let image = remote::open(&host.reference("tag"), &Access::default()).unwrap();
    assert_eq!(image.index_digest.to_string(), index["digest"]);
    assert_eq!(image.manifest_digest.to_string(), ours["digest"]);
    let stored = host.store.import(image, &Report::silent()).unwrap();
    assert_eq!(stored.index_digest.to_string(), index["digest"]);
    assert_eq!(
        host.store.find(&stored.manifest_digest).unwrap(),
        Some(stored)
    );
}

/// What is opened is what the reference names then, whatever it named when it was resolved.
#[test]
fn a_tag_that_moves_while_it_is_opened() {
    let host = Host::new();
    let layout = Layout::new(&host);
    layout.tag(layout.image("amd64", &[plain(&[("f", "old")])]));
    let silent = Report::silent();
    let reference = host.reference("tag");
    let resolved = resolve(&reference, &Access::default(), &silent).unwrap();
    let new = layout.image("amd64", &[plain(&[("f", "new")])]);
    layout.tag(new.clone());
    let image = remote::from_resolved(resolved, &silent).unwrap();
    assert_eq!(image.manifest_digest.to_string(), new["digest"]);
    assert_eq!(image.index_digest, image.manifest_digest);
    let stored = host.store.import(image, &silent).unwrap();
    // By now there is nothing to open.
    let resolved = resolve(&reference, &Access::default(), &silent).unwrap();
    assert_eq!(
        host.store.find_resolved(&resolved).unwrap(),
        Some(stored.clone())
    );
    assert_eq!(
        host.store
            .find_kept(&reference, &Platform::default())
            .unwrap(),
        None
    );
    host.store.keep(&stored).unwrap();
    host.store.remove_image(&stored.manifest_digest).unwrap();
    assert_eq!(
        host.store
            .find_kept(&reference, &Platform::default())
            .unwrap(),
        Some(stored.clone())
    );
    host.store.release(&stored.manifest_digest).unwrap();
    assert!(!host.store.is_kept(&stored.manifest_digest).unwrap());
}

/// The whole chain as it is printed, the temporary directory as `DIR`.
fn failure(host: &Host) -> String {
    let error = host.import("tag").unwrap_err();
    format!("{error:#}").replace(host.dir.path().to_str().unwrap(), "DIR")
}

#[test]
fn what_is_wrong_with_a_layer_is_said() {
    let two = || [plain(&[("good", "1")]), plain(&[("bad/../x", "1")])];
    // skopeo's words on a blob that is another one than its descriptor says, shorter, or longer.
    let corrupted = "layer DIGEST: corrupted blob, expecting DIGEST";
    for (change, error) in [
        (
            None,
            "layer DIGEST: entry `bad/../x`: its name has a `..` component",
        ),
        (Some(vec![b'x'; 2048]), corrupted),
        (Some(vec![0; 600]), corrupted),
        (Some(vec![0; 300_000]), corrupted),
        (Some(vec![]), corrupted),
    ] {
        let host = Host::new();
        let layout = Layout::new(&host);
        let layers = two();
        let digest = sha256(&layers[1].data);
        layout.tag(layout.image("amd64", &layers));
        if let Some(data) = change {
            layout.corrupt(&digest, &data);
        }
        let found = failure(&host).replace(&digest, "DIGEST");
        assert_eq!(found, format!("importing `oci:DIR/layout:tag`: {error}"));
        // The first layer may be there, if it was complete; nothing refers to the second.
        let refs = host.path("root/var/lib/bedplate/repo/refs/heads/bedplate");
        let kept = fs::read_dir(refs.join("pending")).map_or(0, Iterator::count);
        assert!(kept <= 1);
        assert!(!refs.join("layer").exists() && !refs.join("image").exists());
    }
}

#[test]
fn what_is_wrong_with_an_image_is_said() {
    let host = Host::new();
    let layout = Layout::new(&host);
    let mut wrong = plain(&[("f", "1")]);
    let diff_id = std::mem::replace(&mut wrong.diff_id, sha256(b"other"));
    let digest = sha256(&wrong.data);
    layout.tag(layout.image("amd64", &[wrong]));
    assert_eq!(
        failure(&host),
        format!(
            "importing `oci:DIR/layout:tag`: layer {digest}: its content has the diff_id {diff_id}, the image's config says {}",
            sha256(b"other")
        )
    );

    let mut packed = plain(&[("f", "1")]);
    packed.kind = "application/vnd.oci.image.layer.v1.tar+xz";
    layout.tag(layout.image("amd64", &[packed]));
    assert_eq!(
        failure(&host),
        format!(
            "importing `oci:DIR/layout:tag`: layer {digest}: its media type `application/vnd.oci.image.layer.v1.tar+xz` is not supported"
        )
    );

    // Through a link of a lower layer.
    let mut builder = tar::Builder::new(Vec::new());
    let mut link = tar::Header::new_ustar();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    builder.append_link(&mut link, "bin", "usr/bin").unwrap();
    let data = builder.into_inner().unwrap();
    let diff_id = sha256(&data);
    let upper = plain(&[("bin/sh", "1")]);
    let digest = sha256(&upper.data);
    layout.tag(layout.image(
        "amd64",
        &[
            Blob {
                data,
                kind: TAR,
                diff_id,
            },
            upper,
        ],
    ));
    assert_eq!(
        failure(&host),
        format!(
            "importing `oci:DIR/layout:tag`: layer {digest}: entry `bin/sh`: its parent `bin` is a symbolic link"
        )
    );
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
