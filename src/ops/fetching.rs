//! How an image gets into the store, for the verbs that need one.

use anyhow::{Context, Result, anyhow};
use serde::Serialize;

use crate::hint::Hinted;
use crate::image::access::Access;
use crate::image::platform::Platform;
use crate::image::reference::ImageRef;
use crate::image::remote::{self, RemoteImage};
use crate::image::resolve::{require_allowed, resolve};
use crate::ops::Host;
use crate::root::Root;
use crate::store::{Begun, Checkout, Store, StoredImage};

/// When an image's source is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pull {
    /// Unless the image is kept in the store.
    #[default]
    Missing,
    /// Always: a tag may name another image by now.
    Always,
    /// Never: what the store has is used.
    Never,
}

/// An image that has been found.
pub(crate) enum Found {
    /// Here.
    Stored(Box<StoredImage>),
    /// Where it comes from.
    Remote(Box<RemoteImage>),
}

impl Found {
    /// Of the manifest.
    pub(crate) fn manifest_digest(&self) -> String {
        match self {
            Self::Stored(image) => image.manifest_digest.to_string(),
            Self::Remote(image) => image.manifest_digest.to_string(),
        }
    }

    /// The image in the store, fetched if it is not there.
    pub(crate) fn into_store(self, host: &Host, store: &Store) -> Result<StoredImage> {
        match self {
            Self::Stored(image) => Ok(*image),
            Self::Remote(image) => {
                store.require_room(&image, host.report)?;
                store.import(*image, host.report)
            }
        }
    }

    /// The image in the store, as [`Found::into_store`], and a checkout of it, from what `begin` gives.
    pub(crate) fn into_checkout(
        self,
        host: &Host,
        store: &Store,
        begin: impl FnOnce() -> Result<Begun> + Send,
    ) -> Result<(StoredImage, Checkout)> {
        match self {
            Self::Stored(image) => {
                let checkout = store.checkout_from(begin()?, &image)?;
                Ok((*image, checkout))
            }
            Self::Remote(image) => {
                store.require_room(&image, host.report)?;
                store.import_and_checkout(*image, begin, host.report)
            }
        }
    }
}

/// Finds an image: in the store if that may be, else at its source. An image that the store has already is not
/// opened there: what it names is asked, nothing is fetched.
pub(crate) fn find(
    host: &Host,
    store: &Store,
    access: &Access,
    reference: &ImageRef,
    pull: Pull,
) -> Result<Found> {
    require_runs(host.root, &access.platform).with_context(|| format!("opening `{reference}`"))?;
    let here = match pull {
        Pull::Always => None,
        Pull::Missing => store.find_kept(reference, &access.platform)?,
        Pull::Never => Some(
            store
                .find_reference(reference, Some(&access.platform))?
                .ok_or_else(|| anyhow!("`{reference}` is not in the store"))
                .hint(format!(
                    "`bedplate pull {reference}` brings it there; or give `--pull missing`"
                ))?,
        ),
    };
    if let Some(image) = here {
        require_allowed(reference)?;
        host.report
            .step(format!("using {reference} from the store"));
        return Ok(Found::Stored(Box::new(image)));
    }
    host.report.step(format!("resolving {reference}"));
    if !store.knows(reference, &access.platform)? {
        let image = remote::open_unknown(reference, access, host.report)?;
        return Ok(Found::Remote(Box::new(image)));
    }
    let resolved = resolve(reference, access, host.report)?;
    if let Some(image) = store.find_resolved(&resolved)? {
        return Ok(Found::Stored(Box::new(image)));
    }
    Ok(Found::Remote(Box::new(remote::from_resolved(
        resolved,
        host.report,
    )?)))
}

/// Refuses to bring another machine's images to this one: nothing in them would run.
fn require_runs(root: &Root, platform: &Platform) -> Result<()> {
    if !root.is_host() || platform.runs_here() {
        return Ok(());
    }
    let here = Platform::default();
    let wrong: Result<()> = Err(anyhow!(
        "it is asked for {platform}, and this machine is {here}"
    ));
    wrong.hint("leave out `--arch` and `--os`; another machine's images go below `--root DIR`")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn other_machines_images_go_below_a_root() {
        let other: Platform = "freebsd/amd64".parse().unwrap();
        let host = Root::open(Path::new("/")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        require_runs(&host, &Platform::default()).unwrap();
        require_runs(&root, &other).unwrap();
        let here = Platform::default();
        assert_eq!(
            require_runs(&host, &other).unwrap_err().to_string(),
            format!("it is asked for freebsd/amd64, and this machine is {here}")
        );
    }
}
