//! Images that cannot be had, or are not what they say.

use std::fs;
use std::net::Ipv4Addr;

use rustix::net::{AddressFamily, SocketAddrV4, SocketType};

use crate::host::Host;
use crate::layout::{Image, Layout, PLAIN};
use crate::namespace;
use crate::process::Run;
use crate::registry::{allow, registry};
use crate::store::names;

/// A host with a container that must outlive everything that fails beside it.
fn host() -> Host {
    let host = Host::new();
    let kept = host.image_of("kept", PLAIN);
    host.ok(&["install", &kept.reference]);
    host
}

#[test]
fn from_a_registry() {
    let host = host();
    registry().allow(&host);
    let layout = host.image_of("from-registry", PLAIN);
    let reference = registry().push(&layout, "group/etcd:3.5");
    let said = host.ok(&["install", &reference]);
    assert_eq!(
        said,
        format!(
            "etcd: installed (generation 1, {})\n  privilege: runs as root\n  privilege: host network\n",
            layout.digest
        )
    );
}

#[test]
fn registry_down() {
    let host = host();
    // Bound and not listening: nobody else gets this port, and a connection is refused.
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = rustix::net::getsockname(&socket).unwrap();
    let address = std::net::SocketAddr::try_from(address).unwrap().to_string();
    allow(&host, &address);
    let image = format!("docker://{address}/etcd:3.5");
    let said = host.fails(&["install", &image]);
    // What stands between is skopeo's own.
    let ours = format!("error: opening `{image}`: ");
    let remedy =
        "connection refused\nhint: check that the registry runs and can be reached from here";
    assert!(said.starts_with(&ours) && said.ends_with(remedy), "{said}");
}

#[test]
fn unknown_image() {
    let host = host();
    registry().allow(&host);
    let address = &registry().address;
    let layout = host.image_of("known", PLAIN);
    registry().push(&layout, "unknown-image/known:1");
    let hint = "hint: check the name and the tag: `skopeo list-tags docker://REPOSITORY` shows which there are";
    for name in ["unknown-image/known:2", "unknown-image/other:1"] {
        let image = format!("docker://{address}/{name}");
        let said = host.fails(&["install", &image]);
        let (error, remedy) = said.split_once('\n').unwrap();
        assert!(
            error.starts_with(&format!("error: opening `{image}`: ")),
            "{said}"
        );
        assert!(error.contains("manifest unknown"), "{said}");
        assert_eq!(remedy, hint);
    }
    host.refused(
        &["install", "oci:/nowhere/etcd:1"],
        "error: opening `oci:/nowhere/etcd:1`: lstat /nowhere: no such file or directory",
    );
    let image = format!("{}-other", layout.reference);
    let error = format!(
        "error: opening `{image}`: no descriptor found for reference \"latest-other\"\n\
         hint: check the tag: the layout's index.json lists which there are"
    );
    host.refused(&["install", &image], &error);
}

const NO_POLICY: &str = "hint: install the package with the signature policy (Debian `golang-github-containers-common`, \
    elsewhere `containers-common`) or write /etc/containers/policy.json; this one refuses all but one registry: \
    {\"default\":[{\"type\":\"reject\"}],\"transports\":{\"docker\":{\"registry.example\":[{\"type\":\"insecureAcceptAnything\"}]}}}";

const REFUSED: &str = "rejected by policy\n\
    hint: the signature policy in /etc/containers/policy.json does not allow this image: see containers-policy.json(5)";

#[test]
fn no_policy() {
    let host = host();
    let etcd = host.image_of("etcd", PLAIN);
    host.unchanged(|| {
        let run = namespace::with_policy(&host, None, &["install", &etcd.reference]);
        let (error, remedy) = run.failed(1).split_once('\n').unwrap();
        let ours = format!("error: opening `{}`: ", etcd.reference);
        assert!(error.starts_with(&ours) && error.contains("/etc/containers/policy.json"));
        assert_eq!(remedy, NO_POLICY);
    });
}

#[test]
fn refused_by_policy() {
    let host = host();
    let etcd = host.image_of("etcd", PLAIN);
    host.unchanged(|| {
        let policy = r#"{"default":[{"type":"reject"}]}"#;
        let run = namespace::with_policy(&host, Some(policy), &["install", &etcd.reference]);
        let said = run.failed(1);
        let ours = format!("error: opening `{}`: ", etcd.reference);
        assert!(said.starts_with(&ours) && said.ends_with(REFUSED), "{said}");
    });
}

#[test]
fn digest_mismatch() {
    let host = host();
    registry().allow(&host);
    let good = Image::new(PLAIN).file("opt/unique", "digest mismatch, from the registry");
    let layout = host.image("flipped", &good);
    let reference = registry().push(&layout, "flipped:1");
    flip(&registry().blob(&layout.layer));
    corrupted(&host.fails(&["install", &reference]), &reference, &layout);

    flip(&layout.layer_path());
    let said = host.fails(&["install", &layout.reference]);
    corrupted(&said, &layout.reference, &layout);

    // All digests are right but the diff_id, which the config alone has.
    let layout = host.image("other", &Image::new(PLAIN).file("opt/x", "one"));
    let image = Image::new(PLAIN).file("opt/x", "two");
    let lying_is = host.image("honest", &image).diff_id;
    let lying = image.write_as(&host.beside("lying"), &layout);
    let error = format!(
        "error: importing `{}`: layer {}: its content has the diff_id {}, the image's config says {}\n{DAMAGED}",
        lying.reference, lying.layer, lying_is, layout.diff_id
    );
    host.refused(&["install", &lying.reference], &error);
}

