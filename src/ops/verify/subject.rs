//! A generation that is looked at.

use std::path::PathBuf;

use anyhow::{Context, Result};
use containers_image_proxy::oci_spec::runtime::Spec;

use crate::deployment;
use crate::ops::verify::Place;
use crate::root::{Kind, Root};
use crate::state::Record;
use crate::store::verify::rootfs::Targets;

/// A generation of a container.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) record: Record,
    /// It is the one that its unit starts.
    pub(crate) live: bool,
    /// It was asked for.
    pub(crate) named: bool,
}

impl Subject {
    pub(crate) fn place(&self, path: &str) -> Place {
        Place {
            container: Some(self.record.name.clone()),
            generation: Some(self.record.generation),
            image: self.record.image.clone(),
            path: path.to_owned(),
        }
    }

    /// Its rootfs as this process sees it.
    pub(crate) fn rootfs(&self, root: &Root) -> PathBuf {
        let dir = deployment::dir(&self.record.name, self.record.generation);
        root.outside(dir.join("rootfs"))
    }
}

/// What staging has added to the rootfs: the mount targets of its config.json. One that is damaged names none.
pub(crate) fn targets(root: &Root, subject: &Subject) -> Result<Targets> {
    let mut found = Targets::new();
    for target in mount_targets(root, subject)? {
        let rootfs = Root::open(&subject.rootfs(root))
            .with_context(|| format!("looking at the rootfs of `{}`", subject.record.name));
        let path = match rootfs {
            Ok(rootfs) => rootfs.real(&target.path)?,
            Err(_) => target.path,
        };
        let path = path.strip_prefix("/").unwrap_or(&path).to_string_lossy();
        found.insert(path.into_owned(), target.dir.unwrap_or(0o644));
    }
    Ok(found)
}

/// The mount targets as staging was given them.
pub(crate) fn mount_targets(root: &Root, subject: &Subject) -> Result<Vec<deployment::Target>> {
    let dir = deployment::dir(&subject.record.name, subject.record.generation);
    let path = dir.join("config.json");
    // A FIFO in its place would keep us waiting.
    if root.kind(&path)? != Some(Kind::File) {
        return Ok(Vec::new());
    }
    let text = root.read(&path)?.unwrap_or_default();
    match serde_json::from_slice::<Spec>(&text) {
        Ok(spec) => deployment::targets(root, &spec),
        Err(_) => Ok(Vec::new()),
    }
}
