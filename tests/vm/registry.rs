//! A registry in a guest's network: Debian's docker-registry on 127.0.0.1:5000, run by the host.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::guest::Guest;
use crate::host;

/// Where it listens; the guests are told that it speaks plain HTTP.
pub(crate) const ADDRESS: &str = "127.0.0.1:5000";

/// A running registry; it is gone when dropped.
#[derive(Debug)]
pub(crate) struct Registry {
    server: Child,
    init: String,
    dir: PathBuf,
}

impl Registry {
    /// Starts one in a guest's network and waits until it listens. Its images lie beside the guest's files and
    /// are there again when it is started again, say after the guest's reboot, which takes the network away.
    pub(crate) fn start(guest: &Guest) -> Result<Self> {
        let dir = guest.dir().join("registry");
        fs::create_dir_all(&dir)?;
        let config = dir.join("config.yml");
        fs::write(&config, configuration(&dir.join("storage")))?;
        let init = guest.init()?;
        let mut server = in_network(&init, "setpriv")
            .args(["--pdeathsig", "KILL", "docker-registry", "serve"])
            .arg(&config)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting docker-registry")?;
        let log = server.stderr.take().context("stderr is a pipe")?;
        let mut kept = File::create(dir.join("log"))?;
        let (listens, listening) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(log).lines().map_while(Result::ok) {
                let _best_effort = writeln!(kept, "{line}");
                if line.contains("listening on") {
                    let _nobody_waits_twice = listens.send(());
                }
            }
        });
        let registry = Self { server, init, dir };
        listening
            .recv_timeout(Duration::from_secs(20))
            .with_context(|| {
                format!("starting a registry, see `{}/log`", registry.dir.display())
            })?;
        Ok(registry)
    }

    /// Copies an image of an OCI layout (`DIR` or `DIR:TAG`) in as `name`, like `etcd:3.5`; its reference.
    pub(crate) fn push(&self, layout: &str, name: &str) -> Result<String> {
        let reference = format!("docker://{ADDRESS}/{name}");
        let mut skopeo = in_network(&self.init, "skopeo");
        skopeo
            .args([
                "--insecure-policy",
                "copy",
                "--quiet",
                "--dest-tls-verify=false",
            ])
            .args([&format!("oci:{layout}"), &reference]);
        let output = skopeo.output().context("running skopeo")?;
        ensure!(
            output.status.success(),
            "pushing `{layout}`: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(reference)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _gone = self.server.kill();
        if let Err(error) = self.server.wait() {
            host::say(&format!("the registry is left over: {error}"));
        }
    }
}

/// A program of the host in a guest's network.
fn in_network(init: &str, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--target", init, "--net", "--", program]);
    command
}

/// What it is told: where its images lie.
pub(crate) fn configuration(storage: &Path) -> String {
    format!(
        "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: '{}'}}, delete: {{enabled: true}}}}\nhttp: {{addr: '{ADDRESS}'}}\n",
        storage.display()
    )
}
