//! The mounts of config.json: what every container gets, what the host's network brings, what the image declares.
//!
//! A mount that a declared one replaces or covers is left out. `/sys` is a fresh sysfs also on the host's network:
//! unlike a recursive bind of the host's it brings no writable file system from below it (cgroups, debugfs).

use std::path::{Path, PathBuf};

use containers_image_proxy::oci_spec::runtime::Mount;

use crate::contract::manifest::{Access, Propagation};
use crate::render::resolve::Bind;

/// Host files that a container on the host's network shows as they are; one that does not exist at a start is left
/// out of it. The directory is systemd-resolved's, where `/etc/resolv.conf` leads: it replaces its files, and a
/// bind mount of one file would go on showing the replaced one.
const HOST_NETWORK: [&str; 5] = [
    "/run/systemd/resolve",
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/machine-id",
    "/etc/localtime",
];

/// Whose view of a thing a container has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    Host,
    Own,
}

/// What decides over the mounts.
pub(crate) struct Plan<'a> {
    pub(crate) binds: &'a [Bind],
    pub(crate) devices: &'a [String],
    pub(crate) network: View,
    pub(crate) cgroups: View,
}

impl Plan<'_> {
    /// All mounts in their order.
    pub(crate) fn mounts(&self) -> Vec<Mount> {
        let mut mounts = self.kernel();
        mounts.extend(
            self.host_network()
                .iter()
                .map(|path| bind(path, path, &["rbind", "ro", "nosuid", "nodev", "noexec"])),
        );
        mounts.retain(|mount| !self.is_covered(mount.destination()));
        mounts.extend(self.binds.iter().map(declared));
        mounts.extend(self.devices.iter().map(|path| {
            bind(
                Path::new(path),
                Path::new(path),
                &["rbind", "rw", "nosuid", "noexec"],
            )
        }));
        mounts
    }

    /// Destinations of mounts that a start leaves out when their source does not exist.
    pub(crate) fn optional(&self) -> Vec<PathBuf> {
        let host = self.host_network().into_iter().map(Path::to_owned);
        let binds = self.binds.iter().filter(|bind| bind.optional);
        host.filter(|path| !self.is_covered(path))
            .chain(binds.map(|bind| bind.target.clone()))
            .chain(self.devices.iter().map(PathBuf::from))
            .collect()
    }

    fn host_network(&self) -> Vec<&'static Path> {
        match self.network {
            View::Host => HOST_NETWORK.iter().map(Path::new).collect(),
            View::Own => Vec::new(),
        }
    }

    fn is_covered(&self, destination: &Path) -> bool {
        self.binds
            .iter()
            .any(|bind| destination.starts_with(&bind.target))
    }

    /// File systems of the kernel's, and memory for what may be written.
    fn kernel(&self) -> Vec<Mount> {
        const TMPFS: &str = "tmpfs";
        let mut mounts = vec![
            fresh("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            fresh(
                "/dev",
                TMPFS,
                &["nosuid", "strictatime", "mode=755", "size=65536k"],
            ),
            fresh(
                "/dev/pts",
                "devpts",
                &[
                    "nosuid",
                    "noexec",
                    "newinstance",
                    "ptmxmode=0666",
                    "mode=0620",
                    "gid=5",
                ],
            ),
            fresh(
                "/dev/shm",
                TMPFS,
                &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
            ),
            fresh("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            fresh("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        ];
        if self.cgroups == View::Own {
            let options = ["nosuid", "noexec", "nodev", "relatime", "ro"];
            mounts.push(fresh("/sys/fs/cgroup", "cgroup", &options));
        }
        // runc before 1.2 gives a tmpfs the mode of the directory that it covers: what makes that directory in a
        // rootfs without it has to use these modes.
        mounts.push(fresh("/run", TMPFS, &["nosuid", "nodev", "mode=755"]));
        mounts.push(fresh("/tmp", TMPFS, &["nosuid", "nodev", "mode=1777"]));
        mounts
    }
}

