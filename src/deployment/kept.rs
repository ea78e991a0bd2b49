//! What a generation brings to the host, kept in it with modes and owners: going back to it asks neither the image
//! nor the host what that was.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::contract::HostContent;
use crate::deployment;
use crate::name::{ContainerName, Generation};
use crate::render::files::RenderedFile;
use crate::root::{Kind, Root};

/// Where they lie in a generation.
pub(super) const DIR: &str = "hostfs";

/// Where the generation's copy of a host file lies, by its path in the generation.
pub(crate) fn host_file(path: &Path) -> PathBuf {
    Path::new(DIR).join(path.strip_prefix("/").unwrap_or(path))
}

/// Writes the copies into a generation that is being put together.
pub(crate) fn keep(root: &Root, generation: &Path, files: &[RenderedFile]) -> Result<()> {
    for file in files {
        let path = generation.join(host_file(&file.path));
        if let Some(parent) = path.parent() {
            root.create_dir_all(parent, 0o755)?;
        }
        match &file.content {
            HostContent::File(content) => root.replace(&path, content, file.mode)?,
            HostContent::Link(target) => root.point(&path, target)?,
            HostContent::Dir => drop(root.create_dir_all(&path, file.mode)?),
        }
        if file.uid != 0 || file.gid != 0 {
            root.own(&path, file.uid, file.gid)?;
        }
    }
    Ok(())
}

/// What a generation brought to the host, by path.
pub(crate) fn host_files(
    root: &Root,
    name: &ContainerName,
    generation: Generation,
) -> Result<Vec<RenderedFile>> {
    let base = deployment::dir(name, generation).join(DIR);
    let mut found = Vec::new();
    collect(root, &base, Path::new("/"), &mut found)?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn collect(root: &Root, base: &Path, path: &Path, found: &mut Vec<RenderedFile>) -> Result<()> {
    let at = base.join(path.strip_prefix("/").unwrap_or(path));
    let content = match root.kind(&at)? {
        None => return Ok(()),
        Some(Kind::Link) => HostContent::Link(root.link_target(&at)?.unwrap_or_default()),
        Some(Kind::Dir) => {
            let entries = root.list(&at)?;
            for entry in &entries {
                collect(root, base, &path.join(entry), found)?;
            }
            // One with something in it is on the way: what is made for it comes by itself.
            if !entries.is_empty() || path == Path::new("/") {
                return Ok(());
            }
            HostContent::Dir
        }
        Some(_) => HostContent::File(root.read(&at)?.unwrap_or_default()),
    };
    let mode = match content {
        HostContent::Link(_) => 0o777,
        _ => root.mode(&at)?,
    };
    let (uid, gid) = root.owner(&at)?;
    found.push(RenderedFile {
        path: path.to_owned(),
        mode,
        uid,
        gid,
        content,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let file = |path: &str, mode, owner, content| RenderedFile {
            path: path.into(),
            mode,
            uid: owner,
            gid: owner,
            content,
        };
        let files = [
            file(
                "/etc/a/a.conf",
                0o640,
                7,
                HostContent::File(b"x\n".to_vec()),
            ),
            file("/etc/a/link", 0o777, 0, HostContent::Link("a.conf".into())),
            file("/srv/data", 0o700, 7, HostContent::Dir),
        ];
        let name: ContainerName = "etcd".parse().unwrap();
        let generation = deployment::dir(&name, Generation::FIRST);
        root.create_dir_all(&generation, 0o755).unwrap();
        keep(&root, &generation, &files).unwrap();
        assert_eq!(host_files(&root, &name, Generation::FIRST).unwrap(), files);
        let none = host_files(&root, &name, Generation::FIRST.next()).unwrap();
        assert!(none.is_empty());
    }
}
