//! Generations: immutable deployments of a container.
//!
//! ```text
//! /var/lib/bedplate/containers/NAME/
//!   1/ 2/ …            rootfs/ config.json launch.json units/ hostfs/ secrets/ record.toml; never changed once there
//!                      with an image of its tree also tree.erofs, and tree/ where that is mounted
//!   current -> 2       the live one; written last
//!   replaced/          what a repair moved out of the way
//! ```
//! A generation is put together in the staging directory, written to disk whole, and then moved to its place.

mod kept;
mod stage;
mod target;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use crate::name::{ContainerName, Generation};
use crate::root::{Kind, Root};

pub(crate) use kept::{host_file, host_files};
pub(crate) use stage::make_targets;
pub use stage::{Content, Rootfs, Staged, rootfs, stage};
pub use target::{Target, targets};

/// Where the containers lie.
pub const CONTAINERS: &str = "/var/lib/bedplate/containers";

/// Generations being prepared, on the file system of the store; nothing refers to them.
pub const STAGING: &str = "/var/lib/bedplate/staging";

/// The file of a generation that is the image of its tree.
pub const TREE: &str = "tree.erofs";

/// Where the sealed secrets lie in a generation.
const SECRETS: &str = "secrets";

/// Where a sealed secret lies in a generation.
pub fn secret(name: &str) -> PathBuf {
    Path::new(SECRETS).join(name)
}

/// The permission bits of a file beside the rootfs, by its path in the generation; `None` for a copy of a host file,
/// which has that one's.
pub(crate) fn mode(file: &str) -> Option<u32> {
    let path = Path::new(file);
    if path.starts_with(kept::DIR) {
        return None;
    }
    Some(if path.starts_with(SECRETS) {
        0o600
    } else {
        0o644
    })
}

/// A container's directory.
pub fn container_dir(name: &ContainerName) -> PathBuf {
    Path::new(CONTAINERS).join(name.as_str())
}

/// A generation's directory.
pub fn dir(name: &ContainerName, generation: Generation) -> PathBuf {
    container_dir(name).join(generation.to_string())
}

/// The live generation; `None` when the container is not installed.
pub fn current(root: &Root, name: &ContainerName) -> Result<Option<Generation>> {
    let target = root.link_target(container_dir(name).join("current"))?;
    Ok(target.and_then(|t| t.to_str().and_then(|t| t.parse().ok())))
}

/// Takes away what is still mounted of a generation before it is removed: units that an undo has removed already
/// unmount nothing. Whoever still uses the rootfs keeps it until it ends.
pub(crate) fn unmount(root: &Root, generation: &Path) -> Result<()> {
    for place in ["rootfs", "tree"].map(|place| generation.join(place)) {
        let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
        match rustix::mount::unmount(root.outside(&place), flags) {
            // Nothing is mounted there, or nothing can have been by us.
            Ok(()) | Err(Errno::INVAL | Errno::NOENT | Errno::PERM) => {}
            Err(e) => return Err(e).with_context(|| format!("unmounting `{}`", place.display())),
        }
    }
    Ok(())
}

/// Removes what was being prepared when it cannot be used, as far as that can be done: a full disk has its room back.
pub(crate) fn abandon(root: &Root) {
    if let Err(error) = root.discard_tree(STAGING) {
        tracing::warn!("what was being prepared stays until the next command: {error:#}");
    }
}

/// As [`unmount`], of all of a container's generations.
pub(crate) fn unmount_all(root: &Root, name: &ContainerName) -> Result<()> {
    for entry in root.list(container_dir(name))? {
        let generation = container_dir(name).join(entry);
        if root.kind(&generation)? == Some(Kind::Dir) {
            unmount(root, &generation)?;
        }
    }
    Ok(())
}

/// Makes a generation the live one: the only writer of `current`.
pub(crate) fn point_current(
    root: &Root,
    name: &ContainerName,
    generation: Generation,
) -> Result<()> {
    root.point(
        container_dir(name).join("current"),
        Path::new(&generation.to_string()),
    )
}

/// Names of everything that lies where the containers do and could be one, installed or not.
pub fn containers(root: &Root) -> Result<Vec<ContainerName>> {
    let names = root.list(CONTAINERS)?;
    let names = names.iter().filter_map(|name| name.to_str()?.parse().ok());
    Ok(names.collect())
}

/// The generations of a container that lie on disk, oldest first.
pub fn generations(root: &Root, name: &ContainerName) -> Result<Vec<Generation>> {
    let names = root.list(container_dir(name))?;
    let numbers = names.iter().filter_map(|name| {
        let name = name.to_str()?;
        let number: Generation = name.parse().ok()?;
        // `1` is a generation, `01` and `+1` are somebody's.
        (number.to_string() == name).then_some(number)
    });
    let mut numbers: Vec<Generation> = numbers.collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Whether the operator wants the generation to stay.
pub fn is_pinned(root: &Root, name: &ContainerName, generation: Generation) -> Result<bool> {
    Ok(root.kind(dir(name, generation).join("pinned"))?.is_some())
}

/// Lets the generation stay whatever `prune` finds, or no longer.
pub fn pin(root: &Root, name: &ContainerName, generation: Generation, pinned: bool) -> Result<()> {
    let mark = dir(name, generation).join("pinned");
    if pinned {
        root.replace(mark, b"", 0o644)
    } else {
        root.remove_file(mark).map(drop)
    }
}

/// Removes a generation, and the container's directory with the last. It is moved away in one step: nobody ever
/// meets half of it, and what a crash leaves is swept with the staging directory.
pub fn remove(root: &Root, name: &ContainerName, generation: Generation) -> Result<()> {
    let removing = || format!("removing generation {generation} of `{name}`");
    let away = Path::new(STAGING).join(format!("removed-{name}-{generation}"));
    root.create_dir_all(STAGING, 0o700).with_context(removing)?;
    root.remove_tree(&away).with_context(removing)?;
    unmount(root, &dir(name, generation)).with_context(removing)?;
    root.rename(dir(name, generation), &away)
        .with_context(removing)?;
    root.remove_tree(&away).with_context(removing)?;
    root.remove_empty_dir(container_dir(name))
        .with_context(removing)
        .map(drop)
}

#[cfg(test)]
mod tests {
    use rustix::mount::{MountFlags, mount};

    use super::*;

    #[test]
    fn what_is_mounted_goes_before_the_generation() {
        let place = tempfile::tempdir().unwrap();
        let root = Root::open(place.path()).unwrap();
        let name: ContainerName = "etcd".parse().unwrap();
        let rootfs = dir(&name, Generation::FIRST).join("rootfs");
        root.create_dir_all(&rootfs, 0o755).unwrap();
        let at = root.outside(&rootfs);
        mount("tmpfs", &at, "tmpfs", MountFlags::empty(), None).unwrap();
        root.replace(rootfs.join("f"), b"", 0o644).unwrap();
        unmount_all(&root, &name).unwrap();
        assert!(root.list(&rootfs).unwrap().is_empty());
        unmount_all(&root, &name).unwrap();
    }
}
