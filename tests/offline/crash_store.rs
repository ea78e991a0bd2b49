//! SIGKILL at any moment of what writes to the store: nothing that was there is lost, and `prune` leaves no garbage.
//!
//! `make check-crash` takes more moments: `BEDPLATE_POINTS`, and others with `BEDPLATE_SEED`.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::crash::{killed, moments, seed};
use crate::df::noise;
use crate::host::{Host, Listing, assert_same};
use crate::layout::{Image, PLAIN};
use crate::process;
use crate::store::{assert_no_garbage, assert_whole, repo};

/// How many moments, unless `BEDPLATE_POINTS` says.
const POINTS: u32 = 30;

fn points() -> u32 {
    std::env::var("BEDPLATE_POINTS").map_or(POINTS, |points| points.parse().unwrap())
}

/// An image of four layers: small files, some that other layers have as well, empty ones, links, larger ones.
fn image(seed: u8) -> Image {
    let small = |image: Image, dir: &str| {
        (0..120).fold(image, |image, n| {
            image.file(&format!("{dir}/{}/{n}", n % 7), format!("{dir} {n}\n"))
        })
    };
    let base = small(Image::bare(), "usr/share").file("usr/lib/large", noise(1, 700_000));
    let second = small(Image::default(), "opt/first")
        .file("opt/empty", "")
        .over(&base);
    let third = small(Image::default(), "usr/share")
        .symlink("opt/link", "first")
        .over(&second);
    let top = small(Image::new(PLAIN), &format!("opt/{seed}"));
    top.file("usr/bin/it", noise(seed, 900_000)).over(&third)
}

/// What is killed: with the number of the point, which tells whoever kills several kinds which one, after so much time.
/// As [`killed`] it says after what time the thing ended, if it did.
type Attempt<'a> = dyn Fn(usize, Duration) -> Option<Duration> + Sync + 'a;

/// Tries a thing at many moments, in two threads; none may fail, and most must come before its end. The moments cover a
/// little more time than it takes undisturbed: the next one meets a busier machine. One that comes too late, as the
/// machine is less busy or it is another kind of thing, is taken again at the same part of the time that it did take.
fn at_moments(what: &str, undisturbed: Duration, attempt: &Attempt<'_>) {
    let (mut state, all) = (seed(), undisturbed.mul_f64(1.2));
    let moments = moments(points(), all, &mut state);
    let moments: Mutex<Vec<_>> = Mutex::new(moments.into_iter().enumerate().collect());
    let (lost, killed) = (Mutex::new(Vec::new()), AtomicU32::new(0));
    let once = |point, moment: Duration| {
        let ended = catch_unwind(AssertUnwindSafe(|| attempt(point, moment)));
        let ended = ended.unwrap_or_else(|_| {
            println!("{what}: lost after {moment:?}");
            lost.lock().unwrap().push(moment);
            None
        });
        killed.fetch_add(u32::from(ended.is_none()), Ordering::Relaxed);
        ended
    };
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some((point, moment)) = moments.lock().unwrap().pop() else {
                        return;
                    };
                    if let Some(took) = once(point, moment) {
                        once(point, took.mul_f64(moment.div_duration_f64(all)));
                    }
                }
            });
        }
    });
    let (lost, killed) = (lost.into_inner().unwrap(), killed.into_inner());
    println!(
        "points: {}, killed: {killed}, lost: {} ({what})",
        points(),
        lost.len()
    );
    assert!(lost.is_empty(), "{lost:?}");
    assert!(killed * 4 >= points() * 3, "too few came before the end");
}

/// How long a command takes on such a host, the second time: the first one finds little of what it needs in memory.
fn undisturbed(host: impl Fn() -> Host, args: &[&str]) -> Duration {
    let once = || {
        let host = host();
        let began = Instant::now();
        host.ok(args);
        began.elapsed()
    };
    once();
    once()
}

/// The files of a container.
fn rootfs(host: &Host, name: &str) -> Listing {
    let mut found = host.listing();
    let dir = format!("var/lib/bedplate/containers/{name}");
    found.retain(|path, _| path.starts_with(&dir));
    assert!(found.len() > 100, "{name}: {}", found.len());
    found
}

/// Whatever was cut short: the next command makes it good, and all is as if it had never been begun.
fn made_good(host: &Host) {
    host.ok(&["recover"]);
    // What nothing refers to yet need not be whole: verify looks at what is referred to, libostree at all there is.
    host.ok(&["verify", "--all-images"]);
    host.ok(&["prune"]);
    assert_whole(host);
    assert_no_garbage(host);
}

