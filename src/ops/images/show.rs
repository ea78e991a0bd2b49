//! `images show`: what an image says about itself, from the store or from where it comes from.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use containers_image_proxy::oci_spec::image::{
    Config, Descriptor, Digest, ImageConfiguration, ImageManifest,
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::config;
use crate::contract;
use crate::contract::manifest::Manifest;
use crate::hint::Hinted;
use crate::image::access::Access;
use crate::image::reference::ImageRef;
use crate::image::remote;
use crate::image::resolve::resolve;
use crate::ops::Host;
use crate::ops::images::{Wanted, platform, users};
use crate::store::{Store, StoredImage};

/// What is to be shown.
#[derive(Debug)]
pub struct Request {
    /// The image.
    pub image: Wanted,
    /// Ask where it comes from.
    pub remote: bool,
    /// How it is reached there.
    pub access: Access,
}

/// One image.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Outcome {
    /// Its reference.
    pub image: String,
    /// Digest of what the reference names: an index, or the manifest itself.
    pub index_digest: String,
    /// The manifest's digest.
    pub digest: String,
    /// Whether all of it is in the store.
    pub stored: bool,
    /// Whether it was pulled to be kept.
    pub kept: bool,
    /// The containers that have a generation of it.
    pub containers: Vec<String>,
    /// What it is made for, such as `linux/amd64`.
    pub platform: String,
    /// All that the index has images for, when its source was asked and that is one.
    pub platforms: Option<Vec<String>>,
    /// When it was made, as its config says: RFC 3339.
    pub created: Option<String>,
    /// Labels of its config.
    pub labels: BTreeMap<String, String>,
    /// Annotations of its manifest.
    pub annotations: BTreeMap<String, String>,
    /// `config` of its config, in OCI's own keys; the labels are above.
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub config: Config,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
    /// What it ships in `/exports`; `None`: nothing, or that is not known before it is pulled.
    pub contract: Option<Exports>,
    /// Why its contract cannot be read.
    pub contract_error: Option<String>,
}

/// A layer.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Layer {
    /// Its blob's digest.
    pub digest: String,
    /// The digest of its tar stream.
    pub diff_id: String,
    /// Its media type.
    pub media_type: String,
    /// Its compressed size in bytes.
    pub size: u64,
    /// Whether it is in the store.
    pub stored: bool,
}

/// A contract: `manifest.toml` with its defaults, and what lies beside it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Exports {
    /// `manifest.toml`, in its own keys.
    #[serde(flatten)]
    pub manifest: Manifest,
    /// The templates that it ships, by file name.
    pub templates: Vec<String>,
    /// The files for the host, as the manifest renames them; templates.
    pub host_files: Vec<String>,
}

/// Looks at an image.
pub fn run(host: &Host, request: &Request) -> Result<Outcome> {
    match (&request.image, request.remote) {
        (wanted, false) => stored(host, wanted),
        (Wanted::Image(reference), true) => remote(host, reference, &request.access),
        (Wanted::Digest(digest), true) => Err(anyhow!(
            "`{digest}` does not say where the image comes from"
        ))
        .hint("give its reference, such as `docker://registry.example/etcd:3.5`"),
    }
}

/// Looks at an image of the store.
fn stored(host: &Host, wanted: &Wanted) -> Result<Outcome> {
    let store = Store::existing(host.root, config::load(host.root)?.store)?;
    let image = wanted.find(store.as_ref())?;
    let mut outcome = Outcome::new(
        &image.reference,
        (&image.index_digest, &image.manifest_digest),
        &image.config,
    );
    outcome.stored = true;
    let mut users = users(host)?;
    outcome.containers = users.remove(&outcome.digest).unwrap_or_default();
    if let Some(store) = store {
        let manifest = store.manifest(&image)?;
        outcome.kept = store.is_kept(&image.manifest_digest)?;
        outcome.annotate(&manifest);
        let layers = manifest.layers().iter().zip(&image.diff_ids);
        outcome.layers = layers.map(|(l, id)| Layer::new(l, id, true)).collect();
        match exports(&store, &image) {
            Ok(found) => outcome.contract = found,
            Err(error) => outcome.contract_error = Some(format!("{error:#}")),
        }
    }
    Ok(outcome)
}

/// Asks where an image comes from: its manifest and config are fetched, and kept nowhere.
fn remote(host: &Host, reference: &ImageRef, access: &Access) -> Result<Outcome> {
    let config = config::load(host.root)?;
    let resolved = resolve(reference, &access.with_network(config.network), host.report)?;
    let platforms = resolved.platforms();
    let image = remote::from_resolved(resolved, host.report)?;
    let mut outcome = Outcome::new(
        reference,
        (&image.index_digest, &image.manifest_digest),
        &image.config,
    );
    outcome.platforms = platforms;
    outcome.annotate(&image.manifest);
    let mut missing: Vec<Digest> = image.layers().iter().map(|l| l.digest().clone()).collect();
    if let Some(store) = Store::existing(host.root, config.store)? {
        outcome.stored = store.find(&image.manifest_digest)?.is_some();
        outcome.kept = store.is_kept(&image.manifest_digest)?;
        let layers = store.missing(&image)?.into_iter();
        missing = layers.map(|layer| layer.digest().clone()).collect();
    }
    let mut users = users(host)?;
    outcome.containers = users.remove(&outcome.digest).unwrap_or_default();
    let layers = image.layers().iter().zip(image.diff_ids());
    outcome.layers = layers
        .map(|(layer, id)| Layer::new(layer, id, !missing.contains(layer.digest())))
        .collect();
    Ok(outcome)
}

/// What the image ships in `/exports`; `None` when it has no such directory.
fn exports(store: &Store, image: &StoredImage) -> Result<Option<Exports>> {
    let Some(dir) = store.exports(image)? else {
        return Ok(None);
    };
    let contract = contract::load(dir.path())?;
    let templates = contract.templates.iter();
    let targets = contract.host_files.iter();
    Ok(Some(Exports {
        templates: templates.map(|template| template.name.clone()).collect(),
        host_files: targets.map(|file| file.target.clone()).collect(),
        manifest: contract.manifest,
    }))
}

impl Outcome {
    fn new(
        reference: &ImageRef,
        (index, manifest): (&Digest, &Digest),
        config: &ImageConfiguration,
    ) -> Self {
        let mut inner = config.config().clone().unwrap_or_default();
        let labels = inner.labels().clone().unwrap_or_default();
        inner.set_labels(None);
        Self {
            image: reference.to_string(),
            index_digest: index.to_string(),
            digest: manifest.to_string(),
            stored: false,
            kept: false,
            containers: Vec::new(),
            platform: platform(config),
            platforms: None,
            created: config.created().clone(),
            labels: labels.into_iter().collect(),
            annotations: BTreeMap::new(),
            config: inner,
            layers: Vec::new(),
            contract: None,
            contract_error: None,
        }
    }

    fn annotate(&mut self, manifest: &ImageManifest) {
        let annotations = manifest.annotations().clone().unwrap_or_default();
        self.annotations = annotations.into_iter().collect();
    }
}

impl Layer {
    fn new(layer: &Descriptor, diff_id: &Digest, stored: bool) -> Self {
        Self {
            digest: layer.digest().to_string(),
            diff_id: diff_id.to_string(),
            media_type: layer.media_type().to_string(),
            size: layer.size(),
            stored,
        }
    }
}
