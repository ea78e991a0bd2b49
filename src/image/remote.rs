//! An image that has been opened: its manifest and config are here, its layers still remote.

use std::fmt;
use std::process::Command;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use containers_image_proxy::oci_spec::image::{
    Descriptor, Digest, ImageConfiguration, ImageIndex, ImageManifest,
};
use openssl::sha::sha256;

use crate::exec::Program;
use crate::hint::Hinted;
use crate::image::hex;
use crate::image::policy;
use crate::image::proxy::Failure;
use crate::image::reference::{ImageRef, Transport};
use crate::image::session::Session;
use crate::image::stream::BlobReader;

/// How long a registry may be silent.
const LIMIT: Duration = Duration::from_mins(1);

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
    /// Another one when the first has ended.
    session: Mutex<Arc<Session>>,
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

    /// Begins to read a layer; several may be read at once, each in a thread of its own.
    pub(crate) fn blob(&self, layer: &Descriptor) -> Result<BlobReader> {
        let session = self.session()?;
        Ok(session.blob(layer)?)
    }

    /// Ends what is being read, at once.
    pub(crate) fn end(&self) {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        session.end();
    }

    /// A skopeo that serves the image: the one that there is, or a new one if a stalled stream took that along.
    fn session(&self) -> Result<Arc<Session>> {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if !session.is_alive() {
            let again = Session::open(&self.reference.for_skopeo(), None, LIMIT)?;
            if again.manifest()?.0 != self.manifest_digest.to_string() {
                return replaced();
            }
            *session = Arc::new(again);
        }
        Ok(Arc::clone(&session))
    }
}

/// Opens an image: the signature policy is checked, manifest and config are fetched.
///
/// Errors name the reference and repeat what skopeo said, with a hint where there is a remedy.
pub fn open(reference: &ImageRef) -> Result<RemoteImage> {
    policy::check(reference).with_context(|| format!("opening `{reference}`"))?;
    open_through(reference, None)
}

/// As [`open`], with a skopeo of one's own.
fn open_through(reference: &ImageRef, skopeo: Option<Command>) -> Result<RemoteImage> {
    let opening = || format!("opening `{reference}`");
    let fetched = fetch(reference, skopeo);
    let fetched = fetched.map_err(explain).with_context(opening)?;
    assemble(reference, fetched).with_context(opening)
}

/// What skopeo hands over when an image is opened.
struct Fetched {
    session: Session,
    /// Of the manifest as the source has it, before any conversion.
    digest: String,
    manifest: Vec<u8>,
    config: Vec<u8>,
    layers: Option<Vec<Descriptor>>,
}

fn fetch(reference: &ImageRef, skopeo: Option<Command>) -> Result<Fetched, Failure> {
    let session = Session::open(&reference.for_skopeo(), skopeo, LIMIT)?;
    let (digest, manifest) = session.manifest()?;
    let config = session.config()?;
    // The local storage keeps layers uncompressed, under other digests than its manifests say.
    let layers = match reference.transport() {
        Transport::ContainersStorage => session.layers()?,
        _ => None,
    };
    Ok(Fetched {
        session,
        digest,
        manifest,
        config,
        layers,
    })
}

fn assemble(reference: &ImageRef, fetched: Fetched) -> Result<RemoteImage> {
    let manifest: ImageManifest =
        serde_json::from_slice(&fetched.manifest).context("parsing the manifest")?;
    let config: ImageConfiguration =
        serde_json::from_slice(&fetched.config).context("parsing the image's config")?;
    let manifest_digest =
        Digest::from_str(&fetched.digest).context("parsing the manifest's digest")?;
    let layers = fetched.layers.unwrap_or_else(|| manifest.layers().clone());
    let diff_ids = diff_ids(&config)?;
    if layers.len() != diff_ids.len() {
        bail!(
            "the manifest lists {} layers, the config {} diff_ids",
            layers.len(),
            diff_ids.len()
        );
    }
    Ok(RemoteImage {
        reference: reference.clone(),
        index_digest: index_digest(reference, &manifest_digest)?,
        manifest_digest,
        manifest,
        config,
        layers,
        diff_ids,
        session: Mutex::new(Arc::new(fetched.session)),
    })
}

/// The diff_ids of a config, as digests.
pub(crate) fn diff_ids(config: &ImageConfiguration) -> Result<Vec<Digest>> {
    let texts = config.rootfs().diff_ids().iter();
    texts
        .map(|text| Digest::from_str(text).with_context(|| format!("parsing the diff_id `{text}`")))
        .collect()
}

