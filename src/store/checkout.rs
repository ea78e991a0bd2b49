//! An image's tree as files: hard links to the repository's objects in a private directory.
#![expect(
    clippy::disallowed_methods,
    reason = "the store owns what lies in its own private directories"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Error, Result};
use rustix::fs::{CWD, Mode};
use rustix::io::Errno;
use tempfile::TempDir;

use crate::hint::Hinted;
use crate::image::reference::ImageRef;
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

/// A checkout on its way: what it holds is known, whatever image it is to be of.
#[derive(Debug)]
pub struct Begun {
    checkout: Checkout,
    parent: PathBuf,
    /// `None`: it is new and empty.
    holds: Option<Arc<Tree>>,
}

impl Begun {
    /// A new one below `parent`.
    pub fn new(parent: &Path) -> Result<Self> {
        Ok(Self {
            checkout: Checkout::new(parent).context("making a private directory")?,
            parent: parent.to_owned(),
            holds: None,
        })
    }

    /// Whether nothing is in it yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.holds.is_none()
    }

    /// As it is.
    pub(crate) fn done(self) -> Checkout {
        self.checkout
    }
}

impl Store {
    /// Checks the image out below `parent`, which must lie on the repository's file system.
    pub fn checkout(&self, image: &StoredImage, parent: &Path) -> Result<Checkout> {
        self.checkout_from(Begun::new(parent)?, image)
    }

    /// Checks the image out into what has been begun.
    pub fn checkout_from(&self, mut begun: Begun, image: &StoredImage) -> Result<Checkout> {
        Tree::stored(&self.objects, &image.commit)
            .and_then(|tree| self.advance(&mut begun, &Arc::new(tree)))
            .with_context(|| format!("checking out `{}`", image.reference))?;
        Ok(begun.done())
    }

    /// Begins a checkout below `parent` while it is not known yet what there will be: with an image of the same
    /// repository, of which an update has most files. `None` when there is none that could be checked out.
    pub fn guess(&self, reference: &ImageRef, parent: &Path) -> Option<Begun> {
        let guessing = || {
            let Some(image) = self.relative(reference)? else {
                return Ok(None);
            };
            let Some(tree) = self.tree_ahead(&image)? else {
                return Ok(None);
            };
            let mut begun = Begun::new(parent)?;
            self.advance(&mut begun, &Arc::new(tree))?;
            Ok::<_, Error>(Some(begun))
        };
        guessing().unwrap_or_else(|error| {
            tracing::debug!("nothing is checked out ahead: {error:#}");
            None
        })
    }

    /// Makes of a checkout one of this tree.
    pub(crate) fn advance(&self, begun: &mut Begun, tree: &Arc<Tree>) -> Result<()> {
        let at = begun.checkout.dir();
        let done = Linking::change(&self.objects, at, begun.holds.as_deref(), tree);
        let elsewhere = |error: &Error| error.downcast_ref() == Some(&Errno::XDEV);
        match done {
            // Whichever of its names was the first.
            Err(error) if elsewhere(&error) => Err(Error::from(Errno::XDEV)).hint(format!(
                "`{}` must lie on the file system of the repository, `{}`",
                begun.parent.display(),
                self.path.display()
            )),
            Ok(()) => {
                begun.holds = Some(Arc::clone(tree));
                Ok(())
            }
            failed => failed,
        }
    }
}
