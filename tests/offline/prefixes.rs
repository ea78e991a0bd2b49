//! A crash after every change: the program ends right after each system call that changes the host outside of the
//! object store and the staging directory, each step of the journal among them, and at random ones inside of the two.
//! Then the host is as before or as after, whole, with nothing left over. On the way a reader sees one or the other.
//!
//! A verb is an entry of [`VERBS`]. `make check-crash` (`BEDPLATE_POINTS`) takes every change, else a sample is taken;
//! `BEDPLATE_SEED` gives others.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use rustix::fs::{CWD, Gid, Uid, XattrFlags};
use serde_json::Value;

use crate::crash::{host, random, seed};
use crate::host::{Host, Listing, assert_same};
use crate::layout::{Image, Layout, PLAIN};
use crate::process;
use crate::store::{assert_whole, files, repo};
use crate::tracer::{self, Change};

/// How many changes of each verb a sample takes, outside and inside.
const SAMPLE: (usize, usize) = (5, 1);

/// How many inside of the store and the staging directory are taken of each verb otherwise.
const INSIDE: usize = 50;

/// A verb that changes the host.
struct Verb {
    name: &'static str,
    /// What the host is like before.
    prepare: fn(&Host, &Images),
    args: fn(&Images) -> Vec<&str>,
    /// Whether it is one transaction; else each generation is there or not.
    is_whole: bool,
}

const VERBS: &[Verb] = &[
    Verb {
        name: "install",
        prepare: |host, images| {
            host.ok(&["install", &images.kept.reference]);
        },
        args: |images| {
            vec![
                "install",
                &images.etcd.reference,
                &images.flanneld.reference,
            ]
        },
        is_whole: true,
    },
    Verb {
        name: "uninstall",
        prepare: |host, images| {
            all_installed(host, images);
        },
        args: |_| vec!["uninstall", "etcd", "flanneld"],
        is_whole: true,
    },
    Verb {
        name: "update",
        prepare: |host, images| {
            host.ok(&["install", &images.kept.reference]);
            let [etcd, flanneld] = images.version("one");
            host.ok(&["install", &etcd.reference, &flanneld.reference]);
            changed_by_the_operator(host);
            images.version("two");
        },
        args: |_| vec!["update", "etcd", "flanneld"],
        is_whole: true,
    },
    Verb {
        name: "rollback",
        prepare: |host, images| {
            let [etcd, flanneld] = images.version("one");
            host.ok(&["install", &etcd.reference, &flanneld.reference]);
            images.version("two");
            host.ok(&["update", "etcd", "flanneld"]);
            changed_by_the_operator(host);
        },
        args: |_| vec!["rollback", "etcd"],
        is_whole: true,
    },
    Verb {
        name: "recover from an install",
        prepare: |host, images| {
            host.ok(&["install", &images.kept.reference]);
            let install = [
                "install",
                &images.etcd.reference,
                &images.flanneld.reference,
            ];
            cut_short(
                host,
                &install,
                "etc/systemd/system.attached/flanneld.service",
            );
        },
        args: |_| vec!["recover"],
        is_whole: true,
    },
    Verb {
        name: "recover from an uninstall",
        prepare: |host, images| {
            all_installed(host, images);
            cut_short(host, &["uninstall", "etcd", "flanneld"], "etc/tmpfiles.d");
        },
        args: |_| vec!["recover"],
        is_whole: true,
    },
    Verb {
        name: "prune",
        prepare: |host, images| {
            let first = [&images.kept, &images.etcd, &images.flanneld];
            let references = first.map(|image| image.reference.as_str());
            host.ok(&[&["install"], &references[..]].concat());
            host.ok(&["uninstall", "etcd", "flanneld"]);
            for number in 2..=4 {
                crate::prune::generation(host, "kept", number);
            }
        },
        args: |_| vec!["prune"],
        is_whole: false,
    },
];

/// What is installed; on disk until it is dropped.
struct Images {
    dir: tempfile::TempDir,
    kept: Layout,
    etcd: Layout,
    flanneld: Layout,
}

impl Images {
    fn write() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let kept = Image::new(PLAIN).file("usr/share/both", "both\n".repeat(5000));
        let [etcd, flanneld] = set("").map(|(name, image)| image.write(&dir.path().join(name)));
        Self {
            kept: kept.write(&dir.path().join("kept")),
            etcd,
            flanneld,
            dir,
        }
    }

    /// A version of the set, under references that every version has.
    fn version(&self, version: &str) -> [Layout; 2] {
        let dir = self.dir.path().join("versions");
        set(version).map(|(name, image)| image.write(&dir.join(name)))
    }
}

