//! The floor: what an install cannot do without, and no store at all.
//!
//! Each layer by plain HTTP, hashed, inflated, hashed again, and its files made in a directory of the layer's own;
//! a thread for each layer up to the number of cores. Nothing is merged, shared or synced.

use std::collections::HashSet;
use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tar::EntryType;

use crate::layout::{Hashing, inflate};

/// Enough for the writes to be few.
const BUFFER: usize = 256 * 1024;

/// `floor DIR NAME [KNOWN]`: installs the image NAME, `HOST:PORT/REPOSITORY:TAG`, without the layers that KNOWN has.
pub(crate) fn install(arguments: &[String]) -> Result<()> {
    let (dir, name, known) = match arguments {
        [dir, name] => (Path::new(dir), name, None),
        [dir, name, known] => (Path::new(dir), name, Some(known)),
        _ => bail!("floor DIR NAME [KNOWN]"),
    };
    let known = match known {
        Some(name) => layers(name)?.into_iter().map(|l| l.0).collect(),
        None => HashSet::new(),
    };
    let mut wanted = layers(name)?;
    wanted.retain(|(digest, _)| !known.contains(digest));
    let next = AtomicUsize::new(0);
    let threads = thread::available_parallelism()?.get().min(wanted.len());
    let work = || -> Result<()> {
        while let Some((digest, kind)) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            layer(dir, name, digest, kind).with_context(|| digest.clone())?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for thread in running {
            match thread.join() {
                Ok(done) => done?,
                Err(_) => bail!("a thread panicked"),
            }
        }
        Ok(())
    })
}

/// Digest and media type of an image's layers.
fn layers(name: &str) -> Result<Vec<(String, String)>> {
    let tag = name.rsplit(':').next().unwrap_or_default();
    let mut text = Vec::new();
    get(name, &format!("manifests/{tag}"))?.read_to_end(&mut text)?;
    let manifest: Value = serde_json::from_slice(&text)?;
    let list = manifest["layers"].as_array().context("no layers")?;
    let field = |layer: &Value, key: &str| layer[key].as_str().unwrap_or_default().to_owned();
    Ok(list
        .iter()
        .map(|layer| (field(layer, "digest"), field(layer, "mediaType")))
        .collect())
}

/// The body of what a registry has of a repository.
fn get(name: &str, what: &str) -> Result<impl Read + use<>> {
    let (host, rest) = name.split_once('/').context("no host")?;
    let (repository, _) = rest.rsplit_once(':').context("no tag")?;
    let mut stream = TcpStream::connect(host).with_context(|| format!("connecting to {host}"))?;
    write!(
        stream,
        "GET /v2/{repository}/{what} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
         Accept: application/vnd.oci.image.manifest.v1+json\r\n\r\n"
    )?;
    let mut stream = BufReader::with_capacity(BUFFER, stream);
    let mut length = None;
    let mut line = String::new();
    stream.read_line(&mut line)?;
    ensure!(line.contains(" 200 "), "{what}: {}", line.trim());
    while line.trim() != "" {
        line.clear();
        stream.read_line(&mut line)?;
        if let Some((key, value)) = line.split_once(':')
            && key.eq_ignore_ascii_case("content-length")
        {
            length = Some(value.trim().parse()?);
        }
    }
    Ok(stream.take(length.context("no Content-Length")?))
}

/// Fetches and unpacks one.
fn layer(dir: &Path, name: &str, digest: &str, kind: &str) -> Result<()> {
    let mut blob = Hashing::new(get(name, &format!("blobs/{digest}"))?);
    let root = dir.join(digest.rsplit(':').next().unwrap_or_default());
    fs::create_dir(&root)?;
    {
        let stream = BufReader::with_capacity(BUFFER, inflate(kind, &mut blob)?);
        let mut tar = Hashing::new(stream);
        unpack(&mut tar, &root)?;
        io::copy(&mut tar, &mut io::sink())?;
        let _diff_id = tar.finish();
    }
    io::copy(&mut blob, &mut io::sink())?;
    let (_, found, _) = blob.finish();
    ensure!(found == digest, "the blob is {found}");
    Ok(())
}

/// Makes an archive's files.
fn unpack(tar: impl Read, root: &Path) -> Result<()> {
    let mut made: HashSet<PathBuf> = HashSet::new();
    let mut buffer = vec![0; BUFFER];
    for entry in tar::Archive::new(tar).entries()? {
        let mut entry = entry?;
        let path = below(root, &entry.path()?);
        if let Some(parent) = path.parent()
            && !made.contains(parent)
        {
            fs::create_dir_all(parent)?;
            made.insert(parent.to_owned());
        }
        match entry.header().entry_type() {
            EntryType::Directory => fs::create_dir_all(&path)?,
            EntryType::Symlink => {
                let target = entry.link_name()?.context("a link without a target")?;
                symlink(target, &path)?;
            }
            EntryType::Link => {
                let target = entry.link_name()?.context("a link without a target")?;
                fs::hard_link(below(root, &target), &path)?;
            }
            EntryType::Regular | EntryType::Continuous => {
                let mut file = File::create_new(&path)?;
                loop {
                    let length = entry.read(&mut buffer)?;
                    if length == 0 {
                        break;
                    }
                    file.write_all(&buffer[..length])?;
                }
                let mode = entry.header().mode()?;
                file.set_permissions(Permissions::from_mode(mode))?;
            }
            // What a layer of Debian packages does not have.
            _ => {}
        }
    }
    Ok(())
}

/// A path of an archive, in a directory.
fn below(root: &Path, path: &Path) -> PathBuf {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    let mut found = root.to_owned();
    found.extend(parts);
    found
}
