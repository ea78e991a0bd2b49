//! An image that has been opened: its manifest and config are here, its layers still remote.

use std::fmt;
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};
use containers_image_proxy::oci_spec::image::{
    Descriptor, Digest, ImageConfiguration, ImageIndex, ImageManifest,
};
use containers_image_proxy::{Error, ImageProxy, ImageProxyConfig, OpenedImage};
use openssl::sha::sha256;
use tokio::runtime::Runtime;

use crate::exec::Program;
use crate::hint::Hinted;
use crate::image::reference::{ImageRef, Transport};
use crate::image::stream::BlobReader;

/// An image whose signature policy has been met and whose manifest is pinned.
///
/// The digests are those of the source: a registry knows the image by both of them, and they are compared like with
/// like only (an index with an index).
pub struct RemoteImage {
    /// As it was asked for.
    pub reference: ImageRef,
    /// Of what the reference names: an index, or the manifest itself.
    pub index_digest: Digest,
    /// Of the manifest for this machine's platform.
    pub manifest_digest: Digest,
    /// The manifest, converted to OCI's form if it came in Docker's.
    pub manifest: ImageManifest,
    /// The image's config.
    pub config: ImageConfiguration,
    layers: Vec<Descriptor>,
    diff_ids: Vec<Digest>,
    opened: OpenedImage,
    // The proxy is dropped before the runtime, which waits for the thread that waits for skopeo's end.
    proxy: ImageProxy,
    runtime: Runtime,
}

impl fmt::Debug for RemoteImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteImage({})", self.reference)
    }
}

impl RemoteImage {
    /// The layers as blobs, lowest first.
    pub fn layers(&self) -> &[Descriptor] {
        &self.layers
    }

    /// The digest of each layer's tar stream, in the order of [`RemoteImage::layers`] and as many.
    pub fn diff_ids(&self) -> &[Digest] {
        &self.diff_ids
    }

    /// Begins to read a layer.
    pub(crate) fn blob(&self, layer: &Descriptor) -> Result<BlobReader<'_>> {
        let stream = self.runtime.block_on(self.proxy.get_blob_stream(
            &self.opened,
            layer.digest(),
            layer.size(),
        ));
        let stream = stream.map_err(|error| anyhow!(said(&error)))?;
        Ok(BlobReader::new(&self.runtime, stream))
    }
}

/// Opens an image: the signature policy is checked, manifest and config are fetched.
///
/// Errors name the reference and repeat what skopeo said, with a hint where there is a remedy.
pub fn open(reference: &ImageRef) -> Result<RemoteImage> {
    open_through(reference, None)
}

/// As [`open`], with a skopeo of one's own.
fn open_through(reference: &ImageRef, skopeo: Option<Command>) -> Result<RemoteImage> {
    let opening = || format!("opening `{reference}`");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting a runtime")?;
    let mut config = ImageProxyConfig::default();
    config.skopeo_cmd = skopeo;
    let fetched = runtime.block_on(fetch(reference, config));
    let fetched = fetched.map_err(explain).with_context(opening)?;
    assemble(reference, runtime, fetched).with_context(opening)
}

/// What skopeo hands over when an image is opened.
struct Fetched {
    proxy: ImageProxy,
    opened: OpenedImage,
    digest: String,
    manifest: Vec<u8>,
    config: Vec<u8>,
    layers: Option<Vec<Descriptor>>,
}

async fn fetch(reference: &ImageRef, config: ImageProxyConfig) -> Result<Fetched, Error> {
    let proxy = ImageProxy::new_with_config(config).await?;
    let opened = proxy.open_image(&reference.for_skopeo()).await?;
    let (digest, manifest) = proxy.fetch_manifest_raw_oci(&opened).await?;
    let config = proxy.fetch_config_raw(&opened).await?;
    // The local storage keeps layers uncompressed, under other digests than its manifests say.
    let layers = match reference.transport() {
        Transport::ContainersStorage => proxy.get_layer_info(&opened).await?,
        _ => None,
    };
    let layers = layers.map(|layers| {
        let blob = layers.into_iter();
        blob.map(|b| Descriptor::new(b.media_type, b.size, b.digest))
            .collect()
    });
    Ok(Fetched {
        proxy,
        opened,
        digest,
        manifest,
        config,
        layers,
    })
}

fn assemble(reference: &ImageRef, runtime: Runtime, fetched: Fetched) -> Result<RemoteImage> {
    let manifest: ImageManifest =
        serde_json::from_slice(&fetched.manifest).context("parsing the manifest")?;
    let config: ImageConfiguration =
        serde_json::from_slice(&fetched.config).context("parsing the image's config")?;
    let index_digest = Digest::from_str(&fetched.digest).context("parsing the image's digest")?;
    let layers = fetched.layers.unwrap_or_else(|| manifest.layers().clone());
    let diff_ids = diff_ids(&config)?;
    if layers.len() != diff_ids.len() {
        bail!(
            "the manifest lists {} layers, the config {} diff_ids",
            layers.len(),
            diff_ids.len()
        );
    }
    let manifest_digest = manifest_digest(reference, &index_digest, &fetched.manifest, &config)?;
    Ok(RemoteImage {
        reference: reference.clone(),
        index_digest,
        manifest_digest,
        manifest,
        config,
        layers,
        diff_ids,
        opened: fetched.opened,
        proxy: fetched.proxy,
        runtime,
    })
}

