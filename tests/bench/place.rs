//! Where the benchmark keeps its things: below `target/bench`, and images in the cache of the example images.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use rustix::fs::syncfs;

use crate::accounting;

/// The program that is measured, in the build that is installed on hosts.
pub(crate) const BEDPLATE: &str = env!("CARGO_BIN_EXE_bedplate");

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

/// Makes the directories; clears what a bench that was killed left.
pub(crate) fn prepare() -> Result<()> {
    clear(&dir().join("stores"))?;
    for path in [home(), dir().join("stores")] {
        fs::create_dir_all(&path).with_context(|| format!("making `{}`", path.display()))?;
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
    syncfs(fs::File::open(dir())?).context("syncing")
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
