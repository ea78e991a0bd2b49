//! Images that the store has: those of a reference, and those that an operator wants kept.
//!
//! An image is kept by a second ref to its commit, `bedplate/kept/sha256-HEX`: whatever becomes of the containers
//! that are made from it, and of the image's own ref, its files stay and its reference is the one it was kept under.

use anyhow::{Context, Result};
use containers_image_proxy::oci_spec::image::Digest;

use crate::image::platform::Platform;
use crate::image::reference::ImageRef;
use crate::image::resolve::Resolved;
use crate::store::object::Sum;
use crate::store::{Store, StoredImage, refs};

impl Store {
    /// The image that the reference names now, if the store has it.
    pub fn find_resolved(&self, resolved: &Resolved) -> Result<Option<StoredImage>> {
        let Some(index_digest) = &resolved.index_digest else {
            return Ok(None);
        };
        let images = self.images()?;
        Ok(images.into_iter().find(|image| {
            image.reference == resolved.source.reference
                && image.platform == resolved.source.access.platform
                && image.index_digest == *index_digest
        }))
    }

    /// Whether an image was last asked for by this reference for the platform.
    pub fn knows(&self, reference: &ImageRef, platform: &Platform) -> Result<bool> {
        let images = self.images()?;
        Ok(images
            .iter()
            .any(|image| image.reference == *reference && image.platform == *platform))
    }

    /// An image of the same repository, if the store has one: it is likely to have most of the files. First the one
    /// that had the very reference.
    pub(crate) fn relative(&self, reference: &ImageRef) -> Result<Option<StoredImage>> {
        let mut images = self.images()?;
        images.retain(|image| image.reference.repository() == reference.repository());
        images.sort_by_key(|image| image.reference != *reference);
        Ok(images.into_iter().next())
    }

    /// The image that was last asked for by this reference for the platform, if the store has it; a kept one first. For
    /// any platform: this machine's first.
    pub fn find_reference(
        &self,
        reference: &ImageRef,
        platform: Option<&Platform>,
    ) -> Result<Option<StoredImage>> {
        let mut images = self.kept()?;
        images.extend(self.images()?);
        images.retain(|image| {
            image.reference == *reference && platform.is_none_or(|p| image.platform == *p)
        });
        // Of equals the first stays the first.
        images.sort_by_key(|image| !image.platform.runs_here());
        Ok(images.into_iter().next())
    }

    /// The image that is kept under this very reference for the platform.
    pub fn find_kept(
        &self,
        reference: &ImageRef,
        platform: &Platform,
    ) -> Result<Option<StoredImage>> {
        let kept = self.kept()?;
        Ok(kept
            .into_iter()
            .find(|image| image.reference == *reference && image.platform == *platform))
    }

    /// Keeps an image, under its reference; of an older image of the same reference and platform only the files stay, as long as
    /// a container needs them.
    pub fn keep(&self, image: &StoredImage) -> Result<()> {
        let keeping = || format!("keeping `{}`", image.reference);
        for older in self.kept()? {
            let same = older.reference == image.reference && older.platform == image.platform;
            if same && older.manifest_digest != image.manifest_digest {
                self.set_kept(&older.manifest_digest, None)
                    .with_context(keeping)?;
            }
        }
        self.set_kept(&image.manifest_digest, Some(&image.commit))
            .with_context(keeping)
    }

    /// Ends the keeping of an image; one that is not kept is fine.
    pub fn release(&self, manifest_digest: &Digest) -> Result<()> {
        if !self.is_kept(manifest_digest)? {
            return Ok(());
        }
        self.set_kept(manifest_digest, None)
            .with_context(|| format!("no longer keeping the image {manifest_digest}"))
    }

    /// Whether the image with this manifest is kept.
    pub fn is_kept(&self, manifest_digest: &Digest) -> Result<bool> {
        let name = refs::name(refs::KEPT, manifest_digest);
        let found = refs::resolve(&self.repo, &name);
        Ok(found
            .with_context(|| format!("looking for the image {manifest_digest}"))?
            .is_some())
    }

    /// Every image, kept or not.
    pub fn images(&self) -> Result<Vec<StoredImage>> {
        self.images_below(refs::IMAGES)
    }

    /// Every image that is kept.
    pub fn kept(&self) -> Result<Vec<StoredImage>> {
        self.images_below(refs::KEPT)
    }

    fn set_kept(&self, manifest_digest: &Digest, commit: Option<&str>) -> Result<()> {
        let name = refs::name(refs::KEPT, manifest_digest);
        refs::set(&self.repo, &name, commit)
    }

    /// The images with a ref of this kind, by digest; those in another format are left out.
    fn images_below(&self, kind: &str) -> Result<Vec<StoredImage>> {
        let looking = || "looking for images".to_owned();
        let refs = refs::list(&self.repo, Some(kind));
        let mut images = Vec::new();
        for (name, commit) in refs.with_context(looking)? {
            if Sum::parse(&commit).is_err() {
                // What a disk has damaged is told, and mended, by verify and repair.
                tracing::warn!("the ref `{name}` names no commit");
                continue;
            }
            images.extend(self.image_of(&commit).with_context(looking)?);
        }
        Ok(images)
    }
}
