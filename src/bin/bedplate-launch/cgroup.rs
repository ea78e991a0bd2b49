//! The unit's cgroup: the launcher in `supervisor`, the payload beside it in `container`, or in one beside that.
//!
//! cgroup v2 lets a group either hold processes or hand out controllers. A unit with `Delegate=yes` therefore
//! needs two groups below its own. From version 254 on systemd makes the first (`DelegateSubgroup=supervisor`).
#![expect(
    clippy::disallowed_methods,
    reason = "cgroupfs is the kernel's, never below another root"
)]

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use crate::hint::Hinted;

/// Where the unified hierarchy is mounted.
const MOUNT: &str = "/sys/fs/cgroup";
/// The group of the launcher and the runtime.
const SUPERVISOR: &str = "/supervisor";
/// The group of the payload.
const CONTAINER: &str = "container";

/// The place of this process in the hierarchy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cgroup {
    /// The unit's group, from the hierarchy's root, with a leading slash.
    unit: String,
    /// This process is in the unit's `supervisor` group already.
    supervised: bool,
}

impl Cgroup {
    /// Finds the group of this process.
    pub(crate) fn own() -> Result<Self> {
        let text =
            fs::read_to_string("/proc/self/cgroup").context("reading `/proc/self/cgroup`")?;
        // With hybrid hierarchies there is a `0::` line too, of a hierarchy without controllers.
        if !Path::new(MOUNT).join("cgroup.controllers").exists() {
            return Err(anyhow!("`{MOUNT}` is not the unified cgroup hierarchy"))
                .hint("boot with systemd.unified_cgroup_hierarchy=1");
        }
        Self::parse(&text)
    }

    /// Reads cgroups(7)'s `/proc/PID/cgroup`.
    fn parse(text: &str) -> Result<Self> {
        let path = text
            .lines()
            .find_map(|line| line.strip_prefix("0::"))
            .ok_or_else(|| anyhow!("this process is in no cgroup of version 2"))?;
        let (unit, supervised) = match path.strip_suffix(SUPERVISOR) {
            Some(unit) => (unit, true),
            None => (path, false),
        };
        if unit.trim_end_matches('/').is_empty() {
            return Err(anyhow!(
                "this process is in the root cgroup, not in a unit's"
            ))
            .hint("start the container by systemctl");
        }
        Ok(Self {
            unit: unit.to_owned(),
            supervised,
        })
    }

    /// A group for the payload, as config.json's `linux.cgroupsPath` names it: `container`, or `container-2` and so
    /// on where processes of an earlier start are left (KillMode=process). Those are nobody's to count with, limit or
    /// end as if they were the payload, and some runtimes refuse a group that is not empty.
    pub(crate) fn container(&self) -> Result<String> {
        let free = first_free(&PathBuf::from(format!("{MOUNT}{}", self.unit)))?;
        Ok(format!("{}/{free}", self.unit))
    }

    /// Leaves the unit's own group, where systemd has not done so.
    pub(crate) fn enter_supervisor(&self) -> Result<()> {
        if self.supervised {
            return Ok(());
        }
        let group = PathBuf::from(format!("{MOUNT}{}{SUPERVISOR}", self.unit));
        match fs::create_dir(&group) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => fs::write(group.join("cgroup.procs"), std::process::id().to_string()),
        }
        .with_context(|| format!("entering cgroup `{}`", group.display()))
        .hint("the unit needs Delegate=yes")
    }
}

/// The name of the first group in `unit` that is not there, or was empty and is removed.
fn first_free(unit: &Path) -> Result<String> {
    let mut number = 1;
    loop {
        let name = match number {
            1 => CONTAINER.to_owned(),
            _ => format!("{CONTAINER}-{number}"),
        };
        match fs::remove_dir(unit.join(&name)) {
            Ok(()) => return Ok(name),
            Err(error) => match error.kind() {
                ErrorKind::NotFound => return Ok(name),
                ErrorKind::ResourceBusy | ErrorKind::DirectoryNotEmpty => number += 1,
                _ => {
                    let group = unit.join(&name);
                    return Err(error)
                        .with_context(|| format!("removing cgroup `{}`", group.display()));
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_units_group_is_found() {
        let cases = [
            (
                "0::/system.slice/etcd.service\n",
                "/system.slice/etcd.service",
                false,
            ),
            (
                "0::/system.slice/etcd.service/supervisor\n",
                "/system.slice/etcd.service",
                true,
            ),
            (
                "12:pids:/a\n1:name=systemd:/a\n0::/foo.slice/etcd.service/supervisor\n",
                "/foo.slice/etcd.service",
                true,
            ),
        ];
        for (text, unit, supervised) in cases {
            let found = Cgroup::parse(text).unwrap();
            assert_eq!(
                found,
                Cgroup {
                    unit: unit.into(),
                    supervised
                }
            );
        }
    }

    #[test]
    fn the_payload_gets_a_group_in_which_nobody_is() {
        let unit = tempfile::tempdir().unwrap();
        let free = || first_free(unit.path()).unwrap();
        assert_eq!(free(), "container");
        for group in ["container/a", "container-2/a", "container-4/a"] {
            fs::create_dir_all(unit.path().join(group)).unwrap();
        }
        assert_eq!(free(), "container-3");
        fs::remove_dir(unit.path().join("container/a")).unwrap();
        assert_eq!(free(), "container");
        assert!(!unit.path().join("container").exists());
    }

    #[test]
    fn what_is_no_unit_is_refused() {
        let cases = [
            ("", "this process is in no cgroup of version 2"),
            ("2:cpu:/x\n", "this process is in no cgroup of version 2"),
            (
                "0::/\n",
                "this process is in the root cgroup, not in a unit's",
            ),
            (
                "0::/supervisor\n",
                "this process is in the root cgroup, not in a unit's",
            ),
        ];
        for (text, message) in cases {
            assert_eq!(Cgroup::parse(text).unwrap_err().to_string(), message);
        }
    }
}
