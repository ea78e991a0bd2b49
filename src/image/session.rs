//! One image opened in one skopeo.

use std::ffi::OsString;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use containers_image_proxy::ConvertedLayerInfo;
use containers_image_proxy::oci_spec::image::Descriptor;
use serde_json::{Value, json};

use crate::image::proxy::{Failure, Proxy};
use crate::image::stream::BlobReader;
use crate::image::turn::{Reply, Turn};

/// Protocol versions: the oldest that serves us, and those that know the layers of the local storage.
const OLDEST: (u64, u64, u64) = (0, 2, 3);
const LAYER_INFO: (u64, u64, u64) = (0, 2, 5);
const LAYER_INFO_PIPED: (u64, u64, u64) = (0, 2, 7);

/// An open image.
pub(crate) struct Session {
    proxy: Arc<Proxy>,
    image: Value,
}

impl Session {
    /// Opens what skopeo knows by this name.
    pub(crate) fn open(
        name: &str,
        skopeo: Option<Command>,
        options: Vec<OsString>,
        limit: Duration,
    ) -> Result<Self, Failure> {
        let proxy = Proxy::start(skopeo, options, limit)?;
        if proxy.version() < OLDEST {
            return Err(Failure::Speech(
                "this skopeo is too old: 1.9.3 or newer is needed".to_owned(),
            ));
        }
        let opened = Turn::take(&*proxy)?.ask("OpenImage", &json!([name]))?;
        Ok(Self {
            proxy,
            image: opened.value,
        })
    }

    /// Whether it still serves.
    pub(crate) fn is_alive(&self) -> bool {
        self.proxy.is_alive()
    }

    /// Ends it at once.
    pub(crate) fn end(&self) {
        self.proxy.kill();
    }

    /// Lets it end.
    pub(crate) fn dismiss(&self) {
        self.proxy.dismiss();
    }

    /// The manifest in OCI's form, and the digest that the source's own form has.
    pub(crate) fn manifest(&self) -> Result<(String, Vec<u8>), Failure> {
        let reply = self.ask("GetManifest")?;
        let digest = reply.value.as_str().unwrap_or_default().to_owned();
        Ok((digest, self.all(reply)?))
    }

    /// Whether what was opened is the manifest itself, for sure: it is all that a registry was asked for, and so no
    /// index has led to it.
    pub(crate) fn is_direct(&self) -> bool {
        self.proxy.manifests() == 1
    }

    /// The image's config.
    pub(crate) fn config(&self) -> Result<Vec<u8>, Failure> {
        let reply = self.ask("GetFullConfig")?;
        self.all(reply)
    }

    /// The layers as the source has them, where it differs from the manifest; older ones cannot tell.
    pub(crate) fn layers(&self) -> Result<Option<Vec<Descriptor>>, Failure> {
        let version = self.proxy.version();
        let found: Vec<ConvertedLayerInfo> = if version >= LAYER_INFO_PIPED {
            let reply = self.ask("GetLayerInfoPiped")?;
            serde_json::from_slice(&self.all(reply)?).map_err(Failure::speech)?
        } else if version >= LAYER_INFO {
            serde_json::from_value(self.ask("GetLayerInfo")?.value).map_err(Failure::speech)?
        } else {
            return Ok(None);
        };
        let layers = found.into_iter();
        Ok(Some(
            layers
                .map(|l| Descriptor::new(l.media_type, l.size, l.digest))
                .collect(),
        ))
    }

    /// The size of a blob of the local storage, which knows it better than the image's manifest does.
    pub(crate) fn size(&self, digest: &str) -> Result<u64, Failure> {
        let args = json!([self.image, digest, 0]);
        // What would come through the pipe is not read.
        let reply = Turn::take(&*self.proxy)?.ask("GetBlob", &args)?;
        let size = reply.value.as_u64();
        size.ok_or_else(|| Failure::speech(format!("the blob {digest} of unknown size")))
    }

    /// Begins to read a blob, whose size and digest skopeo verifies.
    pub(crate) fn blob(&self, blob: &Descriptor) -> Result<BlobReader, Failure> {
        let args = json!([self.image, blob.digest().to_string(), blob.size()]);
        let reply = Turn::take(&*self.proxy)?.ask("GetBlob", &args)?;
        BlobReader::new(Arc::clone(&self.proxy), reply, Some(blob))
    }

    fn ask(&self, method: &str) -> Result<Reply, Failure> {
        Turn::take(&*self.proxy)?.ask(method, &json!([self.image]))
    }

    fn all(&self, reply: Reply) -> Result<Vec<u8>, Failure> {
        BlobReader::new(Arc::clone(&self.proxy), reply, None)?.all()
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "the tests bring their own files and a skopeo that does nothing"
)]
mod tests {
    use std::io::Read;
    use std::path::Path;
    use std::str::FromStr;

