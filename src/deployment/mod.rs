//! Generations: immutable deployments of a container.
//!
//! ```text
//! /var/lib/bedplate/containers/NAME/
//!   1/ 2/ …            rootfs/ config.json launch.json units/ record.toml; never changed once there
//!                      with an image of its tree also tree.erofs, and tree/ where that is mounted
//!   current -> 2       the live one; written last
//! ```
//! A generation is put together in the staging directory, written to disk whole, and then moved to its place.

mod stage;
mod target;

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::name::{ContainerName, Generation};
use crate::root::Root;

pub use stage::{Content, Rootfs, Staged, rootfs, stage};
pub use target::{Target, targets};

/// Where the containers lie.
pub const CONTAINERS: &str = "/var/lib/bedplate/containers";

/// Generations being prepared, on the file system of the store; nothing refers to them.
pub const STAGING: &str = "/var/lib/bedplate/staging";

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
