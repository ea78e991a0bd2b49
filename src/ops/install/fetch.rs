//! Stages 2 to 4: an image resolved, in the store, and checked out unless it is installed already.

use std::path::PathBuf;
use std::thread;

use anyhow::{Error, Result, anyhow};
use rustix::process::setpriority_process;

use crate::deployment;
use crate::hint::Hinted;
use crate::image::access::Access;
use crate::image::reference::ImageRef;
use crate::name::ContainerName;
use crate::ops::Host;
use crate::ops::fetching::{self, Found};
use crate::ops::install::Request;
use crate::root::Root;
use crate::state::{self, Record};
use crate::store::{Begun, Checkout, Store, StoredImage};

/// The nice value of what runs when nothing else does, setpriority(2): of a thread and those that it starts.
const LEAST: i32 = 19;

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
    let staging = host.root.outside(deployment::STAGING);
    let find = || fetching::find(host, store, access, reference, request.pull);
    let (image, source) = match state::find(host.root, &name)? {
        Some(record) => installed(host, store, (reference, find()?), record)?,
        None => thread::scope(|scope| {
            // While its source is asked, this machine has little to do. What may be in vain gives way to what is not.
            let guess = scope.spawn(|| {
                let _also_works_without = setpriority_process(None, LEAST);
                store.guess(reference, &staging)
            });
            let begin = || match guess.join() {
                Ok(Some(begun)) => Ok(begun),
                _ => Begun::new(&staging),
            };
            let (image, checkout) = find()?.into_checkout(host, store, begin)?;
            Ok::<_, Error>((image, Source::Checkout(checkout)))
        })?,
    };
    Ok(Fetched {
        name,
        image,
        source,
    })
}

/// What has been found for a container that is there, if it is the image that this was installed from.
fn installed(
    host: &Host,
    store: &Store,
    (reference, found): (&ImageRef, Found),
    record: Record,
) -> Result<(StoredImage, Source)> {
    let name = &record.name;
    if record.manifest_digest != found.manifest_digest() {
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
    let image = found.into_store(host, store)?;
    let rootfs = deployment::dir(name, record.generation).join("rootfs");
    let is_there = !record.integrity.is_image() || !host.root.list(rootfs)?.is_empty();
    let checkout = || store.checkout(&image, &host.root.outside(deployment::STAGING));
    let checkout = (!is_there).then(checkout).transpose()?;
    Ok((image, Source::Installed(Box::new(record), checkout)))
}
