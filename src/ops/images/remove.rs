//! `images remove`: images that are no longer kept. Their files go with the next `prune`.

use anyhow::{Result, anyhow};
use schemars::JsonSchema;
use serde::Serialize;

use crate::config;
use crate::hint::Hinted;
use crate::ops::Host;
use crate::ops::changes::Change;
use crate::ops::images::{Wanted, users};
use crate::store::{Store, StoredImage};

/// Which images are to go.
#[derive(Debug)]
pub struct Request {
    /// The images.
    pub images: Vec<Wanted>,
    /// Say what would be done.
    pub dry_run: bool,
}

/// What became of the images.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Outcome {
    /// Nothing was changed: this is what would be done.
    pub dry_run: bool,
    /// Each image, in the order given.
    pub images: Vec<Removed>,
}

/// One image.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Removed {
    /// Its reference.
    pub image: String,
    /// The manifest's digest.
    pub digest: String,
    /// It was kept before.
    pub was_kept: bool,
}

/// Ends the keeping of all of the images, or of none.
pub fn run(host: &Host, request: &Request) -> Result<Outcome> {
    let _lock = host.write_lock("images remove")?;
    let store = Store::existing(host.root, config::load(host.root)?.store)?;
    let users = users(host)?;
    let mut found: Vec<StoredImage> = Vec::new();
    for wanted in &request.images {
        let image = wanted.find(store.as_ref())?;
        if let Some(names) = users.get(image.manifest_digest.as_ref()) {
            let names = names.join(" ");
            return Err(anyhow!(
                "`{wanted}` is in use: by {}",
                names.replace(' ', ", ")
            ))
            .hint(format!(
                "`bedplate uninstall {names}` first; its data is kept"
            ));
        }
        found.push(image);
    }
    let mut images = Vec::new();
    for image in found {
        let Some(store) = &store else { continue };
        let was_kept = store.is_kept(&image.manifest_digest)?;
        if !request.dry_run {
            store.release(&image.manifest_digest)?;
        }
        let removed = Removed {
            image: image.reference.to_string(),
            digest: image.manifest_digest.to_string(),
            was_kept,
        };
        if was_kept && !request.dry_run {
            let change = Change::Released {
                image: &removed.image,
                digest: &removed.digest,
            };
            host.changed("images remove", &change);
        }
        images.push(removed);
    }
    Ok(Outcome {
        dry_run: request.dry_run,
        images,
    })
}
