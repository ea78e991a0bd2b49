//! What `integrity` in `[store]` means on this host, found before anything is fetched.

use std::path::Path;

use anyhow::Result;

use crate::deployment;
use crate::root::Root;
use crate::store::composefs::{self, Findings, Protection};
use crate::store::settings::{Integrity, Settings};

/// How the set's files are kept from changing, and why not better.
pub(crate) struct Protected {
    pub(crate) by: Protection,
    /// A line each; empty unless the choice was ours.
    pub(crate) not_more: Vec<String>,
}

impl Protected {
    /// Tries what the host can do, if anything is asked for; what does not work is refused.
    pub(crate) fn of(root: &Root, settings: Settings) -> Result<Self> {
        if settings.integrity == Integrity::None {
            return Ok(Self {
                by: Protection::None,
                not_more: Vec::new(),
            });
        }
        let findings = Findings::of(root, &root.outside(deployment::STAGING))?;
        let by = findings.choose(settings.integrity)?;
        let not_more = match settings.integrity {
            Integrity::Auto => findings.lines(),
            _ => Vec::new(),
        };
        Ok(Self { by, not_more })
    }
}

/// What overlayfs is told to make the rootfs of a generation's tree; `None` when the rootfs is a directory.
pub(crate) fn overlay(by: Protection, generation: &Path) -> Option<String> {
    let verity = by == Protection::Verity;
    let tree = generation.join("tree");
    let options = || composefs::mount_options(&tree, &composefs::objects_dir(), verity);
    by.is_image().then(options)
}
