//! A real registry on a port of its own: Debian's docker-registry, one for all tests, gone with them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;

use crate::host::Host;
use crate::layout::Layout;
use crate::process::{self, DEADLINE};

/// A running registry.
pub(crate) struct Registry {
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
    storage: PathBuf,
}

/// The registry, started by whoever needs it first.
pub(crate) fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(start)
}

/// Its configuration, and where it keeps its images: in memory that nobody else sees and that goes with it.
const SCRIPT: &str = "mount -t tmpfs none /mnt
    cat >/mnt/config.yml <<'END'
version: 0.1
log: {level: info}
storage: {filesystem: {rootdirectory: /mnt}}
http: {addr: '127.0.0.1:0'}
END
    exec docker-registry serve /mnt/config.yml";

fn start() -> Registry {
    let (found, listening) = mpsc::channel();
    // It is killed when the thread that started it ends: this one lives as long as the process.
    thread::spawn(move || {
        let mut server = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--mount"])
            .args(["--propagation", "private", "sh", "-ec", SCRIPT])
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let storage = PathBuf::from(format!("/proc/{}/root/mnt", server.id()));
        let log = BufReader::new(server.stderr.take().unwrap());
        for line in log.lines().map_while(Result::ok) {
            if let Some((_, rest)) = line.split_once("listening on ") {
                let address = rest.split(['"', ',', ' ']).next().unwrap_or_default();
                let registry = Registry {
                    address: address.to_owned(),
                    storage: storage.clone(),
                };
                let _nobody_waits_twice = found.send(registry);
            }
        }
        let _ended = server.wait();
    });
    listening.recv_timeout(DEADLINE).unwrap()
}

impl Registry {
    /// Lets a host's skopeo speak plain HTTP to it, as an operator would.
    pub(crate) fn allow(&self, host: &Host) {
        allow(host, &self.address);
    }

    /// Copies an image in; its reference.
    pub(crate) fn push(&self, layout: &Layout, name: &str) -> String {
        let reference = format!("docker://{}/{name}", self.address);
        let options = [
            "--insecure-policy",
            "copy",
            "--quiet",
            "--dest-tls-verify=false",
        ];
        process::tool(
            "skopeo",
            &[&options[..], &[&layout.reference, &reference]].concat(),
        );
        reference
    }

    /// The file that holds a blob.
    pub(crate) fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        let blobs = self.storage.join("docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }
}

/// Lets a host's skopeo speak plain HTTP to a registry.
pub(crate) fn allow(host: &Host, address: &str) {
    let dir = host.beside("home/.config/containers/registries.conf.d");
    fs::create_dir_all(&dir).unwrap();
    let text = format!("[[registry]]\nlocation = \"{address}\"\ninsecure = true\n");
    fs::write(dir.join(format!("{address}.conf")), text).unwrap();
}