/// Whether the container manages cgroups itself: it writes to `/sys/fs/cgroup` of the host.
pub(crate) fn cgroups(binds: &[Bind]) -> View {
    let writes = |bind: &Bind| {
        bind.access == Access::Rw
            && ["/sys", "/sys/fs", "/sys/fs/cgroup"].contains(&bind.target.to_str().unwrap_or(""))
    };
    if binds.iter().any(writes) {
        View::Host
    } else {
        View::Own
    }
}

/// `rootfsPropagation`: as far as the declared mounts need it. Without it the runtime cuts the tree off from the
/// host's before it makes them.
pub(crate) fn rootfs_propagation(binds: &[Bind]) -> &'static str {
    let any = |wanted| binds.iter().any(|bind| bind.propagation == wanted);
    if any(Propagation::Shared) {
        "rshared"
    } else if any(Propagation::Slave) {
        "rslave"
    } else {
        "rprivate"
    }
}

/// Whether a mount is one that every container on the host's network has.
pub(crate) fn is_host_network(mount: &Mount) -> bool {
    let standard = HOST_NETWORK
        .iter()
        .any(|path| mount.destination() == Path::new(path));
    standard && !is_writable(mount) && mount.source().as_ref() == Some(mount.destination())
}

/// Whether a mount brings a host path in.
pub(crate) fn is_bind(mount: &Mount) -> bool {
    let options = mount.options().as_deref().unwrap_or_default();
    let asked = options
        .iter()
        .any(|option| option == "bind" || option == "rbind");
    // The type says so too: crun takes it for the option.
    asked || mount.typ().as_deref() == Some("bind")
}

/// Whether a mount may be written to.
pub(crate) fn is_writable(mount: &Mount) -> bool {
    let options = mount.options().as_deref().unwrap_or_default();
    !options
        .iter()
        .any(|option| option == "ro" || option == "rro")
}

/// A bind mount of the image. One that passes mounts on keeps setuid files and devices: what is mounted below it
/// belongs to others, such as the containers of a CRI daemon.
fn declared(wanted: &Bind) -> Mount {
    let mut options = vec!["rbind"];
    options.push(match wanted.access {
        Access::Ro => "ro",
        Access::Rw => "rw",
    });
    options.push(match wanted.propagation {
        Propagation::Private => "rprivate",
        Propagation::Slave => "rslave",
        Propagation::Shared => "rshared",
    });
    if wanted.propagation != Propagation::Shared {
        options.push("nosuid");
        if !wanted.source.starts_with("/dev") {
            options.push("nodev");
        }
    }
    bind(&wanted.source, &wanted.target, &options)
}

fn bind(source: &Path, target: &Path, options: &[&str]) -> Mount {
    mount(target, "bind", source, options)
}

fn fresh(target: &str, kind: &str, options: &[&str]) -> Mount {
    mount(Path::new(target), kind, Path::new(kind), options)
}

fn mount(target: &Path, kind: &str, source: &Path, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(target.to_owned())
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(source.to_owned()))
        .set_options(Some(
            options.iter().map(|&option| option.to_owned()).collect(),
        ));
    mount
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writes(path: &str) -> Bind {
        Bind {
            source: path.into(),
            target: path.into(),
            access: Access::Rw,
            propagation: Propagation::Private,
            optional: false,
        }
    }

    #[test]
    fn a_declared_mount_replaces_what_it_covers() {
        let binds = [writes("/dev"), writes("/run"), writes("/etc")];
        let plan = Plan {
            binds: &binds,
            devices: &[],
            network: View::Host,
            cgroups: View::Own,
        };
        let mounts = plan.mounts();
        let targets: Vec<_> = mounts
            .iter()
            .filter_map(|mount| mount.destination().to_str())
            .collect();
        let expected = [
            "/proc",
            "/sys",
            "/sys/fs/cgroup",
            "/tmp",
            "/dev",
            "/run",
            "/etc",
        ];
        assert_eq!(targets, expected);
        assert!(plan.optional().is_empty());
    }

    #[test]
    fn who_writes_cgroups_sees_the_hosts() {
        for (path, view) in [
            ("/sys", View::Host),
            ("/sys/fs/cgroup", View::Host),
            ("/sys/fs/bpf", View::Own),
        ] {
            assert_eq!(cgroups(&[writes(path)]), view);
        }
    }
}
