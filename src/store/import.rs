//! Import: what an opened image has and the store has not is fetched, all layers at once, then the image is put together.

use std::cmp::Reverse;
use std::collections::HashMap;

use anyhow::{Context, Error, Result};
use containers_image_proxy::oci_spec::image::Digest;

use crate::hint::Hinted;
use crate::image::remote::RemoteImage;
use crate::progress::{Event, Report};
use crate::store::entry::Entry;
use crate::store::fetch::{Fetch, Wanted, label};
use crate::store::inflate::{OVER_LIMIT, check_media_type};
use crate::store::layer::SPARSE;
use crate::store::merge::Tree;
use crate::store::{Store, StoredImage, commit, metadata, refs};

/// The remedy for bytes that are not what the image says of them.
const DAMAGED: &str =
    "what the image's source holds is damaged: copy or push the image there again";

/// How many names a note on skipped files lists.
const LISTED: usize = 5;

impl Store {
    /// Brings the image into the store. A layer that is known by its diff_id is not fetched.
    ///
    /// An import that is cut short keeps the layers it completed, and nothing refers to an incomplete one; see
    /// `unsynced` for what a power cut leaves.
    pub fn import(&self, image: RemoteImage, report: &Report) -> Result<StoredImage> {
        let reference = image.reference.clone();
        let importing = || format!("importing `{reference}`");
        if let Some(stored) = self.find(&image.manifest_digest)?
            && stored.reference == image.reference
            && stored.index_digest == image.index_digest
            && stored.platform == image.platform
        {
            return Ok(stored);
        }
        for descriptor in image.layers() {
            check_media_type(descriptor.media_type())
                .with_context(|| label(descriptor))
                .with_context(importing)?;
        }
        let stored = self.put_together(&image, report);
        // Ends skopeo, also when it is in the middle of a blob.
        drop(image);
        stored
            .map_err(|error| self.explain(error))
            .with_context(importing)
    }

    fn put_together(&self, image: &RemoteImage, report: &Report) -> Result<StoredImage> {
        self.begin()?;
        let lists = self.layers(image, report)?;
        let mut tree = Tree::default();
        for (descriptor, diff_id) in image.layers().iter().zip(image.diff_ids()) {
            let entries = lists.get(diff_id).context("a layer has been lost")?;
            tree.apply(entries).with_context(|| label(descriptor))?;
        }
        let commit = commit::image(&self.objects, &tree, &metadata::write(image)?)?;
        let name = refs::name(refs::IMAGES, &image.manifest_digest);
        self.end(&name, &commit)?;
        Ok(StoredImage {
            reference: image.reference.clone(),
            index_digest: image.index_digest.clone(),
            manifest_digest: image.manifest_digest.clone(),
            platform: image.platform.clone(),
            config: image.config.clone(),
            diff_ids: image.diff_ids().to_vec(),
            commit,
        })
    }

    /// The entries of each of the image's layers: the store's, or fetched. An image may have a layer twice: the empty
    /// one of old builders.
    fn layers<'a>(
        &self,
        image: &'a RemoteImage,
        report: &Report,
    ) -> Result<HashMap<&'a Digest, Vec<Entry>>> {
        let mut lists = HashMap::new();
        let mut wanted: Vec<Wanted<'a>> = Vec::new();
        for (descriptor, diff_id) in image.layers().iter().zip(image.diff_ids()) {
            let at_layer = || label(descriptor);
            if lists.contains_key(diff_id) || wanted.iter().any(|w| w.diff_id == diff_id) {
                continue;
            }
            match self.layer_entries(diff_id).with_context(at_layer)? {
                Some(entries) => drop(lists.insert(diff_id, entries)),
                None => wanted.push(Wanted {
                    descriptor,
                    diff_id,
                }),
            }
        }
        // The largest first: what takes longest does not begin last.
        wanted.sort_by_key(|w| Reverse(w.descriptor.size()));
        let fetch = Fetch {
            image,
            limit: self.settings.layer_limit,
            report,
        };
        fetch.all(&self.objects, &wanted, |layer, read| {
            let commit = commit::layer(&self.objects, &read, layer.diff_id)?;
            self.set_pending(layer.diff_id, &commit)?;
            let digest = layer.descriptor.digest().to_string();
            if !read.skipped.is_empty() {
                report.note(skipped_note(&digest, &read.skipped));
            }
            report.event(Event::LayerDone { digest });
            lists.insert(layer.diff_id, read.entries);
            Ok(())
        })?;
        Ok(lists)
    }

    /// Adds the remedy to an error that has one.
    fn explain(&self, error: Error) -> Error {
        let says = |needle: &str| {
            error
                .chain()
                .any(|cause| cause.to_string().contains(needle))
        };
        let hint = if says("No space left on device") || says("min-free-space") {
            self.free_space()
        } else if says(OVER_LIMIT) {
            "if the image is meant to be so large, raise `layer_limit` in `[store]` of bedplate.toml"
                .to_owned()
        } else if says(SPARSE) {
            "build the image anew without `--sparse` of tar".to_owned()
        } else if says("corrupted blob") || says("bytes in blob, got") || says("diff_id") {
            DAMAGED.to_owned()
        } else {
            return error;
        };
        match Err::<(), _>(error).hint(hint) {
            Ok(()) => Error::msg("an error without an error"),
            Err(error) => error,
        }
    }
}

fn skipped_note(digest: &str, skipped: &[String]) -> String {
    let mut listed: Vec<_> = skipped
        .iter()
        .take(LISTED)
        .map(|p| format!("`{p}`"))
        .collect();
    if skipped.len() > LISTED {
        listed.push("…".to_owned());
    }
    format!(
        "layer {digest}: {} of its files are left out, for the store keeps no devices, FIFOs or sockets: {}",
        skipped.len(),
        listed.join(", ")
    )
}
