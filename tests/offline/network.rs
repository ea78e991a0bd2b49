//! Registries and networks that fail: what is tried again, what is not, and what need not be fetched again.

use std::fmt::Write;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrV4, SocketType};
use serde_json::Value;

use crate::damage::{flip, object, well, with_content};
use crate::host::Host;
use crate::layout::{Image, Layout, PLAIN};
use crate::process::{self, DEADLINE};
use crate::registry::{allow, registry};
use crate::wire::{Fault, Wire};

/// A host that gives a silent registry a few seconds: more than a busy machine is silent for.
fn host() -> Host {
    let host = Host::new();
    host.put("etc/bedplate/bedplate.toml", "[network]\ntimeout = 5\n");
    host
}

/// Bytes that do not compress, others for each seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length);
    let mut counter = seed << 32;
    while bytes.len() < length {
        bytes.extend_from_slice(&openssl::sha::sha256(&counter.to_le_bytes()));
        counter += 1;
    }
    bytes
}

/// An image with a layer of about 300 kB, pushed; its layout and its reference through the wire.
fn pushed(host: &Host, wire: &Wire, name: &str, seed: u64) -> (Layout, String) {
    let image = Image::new(PLAIN).file("opt/noise", noise(seed, 300_000));
    let layout = host.image(name, &image);
    registry().push(&layout, name);
    (layout, wire.reference(name))
}

/// An image of so many layers of about 100 kB, pushed; its layout and its reference through the wire.
fn layered(host: &Host, wire: &Wire, name: &str, seeds: std::ops::Range<u64>) -> (Layout, String) {
    let layer = |seed: u64| Image::default().file(&format!("opt/{seed}"), noise(seed, 100_000));
    let lowest = Image::new(PLAIN).file("opt/lowest", noise(seeds.start, 100_000));
    let image = (seeds.start + 1..seeds.end).fold(lowest, |below, seed| layer(seed).over(&below));
    let layout = host.image(name, &image);
    registry().push(&layout, name);
    (layout, wire.reference(name))
}

