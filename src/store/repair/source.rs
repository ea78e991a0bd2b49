//! Images as the source of what was lost: the manifest pinned by digest, and of the layers only what is needed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{BufReader, Read};

use anyhow::{Context, Result, bail};
use containers_image_proxy::oci_spec::image::{Descriptor, Digest};

use crate::hint::Hinted;
use crate::image::access::Access;
use crate::image::platform::Platform;
use crate::image::reference::{ImageRef, Transport};
use crate::image::remote::{self, RemoteImage};
use crate::image::retry::with_retries;
use crate::progress::{Event, Report};
use crate::store::Store;
use crate::store::archive::Archive;
use crate::store::entry::{Entry, clean_path};
use crate::store::fetch::label;
use crate::store::inflate::{Hashed, inflate};
use crate::store::object::{CHUNK, Meta, Sum};
use crate::store::repair::scratch::Scratch;
use crate::store::verify::inventory::entry_meta;

/// What of a layer is wanted: at each path the objects, with what they are.
pub(crate) type Shopping = BTreeMap<String, (Sum, Meta)>;

/// The wanted objects that a layer has.
pub(crate) fn shopping(entries: &[Entry], wanted: &HashSet<Sum>) -> Shopping {
    let mut found = Shopping::new();
    for entry in entries {
        if let Some((sum, meta)) = entry_meta(entry)
            && wanted.contains(&sum)
        {
            found.insert(entry.path.clone(), (sum, meta));
        }
    }
    found
}

/// An image that was opened again.
pub(crate) struct Source {
    image: RemoteImage,
}

impl Source {
    /// Opens the image of this manifest. Its reference may name another one by now: a registry still has it by
    /// its digest.
    pub(crate) fn open(reference: &ImageRef, digest: &Digest, access: &Access) -> Result<Self> {
        let mut opened = None;
        if reference.transport() == Transport::Docker && reference.digest().is_none() {
            // A signature policy may know the tag alone.
            opened = remote::open(&reference.pinned(digest), access).ok();
        }
        let mut image = match opened {
            Some(image) => image,
            None => remote::open(reference, access)?,
        };
        if image.manifest_digest != *digest {
            let result: Result<()> = (|| {
                bail!(
                    "`{reference}` names another image by now: {}",
                    image.manifest_digest
                )
            })();
            result.hint(format!("push the image {digest} there again"))?;
        }
        image.reference = reference.clone();
        Ok(Self { image })
    }

    /// The diff_ids of its layers, lowest first.
    pub(crate) fn diff_ids(&self) -> &[Digest] {
        self.image.diff_ids()
    }

    /// The image, for the commit of its tree.
    pub(crate) fn image(&mut self, index_digest: &Digest) -> &RemoteImage {
        self.image.index_digest = index_digest.clone();
        &self.image
    }

    /// The blob of a layer.
    pub(crate) fn descriptor(&self, diff_id: &Digest) -> Result<&Descriptor> {
        let layers = self.image.layers().iter().zip(self.image.diff_ids());
        let mut found = layers.filter(|(_, known)| *known == diff_id);
        let (descriptor, _) = found
            .next()
            .with_context(|| format!("`{}` has no layer {diff_id}", self.image.reference))?;
        Ok(descriptor)
    }

    /// Reads a layer to its end and writes the wanted objects of it; returns those.
    pub(crate) fn fetch(
        &self,
        store: &Store,
        diff_id: &Digest,
        wanted: &Shopping,
        report: &Report,
    ) -> Result<Vec<Sum>> {
        let limit = store.settings.layer_limit;
        self.read(diff_id, report, |blob| {
            let stream = Hashed::new(inflate(blob)?, diff_id, limit)?;
            let mut archive = Archive::new(BufReader::with_capacity(CHUNK, stream));
            let mut written = Vec::new();
            while let Some(member) = archive.next_member()? {
                let Ok(path) = clean_path(&member.path) else {
                    continue;
                };
                if let Some((sum, meta)) = wanted.get(&path)
                    && store.put_file(*sum, meta, &mut archive.content())?
                {
                    written.push(*sum);
                }
            }
            archive.into_inner().into_inner().verify()?;
            Ok(written)
        })
    }

    /// Reads a layer whole into a private repository; returns its commit.
    pub(crate) fn fetch_whole(
        &self,
        scratch: &Scratch,
        (diff_id, limit): (&Digest, u64),
        report: &Report,
    ) -> Result<String> {
        self.read(diff_id, report, |blob| {
            scratch.fetched(blob, diff_id, limit)
        })
    }

    /// Reads a layer's blob, which has to be the layer's, again if the network spoils it.
    fn read<T>(
        &self,
        diff_id: &Digest,
        report: &Report,
        mut read: impl FnMut(&mut dyn Read) -> Result<T>,
    ) -> Result<T> {
        let descriptor = self.descriptor(diff_id)?;
        let digest = descriptor.digest().to_string();
        let fetching = || format!("fetching layer {digest} of `{}`", self.image.reference);
        let read = with_retries(report, &label(descriptor), |_| {
            report.event(Event::LayerBegin {
                digest: digest.clone(),
                size: descriptor.size(),
            });
            let mut blob = self.image.blob(descriptor)?;
            let read = read(&mut blob);
            let verdict = blob.finish().map_err(anyhow::Error::from);
            verdict.and(read)
        })
        .with_context(fetching)?;
        report.event(Event::LayerDone { digest });
        Ok(read)
    }
}

/// Opened images by digest; one that could not be opened is not tried twice.
pub(crate) struct Sources {
    access: Access,
    opened: HashMap<Digest, Result<Source, String>>,
}

impl Sources {
    /// Nothing opened yet; how the sources will be reached.
    pub(crate) fn new(access: Access) -> Self {
        Self {
            access,
            opened: HashMap::new(),
        }
    }

    /// The image, opened now or before.
    pub(crate) fn get(
        &mut self,
        reference: &ImageRef,
        digest: &Digest,
        platform: Platform,
    ) -> Result<&mut Source, String> {
        let opened = self.opened.entry(digest.clone()).or_insert_with(|| {
            let access = self.access.with_platform(platform);
            Source::open(reference, digest, &access).map_err(|e| format!("{e:#}"))
        });
        opened.as_mut().map_err(|error| error.clone())
    }
}
