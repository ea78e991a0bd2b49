//! Opening an image: what skopeo hands over of it before any of its layers is read.

use std::process::Command;
use std::str::FromStr;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use containers_image_proxy::oci_spec::image::{
    Descriptor, Digest, ImageConfiguration, ImageManifest, MediaType,
};

use crate::image::nested;
use crate::image::proxy::Failure;
use crate::image::reference::Transport;
use crate::image::resolve::{Resolved, Source};
use crate::image::session::Session;

/// How long a registry that is near takes to send a manifest.
const HEAD_START: Duration = Duration::from_millis(100);

/// Manifest and config on their way, fetched by a thread of its own. When nobody takes them any more, its skopeo ends
/// with it.
pub(crate) struct Ahead {
    /// Whether the reference names the manifest itself.
    direct: Receiver<bool>,
    fetched: Receiver<Result<Fetched, Failure>>,
}

impl Ahead {
    /// Begins to fetch them.
    pub(crate) fn begin(source: Source) -> Self {
        let (says, direct) = mpsc::channel();
        let (hands, fetched) = mpsc::channel();
        thread::spawn(move || {
            let opened = open_session(&source, None).and_then(Opened::new);
            let fetched = opened.and_then(|opened| {
                let _nobody_waits = says.send(opened.session.is_direct());
                opened.fetch(&source)
            });
            drop(says);
            let _nobody_waits = hands.send(fetched);
        });
        Self { direct, fetched }
    }

    /// Whether that is known already, and so no other skopeo is needed to ask. Registries that are near answer within
    /// this time; for those that are not the two are better asked at the same time.
    pub(crate) fn is_direct(&self) -> bool {
        self.direct.recv_timeout(HEAD_START) == Ok(true)
    }

    /// What has been fetched, or why it was not; waits for it.
    pub(crate) fn fetched(self) -> Option<Result<Fetched, Failure>> {
        self.fetched.recv().ok()
    }
}

/// What skopeo hands over when an image is opened.
pub(crate) struct Fetched {
    pub(crate) session: Session,
    /// Of the manifest as the source has it, before any conversion.
    pub(crate) digest: String,
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: Vec<u8>,
    pub(crate) layers: Option<Vec<Descriptor>>,
    /// What was opened, if what the reference names leads to it through more than one index.
    pub(crate) nested: Option<Source>,
}

/// The manifest is here.
struct Opened {
    session: Session,
    digest: String,
    manifest: Vec<u8>,
}

impl Opened {
    fn new(session: Session) -> Result<Self, Failure> {
        let (digest, manifest) = session.manifest()?;
        require_image(&manifest)?;
        Ok(Self {
            session,
            digest,
            manifest,
        })
    }

    /// Fetches the config as well.
    fn fetch(self, source: &Source) -> Result<Fetched, Failure> {
        let config = self.session.config()?;
        // The local storage keeps layers uncompressed, under other digests than its manifests say.
        let layers = match source.reference.transport() {
            Transport::ContainersStorage => Some(match self.session.layers()? {
                Some(layers) => layers,
                None => unpacked_layers(&self.session, &config)?,
            }),
            _ => None,
        };
        Ok(Fetched {
            session: self.session,
            digest: self.digest,
            manifest: self.manifest,
            config,
            layers,
            nested: None,
        })
    }
}

/// Opens an image, by this skopeo or that of the host.
pub(crate) fn fetch(source: &Source, skopeo: Option<Command>) -> Result<Fetched, Failure> {
    Opened::new(open_session(source, skopeo)?)?.fetch(source)
}

/// The same out of an index in an index; otherwise the failure stays.
pub(crate) fn fetch_nested(resolved: &Resolved, failure: Failure) -> Result<Fetched, Failure> {
    if !matches!(failure, Failure::Said { .. }) {
        return Err(failure);
    }
    let session = open_session(&resolved.source, None)?;
    let (digest, manifest) = match nested::find(resolved, &session)? {
        None => return Err(nested::told(resolved, failure)),
        Some(nested::Found::Named(source)) => {
            return Ok(Fetched {
                nested: Some(*source.clone()),
                ..fetch(&source, None)?
            });
        }
        Some(nested::Found::Blob(found)) => {
            (found.digest().to_string(), nested::blob(&session, &found)?)
        }
    };
    let parsed: ImageManifest = serde_json::from_str(&manifest).map_err(Failure::speech)?;
    let config = nested::blob(&session, parsed.config())?.into_bytes();
    Ok(Fetched {
        session,
        digest,
        manifest: manifest.into_bytes(),
        config,
        layers: None,
        nested: Some(resolved.source.clone()),
    })
}

/// Refuses what is kept where images are and is none.
fn require_image(manifest: &[u8]) -> Result<(), Failure> {
    let manifest: ImageManifest = serde_json::from_slice(manifest).map_err(Failure::speech)?;
    match manifest.config().media_type() {
        MediaType::ImageConfig => Ok(()),
        other => Err(Failure::Said {
            text: format!("it is no image but an artifact (`{other}`)"),
            transient: false,
        }),
    }
}

/// The layers as the local storage has them, for a skopeo that cannot tell: it knows them by their diff_ids.
fn unpacked_layers(session: &Session, config: &[u8]) -> Result<Vec<Descriptor>, Failure> {
    let config: ImageConfiguration = serde_json::from_slice(config).map_err(Failure::speech)?;
    let diff_ids = config.rootfs().diff_ids().iter();
    diff_ids
        .map(|diff_id| {
            let digest = Digest::from_str(diff_id).map_err(Failure::speech)?;
            let size = session.size(diff_id)?;
            Ok(Descriptor::new(MediaType::ImageLayer, size, digest))
        })
        .collect()
}

/// Starts a skopeo that serves the image.
pub(crate) fn open_session(source: &Source, skopeo: Option<Command>) -> Result<Session, Failure> {
    let access = source.access.args(source.reference.transport());
    Session::open(
        &source.reference.for_skopeo(),
        skopeo,
        [source.registries.args(), access].concat(),
        source.access.network.timeout,
    )
}