/// A name, whether it happens to the manifest and not to a layer, what happens, and what the note says: by which of two
/// skopeos asks for the manifest first.
type Passing = (&'static str, bool, Fault, &'static [&'static str]);

const PASSING: &[Passing] = &[
    ("reset", false, Fault::Reset(100_000), &[RESET]),
    ("early", false, Fault::Reset(0), &[RESET]),
    ("closed", false, Fault::Close(200_000), &["unexpected EOF"]),
    ("stalled", false, Fault::Stall(100_000), &[SILENT]),
    (
        "silent",
        true,
        Fault::Stall(0),
        &[SILENT, "context deadline exceeded"],
    ),
    (
        "internal",
        false,
        Fault::Status(500, ""),
        &["500 (Internal Server Error)"],
    ),
    ("gateway", true, Fault::Status(502, ""), &["502"]),
];

const RESET: &str = "connection reset by peer";
const SILENT: &str = "no answer and no data for 5 seconds";

#[test]
fn what_passes_is_tried_again() {
    let host = host();
    let wire = Wire::new(&host);
    for ((name, at_manifest, fault, said), seed) in PASSING.iter().zip(1..) {
        let (layout, reference) = pushed(&host, &wire, name, seed);
        wire.mend();
        let part = if *at_manifest {
            "/manifests/".to_owned()
        } else {
            layout.layer.clone()
        };
        wire.spoil(&part, *fault, 1);
        let run = host.run(&["install", &reference]);
        let notes: Vec<_> = run
            .stderr
            .lines()
            .filter(|l| l.starts_with("note: "))
            .collect();
        assert_eq!(notes.len(), 1, "{name}: {}", run.stderr);
        assert!(
            said.iter().any(|said| notes[0].contains(said))
                && notes[0].contains("; attempt 2 of 5 in "),
            "{name}: {}",
            notes[0]
        );
        run.ok();
        assert_eq!(
            wire.requests(&layout.layer).len(),
            if *at_manifest { 1 } else { 2 },
            "{name}"
        );
    }
}

/// A skopeo with a stream that hangs is ended, whatever else it is reading: that is read again too.
#[test]
fn a_layer_that_stalls_beside_another() {
    let host = host();
    let wire = Wire::new(&host);
    let lower = Image::bare().file("opt/lower", noise(15, 300_000));
    let upper = Image::new(PLAIN).file("opt/upper", noise(16, 300_000));
    let (layout, lower) = upper.write_over(&lower, &host.beside("two"));
    registry().push(&layout, "two");
    wire.spoil(&layout.layer, Fault::Stall(100_000), 1);
    wire.spoil(&lower, Fault::Stall(200_000), 2);
    host.ok(&["install", &wire.reference("two")]);
    for (path, seed) in [("opt/lower", 15), ("opt/upper", 16)] {
        let path = host
            .at("var/lib/bedplate/containers/two/1/rootfs")
            .join(path);
        assert!(fs::read(path).unwrap() == noise(seed, 300_000));
    }
    assert!(wire.requests(&lower).len() <= 5 && wire.requests(&layout.layer).len() <= 5);
}

/// skopeo waits as it is told to, and bedplate does not see it, unless it takes longer than a registry may be silent.
#[test]
fn too_many_requests() {
    let host = Host::new();
    let wire = Wire::new(&host);
    let (layout, reference) = pushed(&host, &wire, "busy", 20);
    // Without that header it waits two seconds.
    wire.spoil(&layout.layer, Fault::Status(429, "Retry-After: 3\r\n"), 1);
    let run = host.run(&["install", &reference]);
    assert!(!run.stderr.contains("note: "), "{}", run.stderr);
    run.ok();
    let requests = wire.requests(&layout.layer);
    assert_eq!(requests.len(), 2);
    let waited = requests[1].at - requests[0].at;
    assert!(waited >= Duration::from_millis(2900), "{waited:?}");
    let host = self::host();
    let wire = Wire::new(&host);
    let (layout, reference) = pushed(&host, &wire, "busier", 21);
    wire.spoil(&layout.layer, Fault::Status(429, "Retry-After: 600\r\n"), 1);
    let run = host.run(&["install", &reference]);
    let again = format!("{SILENT}; attempt 2 of 5 in ");
    assert!(run.stderr.contains(&again), "{}", run.stderr);
    run.ok();
    assert_eq!(wire.requests(&layout.layer).len(), 2);
}

/// `repair` fetches as a pull does.
#[test]
fn a_repair_is_tried_again() {
    let host = host();
    let wire = Wire::new(&host);
    let (layout, reference) = pushed(&host, &wire, "repaired", 25);
    host.ok(&["install", "--name", "etcd", &reference]);
    // A file of the layer; and its list of entries, for which all of the layer is written anew.
    for damaged in [
        object(&host, "opt/noise"),
        with_content(&host, b"{\"format\":"),
    ] {
        flip(&damaged);
        wire.mend();
        wire.spoil(&layout.layer, Fault::Reset(100_000), 1);
        let run = host.run(&["repair"]);
        let note = format!("note: layer {}: ", layout.layer);
        let again = format!("{RESET}; attempt 2 of 5 in ");
        let told = |line: &&str| line.starts_with(&note) && line.contains(&again);
        assert_eq!(run.stderr.lines().filter(told).count(), 1, "{run:?}");
        run.ok();
        assert_eq!(wire.requests(&layout.layer).len(), 2);
        well(&host);
    }
}

#[test]
fn what_stays_is_not_tried_again() {
    let host = host();
    let wire = Wire::new(&host);
    for (seed, name, fault, said) in [
        (
            30,
            "flipped",
            Fault::Flip,
            "corrupted blob, expecting DIGEST",
        ),
        (
            31,
            "forbidden",
            Fault::Status(403, ""),
            "invalid status code from registry 403 (Forbidden)",
        ),
        (
            32,
            "gone",
            Fault::Status(404, ""),
            "invalid status code from registry 404 (Not Found)",
        ),
    ] {
        let (layout, reference) = pushed(&host, &wire, name, seed);
        wire.spoil(&layout.layer, fault, 9);
        let error = host.fails(&["install", &reference]);
        let error = error.replace(&layout.layer, "DIGEST");
        let ours = format!("error: importing `{reference}`: layer DIGEST: ");
        assert!(
            error.starts_with(&ours) && error.contains(said),
            "{name}: {error}"
        );
        assert_eq!(wire.requests(&layout.layer).len(), 1, "{name}");
    }
}

#[test]
fn attempts_end() {
    let host = host();
    let wire = Wire::new(&host);
    let (layout, reference) = pushed(&host, &wire, "never", 40);
    wire.spoil(&layout.layer, Fault::Close(10), 99);
    let run = host.run(&["install", &reference]);
    let error = format!(
        "error: importing `{reference}`: layer {}: given up after 5 attempts: unexpected EOF",
        layout.layer
    );
    assert_eq!(run.failed(1), error);
    assert_eq!(wire.requests(&layout.layer).len(), 5);
}

/// What is in the store is not opened again, let alone fetched.
#[test]
fn nothing_new_is_one_request() {
    let host = host();
    let wire = Wire::new(&host);
    let (_, reference) = pushed(&host, &wire, "same", 50);
    host.ok(&["install", &reference]);
    wire.mend();
    let said = host.ok(&["install", &reference]);
    assert_eq!(
        said,
        "same: already installed with this image and these values (generation 1)\n"
    );
    assert_eq!(wire.requests("/blobs/").len(), 0);
    assert_eq!(wire.requests("/manifests/").len(), 1);
}

/// A layer that is known by its diff_id is not fetched, however it is compressed.
#[test]
fn known_under_another_compression() {
    let host = Host::new();
    let wire = Wire::new(&host);
    let image = Image::new(PLAIN).file("opt/noise", noise(55, 300_000));
    let gzip = host.image("as-gzip", &image);
    let zstd = image.write_zstd(&host.beside("as-zstd"));
    assert_eq!(gzip.diff_id, zstd.diff_id);
    for (layout, name) in [(&gzip, "as-gzip"), (&zstd, "as-zstd")] {
        // Else skopeo may take the blob of which it knows that it has the same content.
        registry().push_with(&layout.reference, name, &["--preserve-digests"]);
        host.ok(&["install", &wire.reference(name)]);
        let rootfs = host.at(&format!("var/lib/bedplate/containers/{name}/1/rootfs"));
        assert!(fs::read(rootfs.join("opt/noise")).unwrap() == noise(55, 300_000));
    }
    assert!(registry().blob(&zstd.layer).exists());
    assert_eq!(wire.requests(&gzip.layer).len(), 1);
    assert_eq!(wire.requests(&zstd.layer).len(), 0);
}

/// A running `install` and the lines of its stderr.
struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

fn start(host: &Host, args: &[&str]) -> Running {
    let mut child = host
        .command(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let (send, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            let _test_is_over = send.send(line);
        }
    });
    Running { child, lines }
}

#[test]
fn a_killed_pull_keeps_its_complete_layers() {
    let host = Host::new();
    let wire = Wire::new(&host);
    let lower = Image::bare().file("opt/lower", noise(60, 300_000));
    let upper = Image::new(PLAIN).file("opt/upper", noise(61, 300_000));
    let (layout, lower) = upper.write_over(&lower, &host.beside("killed"));
    registry().push(&layout, "killed");
    let reference = wire.reference("killed");
    let size = |digest: &str| fs::metadata(registry().blob(digest)).unwrap().len();
    wire.spoil(&layout.layer, Fault::Stall(100_000), 9);
    let mut running = start(&host, &["pull", &reference]);
    let stored = format!("stored layer {}", &lower[..19]);
    while running.lines.recv_timeout(DEADLINE).unwrap() != stored {}
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    assert_eq!(wire.bytes(&lower), size(&lower));
    wire.mend();
    host.ok(&["install", &reference]);
    assert_eq!(wire.requests(&lower).len(), 0);
    assert_eq!(wire.bytes(&layout.layer), size(&layout.layer));
}

#[test]
fn layers_are_fetched_side_by_side() {
    let host = Host::new();
    let wire = Wire::new(&host);
    let (layout, reference) = layered(&host, &wire, "beside", 63..66);
    assert_eq!(layout.layers.len(), 3);
    for layer in &layout.layers {
        wire.spoil(layer, Fault::Stall(1000), 9);
    }
    let mut running = start(&host, &["pull", &reference]);
    // One after another, the next would begin when this client has gone.
    layout.layers.iter().for_each(|_| wire.wait_until_stalled());
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    wire.mend();
    host.ok(&["install", &reference]);
}

/// Nobody waits for a registry that is silent when bedplate is gone.
#[test]
fn skopeo_ends_with_a_killed_pull() {
    let host = Host::new();
    let wire = Wire::new(&host);
    let (layout, reference) = pushed(&host, &wire, "orphan", 62);
    wire.spoil(&layout.layer, Fault::Stall(1000), 9);
    let mut running = start(&host, &["pull", &reference]);
    wire.wait_until_stalled();
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    wire.wait_until_gone();
}

/// A server that swallows what is sent to it: its queue is full, and it takes nobody out.
struct Swallows {
    address: String,
    _queue: Vec<OwnedFd>,
}

impl Swallows {
    fn new() -> Self {
        let socket = || rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None);
        let server = socket().unwrap();
        rustix::net::bind(&server, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
        rustix::net::listen(&server, 0).unwrap();
        let address = rustix::net::getsockname(&server).unwrap();
        let address = std::net::SocketAddr::try_from(address).unwrap();
        let mut queue = vec![server];
        // The queue has room for one. Others hang in the middle of their connecting.
        for _ in 0..3 {
            let client = socket().unwrap();
            rustix::io::ioctl_fionbio(&client, true).unwrap();
            let _hangs = rustix::net::connect(&client, &address);
            queue.push(client);
        }
        Self {
            address: address.to_string(),
            _queue: queue,
        }
    }
}

/// A server that accepts connections and never says anything.
struct Mute {
    address: String,
    _listens: TcpListener,
}

impl Mute {
    fn new() -> Self {
        // It is the kernel that accepts them.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self {
            address: listener.local_addr().unwrap().to_string(),
            _listens: listener,
        }
    }
}