/// What libostree makes of a repository, in its order.
const MAKING: [&str; 9] = [
    "config",
    "tmp",
    "extensions",
    "state",
    "refs",
    "refs/heads",
    "refs/mirrors",
    "refs/remotes",
    "objects",
];

/// A command was killed while it made the repository.
#[test]
fn a_repository_half_made() {
    let pattern = Host::new();
    let layout = image(2).write(&pattern.beside("images/etcd"));
    pattern.ok(&["pull", &layout.reference]);
    for steps in [0, 1, 2, 7, MAKING.len()] {
        let host = Host::new();
        fs::create_dir_all(repo(&host)).unwrap();
        for name in &MAKING[..steps] {
            let path = repo(&host).join(name);
            if *name == "config" {
                fs::copy(repo(&pattern).join(name), path).unwrap();
            } else {
                fs::create_dir(path).unwrap();
            }
        }
        for args in [&["list"][..], &["df"], &["verify"], &["repair"]] {
            host.ok(args);
        }
        made_good(&host);
        host.ok(&["install", &layout.reference]);
        assert_whole(&host);
        assert_no_garbage(&host);
    }
}

/// The power went during an import: what was not yet on disk is zeros.
#[test]
fn a_pending_layer_of_zeros() {
    let host = Host::new();
    let layout = image(2).write(&host.beside("images/etcd"));
    host.ok(&["pull", &layout.reference]);
    let pending = repo(&host).join("refs/heads/bedplate/pending");
    let torn = [
        pending.join(layout.diff_id.replacen(':', "-", 1)),
        pending.join(format!("sha256-{}", "7".repeat(64))),
        repo(&host).join(format!("objects/77/{}.commit", "7".repeat(62))),
    ];
    let tear = || {
        for file in &torn {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, [0; 65]).unwrap();
        }
        fs::write(repo(&host).join("unsynced"), "another boot\n").unwrap();
    };
    for args in [
        &["images"][..],
        &["df"],
        &["verify", "--all-images"],
        &["doctor"],
        &["repair"],
        &["install", &layout.reference],
        &["prune"],
    ] {
        tear();
        host.ok(args);
    }
    made_good(&host);
    assert!(torn.iter().all(|file| !file.exists()));
}

#[test]
fn killed_while_importing() {
    let first = Host::new();
    let layout = image(2).write(&first.beside("images/etcd"));
    let args = ["install", layout.reference.as_str()];
    first.ok(&args);
    assert_whole(&first);
    let expected = rootfs(&first, "etcd");
    let pull = ["pull", layout.reference.as_str()];
    let undisturbed = undisturbed(Host::new, &args);
    at_moments("importing", undisturbed, &|point, moment| {
        let host = Host::new();
        let is_install = point.is_multiple_of(2);
        let ended = killed(&host, if is_install { &args } else { &pull }, moment);
        made_good(&host);
        // What the store kept is good for the next one.
        host.ok(&args);
        assert_same(&expected, &rootfs(&host, "etcd"));
        assert_whole(&host);
        assert_no_garbage(&host);
        ended
    });
}

#[test]
fn killed_while_pruning() {
    let first = Host::new();
    let write = |name: &str, seed: u8| image(seed).write(&first.beside("images").join(name));
    let (stays, goes) = (write("stays", 2), write("goes", 3));
    first.ok(&["install", &stays.reference, &goes.reference]);
    first.ok(&["uninstall", "goes"]);
    // The second is the one to go back to; the third is nobody's.
    for number in [2, 3] {
        crate::prune::generation(&first, "stays", number);
    }
    let copy = |of: &Host| {
        let host = Host::new();
        let root = of.root().join(".");
        let (from, to) = (root.to_str().unwrap(), host.root());
        process::tool("cp", &["-a", from, to.to_str().unwrap()]);
        host
    };
    let all = [1, 2, 3].map(|number| rootfs(&first, &format!("stays/{number}")));
    let undisturbed = undisturbed(|| copy(&first), &["prune"]);
    at_moments("pruning", undisturbed, &|_, moment| {
        let host = copy(&first);
        let ended = killed(&host, &["prune"], moment);
        assert_whole(&host);
        for (listing, number) in all.iter().zip(1..) {
            let dir = format!("stays/{number}");
            let is_there = host.at("var/lib/bedplate/containers").join(&dir).exists();
            assert!(is_there || number == 3, "{dir}");
            if is_there {
                assert_same(listing, &rootfs(&host, &dir));
            }
        }
        made_good(&host);
        host.ok(&["install", &goes.reference]);
        assert_whole(&host);
        assert_eq!(rootfs(&host, "goes/1").len(), all[0].len());
        ended
    });
}
