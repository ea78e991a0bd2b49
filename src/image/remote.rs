//! An image that has been opened: its manifest and config are here, its layers still remote.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, bail};
use containers_image_proxy::oci_spec::image::{
    Descriptor, Digest, ImageConfiguration, ImageManifest,
};

use crate::hint::Hinted;
use crate::image::access::Access;
use crate::image::explain::explain;
use crate::image::opening::{Ahead, Fetched, fetch, fetch_nested, open_session};
use crate::image::platform::Platform;
use crate::image::reference::ImageRef;
use crate::image::resolve::{Resolved, Source, resolve};
use crate::image::retry::{Contact, repeat};
use crate::image::session::Session;
use crate::image::stream::BlobReader;
use crate::progress::Report;

/// How often a tag may be moved while it is opened.
const MOVES: u32 = 3;

/// An image whose signature policy has been met and whose manifest is pinned.
///
/// The digests are those of the source: a registry knows the image by both of them, and they are compared like with
/// like only (an index with an index).
pub struct RemoteImage {
    /// As it was asked for.
    pub reference: ImageRef,
    /// Of what the reference names: an index, or the manifest itself.
    pub index_digest: Digest,
    /// Of the manifest for the platform.
    pub manifest_digest: Digest,
    /// For which it was asked; where there is no index the config tells that it fits.
    pub platform: Platform,
    /// The manifest, converted to OCI's form if it came in Docker's.
    pub manifest: ImageManifest,
    /// The image's config.
    pub config: ImageConfiguration,
    layers: Vec<Descriptor>,
    diff_ids: Vec<Digest>,
    source: Source,
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

    /// Lets skopeo end: all has been read. Whoever drops the image waits until it has.
    pub(crate) fn dismiss(&self) {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        session.dismiss();
    }

    /// A skopeo that serves the image: the one that there is, or a new one if a stalled stream took that along.
    fn session(&self) -> Result<Arc<Session>> {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if !session.is_alive() {
            let again = open_session(&self.source, None)?;
            if again.manifest()?.0 != self.manifest_digest.to_string() {
                return replaced();
            }
            *session = Arc::new(again);
        }
        Ok(Arc::clone(&session))
    }
}

/// Opens an image: [`resolve`] and [`from_resolved`], without telling of attempts that failed.
pub fn open(reference: &ImageRef, access: &Access) -> Result<RemoteImage> {
    let silent = Report::silent();
    from_resolved(resolve(reference, access, &silent)?, &silent)
}

/// Opens what was resolved: manifest and config are fetched.
///
/// By the name that was asked for, for a signature may be bound to it and mirrors may know only tags or only
/// digests. What it then opens is compared; a tag that was moved in between is resolved anew.
///
/// Errors name the reference and repeat what skopeo said, with a hint where there is a remedy.
pub fn from_resolved(resolved: Resolved, report: &Report) -> Result<RemoteImage> {
    let reference = resolved.source.reference.clone();
    unnamed(resolved, None, report)
        .map_err(explain)
        .with_context(|| format!("opening `{reference}`"))
}

/// Opens an image that has to be opened whatever its reference names: what that is, is asked at the same time.
///
/// Errors as in [`from_resolved`].
pub fn open_unknown(reference: &ImageRef, access: &Access, report: &Report) -> Result<RemoteImage> {
    let opening = || -> Result<RemoteImage> {
        let source = Source::find(reference, access, report)?;
        let contact = source.contact();
        let mut ahead = source.must_be_asked().then(|| Ahead::begin(source.clone()));
        // Only a registry's manifests are counted.
        if let Some(ahead) = ahead.take_if(|a| contact == Contact::First && a.is_direct())
            && let Some(Ok(fetched)) = ahead.fetched()
        {
            let manifest = parse_digest(&fetched.digest)?;
            return assemble(source.direct(), manifest.clone(), manifest, fetched);
        }
        let resolved = source.resolve(contact, report)?;
        unnamed(resolved, ahead, report)
    };
    opening()
        .map_err(explain)
        .with_context(|| format!("opening `{reference}`"))
}

