//! `pull`: images into the store, to stay there whether or not they are installed.

use anyhow::Result;
use schemars::JsonSchema;
use serde::Serialize;

use crate::config;
use crate::image::access::Access;
use crate::image::reference::ImageRef;
use crate::ops::Host;
use crate::ops::changes::Change;
use crate::ops::fetching::{self, Found, Pull};
use crate::store::Store;

/// What is to be pulled.
#[derive(Debug)]
pub struct Request {
    /// The images.
    pub images: Vec<ImageRef>,
    /// How they are reached.
    pub access: Access,
    /// Say what would be fetched.
    pub dry_run: bool,
}

/// What became of the images.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Outcome {
    /// Nothing was changed: this is what would be done.
    pub dry_run: bool,
    /// Each image, in the order given.
    pub images: Vec<Pulled>,
}

/// One image.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Pulled {
    /// Its reference.
    pub image: String,
    /// The manifest's digest.
    pub digest: String,
    /// How many layers it has.
    pub layers: usize,
    /// The layers that the store did not have.
    pub fetched: Vec<Layer>,
    /// It was kept before, under this reference.
    pub was_kept: bool,
}

/// A layer that has to be fetched.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Layer {
    /// Its blob's digest.
    pub digest: String,
    /// Its compressed size in bytes.
    pub size: u64,
}

/// Pulls the images, one after the other: those that came before one that fails are kept.
pub fn run(host: &Host, request: &Request) -> Result<Outcome> {
    let _lock = host.write_lock("pull")?;
    let config = config::load(host.root)?;
    let store = Store::open(host.root, config.store)?;
    let access = request.access.with_network(config.network);
    let images = request.images.iter();
    let images = images.map(|reference| {
        let found = fetching::find(host, &store, &access, reference, Pull::Always)?;
        one(host, &store, (reference, &access), found, request.dry_run)
    });
    Ok(Outcome {
        dry_run: request.dry_run,
        images: images.collect::<Result<_>>()?,
    })
}

fn one(
    host: &Host,
    store: &Store,
    (reference, access): (&ImageRef, &Access),
    found: Found,
    dry_run: bool,
) -> Result<Pulled> {
    let digest = found.manifest_digest();
    let kept = store.find_kept(reference, &access.platform)?;
    let was_kept = kept.is_some_and(|kept| kept.manifest_digest.to_string() == digest);
    let (layers, fetched) = match &found {
        Found::Stored(image) => (image.diff_ids.len(), Vec::new()),
        Found::Remote(image) => {
            let missing = store.missing(image)?.into_iter().map(|layer| Layer {
                digest: layer.digest().to_string(),
                size: layer.size(),
            });
            (image.layers().len(), missing.collect())
        }
    };
    if !dry_run {
        let image = found.into_store(host, store)?;
        store.keep(&image)?;
    }
    let pulled = Pulled {
        image: reference.to_string(),
        digest,
        layers,
        fetched,
        was_kept,
    };
    if !dry_run && !was_kept {
        let (image, digest) = (&pulled.image, &pulled.digest);
        host.changed("pull", &Change::Pulled { image, digest });
    }
    Ok(pulled)
}
