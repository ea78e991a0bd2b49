//! What systemd makes of the set, asked before anything is written: a unit with an error, or an ordering cycle
//! through units of the host that our graph does not know.
//!
//! `systemd-analyze verify` tells neither by its exit status; what it says of the boot target with the set staged
//! is compared with what it says without.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::hint::Hinted;
use crate::ops::Host;
use crate::ops::deploy::Coming;
use crate::ops::ordering::Changes;
use crate::root::Root;
use crate::systemd::analyze::complaints;

/// The unit that a boot leads to.
const BOOT_TARGET: &str = "multi-user.target";

/// Asks systemd; only on a running host, whose units it can see.
pub(crate) fn run(host: &Host, news: &[Coming], changes: &Changes) -> Result<()> {
    if !host.systemd.is_running() || news.is_empty() {
        return Ok(());
    }
    let staged = tempfile::tempdir().context("making a directory to check the units in")?;
    let units = Root::open(staged.path())?;
    write(&units, news, changes)?;
    let before: BTreeSet<String> = complaints(&[BOOT_TARGET], "")?.into_iter().collect();
    let path = staged.path().display().to_string();
    let names: Vec<&str> = news
        .iter()
        .flat_map(|p| p.units.iter().map(|(unit, _)| unit.as_str()))
        .collect();
    let found: Vec<String> = complaints(&[BOOT_TARGET], &path)?
        .into_iter()
        .filter(|line| !before.contains(line))
        .filter(|line| line.contains("ordering cycle") || names.iter().any(|n| line.contains(n)))
        .map(|line| line.replace(&format!("{}/", staged.path().display()), ""))
        .collect();
    if found.is_empty() {
        return Ok(());
    }
    let result: Result<()> = (|| bail!("systemd refuses the units: {}", found.join("; ")))();
    result.hint("`--dry-run` shows the units; the cause is the image's manifest or templates, or a unit of this host")
}

/// Lays the set out as it will be: units, order drop-ins, and the links by which the boot wants them.
fn write(units: &Root, news: &[Coming], changes: &Changes) -> Result<()> {
    let wants = format!("/{BOOT_TARGET}.wants");
    units.create_dir_all(&wants, 0o755)?;
    for coming in news {
        for (unit, text) in coming.units {
            units.replace(format!("/{unit}"), text.as_bytes(), 0o644)?;
        }
        let service = coming.record.name.service();
        units.point(
            format!("{wants}/{service}"),
            Path::new(&format!("../{service}")),
        )?;
    }
    for (path, text) in changes {
        let (Some(text), Some(name), Some(dir)) = (text, path.file_name(), path.parent()) else {
            continue;
        };
        let dir = Path::new("/").join(dir.file_name().unwrap_or_default());
        units.create_dir_all(&dir, 0o755)?;
        units.replace(dir.join(name), text.as_bytes(), 0o644)?;
    }
    Ok(())
}