/// The diff_ids of a config, as digests.
pub(crate) fn diff_ids(config: &ImageConfiguration) -> Result<Vec<Digest>> {
    let texts = config.rootfs().diff_ids().iter();
    texts
        .map(|text| Digest::from_str(text).with_context(|| format!("parsing the diff_id `{text}`")))
        .collect()
}

/// Tells the manifest's digest, of which skopeo says only the index's where there is an index.
///
/// What skopeo hands over is the manifest as the source has it, or converted from Docker's form; in the latter case
/// its digest is known to no registry and the original has to be looked at.
fn manifest_digest(
    reference: &ImageRef,
    named: &Digest,
    manifest: &[u8],
    config: &ImageConfiguration,
) -> Result<Digest> {
    let handed = sha256_digest(manifest)?;
    if handed == *named {
        return Ok(handed);
    }
    let pinned = reference.at_digest(named);
    let original = Program::new("skopeo")
        .args(["inspect", "--raw"])
        .arg(pinned.unwrap_or_else(|| reference.for_skopeo()))
        .run()
        .context("reading the original manifest")?;
    // Without `manifests` it is no index: the one manifest, which was converted.
    let Ok(index) = serde_json::from_str::<ImageIndex>(&original) else {
        return Ok(named.clone());
    };
    let chosen = index
        .manifests()
        .iter()
        .find(|entry| *entry.digest() == handed);
    let fits = |entry: &&Descriptor| {
        entry.platform().as_ref().is_some_and(|platform| {
            platform.os() == config.os()
                && platform.architecture() == config.architecture()
                && (config.variant().is_none() || platform.variant() == config.variant())
        })
    };
    let chosen = chosen.or_else(|| index.manifests().iter().find(fits));
    let chosen = chosen.context("the index lists no manifest for the platform of its image")?;
    Ok(chosen.digest().clone())
}

fn sha256_digest(bytes: &[u8]) -> Result<Digest> {
    let hex: String = sha256(bytes).iter().map(|b| format!("{b:02x}")).collect();
    Digest::from_str(&format!("sha256:{hex}")).context("parsing a digest")
}

/// What skopeo said, without the crate's and the protocol's words around it.
pub(crate) fn said(error: &Error) -> String {
    match error {
        Error::RequestInitiationFailure { error, .. }
        | Error::RetryableRequestFailure { error, .. }
        | Error::RequestReturned(error)
        | Error::Other(error) => error.trim().to_owned(),
        other => other.to_string(),
    }
}

/// What skopeo's errors contain, and the remedy.
const REMEDIES: &[(&str, &str)] = &[
    (
        "policy.json: no such file",
        "install the package with the signature policy (Debian `golang-github-containers-common`, elsewhere `containers-common`) \
         or write /etc/containers/policy.json; this one refuses all but one registry: \
         {\"default\":[{\"type\":\"reject\"}],\"transports\":{\"docker\":{\"registry.example\":[{\"type\":\"insecureAcceptAnything\"}]}}}",
    ),
    (
        "rejected by policy",
        "the signature policy in /etc/containers/policy.json does not allow this image: see containers-policy.json(5)",
    ),
    (
        "unauthorized",
        "log in with `skopeo login REGISTRY`, or check the name: registries say the same of images that do not exist",
    ),
    (
        "manifest unknown",
        "check the tag: `skopeo list-tags docker://REPOSITORY` shows which there are",
    ),
    ("name unknown", "check the repository's name"),
    (
        "server gave HTTP response to HTTPS client",
        "a registry without TLS must be allowed with `insecure = true` in /etc/containers/registries.conf.d/",
    ),
    (
        "connection refused",
        "check that the registry runs and can be reached from here",
    ),
    (
        "no such host",
        "check the registry's name and this host's DNS",
    ),
    (
        "unknown command \"experimental-image-proxy\"",
        "this skopeo is too old: 1.9.3 or newer is needed",
    ),
];

fn explain(error: Error) -> anyhow::Error {
    if let Error::SkopeoSpawnError(cause) = error {
        let result: Result<()> = Err(cause).context("starting `skopeo`");
        return match result.hint("apt-get install skopeo") {
            Ok(()) => anyhow!("starting `skopeo`"),
            Err(error) => error,
        };
    }
    let text = said(&error);
    let remedy = REMEDIES.iter().find(|(needle, _)| text.contains(needle));
    let error = anyhow!(text);
    match remedy {
        Some((_, remedy)) => match Err::<(), _>(error).hint(*remedy) {
            Ok(()) => anyhow!("an error without an error"),
            Err(error) => error,
        },
        None => error,
    }
}
