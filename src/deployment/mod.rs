//! Generations: immutable deployments of a container.
//!
//! ```text
//! /var/lib/bedplate/containers/NAME/
//!   1/ 2/ …            rootfs/ config.json launch.json units/ record.toml; never changed once there
//!   current -> 2       the live one; written last
//!   replaced/          what a repair moved out of the way
//! ```
//! A generation is put together in the staging directory, written to disk whole, and then moved to its place.

mod stage;
mod target;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::name::{ContainerName, Generation};
use crate::root::Root;

pub(crate) use stage::make_targets;
pub use stage::{Content, Staged, stage};
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

/// Removes a generation, and the container's directory with the last. It is moved away in one step: nobody ever
/// meets half of it, and what a crash leaves is swept with the staging directory.
pub fn remove(root: &Root, name: &ContainerName, generation: Generation) -> Result<()> {
    let removing = || format!("removing generation {generation} of `{name}`");
    let away = Path::new(STAGING).join(format!("removed-{name}-{generation}"));
    root.create_dir_all(STAGING, 0o700).with_context(removing)?;
    root.remove_tree(&away).with_context(removing)?;
    root.rename(dir(name, generation), &away)
        .with_context(removing)?;
    root.remove_tree(&away).with_context(removing)?;
    root.remove_empty_dir(container_dir(name))
        .with_context(removing)
        .map(drop)
}
