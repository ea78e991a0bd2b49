//! An image as an OCI layout on disk.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use openssl::sha::Sha256;
use serde_json::{Value, json};

use crate::accounting;

/// A layout with one image.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    dir: PathBuf,
}

/// A layer as the manifest has it.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub(crate) digest: String,
    pub(crate) diff_id: String,
    pub(crate) size: u64,
    pub(crate) media_type: String,
}

impl Layout {
    /// One that is there.
    pub(crate) fn at(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file of a blob.
    pub(crate) fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.rsplit(':').next().unwrap_or_default();
        self.dir.join("blobs/sha256").join(hex)
    }

    /// The digest of the manifest.
    pub(crate) fn digest(&self) -> Result<String> {
        let index = accounting::json(&self.dir.join("index.json"))?;
        let digest = index["manifests"][0]["digest"].as_str();
        Ok(digest.context("its index names no manifest")?.to_owned())
    }

    /// Its config and its layers, lowest first.
    pub(crate) fn image(&self) -> Result<(Value, Vec<Layer>)> {
        let manifest = accounting::json(&self.blob(&self.digest()?))?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let config = accounting::json(&self.blob(&text(&manifest["config"]["digest"])))?;
        let none = Vec::new();
        let list = manifest["layers"].as_array().unwrap_or(&none);
        let layers = list.iter().enumerate().map(|(i, layer)| Layer {
            digest: text(&layer["digest"]),
            diff_id: text(&config["rootfs"]["diff_ids"][i]),
            size: layer["size"].as_u64().unwrap_or_default(),
            media_type: text(&layer["mediaType"]),
        });
        Ok((config.clone(), layers.collect()))
    }

    /// Writes what is not a layer: the config with these layers, the manifest, the index.
    pub(crate) fn seal(&self, mut config: Value, layers: &[Layer]) -> Result<()> {
        config["rootfs"]["diff_ids"] = layers.iter().map(|l| l.diff_id.clone()).collect();
        // One line for each layer, or none at all.
        config["history"] = json!([]);
        let config = self.store("application/vnd.oci.image.config.v1+json", &config)?;
        let list: Vec<Value> = layers
            .iter()
            .map(|l| json!({"mediaType": l.media_type, "digest": l.digest, "size": l.size}))
            .collect();
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest =
            json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": list});
        let mut manifest = self.store(kind, &manifest)?;
        manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});
        fs::write(self.dir.join("index.json"), index.to_string())?;
        fs::write(
            self.dir.join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )?;
        Ok(())
    }

    fn store(&self, media_type: &str, content: &Value) -> Result<Value> {
        let text = content.to_string();
        let digest = format!("sha256:{}", hex(&openssl::sha::sha256(text.as_bytes())));
        fs::write(self.blob(&digest), &text)?;
        Ok(json!({"mediaType": media_type, "digest": digest, "size": text.len()}))
    }
}

/// Counts and hashes what passes.
pub(crate) struct Hashing<T> {
    inner: T,
    sha: Sha256,
    length: u64,
}

impl<T> Hashing<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self {
            inner,
            sha: Sha256::new(),
            length: 0,
        }
    }

    /// What it was, its digest and its length.
    pub(crate) fn finish(self) -> (T, String, u64) {
        let digest = format!("sha256:{}", hex(&self.sha.finish()));
        (self.inner, digest, self.length)
    }

    fn saw(&mut self, bytes: &[u8]) {
        self.sha.update(bytes);
        self.length += bytes.len() as u64;
    }
}

impl<T: Read> Read for Hashing<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.saw(&buffer[..length]);
        Ok(length)
    }
}

impl<T: Write> Write for Hashing<T> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(buffer)?;
        self.saw(&buffer[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A layer's tar stream.
pub(crate) fn inflate<'a>(media_type: &str, from: impl Read + 'a) -> Result<Box<dyn Read + 'a>> {
    Ok(match media_type.rsplit('+').next() {
        Some("gzip") => Box::new(flate2::read::MultiGzDecoder::new(from)),
        Some("zstd") => Box::new(zstd::stream::read::Decoder::new(from)?),
        _ => Box::new(from),
    })
}

/// Opens a blob.
pub(crate) fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("opening `{}`", path.display()))
}

/// In lower case.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}