/// Gives a registry or a repository mirrors, each with whether plain HTTP is allowed.
fn mirror(host: &Host, prefix: &str, mirrors: &[(&str, bool)]) {
    let mut text = format!("[[registry]]\nlocation = \"{prefix}\"\ninsecure = true\n");
    for (location, insecure) in mirrors {
        let entry = format!("location = \"{location}\"\ninsecure = {insecure}");
        writeln!(text, "[[registry.mirror]]\n{entry}").unwrap();
    }
    let conf = host.beside("home/.config/containers/registries.conf.d");
    // After those that allow the registries of the tests: the last one counts.
    fs::write(conf.join("mirrors.conf"), text).unwrap();
}

/// Each of skopeo's processes would wait a minute for each dead mirror, and two where plain HTTP is allowed.
#[test]
fn dead_mirrors_cost_three_seconds_once() {
    let host = Host::new();
    let wire = Wire::new(&host);
    let images = [("mirrored", 80..84), ("mirrored-too", 84..88)];
    let images = images.map(|(name, seeds)| layered(&host, &wire, name, seeds));
    assert!(images.iter().all(|(layout, _)| layout.layers.len() == 4));
    let swallows = [Swallows::new(), Swallows::new()];
    let mutes = [Mute::new(), Mute::new()];
    let dead = [
        (swallows[0].address.as_str(), false),
        (swallows[1].address.as_str(), true),
        (mutes[0].address.as_str(), false),
        (mutes[1].address.as_str(), true),
    ];
    let listed = dead.map(|(address, _)| format!("`{address}`")).join(", ");
    let note = format!("note: no answer from {listed} within 3 s: left out of this pull");
    // The better of two, without mirrors and with them: a busy machine may be slow once.
    let mut took = [Duration::MAX; 2];
    for at in [0, 1, 0, 1] {
        let host = Host::new();
        allow(&host, &wire.address);
        mirror(&host, &wire.address, &dead[..4 * at]);
        let began = Instant::now();
        let run = host.run(&["install", &images[0].1, &images[1].1]);
        took[at] = took[at].min(began.elapsed());
        let lines = run.stderr.lines();
        let notes: Vec<_> = lines.filter(|line| line.starts_with("note: ")).collect();
        // Once for each image.
        assert_eq!(notes, vec![note.as_str(); 2 * at], "{}", run.stderr);
        run.ok();
    }
    println!("without mirrors and with four dead ones: {took:?}");
    let cost = took[1].saturating_sub(took[0]);
    assert!(cost < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_mirror_behind_a_dead_one_is_used() {
    for dead in [&Swallows::new().address, &Mute::new().address] {
        let host = Host::new();
        let (wire, live) = (Wire::new(&host), Wire::new(&host));
        let (layout, reference) = pushed(&host, &wire, "mirrored-live", 88);
        mirror(&host, &wire.address, &[(dead, true), (&live.address, true)]);
        let began = Instant::now();
        host.ok(&["install", &reference]);
        let took = began.elapsed();
        // skopeo would wait a minute for its answer.
        assert!(took < Duration::from_secs(30), "{took:?}");
        assert_eq!(wire.requests("/").len(), 0);
        assert_eq!(live.requests(&layout.layer).len(), 1);
    }
}

/// What cannot be left out is told of.
#[test]
fn a_dead_mirror_of_just_this_repository() {
    let host = Host::new();
    let wire = Wire::new(&host);
    let (_, reference) = pushed(&host, &wire, "mirrored-exactly", 90);
    let name = format!("{}/mirrored-exactly", wire.address);
    let mute = Mute::new();
    let dead = format!("{}/mirrored-exactly", mute.address);
    mirror(&host, &name, &[(&dead, true)]);
    let mut running = start(&host, &["pull", &reference]);
    let note = format!(
        "note: no answer from `{dead}` within 3 s; a drop-in for exactly `{name}` keeps it in use"
    );
    while running.lines.recv_timeout(DEADLINE).unwrap() != note {}
    running.child.kill().unwrap();
    running.child.wait().unwrap();
}

/// Whether one behind a proxy answers cannot be told, and that is said; others are knocked at as ever.
#[test]
fn mirrors_and_a_proxy() {
    let host = Host::new();
    let wire = Wire::new(&host);
    let (_, reference) = pushed(&host, &wire, "mirrored-through", 91);
    let mute = Mute::new();
    let mirrors = [(mute.address.as_str(), true), ("mirror.example", false)];
    mirror(&host, &wire.address, &mirrors);
    let mut install = host.command(&["install", &reference]);
    // One that refuses: nothing listens on that port of any machine that tests this.
    install.env("HTTPS_PROXY", "http://127.0.0.1:9");
    let run = process::run(&mut install);
    let lines = run.stderr.lines();
    let notes: Vec<_> = lines.filter(|line| line.starts_with("note: ")).collect();
    let dead = format!(
        "note: no answer from `{}` within 3 s: left out of this pull",
        mute.address
    );
    let through =
        "note: whether `mirror.example` answers is not known: connections to it go through a proxy";
    assert_eq!(notes, [through, &dead], "{}", run.stderr);
    run.ok();
}

#[test]
fn pull_then_install_without_a_network() {
    let host = host();
    let wire = Wire::new(&host);
    let (layout, reference) = pushed(&host, &wire, "kept", 70);
    let (_, other) = pushed(&host, &wire, "other", 71);
    let size = fs::metadata(layout.layer_path()).unwrap().len();
    let digest = &layout.digest;
    host.unchanged(|| {
        assert_eq!(
            host.ok(&["pull", "--dry-run", &reference]),
            format!("{reference}: would be kept ({digest}); 1 of 1 layers to fetch, {size} bytes\nnothing was changed\n")
        );
    });
    assert_eq!(wire.requests(&layout.layer).len(), 0);
    // Nothing is kept yet.
    host.refused(
        &["install", "--pull=never", &reference],
        &format!(
            "error: `{reference}` is not in the store\n\
             hint: `bedplate pull {reference}` brings it there; or give `--pull missing`"
        ),
    );
    assert_eq!(
        host.ok(&["pull", &reference, &other])
            .lines()
            .next()
            .unwrap(),
        format!("{reference}: kept ({digest}); 1 of 1 layers fetched, {size} bytes")
    );
    let again = host.ok(&["pull", "--json", &reference]);
    let again: Value = serde_json::from_str(&again).unwrap();
    assert_eq!(again["images"][0]["was_kept"], true);
    assert_eq!(again["images"][0]["fetched"], Value::Array(vec![]));
    // The registry is gone.
    wire.mend();
    wire.spoil("/", Fault::Status(404, ""), usize::MAX);
    host.ok(&["install", &reference, &other]);
    assert_eq!(wire.requests("/").len(), 0);
    host.ok(&["uninstall", "kept"]);
    host.ok(&["install", "--pull=never", &reference]);
    assert_eq!(wire.requests("/").len(), 0);
    let error = host.fails(&["install", "--pull=always", &reference]);
    assert!(
        error.starts_with(&format!("error: opening `{reference}`: ")),
        "{error}"
    );
}
