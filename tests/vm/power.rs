//! Power cuts: a disk whose every write and flush qemu writes down (blklogwrites). Replayed up to a point, without what
//! had not been flushed by then, or with a random part of that, it is the disk of a machine whose power went there.
//! What a command had done when it ended is there; what was under way is as before or as after.
//!
//! The same commands without their fsyncs are the control: what they did must be lost.
//! `make check-crash` (`BEDPLATE_POINTS`) takes more points, `BEDPLATE_SEED` others.

use std::env;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::guest::Suite;
use crate::host;
use crate::images;
use crate::qemu::Computer;
use crate::story::{Story, Told};

/// The stories of this file; they are the tier `machine`.
pub(crate) const STORIES: &[Told] = &[("machine-power", power)];

/// What is run, in this order; `IMAGES` is where the images lie.
const COMMANDS: &[&str] = &[
    "install oci:IMAGES/alpha:latest oci:IMAGES/beta:latest",
    "install oci:IMAGES/payload:latest",
    "update payload --rebase oci:IMAGES/payload-full:latest",
    "rollback payload",
    "uninstall alpha beta",
];

/// How many points of each kind a sample takes.
const SAMPLE: usize = 12;

/// What a command runs in that is to lose its fsyncs: they succeed and do nothing.
const WITHOUT_FSYNC: &str =
    "systemd-run --quiet --wait --pipe --property='SystemCallFilter=~@sync:0' ";

/// Mounts a disk, lets bedplate make good what was cut short, and writes what is on it but for the store; then installs
/// what lies in a directory, if one is named. Only this shell sees the mount.
const EXAMINE: &str = r#"
mount -o loop "$1" "$2"
bedplate() { "$BEDPLATE" --root="$root" "$@"; }
root=$2
bedplate recover >/dev/null
[[ $(bedplate recover) == 'nothing to recover' ]]
bedplate verify --all-images >/dev/null
if [[ -z $3 ]]; then
    bedplate prune >/dev/null
    bedplate verify --all-images >/dev/null
fi
cd "$2"
[[ ! -d var/lib/bedplate/containers ]] || rmdir --ignore-fail-on-non-empty var/lib/bedplate/containers
find . -path ./lost+found -prune -o -path ./var/lib/bedplate/repo -prune -o -path ./var/lib/bedplate/lock -prune -o \
    -printf '%P %y %m %U:%G %l\n' -type f -exec sha256sum {} +
cd /
if [[ -n $3 ]]; then
    bedplate install "oci:$3/alpha:latest" "oci:$3/beta:latest" >/dev/null
    bedplate verify --all-images >/dev/null
fi
umount "$2"
e2fsck -fn "$1" >/dev/null 2>&1
"#;

fn power(story: &Story) -> Result<()> {
    let mut machine = Computer::new(story, Suite::Trixie)?;
    let tree = story.dir().join("tree");
    host_root(&tree)?;
    for disk in ["kept", "lost"] {
        machine.add_logged_disk(disk, &tree)?;
    }
    machine.start()?;
    let kept = run_all(&mut machine, "kept", "")?;
    let lost = run_all(&mut machine, "lost", WITHOUT_FSYNC)?;
    machine.poweroff()?;

    let mut disk = Replay::new(story, machine.dir(), "kept")?;
    let states = disk.states(&kept)?;
    let points = points(&disk.log, &kept);
    let mut failures = Vec::new();
    for point in &points {
        if let Err(error) = disk.holds(*point, &kept, &states) {
            failures.push(format!("{point:?}: {error:#}"));
        }
    }
    host::say(&format!(
        "points: {}, lost: {} (power cuts)",
        points.len(),
        failures.len()
    ));
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    without_fsync(story, machine.dir(), &lost)
}

/// The control: at the end of each command, what it did is not all there.
fn without_fsync(story: &Story, dir: &Path, acks: &[Ack]) -> Result<()> {
    let mut disk = Replay::new(story, dir, "lost")?;
    let states = disk.states(acks)?;
    let mut lost = 0;
    for ack in acks {
        let point = Point {
            at: ack.ended,
            coin: None,
        };
        lost += usize::from(disk.holds(point, acks, &states).is_err());
    }
    host::say(&format!(
        "without fsync: points: {}, lost: {lost} (power cuts)",
        acks.len()
    ));
    ensure!(lost == acks.len(), "commands without fsync lose nothing");
    Ok(())
}