/// A set of two with everything that an install writes: units, links, order drop-ins for the host's unit as well,
/// host files of several owners in directories of their own. The kept one shares half of its content with them.
fn set(version: &str) -> [(&'static str, Image); 2] {
    [
        ("etcd", "provides = ['store']"),
        ("flanneld", "requires = ['store']"),
    ]
    .map(|(name, order)| {
        let manifest = format!("contract = 1\n[service]\nbefore = ['cri']\n{order}\n");
        let etc = format!("exports/hostfs/etc/{name}");
        let image = Image::new(&manifest)
            .file(&format!("{etc}/{name}.conf"), format!("x {version}\n"))
            .file(&format!("{etc}/more/a"), format!("y {version}\n"))
            .file(&format!("{etc}/only{version}/b"), "z\n")
            .symlink(&format!("{etc}/link"), &format!("more/a{version}"))
            .dir(&format!("{etc}/owned"), 0o750, 7)
            .file("exports/tmpfiles.hbs", "d /run/x 0755 root root -\n")
            .file("usr/share/own", format!("{name} {version}\n").repeat(2000))
            .file("usr/share/both", "both\n".repeat(5000));
        (name, image)
    })
}

/// Host files with an owner, a mode and an attribute of the operator's, and one with another content.
fn changed_by_the_operator(host: &Host) {
    let path = host.at("etc/flanneld/flanneld.conf");
    rustix::fs::chownat(
        CWD,
        &path,
        Some(Uid::from_raw(12)),
        Some(Gid::from_raw(13)),
        rustix::fs::AtFlags::empty(),
    )
    .unwrap();
    rustix::fs::chmod(&path, 0o640.into()).unwrap();
    for path in [&path, &host.at("etc/systemd/system.attached/etcd.service")] {
        rustix::fs::setxattr(path, "user.note", b"mine", XattrFlags::empty()).unwrap();
    }
    host.put("etc/etcd/more/a", "the operator's\n");
}

/// Runs the program and ends it right after the change of this path.
fn cut_short(host: &Host, args: &[&str], path: &str) {
    let path = host.at(path);
    let run = tracer::run(host, args, &mut |change| change.paths.contains(&path));
    assert!(run.is_none(), "{run:?}");
}

/// A host as it may be after a crash.
struct State {
    listing: Listing,
    /// How many files the store holds when `prune` has been there, and their bytes.
    stored: (usize, u64),
}

impl State {
    fn of(host: &Host) -> Self {
        let listing = host.listing();
        host.ok(&["prune"]);
        Self {
            listing,
            stored: stored(host),
        }
    }
}

fn stored(host: &Host) -> (usize, u64) {
    let files = files(&repo(host));
    let bytes = files
        .iter()
        .map(|file| fs::symlink_metadata(file).unwrap().size());
    (files.len(), bytes.sum())
}

/// The set beside one that stays, and what an operator does to a host.
fn all_installed(host: &Host, images: &Images) {
    host.ok(&["install", &images.kept.reference]);
    host.ok(&[
        "install",
        &images.etcd.reference,
        &images.flanneld.reference,
    ]);
    changed_by_the_operator(host);
}

fn copy(of: &Host) -> Host {
    let host = Host::new();
    let root = of.root().join(".");
    let (from, to) = (root.to_str().unwrap(), host.root());
    process::tool("cp", &["-a", from, to.to_str().unwrap()]);
    host
}

/// Where a change is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The host, with bedplate's own directory but for what follows.
    Outside,
    /// The object store and the staging directory.
    Inside,
    /// Not on the host.
    Elsewhere,
}

fn place(host: &Host, change: &Change) -> Place {
    let own = host.at("var/lib/bedplate");
    let here = |path: &PathBuf| {
        if !path.starts_with(host.root()) {
            return Place::Elsewhere;
        }
        let is_inside = ["repo", "staging"].iter().any(|dir| {
            let dir = own.join(dir);
            path.starts_with(&dir) && *path != dir
        });
        if is_inside {
            Place::Inside
        } else {
            Place::Outside
        }
    };
    let places: Vec<_> = change.paths.iter().map(here).collect();
    [Place::Outside, Place::Inside]
        .into_iter()
        .find(|place| places.contains(place))
        .unwrap_or(Place::Elsewhere)
}

/// Whether it is one of those by which containers come and go.
fn is_own(host: &Host, change: &Change) -> bool {
    let (own, journal) = (
        host.at("var/lib/bedplate/containers"),
        host.at("var/lib/bedplate/journal/transaction"),
    );
    change
        .paths
        .iter()
        .any(|path| path.ends_with("current") || path.parent() == Some(&own) || *path == journal)
}

