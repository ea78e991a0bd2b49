//! Stages 2 to 4: an image resolved, in the store, and checked out unless it is installed already.

use std::path::PathBuf;

use anyhow::{Result, anyhow};

use crate::deployment;
use crate::hint::Hinted;
use crate::image::access::Access;
use crate::image::reference::ImageRef;
use crate::name::ContainerName;
use crate::ops::Host;
use crate::ops::fetching;
use crate::ops::install::Request;
use crate::root::Root;
use crate::state::{self, Record};
use crate::store::{Checkout, Store, StoredImage};

/// An image in the store with the name that it is to have.
pub(crate) struct Fetched {
    pub(crate) name: ContainerName,
    pub(crate) image: StoredImage,
    pub(crate) source: Source,
}

/// Where its files are looked at.
pub(crate) enum Source {
    /// A private checkout.
    Checkout(Checkout),
    /// The rootfs of the generation that is installed from the same digest, or a checkout when it is not mounted.
    Installed(Box<Record>, Option<Checkout>),
}

impl Fetched {
    pub(crate) fn rootfs(&self, root: &Root) -> PathBuf {
        match &self.source {
            Source::Checkout(checkout) | Source::Installed(_, Some(checkout)) => {
                checkout.dir().to_owned()
            }
            Source::Installed(record, None) => {
                root.outside(deployment::dir(&record.name, record.generation).join("rootfs"))
            }
        }
    }
}

/// Stages 2 to 4: resolved, in the store, and checked out unless it is installed already.
pub(crate) fn fetch(
    host: &Host,
    request: &Request,
    store: &Store,
    access: &Access,
    reference: &ImageRef,
) -> Result<Fetched> {
    let name = match &request.name {
        Some(name) => name.clone(),
        None => reference
            .suggested_name()
            .and_then(|name| name.parse().ok())
            .ok_or_else(|| anyhow!("`{reference}` gives no name for the container"))
            .hint("choose one with `--name`")?,
    };
    let found = fetching::find(host, store, access, reference, request.pull)?;
    let installed = state::find(host.root, &name)?;
    if let Some(record) = &installed
        && record.manifest_digest != found.manifest_digest()
    {
        return Err(anyhow!(
            "installing `{reference}`: `{name}` is already installed from `{}`, another image ({})",
            record.image,
            record.manifest_digest
        ))
        .hint(format!(
            "`bedplate update {name}` takes what its reference names now, with `--rebase {reference}` that; or choose \
             another `--name`"
        ));
    }
    let staging = host.root.outside(deployment::STAGING);
    let (image, source) = if let Some(record) = installed {
        let image = found.into_store(host, store)?;
        let rootfs = deployment::dir(&name, record.generation).join("rootfs");
        let is_there = !record.integrity.is_image() || !host.root.list(rootfs)?.is_empty();
        let checkout = (!is_there).then(|| store.checkout(&image, &staging));
        let source = Source::Installed(Box::new(record), checkout.transpose()?);
        (image, source)
    } else {
        let (image, checkout) = found.into_checkout(host, store, &staging)?;
        (image, Source::Checkout(checkout))
    };
    Ok(Fetched {
        name,
        image,
        source,
    })
}
