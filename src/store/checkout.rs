//! An image's tree as files: hard links to the repository's objects in a private directory.
#![expect(
    clippy::disallowed_methods,
    reason = "the store owns what lies in its own private directories"
)]

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{CWD, Mode};
use rustix::io::Errno;
use tempfile::TempDir;

use crate::hint::Hinted;
use crate::store::link::Linking;
use crate::store::merge::Tree;
use crate::store::{Store, StoredImage};

/// A checked-out image, removed when dropped unless kept.
///
/// Each file *is* the repository's object: writing to it would change every container that shares it. Whatever is
/// changed must be replaced.
#[derive(Debug)]
pub struct Checkout {
    /// Holds the root; removed when dropped.
    private: TempDir,
    rootfs: PathBuf,
}

impl Checkout {
    /// The directory that is the image's root.
    pub fn dir(&self) -> &Path {
        &self.rootfs
    }

    /// A new one, empty.
    pub(crate) fn new(parent: &Path) -> Result<Self> {
        let private = tempfile::Builder::new()
            .prefix(".checkout-")
            .tempdir_in(parent)?;
        let rootfs = private.path().join("rootfs");
        rustix::fs::mkdirat(CWD, &rootfs, Mode::RWXU)?;
        Ok(Self { private, rootfs })
    }

    /// Moves the root to `at`, which must not exist and lie on the same file system. Not synced: the caller does
    /// that once for all it puts there.
    pub fn keep(self, at: &Path) -> Result<()> {
        let moving = || format!("moving the checkout to `{}`", at.display());
        std::fs::rename(&self.rootfs, at).with_context(moving)?;
        self.private.close().with_context(moving)
    }
}

impl Store {
    /// Checks the image out below `parent`, which must lie on the repository's file system.
    pub fn checkout(&self, image: &StoredImage, parent: &Path) -> Result<Checkout> {
        let checking_out = || format!("checking out `{}`", image.reference);
        let checkout = Checkout::new(parent).with_context(checking_out)?;
        self.fill(&checkout, image)?;
        Ok(checkout)
    }

    /// Fills a new checkout.
    pub(crate) fn fill(&self, checkout: &Checkout, image: &StoredImage) -> Result<()> {
        Tree::stored(&self.objects, &image.commit)
            .and_then(|tree| self.link(checkout, (None, &tree)))
            .with_context(|| format!("checking out `{}`", image.reference))
    }

    /// Makes of a checkout, which has a tree or is new, another one.
    pub(crate) fn link(
        &self,
        checkout: &Checkout,
        (was, will): (Option<&Tree>, &Tree),
    ) -> Result<()> {
        let done = Linking::change(&self.objects, checkout.dir(), was, will);
        let elsewhere = |error: &anyhow::Error| error.downcast_ref() == Some(&Errno::XDEV);
        match done {
            Err(error) if elsewhere(&error) => Err(error).hint(format!(
                "`{}` must lie on the file system of the repository, `{}`",
                checkout.dir().display(),
                self.path.display()
            )),
            done => done,
        }
    }
}
