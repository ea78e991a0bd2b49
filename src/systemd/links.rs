//! The links that enabling makes, systemd.unit(5), as they lie on a root.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::name::UnitName;
use crate::root::Root;

/// Where systemd makes the links of `[Install]` sections.
pub const LINKS: &str = "/etc/systemd/system";

/// The links by which other units want, require or uphold the unit.
pub fn wanting(root: &Root, unit: &UnitName) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in root.list(LINKS)? {
        let dir = Path::new(LINKS).join(&entry);
        let kind = dir.extension().and_then(|kind| kind.to_str());
        if !matches!(kind, Some("wants" | "requires" | "upholds")) {
            continue;
        }
        let link = dir.join(unit.as_str());
        if root.link_target(&link)?.is_some() {
            found.push(link);
        }
    }
    Ok(found)
}
