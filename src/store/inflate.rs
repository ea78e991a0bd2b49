//! From a layer's blob to its tar stream: decompression, and the hash that becomes the diff_id.

use std::io::{self, BufRead, BufReader, Read};
use std::str::FromStr;

use anyhow::{Result, anyhow, bail};
use containers_image_proxy::oci_spec::image::{Digest, DigestAlgorithm, MediaType};
use flate2::bufread::MultiGzDecoder;
use openssl::sha::{Sha256, Sha384, Sha512};

use crate::hash::Hasher;
use crate::hint::Hinted;

/// How much is read from the pipe at once; a pipe holds 64 KiB, skopeo writes 32 KiB.
const BUFFER: usize = 128 * 1024;

/// What the error of a layer that unpacks to too much says.
pub(crate) const OVER_LIMIT: &str = "it unpacks to more than";

/// Refuses layers of a kind that is no tar archive, or is compressed in a way that is not known here.
pub(crate) fn check_media_type(kind: &MediaType) -> Result<()> {
    match kind {
        MediaType::ImageLayer | MediaType::ImageLayerGzip | MediaType::ImageLayerZstd => Ok(()),
        MediaType::ImageLayerNonDistributable
        | MediaType::ImageLayerNonDistributableGzip
        | MediaType::ImageLayerNonDistributableZstd => foreign(kind),
        MediaType::Other(name)
            if name == "application/vnd.docker.image.rootfs.diff.tar.gzip"
                || name == "application/vnd.docker.image.rootfs.diff.tar.zstd"
                || name == "application/vnd.docker.image.rootfs.diff.tar" =>
        {
            Ok(())
        }
        MediaType::Other(name)
            if name.starts_with("application/vnd.docker.image.rootfs.foreign.diff.tar") =>
        {
            foreign(kind)
        }
        MediaType::Other(name) if name.ends_with("+encrypted") => {
            let encrypted: Result<()> = Err(anyhow!("it is encrypted (`{name}`)"));
            encrypted.hint("copy the image with `skopeo copy --decryption-key KEY` first")
        }
        other => bail!("its media type `{other}` is not supported"),
    }
}

fn foreign(kind: &MediaType) -> Result<()> {
    let foreign: Result<()> = Err(anyhow!("it may not be distributed (`{kind}`)"));
    foreign.hint("its files come from elsewhere, and no checksum covers how: use an image without such layers")
}

/// The tar stream in a blob.
///
/// The compression is told by the first bytes, as containers/image does: the manifest of a docker-archive says gzip
/// and its layers are not compressed. Further gzip members and zstd frames are read as well (eStargz,
/// zstd:chunked).
pub(crate) fn inflate<'a>(blob: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let (blob, start) = peek(blob)?;
    if start.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(MultiGzDecoder::new(blob)));
    }
    // A frame, or a skippable frame (RFC 8878) as zstd:chunked may begin with.
    let skippable =
        start.len() >= 4 && start[0] & 0xf0 == 0x50 && start[1..4] == [0x2a, 0x4d, 0x18];
    if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || skippable {
        return Ok(Box::new(zstd::stream::read::Decoder::with_buffer(blob)?));
    }
    Ok(Box::new(blob))
}

/// The first bytes, and the stream with them still to be read.
fn peek<'a>(mut blob: impl Read + 'a) -> io::Result<(impl BufRead + 'a, Vec<u8>)> {
    let mut start = Vec::new();
    blob.by_ref().take(4).read_to_end(&mut start)?;
    let whole = io::Cursor::new(start.clone()).chain(blob);
    Ok((BufReader::with_capacity(BUFFER, whole), start))
}

/// Hashes what is read through it, up to a limit.
pub(crate) struct Hashed<R> {
    stream: R,
    hasher: Hasher,
    expected: Digest,
    limit: u64,
    read: u64,
}