/// The least that a root for `--root` has.
fn host_root(tree: &Path) -> Result<()> {
    for dir in [
        "etc/systemd/system",
        "run",
        "usr/bin",
        "usr/lib/systemd",
        "var/lib/bedplate",
    ] {
        fs::create_dir_all(tree.join(dir))?;
    }
    fs::write(tree.join("usr/lib/systemd/libsystemd-shared-257.so"), "")?;
    fs::write(tree.join("usr/bin/crun"), "#!/bin/sh\n")?;
    host::output("chmod", &["755"], Some(&tree.join("usr/bin/crun")))?;
    host::output("chmod", &["700"], Some(&tree.join("var/lib/bedplate")))?;
    Ok(())
}

/// The end of a command, in entries of the log.
#[derive(Debug)]
struct Ack {
    /// When it had ended.
    ended: usize,
    /// When after that all had been written to the disk, by a sync(1).
    settled: usize,
}

/// Runs the commands on the disk of this name. Between them ext4 is left alone: it writes nothing for minutes that
/// nobody asks for.
fn run_all(machine: &mut Computer, disk: &str, with: &str) -> Result<Vec<Ack>> {
    machine.ok(&format!(
        "mkdir -p /mnt/{disk}
        mount -o commit=300 /dev/$(basename $(dirname $(grep -l -x {disk} /sys/block/*/serial))) /mnt/{disk}"
    ))?;
    let log = machine.dir().join(format!("{disk}.log"));
    let mut acks = Vec::new();
    for command in COMMANDS {
        let command = command.replace("IMAGES", &format!("/host{}", images::INSIDE));
        machine.ok(&format!(
            "{with}/usr/bin/bedplate --root=/mnt/{disk} {command} 2>&1"
        ))?;
        let ended = written(&log)?;
        machine.ok(&format!("sync --file-system /mnt/{disk}"))?;
        let settled = written(&log)?;
        acks.push(Ack { ended, settled });
    }
    machine.ok(&format!("umount /mnt/{disk}"))?;
    Ok(acks)
}

/// How many entries a log has.
fn written(log: &Path) -> Result<usize> {
    let mut head = [0; 24];
    File::open(log)?.read_exact(&mut head)?;
    Ok(usize::try_from(word(&head, 2))?)
}

fn word(bytes: &[u8], number: usize) -> u64 {
    let word = &bytes[number * 8..][..8];
    word.iter()
        .rev()
        .fold(0, |all, byte| all << 8 | u64::from(*byte))
}

/// An entry of dm-log-writes' format: sectors of 512 bytes.
#[derive(Debug)]
struct Entry {
    sector: u64,
    sectors: u64,
    flags: u64,
    /// Where in the log its content is.
    content: u64,
}

const SECTOR: u64 = 512;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;

struct Log {
    file: File,
    entries: Vec<Entry>,
}

impl Log {
    fn read(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        let mut entries = Vec::new();
        let mut at = SECTOR;
        for _ in 0..written(path)? {
            let mut head = [0; 32];
            file.read_exact_at(&mut head, at)?;
            let [sector, sectors, flags, _] = [0, 1, 2, 3].map(|n| word(&head, n));
            at += SECTOR;
            entries.push(Entry {
                sector,
                sectors,
                flags,
                content: at,
            });
            if flags & DISCARD == 0 {
                at += sectors * SECTOR;
            }
        }
        Ok(Self { file, entries })
    }

    /// Does to a disk what an entry did.
    fn apply(&self, entry: &Entry, disk: &File) -> Result<()> {
        if entry.flags & DISCARD != 0 || entry.sectors == 0 {
            return Ok(());
        }
        let mut content = vec![0; usize::try_from(entry.sectors * SECTOR)?];
        self.file.read_exact_at(&mut content, entry.content)?;
        Ok(disk.write_all_at(&content, entry.sector * SECTOR)?)
    }
}

/// When the power went: after so many entries of the log.
#[derive(Debug, Clone, Copy)]
struct Point {
    /// After so many entries.
    at: usize,
    /// What had not been flushed is gone; or by this seed some of it.
    coin: Option<u64>,
}

/// A log being replayed, forward only.
struct Replay {
    log: Log,
    /// What had been flushed by then.
    stable: PathBuf,
    flushed: usize,
    base: PathBuf,
    /// Where it is looked at.
    cut: PathBuf,
    place: PathBuf,
}

impl Replay {
    fn new(story: &Story, dir: &Path, name: &str) -> Result<Self> {
        let file = |kind: &str| dir.join(format!("{name}.{kind}"));
        let place = story.dir().join("examined");
        fs::create_dir_all(&place)?;
        let new = Self {
            log: Log::read(&file("log"))?,
            stable: file("stable"),
            flushed: 0,
            base: file("base"),
            cut: file("cut"),
            place,
        };
        copy(&new.base, &new.stable)?;
        Ok(new)
    }

    /// Goes to a point; back to the start for an earlier one.
    fn go_to(&mut self, point: Point) -> Result<()> {
        let (done, ahead) = self.log.entries.split_at(point.at);
        let _ = ahead;
        let flush = done.iter().rposition(|entry| entry.flags & FLUSH != 0);
        let flush = flush.map_or(0, |at| at + 1);
        if flush < self.flushed {
            copy(&self.base, &self.stable)?;
            self.flushed = 0;
        }
        let stable = File::options().write(true).open(&self.stable)?;
        for entry in &done[self.flushed..flush] {
            self.log.apply(entry, &stable)?;
        }
        self.flushed = flush;
        copy(&self.stable, &self.cut)?;
        let cut = File::options().write(true).open(&self.cut)?;
        let mut coin = point.coin;
        for entry in &done[flush..] {
            let stays = coin.as_mut().is_some_and(|state| next(state) & 1 == 1);
            if stays || entry.flags & FUA != 0 {
                self.log.apply(entry, &cut)?;
            }
        }
        Ok(())
    }

    /// What is on the disk at a point, after what was cut short has been made good.
    fn examine(&mut self, point: Point) -> Result<String> {
        self.go_to(point)?;
        let mut command = Command::new("timeout");
        command
            .args(["60", "unshare", "--mount", "--propagation", "private"])
            .args(["bash", "-euo", "pipefail", "-c", EXAMINE, "examine"])
            .args([&self.cut, &self.place])
            .arg(if point.coin.is_some() {
                images::small()?
            } else {
                Path::new("")
            })
            .env("BEDPLATE", host::BEDPLATE);
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {said}", output.status);
        let mut lines: Vec<_> = output.stdout.split(|byte| *byte == b'\n').collect();
        lines.sort_unstable();
        Ok(String::from_utf8_lossy(&lines.join(&b'\n')).into_owned())
    }

    /// What is on the disk before the first command, and when each had settled.
    fn states(&mut self, acks: &[Ack]) -> Result<Vec<String>> {
        let ends = std::iter::once(0).chain(acks.iter().map(|ack| ack.settled));
        let states: Result<Vec<_>> = ends
            .map(|at| self.examine(Point { at, coin: None }))
            .collect();
        let states = states.context("looking at what the commands left")?;
        let differ = states.windows(2).all(|two| two[0] != two[1]);
        ensure!(differ, "a command has left nothing");
        Ok(states)
    }

    /// What was acknowledged is there, and nothing is half there.
    fn holds(&mut self, point: Point, acks: &[Ack], states: &[String]) -> Result<()> {
        let found = self.examine(point)?;
        let ended = acks.iter().filter(|ack| ack.ended <= point.at).count();
        let begun = acks.iter().filter(|ack| ack.settled <= point.at).count() + 1;
        let allowed = &states[ended..=begun.min(acks.len())];
        ensure!(
            allowed.contains(&found),
            "neither as before nor as after; {ended} commands had ended: {found}"
        );
        Ok(())
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let [from, to] = [from, to].map(|path| path.display().to_string());
    host::output(
        "cp",
        &["--reflink=auto", "--sparse=always", &from, &to],
        None,
    )?;
    Ok(())
}

/// splitmix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Right before each flush, where the most is lost that can be, and the ends of commands; then the same with a part
/// of it kept. In order.
fn points(log: &Log, acks: &[Ack]) -> Vec<Point> {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse().ok());
    let seed = number("BEDPLATE_SEED").unwrap_or(1);
    let count = number("BEDPLATE_POINTS").map_or(SAMPLE, |n| usize::try_from(n).unwrap_or(SAMPLE));
    let mut state = seed;
    let flushes: Vec<usize> = (0..log.entries.len())
        .filter(|at| log.entries[*at].flags & FLUSH != 0)
        .collect();
    host::say(&format!(
        "BEDPLATE_SEED={seed}: {} entries, {} flushes; {acks:?}",
        log.entries.len(),
        flushes.len()
    ));
    let mut points: Vec<Point> = Vec::new();
    for with_coin in [false, true] {
        for part in 0..count.min(flushes.len()) {
            let (from, to) = (part * flushes.len(), (part + 1) * flushes.len());
            let (from, to) = (
                from / count.min(flushes.len()),
                to / count.min(flushes.len()),
            );
            let random = usize::try_from(next(&mut state) >> 33).unwrap_or(0);
            let at = flushes[from + random % (to - from).max(1)];
            let coin = with_coin.then(|| next(&mut state));
            points.push(Point { at, coin });
        }
    }
    let ends = acks.iter().map(|ack| ack.ended);
    points.extend(ends.map(|at| Point { at, coin: None }));
    points.sort_by_key(|point| point.at);
    points
}
