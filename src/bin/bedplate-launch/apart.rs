//! A mount of its own for the root file system.
//!
//! crun and runc make the mount that holds it private, so that what they mount in it does not appear on the host. On
//! most hosts that mount is `/`, and then every other directory of it that the container is to share mounts with is cut
//! off as well, mount_namespaces(7). So where mounts are to pass the runtime finds the root file system on a mount that
//! holds nothing else, in a mount namespace that ends with the start: the host sees none of it, and nothing is left.

use std::path::Path;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};

use crate::config::Config;

/// What may be made private without cutting anything off that a container shares, and a directory in it, which every
/// kernel's procfs has.
const PARENT: &str = "/proc";
const PLACE: &str = "/proc/driver";

/// Sets the root file system apart if mounts are to pass between container and host.
pub(crate) fn set_apart(config: &mut Config) -> Result<()> {
    if !config.passes_mounts() {
        return Ok(());
    }
    let root = config.root()?.to_owned();
    mount(Path::new(&root)).with_context(|| format!("setting `{root}` apart from the host"))?;
    config.set_root(PLACE);
    Ok(())
}

fn mount(root: &Path) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("making a mount namespace")?;
    // A mount on one that is shared would appear on the host.
    mount_change(PARENT, MountPropagationFlags::PRIVATE)?;
    mount_bind(root, PLACE)?;
    mount_change(PLACE, MountPropagationFlags::PRIVATE)?;
    Ok(())
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "the launcher is a program of its own, without the library's root handle"
)]
mod tests {
    use std::fs;
    use std::thread;

    use super::*;

    fn config(root: &Path, propagation: &str) -> Config {
        let text = format!(
            r#"{{"process":{{}},"root":{{"path":"rootfs"}},"linux":{{"rootfsPropagation":"{propagation}"}}}}"#
        );
        fs::write(root.join("config.json"), text).unwrap();
        Config::read(root).unwrap()
    }

    #[test]
    fn a_root_that_shares_nothing_stays_where_it_is() {
        let base = tempfile::tempdir().unwrap();
        let mut config = config(base.path(), "rprivate");
        set_apart(&mut config).unwrap();
        assert_eq!(
            config.root().unwrap(),
            base.path().join("rootfs").to_str().unwrap()
        );
    }

    #[test]
    fn the_host_sees_nothing_of_it() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("rootfs")).unwrap();
        fs::write(base.path().join("rootfs/there"), "").unwrap();
        let mut config = config(base.path(), "rshared");
        // The namespace is the thread's.
        let apart = thread::spawn(move || {
            set_apart(&mut config).unwrap();
            assert_eq!(config.root().unwrap(), PLACE);
            fs::exists(format!("{PLACE}/there")).unwrap()
        });
        assert!(apart.join().unwrap());
        assert!(!fs::exists(format!("{PLACE}/there")).unwrap());
    }
}
