//! Host devices: which node a path names, so that the device cgroup can allow just that one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use containers_image_proxy::oci_spec::runtime::LinuxDeviceType;
use rustix::fs::FileType;

use crate::root::Root;

/// The device nodes that a host has, by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Devices(BTreeMap<PathBuf, Node>);

/// A device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Block or character.
    pub kind: LinuxDeviceType,
    /// The major number.
    pub major: u32,
    /// The minor number.
    pub minor: u32,
}

impl Devices {
    /// Looks up `paths` on the running host. Another root has no devices: they are its kernel's, not its files'.
    pub fn read(root: &Root, paths: &[String]) -> Self {
        if !root.is_host() {
            return Self::default();
        }
        Self(
            paths
                .iter()
                .filter_map(|path| Some((PathBuf::from(path), node(Path::new(path))?)))
                .collect(),
        )
    }

    /// The node at `path`, if the host has one.
    pub(crate) fn node(&self, path: &Path) -> Option<Node> {
        self.0.get(path).copied()
    }
}

impl FromIterator<(PathBuf, Node)> for Devices {
    fn from_iter<T: IntoIterator<Item = (PathBuf, Node)>>(nodes: T) -> Self {
        Self(nodes.into_iter().collect())
    }
}

fn node(path: &Path) -> Option<Node> {
    let stat = rustix::fs::stat(path).ok()?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => LinuxDeviceType::C,
        FileType::BlockDevice => LinuxDeviceType::B,
        _ => return None,
    };
    Some(Node {
        kind,
        major: rustix::fs::major(stat.st_rdev),
        minor: rustix::fs::minor(stat.st_rdev),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_found_by_its_path() {
        let root = Root::open(Path::new("/")).unwrap();
        let devices = Devices::read(&root, &["/dev/null".to_owned(), "/dev/none".to_owned()]);
        let null = devices.node(Path::new("/dev/null")).unwrap();
        assert_eq!(
            (null.kind, null.major, null.minor),
            (LinuxDeviceType::C, 1, 3)
        );
        assert_eq!(devices.node(Path::new("/dev/none")), None);
    }
}
