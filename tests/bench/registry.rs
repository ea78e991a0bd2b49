//! The registry that every tool pulls from: Debian's docker-registry on a port of its own. Its images are kept.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::accounting::{self, Program};
use crate::layout::Layout;
use crate::place;
use crate::server::Server;

/// A running registry.
#[derive(Debug)]
pub(crate) struct Registry {
    _server: Server,
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
    /// A line for each request.
    requests: PathBuf,
}

impl Registry {
    /// Starts it, and lets every tool of the bench speak plain HTTP to it.
    pub(crate) fn start() -> Result<Self> {
        let dir = place::dir().join("registry");
        fs::create_dir_all(&dir)?;
        let config = dir.join("config.yml");
        let storage = dir.join("storage");
        fs::write(
            &config,
            format!(
                "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: '{}'}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n",
                storage.display()
            ),
        )?;
        let program =
            Program::new("docker-registry").args(["serve".into(), config.into_os_string()]);
        let log = dir.join("log");
        let (server, line) = Server::start(&program, None, "listening on ", &log)?;
        let (_, rest) = line.split_once("listening on ").unwrap_or_default();
        let address = rest.split(['"', ',', ' ']).next().unwrap_or_default();
        let folder = place::home().join(".config/containers/registries.conf.d");
        fs::create_dir_all(&folder)?;
        fs::write(
            folder.join("bench.conf"),
            format!("[[registry]]\nlocation = \"{address}\"\ninsecure = true\n"),
        )?;
        Ok(Self {
            _server: server,
            address: address.to_owned(),
            requests: log.with_extension("out"),
        })
    }

    /// The name of an image there, without a transport.
    pub(crate) fn name(&self, tag: &str) -> String {
        format!("{}/bench/{tag}", self.address)
    }

    /// Copies an image in, blob for blob; what is there already is not copied.
    pub(crate) fn push(&self, layout: &Layout, tag: &str) -> Result<()> {
        let mut skopeo = Command::new("skopeo");
        skopeo
            .args([
                "--insecure-policy",
                "copy",
                "--quiet",
                "--dest-tls-verify=false",
            ])
            .arg(format!("oci:{}:latest", layout.dir().display()))
            .arg(format!("docker://{}", self.name(tag)));
        accounting::output(&mut skopeo).with_context(|| format!("pushing {tag}"))?;
        Ok(())
    }

    /// How many blobs it has handed out so far.
    pub(crate) fn blobs(&self) -> Result<usize> {
        let log = fs::read_to_string(&self.requests)?;
        let fetched = |line: &&str| {
            line.contains("\"GET /v2/") && line.contains("/blobs/") && line.contains("\" 200 ")
        };
        Ok(log.lines().filter(fetched).count())
    }
}
