//! What an OCI layout is made of, and a host beside one of which a test makes each piece: descriptor, config, manifest
//! and index as it wants them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use openssl::sha::sha256;
use serde_json::{Value, json};

use crate::host::{Host, listing};
use crate::process;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The architecture of this machine.
pub(crate) const HERE: &str = if cfg!(target_arch = "aarch64") {
    "arm64"
} else {
    "amd64"
};

/// What an image need not have: places for what a container finds at its start.
const TARGETS: &[&str] = &[
    "dev",
    "etc",
    "etc/hosts",
    "etc/localtime",
    "etc/machine-id",
    "etc/resolv.conf",
    "proc",
    "run",
    "sys",
    "tmp",
];

/// A layout that is written piece by piece.
pub(crate) struct Pieces {
    pub(crate) host: Host,
    dir: PathBuf,
}

impl Pieces {
    pub(crate) fn new() -> Self {
        let host = Host::new();
        let dir = host.beside("pieces");
        begin(&dir);
        Self { host, dir }
    }

    pub(crate) fn blob(&self, kind: &str, bytes: &[u8]) -> Value {
        blob(&self.dir, kind, bytes)
    }

    pub(crate) fn json(&self, kind: &str, value: &Value) -> Value {
        self.blob(kind, value.to_string().as_bytes())
    }

    /// The config of an image with these layers' tar streams.
    pub(crate) fn config(architecture: &str, tars: &[&[u8]]) -> Value {
        let diff_ids: Vec<_> = tars.iter().map(|tar| digest(tar)).collect();
        json!({ "architecture": architecture, "os": "linux", "config": { "Entrypoint": ["/which"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids } })
    }

    pub(crate) fn manifest(&self, config: &Value, layers: &[Value]) -> Value {
        json!({ "schemaVersion": 2, "mediaType": MANIFEST,
            "config": self.json(CONFIG, config), "layers": layers })
    }

    /// The manifest of an image for this machine whose layers these tar streams are.
    pub(crate) fn manifest_of(&self, tars: &[&[u8]]) -> Value {
        let layers: Vec<_> = tars.iter().map(|tar| self.blob(LAYER, tar)).collect();
        self.manifest(&Self::config(HERE, tars), &layers)
    }

    /// An image of one layer for an architecture.
    pub(crate) fn image(&self, architecture: &str, content: &str) -> Value {
        let tar = tar(&[("which", content)]);
        let layer = self.blob(LAYER, &tar);
        let config = Self::config(architecture, &[&tar]);
        self.json(MANIFEST, &self.manifest(&config, &[layer]))
    }

    pub(crate) fn index(&self, manifests: &[Value]) -> Value {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        self.json(INDEX, &index)
    }

    /// Gives what the descriptor is of a name; the reference.
    pub(crate) fn tag(&self, mut descriptor: Value, name: &str) -> String {
        descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        let path = self.dir.join("index.json");
        let mut index = fs::read(&path).map_or_else(
            |_| json!({ "schemaVersion": 2, "manifests": [] }),
            |text| serde_json::from_slice(&text).unwrap(),
        );
        index["manifests"].as_array_mut().unwrap().push(descriptor);
        fs::write(path, index.to_string()).unwrap();
        format!("oci:{}:{name}", self.dir.display())
    }

    /// Where the files of an installed image lie.
    pub(crate) fn rootfs(&self, name: &str) -> PathBuf {
        let path = format!("var/lib/bedplate/containers/{name}/1/rootfs");
        self.host.at(&path)
    }

    pub(crate) fn install(&self, name: &str, options: &[&str], reference: &str) {
        let args = [&["install", "--name", name], options, &[reference]].concat();
        self.host.ok(&args);
        self.host.ok(&["verify", name]);
    }

    /// The text of `which` in the image that was chosen.
    pub(crate) fn which(&self, name: &str, options: &[&str], reference: &str) -> String {
        self.install(name, options, reference);
        fs::read_to_string(self.rootfs(name).join("which")).unwrap()
    }

    /// Installs it: each file is as umoci unpacks it, itself, its attributes and its content.
    pub(crate) fn is_what_umoci_unpacks(&self, name: &str, reference: &str) {
        self.install(name, &[], reference);
        let image = reference.trim_start_matches("oci:");
        let unpacked = self.host.beside(&format!("umoci-{name}"));
        let to = unpacked.to_str().unwrap();
        process::tool("umoci", &["unpack", "--image", image, to]);
        let mut ours = listing(&self.rootfs(name));
        let theirs = listing(&unpacked.join("rootfs"));
        let is_target = |path: &Path| TARGETS.iter().any(|target| path == Path::new(target));
        ours.retain(|path, _| theirs.contains_key(path) || !is_target(path));
        assert_eq!(ours, theirs, "{name}");
    }

    /// Fails to pull; the whole message, this layout as `DIR`.
    pub(crate) fn refused(&self, reference: &str) -> String {
        let said = self.host.fails(&["pull", reference]);
        said.replace(self.dir.to_str().unwrap(), "DIR")
    }
}

/// An archive of files.
pub(crate) fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_000_000_000);
        builder
            .append_data(&mut header, name, content.as_bytes())
            .unwrap();
    }
    builder.into_inner().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A layout with nothing in it.
pub(crate) fn begin(dir: &Path) {
    fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

/// Adds a blob to a layout; its descriptor.
pub(crate) fn blob(dir: &Path, kind: &str, bytes: &[u8]) -> Value {
    let digest = digest(bytes);
    let hex = digest.strip_prefix("sha256:").unwrap();
    fs::write(dir.join("blobs/sha256").join(hex), bytes).unwrap();
    json!({ "mediaType": kind, "digest": digest, "size": bytes.len() })
}

/// The bytes' digest, `sha256:HEX`.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let bytes = sha256(bytes);
    bytes
        .iter()
        .fold("sha256:".to_owned(), |text, b| text + &format!("{b:02x}"))
}
