//! Import: what an opened image has and the store has not is fetched, all layers at once, then the image is put together.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use anyhow::{Context, Error, Result, anyhow, bail};
use containers_image_proxy::oci_spec::image::{Descriptor, Digest};

use crate::hint::Hinted;
use crate::image::remote::RemoteImage;
use crate::progress::{Event, Report};
use crate::store::dress::SETTING;
use crate::store::entry::Entry;
use crate::store::fetch::{Fetch, Wanted, label};
use crate::store::inflate::{OVER_LIMIT, check_media_type};
use crate::store::layer::SPARSE;
use crate::store::limits::Limits;
use crate::store::merge::Tree;
use crate::store::{Begun, Checkout, Store, StoredImage, commit, metadata, refs};

/// The remedy for bytes that are not what the image says of them.
const DAMAGED: &str =
    "what the image's source holds is damaged: copy or push the image there again";

/// How many names a note on skipped files lists.
const LISTED: usize = 5;

/// Gives a checkout that has been begun, when that is as far as it goes by itself.
type Begin<'a> = Box<dyn FnOnce() -> Result<Begun> + Send + 'a>;

/// The layers of an image as they are brought together.
struct Layers<'a> {
    image: &'a RemoteImage,
    /// What is known of each.
    lists: HashMap<&'a Digest, Arc<Vec<Entry>>>,
    /// Those of which nothing is.
    wanted: Vec<Wanted<'a>>,
}

impl Store {
    /// Brings the image into the store. A layer that is known by its diff_id is not fetched.
    ///
    /// An import that is cut short keeps the layers it completed, and nothing refers to an incomplete one; see
    /// `unsynced` for what a power cut leaves.
    pub fn import(&self, image: RemoteImage, report: &Report) -> Result<StoredImage> {
        let (stored, _) = self.bring(image, None, report)?;
        Ok(stored)
    }

    /// As [`Store::import`], and checks the image out into what `begin` gives: the layers that are known while the
    /// others are fetched, the rest before anything waits for the disk.
    pub fn import_and_checkout(
        &self,
        image: RemoteImage,
        begin: impl FnOnce() -> Result<Begun> + Send,
        report: &Report,
    ) -> Result<(StoredImage, Checkout)> {
        let (stored, checkout) = self.bring(image, Some(Box::new(begin)), report)?;
        Ok((stored, checkout.context("nothing was checked out")?))
    }

    fn bring(
        &self,
        image: RemoteImage,
        begin: Option<Begin>,
        report: &Report,
    ) -> Result<(StoredImage, Option<Checkout>)> {
        let reference = image.reference.clone();
        let importing = || format!("importing `{reference}`");
        if let Some(stored) = self.find(&image.manifest_digest)?
            && stored.reference == image.reference
            && stored.index_digest == image.index_digest
            && stored.platform == image.platform
        {
            let checkout = begin.map(|begin| self.checkout_from(begin()?, &stored));
            return Ok((stored, checkout.transpose()?));
        }
        for descriptor in image.layers() {
            check_media_type(descriptor.media_type())
                .with_context(|| label(descriptor))
                .with_context(importing)?;
        }
        let stored = self.put_together(&image, begin, report);
        // Ends skopeo, also when it is in the middle of a blob.
        drop(image);
        let stored = stored.map_err(|error| self.explain(error));
        let (stored, checkout) = stored.with_context(importing)?;
        let checkout = checkout.map_err(|error| self.explain(error));
        Ok((
            stored,
            checkout.with_context(|| format!("checking out `{reference}`"))?,
        ))
    }

    /// What became of the checkout does not concern the image, which is in the store by then.
    fn put_together(
        &self,
        image: &RemoteImage,
        begin: Option<Begin>,
        report: &Report,
    ) -> Result<(StoredImage, Result<Option<Checkout>>)> {
        self.begin()?;
        let mut layers = self.known(image)?;
        let lower = &layers.lower();
        let (merged, waiting) = channel::<Arc<Tree>>();
        let linking = move || {
            let Some(begin) = begin else {
                return Ok(None);
            };
            let mut begun = begin()?;
            if begun.is_empty() && !lower.is_empty() {
                self.advance(&mut begun, &Arc::new(merge(lower)?))?;
            }
            // None comes when it could not be merged.
            if let Ok(tree) = waiting.recv() {
                self.advance(&mut begun, &tree)?;
            }
            Ok(Some(begun.done()))
        };
        let (linked, commit) = meanwhile(linking, move || {
            let merging = || {
                let mut tree = merge(lower)?;
                tree.reckon()?;
                Ok(tree)
            };
            let (tree, ()) = meanwhile(merging, || self.fetch(&mut layers, report))?;
            // It has nothing more to do, and may take a moment to end.
            image.dismiss();
            let mut tree = tree?;
            if layers.apply(&mut tree, lower.len())? < image.layers().len() {
                bail!("a layer has been lost");
            }
            let tree = Arc::new(tree);
            let _failed_already = merged.send(Arc::clone(&tree));
            commit::image(&self.objects, &tree, &metadata::write(image)?)
        })?;
        let name = refs::name(refs::IMAGES, &image.manifest_digest);
        self.end(&name, &commit)?;
        Ok((stored(image, commit), linked))
    }

