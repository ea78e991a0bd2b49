//! `images`: what the store has, what an image says about itself, and which images are no longer kept.

pub mod remove;
pub mod show;
mod wanted;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::Result;
use containers_image_proxy::oci_spec::image::ImageConfiguration;
use schemars::JsonSchema;
use serde::Serialize;

use crate::deployment;
use crate::ops::Host;
use crate::root::Root;
use crate::state;
use crate::store::settings::Settings;
use crate::store::survey::Survey;
use crate::store::{Store, StoredImage};

pub use crate::ops::images::wanted::Wanted;

/// An image in the store.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Row {
    /// The reference it is kept by, or was last asked for by; empty when another version of bedplate stored it.
    pub image: String,
    /// The manifest's digest.
    pub digest: String,
    /// When it was made, as its config says: RFC 3339.
    pub created: Option<String>,
    /// What it is made for, such as `linux/amd64`.
    pub platform: Option<String>,
    /// How many layers it has.
    pub layers: Option<usize>,
    /// Bytes of content of its files, each name counted; `df` has what that takes on disk.
    pub size: u64,
    /// Whether it was pulled to be kept.
    pub kept: bool,
    /// The containers that have a generation of it.
    pub containers: Vec<String>,
}

/// The images in the store, by reference.
pub fn run(host: &Host) -> Result<Vec<Row>> {
    let users = users(host)?;
    let mut known: HashMap<String, StoredImage> = HashMap::new();
    if let Some(store) = Store::existing(host.root, Settings::default())? {
        // What an image is kept by counts more than what it was last asked for by.
        for image in store.images()?.into_iter().chain(store.kept()?) {
            known.insert(image.manifest_digest.to_string(), image);
        }
    }
    let images = Survey::take(host.root)?.images(&users).into_iter();
    let mut rows: Vec<Row> = images
        .map(|usage| {
            let image = known.get(&usage.digest);
            let config = image.map(|image| &image.config);
            Row {
                image: image.map_or(usage.image, |image| image.reference.to_string()),
                digest: usage.digest,
                created: config.and_then(|config| config.created().clone()),
                platform: config.map(platform),
                layers: image.map(|image| image.diff_ids.len()),
                size: usage.logical,
                kept: usage.kept,
                containers: usage.containers,
            }
        })
        .collect();
    rows.sort_by(|a, b| (&a.image, &a.digest).cmp(&(&b.image, &b.digest)));
    Ok(rows)
}

/// The references of the images in the store, each once.
pub fn references(root: &Root) -> Result<Vec<String>> {
    let Some(store) = Store::existing(root, Settings::default())? else {
        return Ok(Vec::new());
    };
    let images = store.images()?.into_iter().chain(store.kept()?);
    let references: BTreeSet<_> = images.map(|image| image.reference.to_string()).collect();
    Ok(references.into_iter().collect())
}

/// The containers that have a generation of each image, by its manifest's digest.
fn users(host: &Host) -> Result<BTreeMap<String, Vec<String>>> {
    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in deployment::containers(host.root)? {
        for generation in deployment::generations(host.root, &name)? {
            match state::record(host.root, &name, generation) {
                Ok(record) => {
                    let names = users.entry(record.manifest_digest).or_default();
                    if names.last().is_none_or(|last| last != name.as_str()) {
                        names.push(name.to_string());
                    }
                }
                Err(error) => host.report.note(format!("{error:#}")),
            }
        }
    }
    Ok(users)
}

/// What an image is made for, in OCI's words: `linux/arm64/v8`.
fn platform(config: &ImageConfiguration) -> String {
    let mut words = vec![config.os().to_string(), config.architecture().to_string()];
    words.extend(config.variant().clone());
    words.join("/")
}
