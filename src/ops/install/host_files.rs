//! What an image brings to the host beside its units, and how the record keeps it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::contract::values::Values;
use crate::contract::{Contract, HostContent};
use crate::host::{OwnedContent, OwnedFile};
use crate::name::ContainerName;
use crate::render::files::{self, RenderedFile};
use crate::root::Root;
use crate::state;

/// Everything that lands on the host beside units: the files of `hostfs/`, and the image's tmpfiles.d lines.
pub(super) fn host_files(
    name: &ContainerName,
    contract: &Contract,
    values: &Values,
    tmpfiles: Option<&str>,
) -> Result<Vec<RenderedFile>> {
    let mut found = files::host_files(contract, values)?;
    if let Some(lines) = tmpfiles {
        found.push(RenderedFile {
            path: format!("/etc/tmpfiles.d/bedplate-{name}.conf").into(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            content: HostContent::File(lines.as_bytes().to_vec()),
        });
    }
    Ok(found)
}

/// The host files as the record keeps them, each after the directories that are made for it. One that was made for
/// another container is shared with it: the last to go takes it along. Any other that is there is the operator's.
pub(super) fn owned_files(root: &Root, files: &[RenderedFile]) -> Result<Vec<OwnedFile>> {
    let shared: BTreeSet<PathBuf> = state::installed(root)?
        .into_iter()
        .flat_map(|record| record.files)
        .filter(|file| matches!(file.content, OwnedContent::Dir(_)))
        .map(|file| file.path)
        .collect();
    let mut found: Vec<OwnedFile> = Vec::new();
    for file in files {
        let is_dir = file.content == HostContent::Dir;
        let mut dirs: Vec<&Path> = file.path.ancestors().skip(usize::from(!is_dir)).collect();
        // The root itself is always there.
        dirs.pop();
        for dir in dirs.into_iter().rev() {
            let known = found.iter().any(|f| f.path == dir);
            if !known && (shared.contains(dir) || root.kind(dir)?.is_none()) {
                let mode = if dir == file.path { file.mode } else { 0o755 };
                found.push(OwnedFile {
                    path: dir.to_owned(),
                    content: OwnedContent::Dir(mode),
                });
            }
        }
        found.extend(owned(file));
    }
    Ok(found)
}

/// A file or link as the record keeps it.
fn owned(file: &RenderedFile) -> Option<OwnedFile> {
    let content = match &file.content {
        HostContent::File(content) => OwnedContent::of_file(content),
        HostContent::Link(target) => OwnedContent::Link(target.clone()),
        HostContent::Dir => return None,
    };
    Some(OwnedFile {
        path: file.path.clone(),
        content,
    })
}
