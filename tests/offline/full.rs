//! A disk that is full, at any point of an install: an error that says what to do, and nothing is lost.

use std::fs::{self, File};
use std::path::Path;

use rustix::fs::{FallocateFlags, StatVfs, fallocate, statvfs};

use crate::host::{Host, assert_same};
use crate::layout::{Image, Layout, PLAIN};
use crate::namespace::{self, Mounted};
use crate::store::{assert_no_garbage, du};

/// What there is too little of.
#[derive(Clone, Copy, Debug)]
enum Scarce {
    Bytes,
    Inodes,
}

impl Scarce {
    fn free(self, at: &Path) -> u64 {
        let found: StatVfs = statvfs(at).unwrap();
        match self {
            Self::Bytes => found.f_bfree * found.f_frsize,
            Self::Inodes => found.f_ffree,
        }
    }

    /// One more of it.
    fn unit(self) -> u64 {
        match self {
            Self::Bytes => 4096,
            Self::Inodes => 1,
        }
    }

    /// Leaves so much of it on the disk.
    fn leave(self, at: &Path, free: u64) {
        let dir = at.join("filler");
        fs::create_dir(&dir).unwrap();
        let filler = File::create(dir.join("0")).unwrap();
        let free = free / self.unit() * self.unit();
        let much = self.free(at).checked_sub(free).unwrap();
        match self {
            Self::Bytes => fallocate(&filler, FallocateFlags::empty(), 0, much).unwrap(),
            Self::Inodes => {
                for i in 1..=much {
                    File::create(dir.join(i.to_string())).unwrap();
                }
            }
        }
        assert_eq!(self.free(at), free);
    }

    /// Ends that.
    fn free_all(self, at: &Path) {
        let used = self.free(at);
        fs::remove_dir_all(at.join("filler")).unwrap();
        assert!(self.free(at) > used);
    }
}

/// An image of which nobody can tell by its blobs how much it needs: files small and large, and directories.
fn image(host: &Host) -> Layout {
    let lower = (0..200).fold(Image::bare(), |image, i| {
        image.file(
            &format!("usr/share/{}/{i}", i % 20),
            format!("{i}\n").repeat(500),
        )
    });
    let upper = (0..3_u8).fold(Image::new(PLAIN), |image, i| {
        image.file(&format!("opt/large/{i}"), vec![i; 1_100_000])
    });
    host.image("large", &upper.over(&lower))
}

#[test]
fn no_bytes_left_at_any_point() {
    if namespace::own("full::no_bytes_left_at_any_point") {
        at_any_point(Scarce::Bytes, &["-t", "tmpfs", "-o", "size=64m", "none"]);
    }
}

#[test]
fn no_inodes_left_at_any_point() {
    if namespace::own("full::no_inodes_left_at_any_point") {
        let options = ["-t", "tmpfs", "-o", "size=64m,nr_inodes=4000", "none"];
        at_any_point(Scarce::Inodes, &options);
    }
}

/// Installs an image with less room than it needs, in steps from none at all to enough.
fn at_any_point(scarce: Scarce, disk: &[&str]) {
    let host = Host::new();
    let root = host.root();
    let _mounted = Mounted::over(&root, disk);
    let kept = host.image_of("kept", PLAIN);
    let large = image(&host);
    host.ok(&["install", &kept.reference]);
    // The second time: some directories stay.
    let _first = need(&host, &large, scarce);
    let need = need(&host, &large, scarce);
    let (listing, on_disk) = (host.listing(), du(&host));
    let coarse = (0..8).map(|eighth| need * eighth / 8);
    // One by one where the last files are written, and the most that is needed at once is a bit more.
    let fine = (0..22).map(|more| need + more * scarce.unit() - 16 * scarce.unit());
    let mut ends = Vec::new();
    for free in coarse.chain(fine) {
        scarce.leave(&root, free);
        let run = host.run(&["install", &large.reference]);
        println!("{free} of {need}: {}\n{}", run.status, run.stderr);
        if run.status == 1 {
            let remedy = "`bedplate prune` removes what nobody needs";
            assert!(run.failed(1).ends_with(remedy));
            // On a disk that is full still.
            host.ok(&["verify"]);
            host.ok(&["prune"]);
            scarce.free_all(&root);
        } else {
            scarce.free_all(&root);
            // Status 3: it is done but for its last step.
            host.ok(&["recover"]);
            host.ok(&["verify"]);
            host.ok(&["uninstall", "large"]);
            host.ok(&["prune"]);
        }
        assert_same(&listing, &host.listing());
        assert_eq!(du(&host), on_disk);
        ends.push(run.status);
    }
    assert_eq!((&ends[..8], ends.last()), (&[1; 8][..], Some(&0)));
    host.ok(&["install", &large.reference]);
    host.ok(&["verify"]);
    assert_no_garbage(&host);
}

