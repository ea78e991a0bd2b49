//! Images made from another one: with a small layer on top, compressed otherwise, rebuilt.

use std::fs::{self, File};
use std::io::{self, BufWriter, Cursor, Read, Write};
use std::ops::RangeInclusive;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use crate::layout::{self, Hashing, Layer, Layout};

/// How layers are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    Gzip,
    Zstd,
}

/// So many files of an image that was rebuilt differ.
const FEW: RangeInclusive<usize> = 1..=50;
/// Of so many files of a rebuilt layer one differs.
const ONE_IN: usize = 700;
/// A rebuilt layer's files are so much younger, in seconds.
const LATER: u64 = 30 * 24 * 3600;

/// What the names of images depend on beside their source: how they are made.
pub(crate) const RECIPE: &str = include_str!("derive.rs");

/// The image with a small layer of configuration on top, of this edition.
pub(crate) fn with_small_layer(from: &Layout, to: &Path, edition: &str) -> Result<()> {
    let (config, mut layers) = from.image()?;
    let made = begin(to)?;
    for layer in &layers {
        keep(from, &made, layer)?;
    }
    let tar = small_layer(edition)?;
    layers.push(put(&made, Codec::Gzip, |to| Ok(to.write_all(&tar)?))?);
    made.seal(config, &layers)
}

/// An image of one layer.
pub(crate) fn of_one_layer(to: &Path, config: Value, tar: &[u8]) -> Result<()> {
    let made = begin(to)?;
    let layer = put(&made, Codec::Gzip, |to| Ok(to.write_all(tar)?))?;
    made.seal(config, &[layer])
}

/// The image with its layers compressed another way.
pub(crate) fn recompressed(from: &Layout, to: &Path, codec: Codec) -> Result<()> {
    each_layer(from, to, codec, |tar, to| Ok(io::copy(tar, to).map(drop)?))
}

/// The image as the next nightly build makes it: every layer is another one, hardly a file differs.
pub(crate) fn rebuilt(from: &Layout, to: &Path) -> Result<()> {
    let mut changed = 0;
    each_layer(from, to, Codec::Gzip, |tar, to| {
        changed += rebuild(tar, to)?;
        Ok(())
    })?;
    ensure!(
        FEW.contains(&changed),
        "{changed} files differ, not {FEW:?}"
    );
    let (old, new) = (from.image()?.1, Layout::at(to).image()?.1);
    let same = |a: &Layer, b: &Layer| a.digest == b.digest || a.diff_id == b.diff_id;
    let kept = old.iter().find(|old| new.iter().any(|new| same(old, new)));
    ensure!(kept.is_none(), "it has a layer of the old one: {kept:?}");
    Ok(())
}

fn each_layer(
    from: &Layout,
    to: &Path,
    codec: Codec,
    mut change: impl FnMut(&mut dyn Read, &mut dyn Write) -> Result<()>,
) -> Result<()> {
    let (config, layers) = from.image()?;
    let made = begin(to)?;
    let mut new = Vec::new();
    for layer in &layers {
        let blob = layout::open(&from.blob(&layer.digest))?;
        let mut tar = layout::inflate(&layer.media_type, blob)?;
        new.push(put(&made, codec, |to| change(&mut tar, to))?);
    }
    made.seal(config, &new)
}

fn begin(dir: &Path) -> Result<Layout> {
    fs::create_dir_all(dir.join("blobs/sha256"))?;
    Ok(Layout::at(dir))
}

/// Takes a layer over as it is.
fn keep(from: &Layout, to: &Layout, layer: &Layer) -> Result<()> {
    let (old, new) = (from.blob(&layer.digest), to.blob(&layer.digest));
    fs::hard_link(&old, &new)
        .or_else(|_| fs::copy(&old, &new).map(drop))
        .with_context(|| format!("copying `{}`", old.display()))
}

/// Writes a layer.
fn put(
    to: &Layout,
    codec: Codec,
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<Layer> {
    let new = to.dir().join("new");
    let blob = Hashing::new(BufWriter::new(File::create(&new)?));
    let (blob, diff_id, media_type) = match codec {
        Codec::Gzip => {
            let mut tar = Hashing::new(GzEncoder::new(blob, Compression::default()));
            write(&mut tar)?;
            let (encoder, diff_id, _) = tar.finish();
            (encoder.finish()?, diff_id, "tar+gzip")
        }
        Codec::Zstd => {
            let mut tar = Hashing::new(zstd::stream::write::Encoder::new(blob, 3)?);
            write(&mut tar)?;
            let (encoder, diff_id, _) = tar.finish();
            (encoder.finish()?, diff_id, "tar+zstd")
        }
    };
    let (mut file, digest, size) = blob.finish();
    file.flush()?;
    fs::rename(&new, to.blob(&digest))?;
    Ok(Layer {
        digest,
        diff_id,
        size,
        media_type: format!("application/vnd.oci.image.layer.v1.{media_type}"),
    })
}

/// Copies an archive member for member: each is younger, and of some documents a byte differs; of how many.
fn rebuild(from: &mut dyn Read, to: &mut dyn Write) -> Result<usize> {
    let mut builder = tar::Builder::new(to);
    let (mut documents, mut changed) = (0_usize, 0);
    for entry in tar::Archive::new(from).entries()?.raw(true) {
        let mut entry = entry?;
        let mut header = entry.header().clone();
        header.set_mtime(header.mtime()? + LATER);
        header.set_cksum();
        let path = header.path_bytes().into_owned();
        let document = path.starts_with(b"usr/share/") && header.entry_type().is_file();
        documents += usize::from(document && entry.size() > 0);
        if document && entry.size() > 0 && documents % ONE_IN == 1 {
            let mut first = [0];
            entry.read_exact(&mut first)?;
            let first = Cursor::new([first[0] ^ 1]);
            changed += 1;
            builder.append(&header, first.chain(entry))?;
        } else {
            builder.append(&header, entry)?;
        }
    }
    builder.finish()?;
    Ok(changed)
}

/// A hundred kilobytes in twenty files.
fn small_layer(edition: &str) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for number in 0..20 {
        let line = format!("{edition}: setting {number} of the service, as this site wants it\n");
        let text = line.repeat(5000 / line.len());
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        let path = format!("usr/share/site/{number:02}.conf");
        archive.append_data(&mut header, path, text.as_bytes())?;
    }
    Ok(archive.into_inner()?)
}