impl<R: Read> Hashed<R> {
    /// A reader whose content must have the digest `expected` and at most `limit` bytes.
    pub(crate) fn new(stream: R, expected: &Digest, limit: u64) -> Result<Self> {
        let hasher = match expected.algorithm() {
            DigestAlgorithm::Sha256 => Hasher::Sha256(Sha256::new()),
            DigestAlgorithm::Sha384 => Hasher::Sha384(Sha384::new()),
            DigestAlgorithm::Sha512 => Hasher::Sha512(Sha512::new()),
            other => bail!("the digest algorithm `{other}` of its diff_id is not supported"),
        };
        Ok(Self {
            stream,
            hasher,
            expected: expected.clone(),
            limit,
            read: 0,
        })
    }

    /// Reads what is left and compares.
    pub(crate) fn verify(mut self) -> Result<()> {
        io::copy(&mut self, &mut io::sink())?;
        let sum = self.hasher.finish();
        let found = format!("{}:{sum}", self.expected.algorithm());
        let found = Digest::from_str(&found)?;
        if found != self.expected {
            bail!(
                "its content has the diff_id {found}, the image's config says {}",
                self.expected
            );
        }
        Ok(())
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.read += read as u64;
        if self.read > self.limit {
            return Err(io::Error::other(format!(
                "{OVER_LIMIT} {} bytes, the most that a layer may have here",
                self.limit
            )));
        }
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_member_and_frame_is_read() {
        let zstd = |data: &[u8]| zstd::stream::encode_all(data, 0).unwrap();
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 9];
        for blob in [
            b"onetwo".to_vec(),
            [gzip(b"one"), gzip(b"two")].concat(),
            [zstd(b"one"), zstd(b"two")].concat(),
            [&skippable[..], &zstd(b"one"), &skippable, &zstd(b"two")].concat(),
        ] {
            let mut text = String::new();
            inflate(&blob[..])
                .unwrap()
                .read_to_string(&mut text)
                .unwrap();
            assert_eq!(text, "onetwo");
        }
    }

    #[test]
    fn garbage_after_a_member_or_a_frame_is_refused() {
        let zstd = zstd::stream::encode_all(&b"one"[..], 0).unwrap();
        for blob in [gzip(b"one"), zstd] {
            let blob = [blob.as_slice(), b"garbage"].concat();
            assert!(
                inflate(&blob[..])
                    .unwrap()
                    .read_to_end(&mut Vec::new())
                    .is_err()
            );
        }
    }

    /// What has been read by then may be all that there is: a checksum is missing, or the last block of nothing.
    #[test]
    fn an_end_before_that_of_the_compression_is_refused() {
        let data = b"one".repeat(100);
        let mut zstd = zstd::Encoder::new(Vec::new(), 0).unwrap();
        zstd.include_checksum(true).unwrap();
        zstd.write_all(&data).unwrap();
        for blob in [gzip(&data), zstd.finish().unwrap()] {
            // With less than its magic number it is not compressed at all.
            for length in 4..blob.len() {
                let read = inflate(&blob[..length]).and_then(|mut stream| {
                    let mut text = Vec::new();
                    stream.read_to_end(&mut text)
                });
                assert!(read.is_err(), "{length} of {}", blob.len());
            }
        }
    }

    #[test]
    fn another_content_or_kind_is_refused() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let digest = Digest::from_str(empty).unwrap();
        Hashed::new(&b""[..], &digest, 0).unwrap().verify().unwrap();
        let error = Hashed::new(&b"xy"[..], &digest, 1).unwrap().verify();
        assert_eq!(
            error.unwrap_err().to_string(),
            "it unpacks to more than 1 bytes, the most that a layer may have here"
        );
        let error = Hashed::new(&b"x"[..], &digest, 1)
            .unwrap()
            .verify()
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "its content has the diff_id sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881, the image's config says {empty}"
            )
        );
        let kind = MediaType::Other("application/vnd.oci.image.layer.v1.tar+xz".into());
        assert_eq!(
            check_media_type(&kind).unwrap_err().to_string(),
            "its media type `application/vnd.oci.image.layer.v1.tar+xz` is not supported"
        );
    }
}
