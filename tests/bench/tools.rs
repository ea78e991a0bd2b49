//! The tools that install an image, each with a store in a directory of its own.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::{Builder, TempDir};

use crate::accounting::{Cost, Group, Program};
use crate::place;
use crate::server::Server;

/// Who installs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    Bedplate,
    Podman,
    Containerd,
    /// `skopeo copy` to an OCI layout, then `umoci unpack`.
    Umoci,
    /// What no install can do without.
    Floor,
    /// Only looks at the manifest.
    Skopeo,
}

/// A tool's store, with its daemon if it has one.
#[derive(Debug)]
pub(crate) struct Store {
    tool: Tool,
    dir: PathBuf,
    // In this order they go: the daemon, what it left running, where it had its sockets.
    _daemon: Option<Server>,
    group: Group,
    run: TempDir,
}

/// An image to be installed.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// `HOST:PORT/REPOSITORY:TAG`.
    pub(crate) name: String,
    /// What the container is called.
    pub(crate) container: &'static str,
    /// An image that is installed already.
    pub(crate) known: Option<String>,
}

impl Tool {
    /// As the results name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bedplate => "bedplate",
            Self::Podman => "podman",
            Self::Containerd => "containerd",
            Self::Umoci => "umoci",
            Self::Floor => "floor",
            Self::Skopeo => "skopeo",
        }
    }

    /// Programs that install an image, one after the other.
    fn programs(self, store: &Store, wanted: &Wanted) -> Result<Vec<Program>> {
        let (dir, run) = (store.dir.as_path(), store.run.path());
        let name = &wanted.name;
        let docker = format!("docker://{name}");
        let at = |path: &str| dir.join(path).into_os_string();
        let text = |text: &str| OsString::from(text);
        Ok(match self {
            Self::Bedplate => {
                let install = Program::new(place::BEDPLATE).args(["install", "--no-enable"]);
                let install = install.args(["--name", wanted.container, "--root"]);
                vec![install.args([dir.into(), text(&docker)])]
            }
            Self::Podman => {
                let podman = Program::new("podman").args([text("--root"), at("root")]);
                let podman = podman.args([text("--runroot"), run.join("run").into()]);
                let podman = podman.args([text("--tmpdir"), run.join("tmp").into()]);
                let podman = podman.args(["--storage-driver", "overlay"]);
                let podman = podman.args(["--cgroup-manager", "cgroupfs"]);
                let podman = podman.args(["--events-backend", "none"]);
                vec![podman.args(["pull", "--quiet", "--tls-verify=false", &docker])]
            }
            Self::Containerd => {
                let ctr = Program::new("ctr").args([text("--address"), run.join("socket").into()]);
                vec![ctr.args(["images", "pull", "--plain-http", name])]
            }
            Self::Umoci => {
                let mut layout = at("oci");
                layout.push(format!(":{}", wanted.container));
                let copy = Program::new("skopeo").args(["copy", "--quiet"]);
                let copy = copy.args(["--src-tls-verify=false", &docker]);
                let mut to = text("oci:");
                to.push(&layout);
                let unpack = Program::new("umoci").args(["unpack", "--image"]);
                let bundle = dir.join(wanted.container).into_os_string();
                vec![copy.args([to]), unpack.args([layout, bundle])]
            }
            Self::Floor => {
                let me = std::env::current_exe().context("finding this program")?;
                let floor = Program::new(me).args([text("floor"), dir.into()]);
                vec![floor.args([name]).args(&wanted.known)]
            }
            Self::Skopeo => {
                let inspect = Program::new("skopeo").args(["inspect", "--raw"]);
                vec![inspect.args(["--tls-verify=false", &docker])]
            }
        })
    }
}

impl Store {
    /// Makes an empty one in a directory that is not there yet, and starts what it needs.
    pub(crate) fn new(tool: Tool, dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir)?;
        let group = Group::new()?;
        // Sockets and podman want a short path.
        let run = Builder::new().prefix("bench-").tempdir_in("/run")?;
        let daemon = match tool {
            Tool::Bedplate => {
                host_root(&dir)?;
                None
            }
            Tool::Containerd => Some(containerd(&dir, run.path(), &group)?),
            _ => None,
        };
        Ok(Self {
            tool,
            dir,
            _daemon: daemon,
            group,
            run,
        })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Installs an image.
    pub(crate) fn install(&self, wanted: &Wanted) -> Result<Cost> {
        let log = self.dir.with_extension("log");
        let mut cost = Cost::default();
        for program in self.tool.programs(self, wanted)? {
            cost = cost.then(program.run(&self.group, &log)?);
        }
        Ok(cost)
    }
}

/// What bedplate needs of a host root: systemd's version and a runtime.
fn host_root(dir: &Path) -> Result<()> {
    for folder in [
        "etc/systemd/system",
        "usr/bin",
        "usr/lib/systemd",
        "var/lib",
        "run",
    ] {
        fs::create_dir_all(dir.join(folder))?;
    }
    fs::write(dir.join("usr/lib/systemd/libsystemd-shared-257.so"), "")?;
    let crun = dir.join("usr/bin/crun");
    fs::write(&crun, "#!/bin/sh\n")?;
    fs::set_permissions(crun, Permissions::from_mode(0o755))?;
    Ok(())
}

/// A containerd of the store's own, without what it has for Kubernetes.
fn containerd(dir: &Path, run: &Path, group: &Group) -> Result<Server> {
    let config = dir.join("config.toml");
    let text = format!(
        "version = 2\n\
         root = \"{0}/root\"\n\
         state = \"{1}/state\"\n\
         disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
         [grpc]\naddress = \"{1}/socket\"\n\
         [plugins.\"io.containerd.internal.v1.opt\"]\npath = \"{0}/opt\"\n",
        dir.display(),
        run.display()
    );
    fs::write(&config, text)?;
    let program = Program::new("containerd").args([OsString::from("--config"), config.into()]);
    let log = dir.with_extension("daemon");
    let (server, _) = Server::start(&program, Some(group), "successfully booted", &log)?;
    Ok(server)
}