/// Checks the message about a blob that has not its digest; what stands between is skopeo's and the archive's.
fn corrupted(said: &str, reference: &str, layout: &Layout) {
    let layer = &layout.layer;
    let (error, remedy) = said.split_once('\n').unwrap();
    let ours = format!("error: importing `{reference}`: layer {layer}: ");
    assert!(error.starts_with(&ours), "{said}");
    assert!(
        error.contains(&format!("corrupted blob, expecting {layer}")),
        "{said}"
    );
    assert_eq!(remedy, DAMAGED);
}

const DAMAGED: &str =
    "hint: what the image's source holds is damaged: copy or push the image there again";

/// Changes a byte in the middle.
fn flip(path: &std::path::Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    fs::write(path, bytes).unwrap();
}

#[test]
fn truncated_layer() {
    let host = host();
    // The blob is shorter than its descriptor says.
    let image = Image::new(PLAIN).file("opt/big", "0123456789".repeat(10_000));
    let layout = host.image("short", &image);
    let bytes = fs::read(layout.layer_path()).unwrap();
    fs::write(layout.layer_path(), &bytes[..bytes.len() / 2]).unwrap();
    let said = host.fails(&["install", &layout.reference]);
    corrupted(&said, &layout.reference, &layout);

    // Every digest is right, the archive ends within a file.
    let layout = image.write_cut(&host.beside("cut"), 4000);
    let error = format!(
        "error: importing `{}`: layer {}: entry `opt/big`: the layer ends before its archive does",
        layout.reference, layout.layer
    );
    host.refused(&["install", &layout.reference], &error);
}

/// Every digest is right, and the compression is not at its end: within the archive, or with all of that read already.
#[test]
fn a_layer_cut_within_its_compression() {
    let host = host();
    let image = Image::new(PLAIN).file("opt/noise", noise(100_000));
    let half = |whole: usize| whole / 2;
    let nearly = |whole: usize| whole - 4;
    for (zstd, keep, said) in [
        (
            false,
            half as fn(usize) -> usize,
            "entry `opt/noise`: incomplete deflate stream",
        ),
        (false, nearly, "unexpected end of file"),
        (true, half, "incomplete frame"),
        (true, nearly, "incomplete frame"),
    ] {
        let cut = |layer: &mut Vec<u8>| layer.truncate(keep(layer.len()));
        let layout = image.write_spoilt(&host.beside("cut"), zstd, cut);
        let error = format!(
            "error: importing `{}`: layer {}: {said}",
            layout.reference, layout.layer
        );
        host.refused(&["install", &layout.reference], &error);
    }
}

/// Every digest is right, and behind the compressed archive is something that is none.
#[test]
fn garbage_behind_a_layer() {
    let host = host();
    for zstd in [false, true] {
        let name = format!("garbage-{zstd}");
        let image = Image::new(PLAIN).file("opt/name", &name);
        let garbage = |layer: &mut Vec<u8>| layer.extend_from_slice(b"garbage");
        let layout = image.write_spoilt(&host.beside(&name), zstd, garbage);
        let said = host.fails(&["install", &layout.reference]);
        println!("{said}");
        let error = format!(
            "error: importing `{}`: layer {}: ",
            layout.reference, layout.layer
        );
        assert!(said.starts_with(&error), "{said}");
        // Nothing behind it: so that was the reason.
        let layout = image.write_spoilt(&host.beside(&format!("good-{zstd}")), zstd, |_| ());
        host.ok(&["install", &layout.reference]);
    }
}

#[test]
fn layers_that_undo_one_another() {
    let host = host();
    let lowest = Image::bare()
        .file("opt/.wh..wh..opq", "")
        .file("opt/a/lost", "")
        .file("opt/b", "a file\n");
    let middle = Image::default()
        .file("opt/a", "a file\n")
        .dir("opt/b", 0o755, 0)
        .file("opt/b/lost", "");
    let upper = Image::new(PLAIN)
        .dir("opt/a", 0o755, 0)
        .file("opt/a/again", "")
        .file("opt/b", "a file again\n");
    let layout = host.image("undone", &upper.over(&middle.over(&lowest)));
    host.ok(&["install", &layout.reference]);
    let opt = host.at("var/lib/bedplate/containers/undone/1/rootfs/opt");
    assert_eq!(names(&opt), ["a", "b"]);
    assert_eq!(names(&opt.join("a")), ["again"]);
    assert_eq!(fs::read_to_string(opt.join("b")).unwrap(), "a file again\n");
    host.ok(&["verify"]);

    let image = Image::new(PLAIN).hardlink("opt/link", "opt/nowhere");
    let layout = host.image("nowhere", &image);
    let error = format!(
        "error: importing `{}`: layer {}: entry `opt/link`: it is a hard link to `opt/nowhere`, which is no file of \
         the image",
        layout.reference, layout.layer
    );
    host.refused(&["install", &layout.reference], &error);
}

