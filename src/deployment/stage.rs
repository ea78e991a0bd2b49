//! Checkout and rendered files put together as the next generation: complete, on disk, not live.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use crate::deployment::{self, STAGING, TREE, Target, kept};
use crate::name::{ContainerName, Generation, UnitName};
use crate::render::files::RenderedFile;
use crate::root::Root;
use crate::store::composefs::{self, Composed, Protection};
use crate::store::{Checkout, Store, StoredImage};

/// The files of a generation beside its rootfs.
#[derive(Debug)]
pub struct Content {
    /// The OCI runtime configuration.
    pub config_json: String,
    /// The launcher's plan.
    pub launch_json: String,
    /// The units' texts.
    pub units: Vec<(UnitName, String)>,
    /// The record.
    pub record: String,
    /// What it brings to the host, kept for going back to it.
    pub host_files: Vec<RenderedFile>,
    /// Secrets by name, sealed.
    pub secrets: BTreeMap<String, Vec<u8>>,
}

/// What becomes a generation's rootfs: every mount target is in it.
#[derive(Debug)]
pub enum Rootfs {
    /// A directory of hard links.
    Tree(Checkout),
    /// An image of one.
    Image(Composed),
}

impl Rootfs {
    /// The checksum of the image, if it is one.
    pub fn checksum(&self) -> Option<String> {
        match self {
            Self::Tree(_) => None,
            Self::Image(composed) => Some(composed.checksum()),
        }
    }
}

/// Makes the mount targets in a checkout, and an image of it if that is how it is protected.
pub fn rootfs(
    (store, image): (&Store, &StoredImage),
    checkout: Checkout,
    targets: &[Target],
    protection: Protection,
) -> Result<Rootfs> {
    make_targets(checkout.dir(), targets)?;
    if !protection.is_image() {
        return Ok(Rootfs::Tree(checkout));
    }
    let verity = protection == Protection::Verity;
    let composed = store.compose(image, &checkout, verity)?;
    Ok(Rootfs::Image(composed))
}

/// A complete generation that is not live: it waits in the staging directory.
#[derive(Debug)]
pub struct Staged {
    /// The container.
    pub name: ContainerName,
    /// The generation that it becomes.
    pub generation: Generation,
    /// Where it waits.
    pub path: PathBuf,
}

/// Puts a generation together and writes it to disk.
pub fn stage(
    root: &Root,
    (name, generation): (&ContainerName, Generation),
    rootfs: Rootfs,
    content: &Content,
) -> Result<Staged> {
    let path = Path::new(STAGING).join(format!("{name}-{generation}"));
    let staging = || format!("preparing generation {generation} of `{name}`");
    root.remove_tree(&path).with_context(staging)?;
    // Nothing refers to it yet: all of it goes to the disk at once, below.
    root.prepare_dir_all(path.join("units"), 0o755)
        .with_context(staging)?;
    put_rootfs(root, &path, rootfs).with_context(staging)?;
    let write = |name: &str, text: &str| root.prepare(path.join(name), text.as_bytes(), 0o644);
    write("config.json", &content.config_json)?;
    write("launch.json", &content.launch_json)?;
    write("record.toml", &content.record)?;
    for (unit, text) in &content.units {
        write(&format!("units/{unit}"), text)?;
    }
    for (secret, sealed) in &content.secrets {
        let file = path.join(deployment::secret(secret));
        let directory = file.parent().unwrap_or(&path);
        root.prepare_dir_all(directory, 0o700)
            .with_context(staging)?;
        root.prepare(&file, sealed, 0o600).with_context(staging)?;
    }
    kept::keep(root, &path, &content.host_files).with_context(staging)?;
    // The store's objects and the checkout's directories are on disk before anything refers to them.
    root.sync(&path).with_context(staging)?;
    Ok(Staged {
        name: name.clone(),
        generation,
        path,
    })
}

/// The rootfs itself, or its image and the places where that is mounted.
fn put_rootfs(root: &Root, path: &Path, rootfs: Rootfs) -> Result<()> {
    let composed = match rootfs {
        Rootfs::Tree(checkout) => return checkout.keep(&root.outside(path.join("rootfs"))),
        Rootfs::Image(composed) => composed,
    };
    for place in ["tree", "rootfs"] {
        root.prepare_dir_all(path.join(place), 0o755)?;
    }
    let image = path.join(TREE);
    root.prepare(&image, &composed.image, 0o644)?;
    if composed.verity {
        composefs::seal(&root.outside(&image))?;
    }
    Ok(())
}

/// Makes the mount targets that the rootfs lacks. Links are followed inside the rootfs, as the runtimes follow
/// them; nothing can be made outside of it. They are on disk when the caller has synced the rootfs.
pub(crate) fn make_targets(rootfs: &Path, targets: &[Target]) -> Result<()> {
    let rootfs = Root::open(rootfs)?;
    for target in targets {
        let making = || format!("making the mount target `{}`", target.path.display());
        if rootfs.leads_to_dir(&target.path)?.is_some() {
            continue;
        }
        let parent = target.path.parent().unwrap_or(Path::new("/"));
        rootfs.prepare_dir_all(parent, 0o755).with_context(making)?;
        if let Some(mode) = target.dir {
            rootfs
                .prepare_dir_all(&target.path, mode)
                .with_context(making)?;
            if rootfs.leads_to_dir(&target.path)? != Some(true) {
                let dangling = anyhow!("a link of the image leads to where nothing is");
                return Err(dangling.context(making()));
            }
        } else {
            rootfs
                .prepare(&target.path, b"", 0o644)
                .with_context(making)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_there_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let target = |path: &str| Target {
            path: path.into(),
            dir: Some(0o755),
        };
        root.create_dir_all("/run", 0o755).unwrap();
        root.create_dir_all("/var", 0o755).unwrap();
        root.point("/var/run", Path::new("/run")).unwrap();
        root.point("/var/data", Path::new("/nowhere")).unwrap();
        make_targets(dir.path(), &[target("/var/run/etcd"), target("/a/b")]).unwrap();
        assert_eq!(root.leads_to_dir("/run/etcd").unwrap(), Some(true));
        assert_eq!(root.leads_to_dir("/a/b").unwrap(), Some(true));
        let error = make_targets(dir.path(), &[target("/var/data")]).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "making the mount target `/var/data`: a link of the image leads to where nothing is"
        );
    }
}