#[test]
fn no_bytes_left_while_updating() {
    if namespace::own("full::no_bytes_left_while_updating") {
        update_at_any_point(Scarce::Bytes, &["-t", "tmpfs", "-o", "size=64m", "none"]);
    }
}

/// Updates with less room than the new image needs: the old version is live, and the room is free again.
fn update_at_any_point(scarce: Scarce, disk: &[&str]) {
    let host = Host::new();
    let root = host.root();
    let _mounted = Mounted::over(&root, disk);
    let small = Image::new(PLAIN).file("exports/hostfs/etc/large.conf", "one\n");
    let layout = host.image("large", &small);
    host.ok(&["install", &layout.reference]);
    fs::remove_dir_all(&layout.dir).unwrap();
    image(&host);
    // What was tried is remembered where there is room for it.
    let live = || {
        let mut listing = host.listing();
        listing.retain(|path, _| !path.ends_with("lifecycle.toml"));
        listing
    };
    let back = || {
        host.ok(&["rollback", "large"]);
        let newest = host.ok(&["history", "large", "--json"]);
        let newest: serde_json::Value = serde_json::from_str(&newest).unwrap();
        let newest =
            newest["generations"].as_array().unwrap().last().unwrap()["generation"].clone();
        fs::remove_dir_all(host.at(&format!("var/lib/bedplate/containers/large/{newest}")))
            .unwrap();
        host.ok(&["prune"]);
    };
    let need = {
        let before = scarce.free(&root);
        host.ok(&["update", "large"]);
        before - scarce.free(&root)
    };
    back();
    let (listing, on_disk) = (live(), du(&host));
    let coarse = (0..8).map(|eighth| need * eighth / 8);
    let fine = (0..16).map(|more| need + more * scarce.unit() - 10 * scarce.unit());
    let mut ends = Vec::new();
    for free in coarse.chain(fine) {
        scarce.leave(&root, free);
        let run = host.run(&["update", "large", "--retry"]);
        println!("{free} of {need}: {}\n{}", run.status, run.stderr);
        if run.status == 1 {
            assert!(
                run.failed(1)
                    .ends_with("`bedplate prune` removes what nobody needs")
            );
            host.ok(&["verify"]);
            host.ok(&["prune"]);
            scarce.free_all(&root);
        } else {
            scarce.free_all(&root);
            host.ok(&["recover"]);
            host.ok(&["verify"]);
            back();
        }
        assert_same(&listing, &live());
        assert!(
            du(&host).abs_diff(on_disk) <= 8192,
            "{} is not {on_disk}",
            du(&host)
        );
        ends.push(run.status);
    }
    assert_eq!((&ends[..8], ends.last()), (&[1; 8][..], Some(&0)));
}

/// What an install needs for good, after which the image is gone again.
fn need(host: &Host, image: &Layout, scarce: Scarce) -> u64 {
    let before = scarce.free(&host.root());
    host.ok(&["install", &image.reference]);
    let need = before - scarce.free(&host.root());
    host.ok(&["uninstall", "large"]);
    host.ok(&["prune"]);
    need
}