    use containers_image_proxy::oci_spec::image::{Digest, MediaType};

    use super::*;
    use crate::hash::hex;

    const LIMIT: Duration = Duration::from_mins(1);

    fn write(dir: &Path, bytes: &[u8]) -> Descriptor {
        let name = hex(&crate::hash::sha256(bytes));
        std::fs::write(dir.join("blobs/sha256").join(&name), bytes).unwrap();
        let digest = Digest::from_str(&format!("sha256:{name}")).unwrap();
        Descriptor::new(MediaType::ImageLayerGzip, bytes.len() as u64, digest)
    }

    /// A layout with layers of these bytes.
    fn layout(dir: &Path, layers: &[Vec<u8>]) -> Vec<Descriptor> {
        std::fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        let layers: Vec<_> = layers.iter().map(|bytes| write(dir, bytes)).collect();
        let ids: Vec<_> = layers.iter().map(|l| l.digest().to_string()).collect();
        let config = json!({ "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": { "type": "layers", "diff_ids": ids } });
        let config = write(dir, config.to_string().as_bytes());
        let manifest = json!({ "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": config.digest().to_string(), "size": config.size() },
            "layers": layers });
        let manifest = write(dir, manifest.to_string().as_bytes());
        let index = json!({ "schemaVersion": 2, "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": manifest.digest().to_string(), "size": manifest.size() }] });
        std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
        std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        layers
    }

    fn pattern(seed: u8, length: usize) -> Vec<u8> {
        (0..=250).cycle().map(|i| seed ^ i).take(length).collect()
    }

    #[test]
    fn blobs_are_read_side_by_side_and_judged() {
        let dir = tempfile::tempdir().unwrap();
        let contents: Vec<_> = (0..6).map(|seed| pattern(seed, 3_000_000)).collect();
        let mut layers = layout(dir.path(), &contents);
        let path = |layer: &Descriptor| {
            let digest = layer.digest().digest();
            dir.path().join("blobs/sha256").join(digest)
        };
        // One that ends early, one with a wrong byte, one that is longer than it is said to be.
        std::fs::write(path(&layers[3]), &contents[3][..1_000_000]).unwrap();
        let mut wrong = contents[4].clone();
        wrong[77] ^= 1;
        std::fs::write(path(&layers[4]), wrong).unwrap();
        layers[5].set_size(2_000_000);
        let name = format!("oci:{}", dir.path().display());
        let session = Session::open(&name, None, Vec::new(), LIMIT).unwrap();
        let read = |layer: &Descriptor| {
            let mut blob = session.blob(layer)?;
            let mut bytes = Vec::new();
            let complete = blob.read_to_end(&mut bytes).is_ok();
            blob.finish().map(|()| (bytes, complete))
        };
        // All at once, twice: what a failure leaves behind does not stop the next.
        for _ in 0..2 {
            let ended: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = layers
                    .iter()
                    .map(|layer| scope.spawn(|| read(layer)))
                    .collect();
                threads.into_iter().map(|t| t.join().unwrap()).collect()
            });
            for (ended, content) in ended.iter().zip(&contents).take(3) {
                assert!(*ended.as_ref().unwrap() == (content.clone(), true));
            }
            let said: Vec<_> = ended[3..]
                .iter()
                .map(|e| e.as_ref().unwrap_err().to_string())
                .collect();
            assert_eq!(
                said,
                layers[3..]
                    .iter()
                    .map(|layer| format!("corrupted blob, expecting {}", layer.digest()))
                    .collect::<Vec<_>>()
            );
        }
        // Left in the middle.
        let mut blob = session.blob(&layers[0]).unwrap();
        blob.read_exact(&mut [0; 10]).unwrap();
        drop(blob);
        assert!(read(&layers[0]).is_ok() && session.is_alive());
    }

    #[test]
    fn a_skopeo_that_does_not_answer_is_given_up() {
        let mut skopeo = Command::new("sh");
        skopeo.args(["-c", "exec sleep 1000"]);
        let limit = Duration::from_millis(200);
        let error = Session::open("oci:/x", Some(skopeo), Vec::new(), limit).map(|_| ());
        assert!(matches!(error, Err(Failure::Silent(l)) if l == limit));
        let mut skopeo = Command::new("sh");
        skopeo.args(["-c", "echo no such command >&2"]);
        let error = Session::open("oci:/x", Some(skopeo), Vec::new(), LIMIT).map(|_| ());
        assert_eq!(
            error.unwrap_err().to_string(),
            "skopeo ended: no such command"
        );
    }
}
