//! Mount targets: what config.json mounts needs a place in the rootfs, made before it is sealed. A runtime would
//! otherwise make it at the first start, inside a rootfs that is never to change.

use std::path::{Path, PathBuf};

use anyhow::Result;
use containers_image_proxy::oci_spec::runtime::Spec;

use crate::root::Root;

/// Files that a start may bind although this host lacks them now: their targets are files.
const KNOWN_FILES: [&str; 4] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/machine-id",
    "/etc/localtime",
];

/// A place that a mount needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its path in the rootfs.
    pub path: PathBuf,
    /// A directory with these permission bits, or else a file.
    pub dir: Option<u32>,
}

/// The targets of a configuration's mounts that lie in the rootfs itself, not below another mount.
pub fn targets(root: &Root, spec: &Spec) -> Result<Vec<Target>> {
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let mut targets = Vec::new();
    for mount in mounts {
        let path = mount.destination();
        let covered = mounts
            .iter()
            .any(|other| other.destination() != path && path.starts_with(other.destination()));
        if covered {
            continue;
        }
        targets.push(Target {
            path: path.clone(),
            dir: wants_dir(root, mount.typ().as_deref(), mount.source().as_deref())?
                .then(|| dir_mode(path)),
        });
    }
    Ok(targets)
}

fn wants_dir(root: &Root, kind: Option<&str>, source: Option<&Path>) -> Result<bool> {
    let (Some("bind"), Some(source)) = (kind, source) else {
        return Ok(true);
    };
    Ok(root
        .leads_to_dir(source)?
        .unwrap_or_else(|| !KNOWN_FILES.iter().any(|known| source == Path::new(known))))
}

/// runc gives a tmpfs the mode of the directory that it covers: a payload of any user must be able to write in those.
fn dir_mode(path: &Path) -> u32 {
    if path == Path::new("/tmp") || path == Path::new("/var/tmp") {
        0o1777
    } else {
        0o755
    }
}