    /// What the store knows of the image's layers. An image may have a layer twice: the empty one of old builders.
    fn known<'a>(&self, image: &'a RemoteImage) -> Result<Layers<'a>> {
        let mut lists = HashMap::new();
        let mut wanted: Vec<Wanted<'a>> = Vec::new();
        for (descriptor, diff_id) in image.layers().iter().zip(image.diff_ids()) {
            let at_layer = || label(descriptor);
            if lists.contains_key(diff_id) || wanted.iter().any(|w| w.diff_id == diff_id) {
                continue;
            }
            match self.known_entries(diff_id).with_context(at_layer)? {
                Some(entries) => drop(lists.insert(diff_id, entries)),
                None => wanted.push(Wanted {
                    descriptor,
                    diff_id,
                }),
            }
        }
        // The largest first: what takes longest does not begin last.
        wanted.sort_by_key(|w| Reverse(w.descriptor.size()));
        Ok(Layers {
            image,
            lists,
            wanted,
        })
    }

    /// Fetches what is not known.
    fn fetch(&self, layers: &mut Layers, report: &Report) -> Result<()> {
        let fetch = Fetch {
            image: layers.image,
            limits: Limits::new(self.settings.layer_limit),
            report,
        };
        let lists = &mut layers.lists;
        fetch.all(&self.objects, &layers.wanted, |layer, read| {
            let commit = commit::layer(&self.objects, &read, layer.diff_id)?;
            self.set_pending(layer.diff_id, &commit)?;
            let digest = layer.descriptor.digest().to_string();
            if !read.skipped.is_empty() {
                report.note(skipped_note(&digest, &read.skipped));
            }
            report.event(Event::LayerDone { digest });
            lists.insert(layer.diff_id, Arc::new(read.entries));
            Ok(())
        })
    }

    /// Adds the remedy to an error that has one.
    fn explain(&self, error: Error) -> Error {
        let says = |needle: &str| {
            error
                .chain()
                .any(|cause| cause.to_string().contains(needle))
        };
        let hint = if says(SETTING) {
            "the store's file system must take it: ext4 has less than a block, mostly 4096 bytes, for all attributes of a \
             file, unless it was made with `-O ea_inode`; XFS and Btrfs have more"
                .to_owned()
        } else if says("No space left on device") {
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

impl<'a> Layers<'a> {
    /// The lowest layers, up to the first of which nothing is known.
    fn lower(&self) -> Vec<(&'a Descriptor, Arc<Vec<Entry>>)> {
        let layers = self.image.layers().iter().zip(self.image.diff_ids());
        layers
            .map_while(|(descriptor, id)| Some((descriptor, Arc::clone(self.lists.get(id)?))))
            .collect()
    }

    /// Lays layers over the tree of those below, from this one up to the first of which nothing is known; that one.
    fn apply(&self, tree: &mut Tree, from: usize) -> Result<usize> {
        let layers = self.image.layers().iter().zip(self.image.diff_ids());
        for (at, (descriptor, diff_id)) in layers.enumerate().skip(from) {
            let Some(entries) = self.lists.get(diff_id) else {
                return Ok(at);
            };
            tree.apply(entries).with_context(|| label(descriptor))?;
        }
        Ok(self.image.layers().len())
    }
}

/// The tree of these layers.
fn merge(layers: &[(&Descriptor, Arc<Vec<Entry>>)]) -> Result<Tree> {
    let mut tree = Tree::default();
    for (descriptor, entries) in layers {
        tree.apply(entries).with_context(|| label(descriptor))?;
    }
    Ok(tree)
}

/// What the image is in the store.
fn stored(image: &RemoteImage, commit: String) -> StoredImage {
    StoredImage {
        reference: image.reference.clone(),
        index_digest: image.index_digest.clone(),
        manifest_digest: image.manifest_digest.clone(),
        platform: image.platform.clone(),
        config: image.config.clone(),
        diff_ids: image.diff_ids().to_vec(),
        commit,
    }
}

/// Does one thing while another is done; what became of the first, unless the second failed.
fn meanwhile<T: Send, U>(
    one: impl FnOnce() -> Result<T> + Send,
    other: impl FnOnce() -> Result<U>,
) -> Result<(Result<T>, U)> {
    thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        let one = one.join();
        Ok((
            one.unwrap_or_else(|_| Err(anyhow!("a thread ended in the middle"))),
            other?,
        ))
    })
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