/// Tells the digest of what the reference names; `manifest` is that of the platform's manifest.
///
/// skopeo's proxy resolves an index by itself and does not say which it was.
fn index_digest(reference: &ImageRef, manifest: &Digest) -> Result<Digest> {
    match (reference.digest(), reference.transport()) {
        (Some(named), _) => return Ok(named),
        // They know no index.
        (
            None,
            Transport::DockerArchive | Transport::DockerDaemon | Transport::ContainersStorage,
        ) => return Ok(manifest.clone()),
        (None, Transport::Docker | Transport::Oci | Transport::OciArchive | Transport::Dir) => {}
    }
    let named = Program::new("skopeo")
        .args(["inspect", "--raw"])
        .arg(reference.for_skopeo())
        .run()
        .context("reading what the reference names")?;
    let digest = sha256_digest(named.as_bytes())?;
    let lists = |index: ImageIndex| index.manifests().iter().any(|m| m.digest() == manifest);
    if digest == *manifest || serde_json::from_str(&named).is_ok_and(lists) {
        return Ok(digest);
    }
    replaced()
}

fn replaced<T>() -> Result<T> {
    let changed: Result<T> = Err(anyhow!("the image was replaced while it was being opened"));
    changed.hint("try again")
}

fn sha256_digest(bytes: &[u8]) -> Result<Digest> {
    let text = format!("sha256:{}", hex(&sha256(bytes)));
    Digest::from_str(&text).context("parsing a digest")
}

/// What skopeo's errors contain, and the remedy.
const REMEDIES: &[(&str, &str)] = &[
    ("policy.json: no such file", policy::MISSING),
    ("rejected by policy", policy::REFUSED),
    (
        "unauthorized",
        "log in with `skopeo login REGISTRY`, or check the name: registries say the same of images that do not exist",
    ),
    (
        "manifest unknown",
        "check the name and the tag: `skopeo list-tags docker://REPOSITORY` shows which there are",
    ),
    (
        "no descriptor found for reference",
        "check the tag: the layout's index.json lists which there are",
    ),
    (
        "index.json: no such file",
        "no OCI layout is there: write it as `oci:DIRECTORY:TAG`",
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

fn explain(failure: Failure) -> anyhow::Error {
    let text = failure.to_string();
    let remedy = match failure {
        Failure::Start(_) => Some("apt-get install skopeo"),
        _ => REMEDIES
            .iter()
            .find(|(needle, _)| text.contains(needle))
            .map(|(_, remedy)| *remedy),
    };
    let Some(remedy) = remedy else {
        return failure.into();
    };
    match Err::<(), _>(failure).hint(remedy) {
        Ok(()) => anyhow!("an error without an error"),
        Err(error) => error,
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "the tests bring their own files and skopeo"
)]
mod tests {
    use super::*;
    use crate::hint::hints;

    #[test]
    fn what_skopeo_says_comes_with_its_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let layout = dir.path().join("layout").display().to_string();
        for (reference, said, remedy) in [
            (
                format!("oci:{layout}:tag"),
                format!("open {layout}/index.json: no such file or directory"),
                Some("no OCI layout is there: write it as `oci:DIRECTORY:TAG`"),
            ),
            (
                "docker://127.0.0.1:9/etcd".to_owned(),
                "pinging container registry 127.0.0.1:9: Get \"https://127.0.0.1:9/v2/\": \
                 dial tcp 127.0.0.1:9: connect: connection refused"
                    .to_owned(),
                Some("check that the registry runs and can be reached from here"),
            ),
        ] {
            let error = open_through(&reference.parse().unwrap(), None).unwrap_err();
            assert_eq!(
                format!("{error:#}"),
                format!("opening `{reference}`: {said}")
            );
            let hints = hints(&error);
            assert_eq!(hints.first().map(|hint| hint.0.as_str()), remedy);
        }
    }

    #[test]
    fn remedies_fit_what_skopeo_says() {
        for (said, remedy) in [
            (
                "Error loading trust policy: open /etc/containers/policy.json: no such file or directory",
                policy::MISSING,
            ),
            (
                "Running image oci:/x is rejected by policy.",
                policy::REFUSED,
            ),
            (
                "reading manifest 2 in r.example/x: manifest unknown: manifest unknown",
                "check the name and the tag: `skopeo list-tags docker://REPOSITORY` shows which there are",
            ),
            (
                "no descriptor found for reference \"3\"",
                "check the tag: the layout's index.json lists which there are",
            ),
        ] {
            let error = explain(Failure::Said {
                text: said.to_owned(),
                transient: false,
            });
            assert_eq!(error.to_string(), said);
            assert_eq!(hints(&error)[0].0, remedy);
        }
    }

    #[test]
    fn a_missing_skopeo_is_a_hint() {
        let skopeo = Command::new("/nonexistent/skopeo");
        let reference = "oci:/x".parse().unwrap();
        let error = open_through(&reference, Some(skopeo)).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "opening `oci:/x`: starting `skopeo`: No such file or directory (os error 2)"
        );
        assert_eq!(hints(&error)[0].0, "apt-get install skopeo");
    }
}