fn unnamed(
    mut resolved: Resolved,
    mut ahead: Option<Ahead>,
    report: &Report,
) -> Result<RemoteImage> {
    for _ in 0..MOVES {
        let what = format!("opening `{}`", resolved.source.reference);
        let fetched = repeat(resolved.contact(), report, &what, |_| {
            let begun = ahead.take().and_then(Ahead::fetched);
            let fetched = begun.unwrap_or_else(|| fetch(&resolved.source, None));
            Ok(fetched.or_else(|failure| fetch_nested(&resolved, failure))?)
        })?;
        let manifest = parse_digest(&fetched.digest)?;
        let index = match fetched.nested {
            Some(_) => resolved.index_digest.clone(),
            None => resolved.index_of(&manifest),
        };
        if let Some(index_digest) = index {
            return assemble(resolved, index_digest, manifest, fetched);
        }
        resolved = resolved.again(report)?;
    }
    replaced()
}

fn parse_digest(text: &str) -> Result<Digest> {
    Digest::from_str(text).context("parsing the manifest's digest")
}

fn assemble(
    resolved: Resolved,
    index_digest: Digest,
    manifest_digest: Digest,
    fetched: Fetched,
) -> Result<RemoteImage> {
    let manifest: ImageManifest =
        serde_json::from_slice(&fetched.manifest).context("parsing the manifest")?;
    let config: ImageConfiguration =
        serde_json::from_slice(&fetched.config).context("parsing the image's config")?;
    let platform = resolved.source.access.platform.clone();
    require_platform(&config, &platform)?;
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
        reference: resolved.source.reference.clone(),
        source: fetched.nested.unwrap_or(resolved.source),
        index_digest,
        manifest_digest,
        platform,
        manifest,
        config,
        layers,
        diff_ids,
        session: Mutex::new(Arc::new(fetched.session)),
    })
}

/// Refuses an image for another kind of machine than was asked for: nothing in it would run.
fn require_platform(config: &ImageConfiguration, platform: &Platform) -> Result<()> {
    let (os, architecture) = (config.os().to_string(), config.architecture().to_string());
    if platform.takes(&os, &architecture) {
        return Ok(());
    }
    let wrong: Result<()> = Err(anyhow!(
        "the image is for {os}/{architecture}, not for {platform}"
    ));
    wrong.hint(format!(
        "take an image for {platform}; for the root of another machine give `--root DIR --arch {architecture}`"
    ))
}

/// The diff_ids of a config, as digests.
pub(crate) fn diff_ids(config: &ImageConfiguration) -> Result<Vec<Digest>> {
    let texts = config.rootfs().diff_ids().iter();
    texts
        .map(|text| Digest::from_str(text).with_context(|| format!("parsing the diff_id `{text}`")))
        .collect()
}

fn replaced<T>() -> Result<T> {
    let changed: Result<T> = Err(anyhow!("the image was replaced while it was being opened"));
    changed.hint("try again")
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "the tests bring their own files and skopeo"
)]
mod tests {
    use std::process::Command;

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
            let error = open(&reference.parse().unwrap(), &Access::default()).unwrap_err();
            assert_eq!(
                format!("{error:#}"),
                format!("opening `{reference}`: {said}")
            );
            let hints = hints(&error);
            assert_eq!(hints.first().map(|hint| hint.0.as_str()), remedy);
        }
    }

    #[test]
    fn a_missing_skopeo_is_a_hint() {
        let skopeo = Command::new("/nonexistent/skopeo");
        // One that is not looked at before it is opened.
        let reference = "docker-archive:/x".parse().unwrap();
        let resolved = resolve(&reference, &Access::default(), &Report::silent()).unwrap();
        let error = fetch(&resolved.source, Some(skopeo))
            .map(|_| ())
            .unwrap_err();
        let error = explain(error.into());
        assert_eq!(
            format!("{error:#}"),
            "starting `skopeo`: No such file or directory (os error 2)"
        );
        assert_eq!(hints(&error)[0].0, "apt-get install skopeo");
    }
}
