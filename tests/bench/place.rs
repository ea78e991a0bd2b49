//! Where the benchmark keeps its things: below `target/bench`, and images in the cache of the example images.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock, statvfs, syncfs};

use crate::accounting;

/// The program that is measured, in the build that is installed on hosts.
pub(crate) const BEDPLATE: &str = env!("CARGO_BIN_EXE_bedplate");

/// How long ext4 remembers a deleted file's inode, and a little more.
const RECENT: Duration = Duration::from_secs(65);

/// A file of the project.
pub(crate) fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Cargo's target directory.
pub(crate) fn target() -> PathBuf {
    let folders = Path::new(BEDPLATE).ancestors();
    folders
        .skip(2)
        .map(Path::to_owned)
        .next()
        .unwrap_or_default()
}

/// All that the benchmark writes.
pub(crate) fn dir() -> PathBuf {
    target().join("bench")
}

/// What outlives `cargo clean` of one checkout: images.
pub(crate) fn cache() -> PathBuf {
    std::env::var_os("BEDPLATE_CACHE").map_or_else(target, PathBuf::from)
}

/// The home directory of every tool, so that nothing of the operator's own configuration is found.
pub(crate) fn home() -> PathBuf {
    dir().join("home")
}

/// Where the stores of one scenario lie.
pub(crate) fn stores(scenario: &str) -> PathBuf {
    dir().join("stores").join(scenario)
}

/// Makes the directories and clears what a bench that was killed left. The file that is returned keeps others out.
pub(crate) fn prepare() -> Result<File> {
    fs::create_dir_all(home()).with_context(|| format!("making `{}`", home().display()))?;
    let lock = File::create(dir().join("lock"))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)
        .with_context(|| format!("another bench runs in `{}`", dir().display()))?;
    clear_stores()?;
    Ok(lock)
}

/// Removes all stores.
pub(crate) fn clear_stores() -> Result<()> {
    let all = dir().join("stores");
    if all.exists() {
        clear(&all)?;
        File::create(dir().join("cleared"))?;
        sync()?;
    }
    Ok(())
}

/// Sees to it that so many bytes are free, if clearing helps, and that nobody pays for what was deleted.
///
/// ext4 does not give the inode of a file away that was deleted within the last minute; whoever makes files then looks
/// at each of them, and takes many times as long in the kernel.
pub(crate) fn room(bytes: u64) -> Result<()> {
    let space = statvfs(dir()).context("looking for free space")?;
    if space.f_bavail.saturating_mul(space.f_frsize) < bytes {
        clear_stores()?;
    }
    let cleared = fs::metadata(dir().join("cleared")).and_then(|m| m.modified());
    let since = cleared.ok().and_then(|time| time.elapsed().ok());
    if let Some(left) = since.and_then(|since| RECENT.checked_sub(since)) {
        eprintln!(
            "bench: waiting {} s for ext4 to forget deleted files",
            left.as_secs()
        );
        let end = Instant::now() + left;
        while Instant::now() < end {
            accounting::go_on()?;
            thread::sleep(Duration::from_millis(200));
        }
    }
    Ok(())
}

/// Removes a directory with what is mounted in it.
pub(crate) fn clear(path: &Path) -> Result<()> {
    for mount in mounts_below(path)? {
        accounting::output(Command::new("umount").arg("--lazy").arg(mount))?;
    }
    if path.exists() {
        fs::remove_dir_all(path).with_context(|| format!("removing `{}`", path.display()))?;
    }
    Ok(())
}

/// Brings everything that was written so far to the disk.
pub(crate) fn sync() -> Result<()> {
    syncfs(File::open(dir())?).context("syncing")
}

/// Mount points in a directory, the innermost first.
fn mounts_below(path: &Path) -> Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("reading the mount table")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    let mut found: Vec<PathBuf> = points
        .map(PathBuf::from)
        .filter(|point| point.starts_with(path))
        .collect();
    found.reverse();
    Ok(found)
}
