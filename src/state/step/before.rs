//! What a step replaces or takes away, kept so that it can be put back.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::root::{Attributes, Kind, Metadata, Root};
use crate::state::JOURNAL;

/// What was at a path before a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Before {
    /// Nothing.
    Absent,
    /// A file, whose content the journal keeps under this name.
    File {
        /// The name in the journal's directory.
        backup: String,
        /// Its permission bits.
        mode: u32,
        /// Its user and group.
        owner: (u32, u32),
        /// Its extended attributes.
        #[serde(default, skip_serializing_if = "Attributes::is_empty")]
        attributes: Attributes,
    },
    /// A symbolic link.
    Link {
        /// Where it pointed.
        target: PathBuf,
    },
}

impl Before {
    /// Looks at what is there and keeps a file's content in the journal's directory as `backup`.
    pub(crate) fn keep(root: &Root, path: &Path, backup: String) -> Result<Self> {
        match root.kind(path)? {
            None => Ok(Self::Absent),
            Some(Kind::Link) => Ok(Self::Link {
                target: root.link_target(path)?.unwrap_or_default(),
            }),
            Some(_) => {
                let content = root.read(path)?.unwrap_or_default();
                let found = root.metadata(path)?;
                root.replace(Path::new(JOURNAL).join(&backup), &content, 0o600)?;
                Ok(Self::File {
                    backup,
                    mode: found.mode,
                    owner: found.owner,
                    attributes: found.attributes,
                })
            }
        }
    }

    /// Puts it back.
    pub(crate) fn restore(&self, root: &Root, path: &Path) -> Result<()> {
        root.remove_temporary(path)?;
        match self {
            Self::Absent => root.remove_file(path).map(|_| ()),
            Self::Link { target } => root.point(path, target),
            Self::File {
                backup,
                mode,
                owner,
                attributes,
            } => {
                // The backup was on disk before the step was: it is missing only if an undo that was cut short
                // has restored it already.
                match root.read(Path::new(JOURNAL).join(backup))? {
                    Some(content) => {
                        let metadata = Metadata {
                            mode: *mode,
                            owner: *owner,
                            attributes: attributes.clone(),
                        };
                        root.restore(path, &content, &metadata)
                    }
                    None => Ok(()),
                }
            }
        }
    }
}