/// What a reader is told of each container: what changes at the commit, and not before or after.
fn list(host: &Host) -> Vec<String> {
    let listed: Value = serde_json::from_str(&host.ok(&["list", "--json"])).unwrap();
    let containers = listed.as_array().unwrap().iter();
    let told = ["name", "generation", "image", "digest"];
    containers
        .map(|container| told.map(|key| container[key].to_string()).join(" "))
        .collect()
}

/// Whether every change is wanted.
fn is_full() -> bool {
    std::env::var_os("BEDPLATE_POINTS").is_some()
}

/// Changes that are not on the host and no business of it: what skopeo remembers of where blobs were, and what a
/// test redirects.
fn is_known_elsewhere(path: &Path) -> bool {
    path.starts_with("/var/lib/containers/cache") || path.to_string_lossy().ends_with(" (deleted)")
}

/// What a run to the end changed.
#[derive(Default)]
struct Changes {
    /// On the host outside of the store, in order.
    outside: Vec<Seen>,
    /// How many inside.
    inside: usize,
    elsewhere: BTreeSet<PathBuf>,
}

/// A change, told so that it is the same on every host.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen(String);

impl Seen {
    fn new(host: &Host, change: &Change) -> Self {
        let root = host.root();
        let paths = change
            .paths
            .iter()
            .map(|path| match path.strip_prefix(&root) {
                Ok(path) => format!(" /{}", path.display()),
                Err(_) => format!(" {}", path.display()),
            });
        Self(format!("{}{}", change.call, paths.collect::<String>()))
    }
}

/// Where a run is to end.
#[derive(Clone, Copy, Debug)]
enum Point {
    /// After so many changes outside.
    Outside(usize),
    /// After so many inside.
    Inside(usize),
}

/// A verb with what it is held against.
struct Tried<'a> {
    verb: &'a Verb,
    images: &'a Images,
    pattern: Host,
    old: State,
    new: State,
    changes: Changes,
}

impl<'a> Tried<'a> {
    /// Runs the verb once, to its end.
    fn new(verb: &'a Verb, images: &'a Images) -> Self {
        let pattern = host();
        (verb.prepare)(&pattern, images);
        let (old, new) = (copy(&pattern), copy(&pattern));
        let mut changes = Changes::default();
        let mut lists = vec![list(&new)];
        let run = tracer::run(&new, &(verb.args)(images), &mut |change| {
            match place(&new, change) {
                Place::Outside => {
                    // It holds the lock, and stands still until this reader has ended.
                    if is_full() || is_own(&new, change) {
                        lists.push(list(&new));
                    }
                    changes.outside.push(Seen::new(&new, change));
                }
                Place::Inside => changes.inside += 1,
                Place::Elsewhere => changes.elsewhere.extend(change.paths.iter().cloned()),
            }
            false
        });
        run.unwrap().ok();
        lists.push(list(&new));
        println!("{}: looked at {} times meanwhile", verb.name, lists.len());
        lists.dedup();
        assert!(lists.len() <= 2, "{}: {lists:#?}", verb.name);
        for path in &changes.elsewhere {
            assert!(is_known_elsewhere(path), "{}", path.display());
        }
        Self {
            verb,
            images,
            old: State::of(&old),
            new: State::of(&new),
            pattern,
            changes,
        }
    }

    /// Ends the verb at a point, and looks at what the next command makes of it; whether the host is as after it.
    fn ends_at(&self, point: Point) -> bool {
        let host = copy(&self.pattern);
        let (mut outside, mut inside, mut last) = (0, 0, None);
        let run = tracer::run(&host, &(self.verb.args)(self.images), &mut |change| {
            match place(&host, change) {
                Place::Outside => outside += 1,
                Place::Inside => inside += 1,
                Place::Elsewhere => return false,
            }
            last = Some(Seen::new(&host, change));
            match point {
                Point::Outside(count) => outside == count,
                Point::Inside(count) => inside == count,
            }
        });
        assert!(run.is_none(), "it was not met: {run:?}");
        if let Point::Outside(count) = point {
            assert_eq!(last.as_ref(), self.changes.outside.get(count - 1));
        }
        let other = copy(&host);
        host.ok(&["recover"]);
        assert_eq!(host.ok(&["recover"]), "nothing to recover\n");
        let is_new = self.is_new(&host.listing());
        host.ok(&["verify", "--all-images"]);
        host.ok(&["prune"]);
        self.is_tidy(&host, is_new);
        // Any other command that writes does the same first.
        other.ok(&["prune"]);
        self.is_tidy(&other, is_new);
        if !is_new {
            // What was cut short is no obstacle to a second try.
            other.ok(&(self.verb.args)(self.images));
            assert_same(&self.new.listing, &other.listing());
        }
        is_new
    }

