//! The images of the stories: the examples, and small ones whose payload does what a value tells it.
//!
//! All lie in one directory, an OCI layout each, that guests see at [`INSIDE`].

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::host;

/// Where a guest sees them.
pub(crate) const INSIDE: &str = "/images";

/// The small ones: name, and what their `[service]` says beside what all have.
const SMALL: &[(&str, &str)] = &[
    ("payload", ""),
    ("payload-full", "notify = \"full\""),
    // A chain: each requires the one before.
    ("alpha", ""),
    ("beta", "requires = [\"alpha\"]"),
    ("gamma", "requires = [\"beta\"]"),
    ("early", "stage = \"early\""),
    // The role is the story's.
    ("early-late", "stage = \"early\"\nrequires = [\"late\"]"),
    ("online", "requires = [\"network-online\"]"),
];

/// The manifest of a small one.
const MANIFEST: &str = r#"contract = 1
description = "Payload of a story"

[values.SCRIPT]
type = "string"
default = "say up; tell STATUS=working; tell READY=1; wait; say bye"
help = "What it does, step by step"

[values.USER]
type = "string"
default = "0"
help = "Whom it runs as"

[values.START_TIMEOUT]
type = "string"
default = "30s"
help = "Within which it must be ready"

[container]
user = "{{USER}}"
env = { SCRIPT = "{{SCRIPT}}" }
mounts = [{ source = "{{state_dir}}", target = "/data", access = "rw" }]

[service]
type = "notify"
directories = { state = ["{{name}}"] }
start_timeout = "{{START_TIMEOUT}}"
"#;

/// The directory with the small ones in it.
pub(crate) fn small() -> Result<&'static Path> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    host::once(&MADE, || {
        let program = fs::read(host::payload()?)?;
        for (name, service) in SMALL {
            let manifest = format!("{MANIFEST}{service}\n");
            write_layout(
                &directory().join(name),
                &layer(&program, manifest.as_bytes())?,
                &json!({}),
            )
            .with_context(|| format!("making the image `{name}`"))?;
        }
        Ok(directory())
    })
}

/// Among the files of an image: what its configuration has beside its command, in JSON.
pub(crate) const CONFIG: &str = "the image's configuration";

/// An image of a story's own beside the small ones: its manifest, and files that it has beside or instead of theirs.
/// [`CONFIG`] is no file.
pub(crate) fn add(name: &str, manifest: &str, files: &[(&str, &str)]) -> Result<()> {
    let program = fs::read(host::payload()?)?;
    let (configs, files): (Vec<_>, Vec<_>) = files.iter().partition(|(path, _)| *path == CONFIG);
    let config = configs.first().map_or("{}", |(_, text)| text);
    let layer = layer_with(&program, manifest.as_bytes(), &files)?;
    write_layout(
        &directory().join(name),
        &layer,
        &serde_json::from_str(config)?,
    )
    .with_context(|| format!("making the image `{name}`"))
}

/// Another version of a small image, in a directory of the story's: what it does by default, and what its manifest says
/// after `[service]`.
pub(crate) fn version(dir: &Path, script: &str, service: &str) -> Result<()> {
    let program = fs::read(host::payload()?)?;
    let default = r#"default = "say up; tell STATUS=working; tell READY=1; wait; say bye""#;
    let manifest = MANIFEST.replace(default, &format!("default = {script:?}"));
    let manifest = format!("{manifest}{service}\n");
    write_layout(dir, &layer(&program, manifest.as_bytes())?, &json!({}))
}

/// The directory with these examples and the small ones in it.
pub(crate) fn examples(names: &[&str]) -> Result<&'static Path> {
    static MADE: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    for name in names {
        if made.iter().any(|done| done == name) {
            continue;
        }
        let build = host::project(&format!("examples/{name}/build"));
        host::output(build, &[], Some(&directory().join(name)))?;
        made.push((*name).to_owned());
    }
    small()
}

fn directory() -> PathBuf {
    host::target().join("vm-images")
}

/// A layer of the program, what it stands on, and the contract.
fn layer(program: &[u8], manifest: &[u8]) -> Result<Vec<u8>> {
    layer_with(program, manifest, &[])
}

/// As [`layer`], with more files, or others.
fn layer_with(program: &[u8], manifest: &[u8], files: &[(&str, &str)]) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let own = files
        .iter()
        .map(|(path, text)| (*path, 0o644, text.as_bytes()));
    let all = [
        ("payload", 0o755, program),
        ("exports/manifest.toml", 0o644, manifest),
        (
            "etc/passwd",
            0o644,
            b"root:x:0:0::/:/none\nuser:x:1000:1000::/:/none\n",
        ),
        ("etc/group", 0o644, b"root:x:0:\nuser:x:1000:\n"),
    ];
    let theirs = all
        .into_iter()
        .filter(|(path, ..)| files.iter().all(|(other, _)| other != path));
    for (path, mode, content) in theirs.chain(own) {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        header.set_mtime(0);
        archive.append_data(&mut header, path, content)?;
    }
    Ok(archive.into_inner()?)
}

/// An image of one layer as the OCI image layout has it, tagged `latest`.
fn write_layout(dir: &Path, layer: &[u8], more: &Value) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    fs::create_dir_all(dir.join("blobs/sha256"))?;
    let layer = blob(dir, "layer.v1.tar", layer)?;
    let mut own = json!({ "Entrypoint": ["/payload"] });
    for (key, value) in more.as_object().into_iter().flatten() {
        own[key] = value.clone();
    }
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": own,
        "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
    });
    let config = blob(dir, "config.v1+json", config.to_string().as_bytes())?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": [layer],
    });
    write_index(dir, &manifest)
}

/// The image of another layout with a digest of its own, though nothing in it has changed.
pub(crate) fn republish(layout: &Path, version: &str, dir: &Path) -> Result<()> {
    let read = |path: PathBuf| -> Result<Value> {
        let text = fs::read(&path).with_context(|| format!("reading `{}`", path.display()))?;
        Ok(serde_json::from_slice(&text)?)
    };
    let blobs = layout.join("blobs/sha256");
    let index = read(layout.join("index.json"))?;
    let digest = index["manifests"][0]["digest"].as_str();
    let digest = digest.and_then(|digest| digest.strip_prefix("sha256:"));
    let mut manifest = read(blobs.join(digest.context("the index names no manifest")?))?;
    manifest["annotations"]["org.opencontainers.image.version"] = json!(version);
    fs::create_dir_all(dir.join("blobs/sha256"))?;
    for entry in fs::read_dir(&blobs)? {
        let entry = entry?;
        let link = dir.join("blobs/sha256").join(entry.file_name());
        if !link.exists() {
            fs::hard_link(entry.path(), link)?;
        }
    }
    write_index(dir, &manifest)
}

/// The manifest as a blob, and the files that make the layout of it.
fn write_index(dir: &Path, manifest: &Value) -> Result<()> {
    let mut manifest = blob(dir, "manifest.v1+json", manifest.to_string().as_bytes())?;
    manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": "latest" });
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs::write(dir.join("index.json"), index.to_string())?;
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    Ok(())
}

/// Adds content to a layout; what names it.
fn blob(dir: &Path, kind: &str, content: &[u8]) -> Result<Value> {
    let digest = hex(&openssl::sha::sha256(content));
    fs::write(dir.join("blobs/sha256").join(&digest), content)?;
    Ok(json!({
        "mediaType": format!("application/vnd.oci.image.{kind}"),
        "digest": format!("sha256:{digest}"),
        "size": content.len(),
    }))
}

/// This machine's architecture in OCI's words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}
