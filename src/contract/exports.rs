//! Reads `/exports` of a checked-out image. The image is hostile: no link is followed, nothing but regular files is
//! opened, and nothing larger than its bound is read.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, anyhow, bail};

use crate::contract::problems::did_you_mean;
use crate::contract::{HostContent, HostFile, Template, Templates};
use crate::root::{Kind, Root};

const EXPORTS: &str = "/exports";
const HOSTFS: &str = "/exports/hostfs";

/// The largest manifest or template.
const TEXT_MAX: u64 = 1024 * 1024;
/// The largest `hostfs/`, all files together.
const HOSTFS_MAX: u64 = 64 * 1024 * 1024;
/// The most files, links and directories in `hostfs/`.
const ENTRIES_MAX: usize = 10_000;

/// What may lie in `/exports`, beside `README*`, and what it is.
pub const FILES: [(&str, &str); 8] = [
    (
        "config.json.hbs",
        "Template of the OCI runtime configuration; absent: it is made from the image's and `[container]`",
    ),
    ("hostfs", "Files for the host, by their paths on it"),
    (
        "manifest.toml",
        "The manifest; absent: every key has its default",
    ),
    ("path.hbs", "Template of the unit `NAME.path`"),
    (
        "service.hbs",
        "Template of the unit `NAME.service`; absent: it is made from `[service]`",
    ),
    ("socket.hbs", "Template of the unit `NAME.socket`"),
    ("timer.hbs", "Template of the unit `NAME.timer`"),
    ("tmpfiles.hbs", "Template of lines for tmpfiles.d(5)"),
];

/// An image's `/exports`, which is there and is a directory.
pub(crate) struct Exports<'a> {
    root: &'a Root,
}

/// `hostfs/`: what becomes a host file, and every path in it.
#[derive(Default)]
pub(crate) struct HostTree {
    /// Files, links and empty directories.
    pub(crate) files: Vec<HostFile>,
    /// What lies at each path.
    pub(crate) kinds: BTreeMap<String, Kind>,
    bytes: u64,
}

impl<'a> Exports<'a> {
    /// The image's `/exports`, if it has one.
    pub(crate) fn open(root: &'a Root) -> Result<Option<Self>> {
        match root.kind(EXPORTS)? {
            None => Ok(None),
            Some(Kind::Dir) => Ok(Some(Self { root })),
            Some(_) => bail!("reading `{EXPORTS}`: it is no directory"),
        }
    }

    /// An error for each file in it that no contract knows.
    pub(crate) fn strangers(&self) -> Result<Vec<anyhow::Error>> {
        let names = self.root.list(EXPORTS)?;
        let names = names.iter().map(|name| name.to_string_lossy());
        let known = FILES.map(|(name, _)| name);
        let strange = names.filter(|n| !known.contains(&n.as_ref()) && !n.starts_with("README"));
        let errors = strange.map(|name| {
            let meant = did_you_mean(&name, known);
            let name = name.escape_debug();
            anyhow!("reading `{EXPORTS}`: `{name}` is no file of the contract{meant}")
        });
        Ok(errors.collect())
    }

    /// The text of `manifest.toml`.
    pub(crate) fn manifest(&self) -> Result<Option<String>> {
        self.text("manifest.toml")
    }

    /// All templates; what cannot be read is an error and counts as absent.
    pub(crate) fn templates(&self) -> (Templates, Vec<(String, anyhow::Error)>) {
        let mut errors = Vec::new();
        let mut template = |name: &str| {
            let read = self.template(name);
            read.unwrap_or_else(|error| {
                errors.push((format!("exports/{name}"), error));
                None
            })
        };
        let templates = Templates {
            service: template("service.hbs"),
            socket: template("socket.hbs"),
            timer: template("timer.hbs"),
            path: template("path.hbs"),
            tmpfiles: template("tmpfiles.hbs"),
            config: template("config.json.hbs"),
        };
        (templates, errors)
    }

    fn template(&self, name: &str) -> Result<Option<Template>> {
        let name = name.to_owned();
        Ok(self.text(&name)?.map(|text| Template { name, text }))
    }