#[test]
fn hostile_entries() {
    let host = host();
    for (name, image, entry) in [
        (
            "dots",
            Image::bare().file("opt/../../etc/cron.d/x", "x"),
            "`opt/../../etc/cron.d/x`: its name has a `..` component",
        ),
        (
            "absolute",
            Image::bare().file("/etc/cron.d/x", "x"),
            "`/etc/cron.d/x`: its name is absolute",
        ),
        (
            "link",
            Image::bare()
                .symlink("opt", "/etc")
                .file("opt/cron.d/x", "x"),
            "`opt/cron.d/x`: its parent `opt` is a symbolic link",
        ),
    ] {
        let layout = host.image(name, &image);
        let error = format!(
            "error: importing `{0}`: layer {1}: entry {entry}",
            layout.reference, layout.layer
        );
        host.refused(&["install", &layout.reference], &error);
    }
}

#[test]
fn full_disk() {
    let host = Host::new();
    let small = host.image_of("small", PLAIN);
    // Each block four times: it looks as if there were room, and there is not.
    let blocks = noise(2 << 20);
    let blocks = blocks.chunks(4096).flat_map(|block| block.repeat(4));
    let bytes: Vec<_> = blocks.collect();
    let large = host.image("large", &Image::new(PLAIN).file("opt/noise", bytes));
    let run = on_six_megabytes(&host, &small, &large);
    let error = format!(
        "error: importing `{}`: layer {}: entry `opt/noise`: writing to the store: No space left on device (os error 28)\n\
         hint: free space on the file system of `{}`: `bedplate prune` removes what nobody needs",
        large.reference,
        large.layer,
        host.at("var/lib/bedplate/repo").display()
    );
    assert_eq!(run.failed(1), error);
}

/// What cannot fit is not begun, also where nothing is known of it but its size.
#[test]
fn no_room() {
    let host = Host::new();
    let small = host.image_of("small", PLAIN);
    let large = Image::new(PLAIN).file("opt/noise", noise(8 << 20));
    let large = host.image("large", &large);
    let run = on_six_megabytes(&host, &small, &large);
    let error = run.failed(1).to_owned();
    let begin = format!(
        "error: importing `{}`: it needs at least 8.",
        large.reference
    );
    let end = format!(
        " MB are free\nhint: free space on the file system of `{}`: `bedplate prune` removes what nobody needs",
        host.at("var/lib/bedplate/repo").display()
    );
    assert!(
        error.starts_with(&begin) && error.ends_with(&end),
        "{error}"
    );
    assert!(!run.stderr.contains("fetching"), "{}", run.stderr);
}

/// Installs the small image, which must stay as it is, and the large one on a disk of 6 MB.
fn on_six_megabytes(host: &Host, small: &Layout, large: &Layout) -> Run {
    let run = namespace::script(
        host,
        "mkdir -p $ROOT/var/lib/bedplate
        mount -t tmpfs -o size=6m,mode=700 none $ROOT/var/lib/bedplate
        bedplate install --root=$ROOT $1 >/dev/null 2>&1
        find $ROOT \\( -name repo -o -name staging \\) -prune -o -print >$ROOT/../before
        status=0
        bedplate install --root=$ROOT $2 || status=$?
        find $ROOT \\( -name repo -o -name staging \\) -prune -o -print >$ROOT/../after
        bedplate show --json --root=$ROOT small >$ROOT/../shown
        exit $status",
        &[&small.reference, &large.reference],
    );
    let read = |name: &str| fs::read_to_string(host.beside(name)).unwrap();
    assert_eq!(read("before"), read("after"));
    assert!(read("shown").contains(&small.digest));
    run
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length);
    let mut counter = 0_u64;
    while bytes.len() < length {
        bytes.extend_from_slice(&openssl::sha::sha256(&counter.to_le_bytes()));
        counter += 1;
    }
    bytes
}

/// What is made in a rootfs is made anew: its files are the store's, shared by all containers.
#[test]
fn a_mount_target_is_never_written_into_the_store() {
    let host = Host::new();
    let shared = "shared by both\n";
    let one = host.image("one", &Image::bare().file("usr/lib/data", shared));
    let other = Image::bare().file("etc/.hosts.bedplate-tmp", shared);
    let other = host.image("other", &other);
    host.ok(&["install", &one.reference]);
    host.ok(&["install", &other.reference]);
    let rootfs = |name: &str| format!("var/lib/bedplate/containers/{name}/1/rootfs");
    assert_eq!(
        host.text(&format!("{}/usr/lib/data", rootfs("one"))),
        shared
    );
    assert_eq!(host.text(&format!("{}/etc/hosts", rootfs("other"))), "");
}