    /// Whether the host is as after the verb; if it is neither that nor as before, this fails.
    fn is_new(&self, found: &Listing) -> bool {
        if self.verb.is_whole {
            let is_new = *found == self.new.listing;
            if !is_new {
                assert_same(&self.old.listing, found);
            }
            return is_new;
        }
        // Of each generation all is there, or nothing.
        let generation = |path: &Path| path.components().take(6).collect::<PathBuf>();
        let gone: BTreeSet<_> = self
            .old
            .listing
            .keys()
            .filter(|path| !found.contains_key(*path))
            .map(|path| generation(path))
            .collect();
        let mut expected = self.old.listing.clone();
        expected.retain(|path, _| !gone.contains(&generation(path)));
        assert_same(&expected, found);
        *found == self.new.listing
    }

    /// When `prune` has been there, the host takes what it did before or does after.
    fn is_tidy(&self, host: &Host, is_new: bool) {
        let state = if is_new || !self.verb.is_whole {
            &self.new
        } else {
            &self.old
        };
        assert_same(&state.listing, &host.listing());
        assert_eq!(stored(host), state.stored);
        assert_whole(host);
    }

    fn points(&self) -> Vec<Point> {
        let (outside, inside) = (self.changes.outside.len(), self.changes.inside);
        let mut state = seed();
        let mut some = |count: usize, of: usize| -> Vec<usize> {
            let part = |i: usize| (i * of / count, (i + 1) * of / count);
            (0..count.min(of))
                .map(part)
                .map(|(from, to)| 1 + from + at(random(&mut state), to - from))
                .collect()
        };
        let (count, inside) = if is_full() {
            ((1..=outside).collect(), some(INSIDE, inside))
        } else {
            (some(SAMPLE.0, outside), some(SAMPLE.1, inside))
        };
        let outside = count.into_iter().map(Point::Outside);
        outside
            .chain(inside.into_iter().map(Point::Inside))
            .collect()
    }
}

/// A whole number below `of`, or 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "small numbers"
)]
fn at(part: f64, of: usize) -> usize {
    ((part * of as f64) as usize).min(of.saturating_sub(1))
}

#[test]
fn a_crash_after_every_change() {
    let images = Images::write();
    let mut all = 0;
    for verb in VERBS {
        let tried = Tried::new(verb, &images);
        let steps = (tried.changes.outside.iter())
            .filter(|seen| **seen == Seen("write /var/lib/bedplate/journal/transaction".into()));
        println!(
            "{}: {} changes, {} of them lines of the journal; inside {}",
            verb.name,
            tried.changes.outside.len(),
            steps.count(),
            tried.changes.inside
        );
        let points = tried.points();
        let count = points.len();
        let (mut ends, lost) = tried.at_all(points);
        println!("points: {count}, lost: {} ({})", lost.len(), verb.name);
        all += count;
        assert!(lost.is_empty(), "{lost:?}");
        // Before the commit it is undone, after it finished: there is one such moment.
        ends.sort_unstable();
        assert!(ends.is_sorted_by_key(|(_, is_new)| *is_new), "{ends:?}");
    }
    println!("points: {all}, lost: 0 (after every change)");
}

impl Tried<'_> {
    /// Tries the points in two threads: after how many changes the host was as after the verb, and what was lost.
    fn at_all(&self, points: Vec<Point>) -> (Vec<(usize, bool)>, Vec<Point>) {
        let ahead = Mutex::new(points);
        let (ends, lost) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        let next = || ahead.lock().unwrap().pop();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while let Some(point) = next() {
                        let end = catch_unwind(AssertUnwindSafe(|| self.ends_at(point)));
                        match (end, point) {
                            (Ok(is_new), Point::Outside(at)) => {
                                ends.lock().unwrap().push((at, is_new));
                            }
                            (Ok(_), Point::Inside(_)) => {}
                            (Err(_), point) => {
                                println!("{}: lost after {}", self.verb.name, self.tell(point));
                                lost.lock().unwrap().push(point);
                            }
                        }
                    }
                });
            }
        });
        (ends.into_inner().unwrap(), lost.into_inner().unwrap())
    }

    fn tell(&self, point: Point) -> String {
        match point {
            Point::Outside(count) => format!("{point:?}: {}", self.changes.outside[count - 1].0),
            Point::Inside(_) => format!("{point:?}"),
        }
    }
}
