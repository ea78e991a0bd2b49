//! What must be true of a host before anything is tried on it.

use anyhow::{Result, bail};
use rustix::fs::statfs;

use crate::hint::Hinted;
use crate::render::unit::LAUNCHER;
use crate::root::Root;

/// `CGROUP2_SUPER_MAGIC` of statfs(2).
const CGROUP2: i64 = 0x6367_7270;

/// Refuses to go on without the rights to change the host.
pub fn require_root_user() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(anyhow::anyhow!("this needs root")).hint("run it with `sudo`, or as root")
}

/// Refuses a running host whose control groups are not the unified hierarchy alone, cgroups(7): a unit's limits
/// would not reach its container, and crun does not start one.
pub fn require_unified_cgroups(root: &Root) -> Result<()> {
    if !root.is_host() {
        return Ok(());
    }
    let hint = "boot with `systemd.unified_cgroup_hierarchy=1` on the kernel command line";
    let found = statfs("/sys/fs/cgroup").map(|s| s.f_type);
    let result: Result<()> = match found {
        Ok(CGROUP2) => return Ok(()),
        Ok(_) if root.kind("/sys/fs/cgroup/unified")?.is_some() => (|| {
            bail!(
                "this host uses hybrid control groups; bedplate needs the unified hierarchy (cgroup v2)"
            )
        })(),
        _ => (|| {
            bail!(
                "this host has no unified control group hierarchy (cgroup v2) at `/sys/fs/cgroup`"
            )
        })(),
    };
    result.hint(hint)
}

/// Refuses a running host without the launcher: every unit's start needs it.
pub fn require_launcher(root: &Root) -> Result<()> {
    if !root.is_host() || root.kind(LAUNCHER)?.is_some() {
        return Ok(());
    }
    Err(anyhow::anyhow!(
        "the launcher `{LAUNCHER}` is not installed"
    ))
    .hint("install bedplate whole: `make install`, or its package")
}