    fn text(&self, name: &str) -> Result<Option<String>> {
        let path = format!("{EXPORTS}/{name}");
        let reading = || format!("reading `{path}`");
        match self.root.kind(&path)? {
            None => return Ok(None),
            Some(Kind::File) => {}
            Some(_) => bail!("reading `{path}`: it is no regular file"),
        }
        if self.metadata(&path)?.size() > TEXT_MAX {
            bail!("reading `{path}`: it is larger than 1 MiB");
        }
        let bytes = self.root.read(&path)?.unwrap_or_default();
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let before = error.as_bytes().iter().take(valid);
            let line = 1 + before.filter(|byte| **byte == b'\n').count();
            anyhow!("line {line}: it is no UTF-8")
        });
        text.map(Some).with_context(reading)
    }

    /// All of `hostfs/`, parents first.
    pub(crate) fn hostfs(&self) -> Result<HostTree> {
        let mut tree = HostTree::default();
        match self.root.kind(HOSTFS)? {
            None => {}
            Some(Kind::Dir) => self.walk("", &mut tree)?,
            Some(_) => bail!("reading `{HOSTFS}`: it is no directory"),
        }
        Ok(tree)
    }

    /// Reads the directory `dir` of `hostfs/`, which has been seen to be one.
    fn walk(&self, dir: &str, tree: &mut HostTree) -> Result<()> {
        for name in self.root.list(format!("{HOSTFS}{dir}"))? {
            let Some(name) = name.to_str().filter(|n| !n.contains(char::is_control)) else {
                let name = name.to_string_lossy();
                let name = name.escape_debug();
                bail!("reading `{HOSTFS}{dir}`: the name `{name}` is no plain UTF-8");
            };
            let path = format!("{dir}/{name}");
            if tree.kinds.len() >= ENTRIES_MAX {
                bail!("reading `{HOSTFS}`: it holds more than {ENTRIES_MAX} files");
            }
            let exported = format!("{HOSTFS}{path}");
            let kind = self.root.kind(&exported)?.unwrap_or(Kind::Other);
            tree.kinds.insert(path.clone(), kind);
            let content = match kind {
                Kind::Dir => {
                    let before = tree.kinds.len();
                    self.walk(&path, tree)?;
                    if tree.kinds.len() > before {
                        continue;
                    }
                    HostContent::Dir
                }
                Kind::File => HostContent::File(self.file(&exported, tree)?),
                Kind::Link => {
                    let target = self.root.link_target(&exported)?.unwrap_or_default();
                    HostContent::Link(target)
                }
                Kind::Other => {
                    bail!("reading `{exported}`: it is no file, directory or symbolic link")
                }
            };
            let file = self.host_file(path, content)?;
            tree.files.push(file);
        }
        Ok(())
    }

    fn file(&self, exported: &str, tree: &mut HostTree) -> Result<Vec<u8>> {
        tree.bytes += self.metadata(exported)?.size();
        if tree.bytes > HOSTFS_MAX {
            bail!("reading `{HOSTFS}`: its files are larger than 64 MiB");
        }
        Ok(self.root.read(exported)?.unwrap_or_default())
    }

    fn host_file(&self, path: String, content: HostContent) -> Result<HostFile> {
        let exported = format!("{HOSTFS}{path}");
        let metadata = self.metadata(&exported)?;
        let mode = metadata.mode() & 0o7777;
        if mode & 0o6000 != 0 {
            bail!("reading `{exported}`: a file for the host may not be setuid or setgid");
        }
        Ok(HostFile {
            target: path.clone(),
            path,
            mode,
            uid: metadata.uid(),
            gid: metadata.gid(),
            content,
            template: false,
        })
    }

    /// Owner, mode and size. Every directory above has been seen to be one and no link, and nobody else writes to
    /// the checkout: the path as this process sees it is the one that was looked at.
    fn metadata(&self, path: &str) -> Result<Metadata> {
        self.root
            .outside(path)
            .symlink_metadata()
            .with_context(|| format!("reading `{path}`"))
    }
}
