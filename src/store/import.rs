//! Import: what an opened image has and the store has not is fetched, layer by layer, then the image is put together.

use std::collections::HashMap;
use std::io::{self, Read};

use anyhow::{Context, Error, Result};
use containers_image_proxy::oci_spec::image::{Descriptor, Digest};
use ostree::{MutableTree, gio, glib};

use crate::hint::Hinted;
use crate::image::remote::RemoteImage;
use crate::progress::{Event, Report};
use crate::store::entry::Entry;
use crate::store::inflate::{OVER_LIMIT, check_media_type};
use crate::store::layer;
use crate::store::merge::{Scope, Tree};
use crate::store::{Store, StoredImage, image_ref, layer_ref, metadata};

/// The remedy for bytes that are not what the image says of them.
const DAMAGED: &str =
    "what the image's source holds is damaged: copy or push the image there again";

/// How many names a note on skipped files lists.
const LISTED: usize = 5;

impl Store {
    /// Brings the image into the store. A layer that is known by its diff_id is not fetched.
    ///
    /// Each layer is a transaction: an import that is cut short keeps the layers it completed, and nothing refers to
    /// an incomplete one. libostree writes the file system to disk before it writes a ref.
    pub fn import(&self, image: RemoteImage, report: &Report) -> Result<StoredImage> {
        let reference = image.reference.clone();
        let importing = || format!("importing `{reference}`");
        if let Some(stored) = self.find(&image.manifest_digest)?
            && stored.reference == image.reference
            && stored.index_digest == image.index_digest
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
        let mut tree = Tree::default();
        // An image may have a layer twice: the empty one of old builders.
        let mut lists: HashMap<&Digest, Vec<Entry>> = HashMap::new();
        for (descriptor, diff_id) in image.layers().iter().zip(image.diff_ids()) {
            let at_layer = || label(descriptor);
            if !lists.contains_key(diff_id) {
                let entries = match self.layer_entries(diff_id).with_context(at_layer)? {
                    Some(entries) => entries,
                    None => self
                        .fetch(image, descriptor, diff_id, report)
                        .with_context(at_layer)?,
                };
                lists.insert(diff_id, entries);
            }
            if let Some(entries) = lists.get(diff_id) {
                tree.apply(entries, Scope::Image).with_context(at_layer)?;
            }
        }
        self.commit_image(image, &tree)
    }

    /// Fetches one layer and commits it.
    fn fetch(
        &self,
        image: &RemoteImage,
        descriptor: &Descriptor,
        diff_id: &Digest,
        report: &Report,
    ) -> Result<Vec<Entry>> {
        let digest = descriptor.digest().to_string();
        report.event(Event::LayerBegin {
            digest: digest.clone(),
            size: descriptor.size(),
        });
        let transaction = self.repo.auto_transaction(gio::Cancellable::NONE)?;
        let mut blob = image.blob(descriptor)?;
        let counted = Counted {
            blob: &mut blob,
            digest: &digest,
            report,
        };
        let read = layer::read(&self.repo, counted, diff_id, self.settings.layer_limit);
        // Bytes that make no sense are most often not the layer's bytes: skopeo's verdict on them comes first.
        let layer = match read {
            Err(error) if is_libostrees(&error) => {
                return Err(error);
            }
            Ok(_) | Err(_) => blob.finish().map_err(Error::from).and(read)?,
        };
        let commit = layer::commit(&self.repo, &layer, diff_id)?;
        self.repo
            .transaction_set_ref(None, &layer_ref(diff_id), Some(&commit));
        transaction.commit(gio::Cancellable::NONE)?;
        if !layer.skipped.is_empty() {
            report.note(skipped_note(&digest, &layer.skipped));
        }
        report.event(Event::LayerDone { digest });
        Ok(layer.entries)
    }

    fn commit_image(&self, image: &RemoteImage, tree: &Tree) -> Result<StoredImage> {
        let transaction = self.repo.auto_transaction(gio::Cancellable::NONE)?;
        let root = MutableTree::new();
        tree.write_into(&self.repo, &root)?;
        let metadata = metadata::write(image)?;
        let commit = layer::write_commit(&self.repo, &root, Some(&metadata))?;
        let name = image_ref(&image.manifest_digest);
        self.repo.transaction_set_ref(None, &name, Some(&commit));
        transaction.commit(gio::Cancellable::NONE)?;
        Ok(StoredImage {
            reference: image.reference.clone(),
            index_digest: image.index_digest.clone(),
            manifest_digest: image.manifest_digest.clone(),
            config: image.config.clone(),
            diff_ids: image.diff_ids().to_vec(),
            commit,
        })
    }

    /// Adds the remedy to an error that has one.
    fn explain(&self, error: Error) -> Error {
        let says = |needle: &str| {
            error
                .chain()
                .any(|cause| cause.to_string().contains(needle))
        };
        let hint = if says("No space left on device") || says("min-free-space") {
            format!("free space on the file system of `{}`", self.path.display())
        } else if says(OVER_LIMIT) {
            "if the image is meant to be so large, raise `layer_limit` in `[store]` of bedplate.toml"
                .to_owned()
        } else if says("corrupted blob") || says("diff_id") {
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

/// Whether writing failed, not reading.
fn is_libostrees(error: &Error) -> bool {
    error
        .chain()
        .any(<dyn std::error::Error>::is::<glib::Error>)
}

/// A layer as errors name it.
fn label(descriptor: &Descriptor) -> String {
    format!("layer {}", descriptor.digest())
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

/// Reports how much of a blob has been read.
struct Counted<'a, R> {
    blob: R,
    digest: &'a str,
    report: &'a Report,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.blob.read(buffer)?;
        if read > 0 {
            self.report.event(Event::LayerBytes {
                digest: self.digest.to_owned(),
                bytes: read as u64,
            });
        }
        Ok(read)
    }
}
