//! Indexes that list indexes, which skopeo's proxy does not open: the way down to a manifest is found here.

use std::cell::Cell;
use std::io::Read;

use containers_image_proxy::oci_spec::image::{Descriptor, ImageIndex, MediaType};

use crate::image::platform::Platform;
use crate::image::proxy::Failure;
use crate::image::reference::Transport;
use crate::image::resolve::{Resolved, Source};
use crate::image::session::Session;

/// How many indexes may lie one in another.
const DEPTH: u32 = 8;

/// How many of them are read: in a registry each costs a request and a skopeo.
const MOST: u32 = 100;

/// Bytes of a manifest, an index or a config: as many as skopeo takes of a registry.
const LONGEST: u64 = 4 * 1024 * 1024;

/// What lies at the end of the way.
pub(crate) enum Found {
    /// In a registry: the manifest under a name of its own.
    Named(Box<Source>),
    /// In a layout: its descriptor. The layout knows no name for it, and hands it over as a blob.
    Blob(Box<Descriptor>),
}

/// The manifest for the platform in the indexes that an index lists; `None` if it lists none, or none has it.
pub(crate) fn find(resolved: &Resolved, session: &Session) -> Result<Option<Found>, Failure> {
    let source = &resolved.source;
    let Some(index) = resolved.named.as_deref().and_then(parse) else {
        return Ok(None);
    };
    if !index.manifests().iter().any(is_index) {
        return Ok(None);
    }
    let count = Cell::new(0);
    let read = |descriptor: &Descriptor| {
        count.set(count.get() + 1);
        if count.get() > MOST {
            let text = format!("it lists more than {MOST} indexes");
            return Err(Failure::Speech(text));
        }
        match source.reference.transport() {
            Transport::Docker => source.pinned(descriptor.digest()).inspect(),
            _ => blob(session, descriptor),
        }
    };
    let found = descend(&index, &source.access.platform, &read, DEPTH)?;
    Ok(found.map(|manifest| match source.reference.transport() {
        Transport::Docker => Found::Named(Box::new(source.pinned(manifest.digest()))),
        _ => Found::Blob(Box::new(manifest)),
    }))
}

/// What there is, where skopeo finds nothing for the platform in an index.
pub(crate) fn told(resolved: &Resolved, failure: Failure) -> Failure {
    let index = resolved.named.as_deref().and_then(parse);
    match (&failure, index) {
        (Failure::Said { text, .. }, Some(index)) if text.contains("no image found in") => {
            let names = named(&index);
            let wanted = &resolved.source.access.platform;
            Failure::Said {
                text: format!(
                    "no image found in the index for {wanted}; it has {}",
                    names.join(", ")
                ),
                transient: false,
            }
        }
        _ => failure,
    }
}

/// The platforms that a text lists which is an index; `None` if it is none. Indexes in it are not opened.
pub(crate) fn platforms(text: &str) -> Option<Vec<String>> {
    // A manifest has no list of manifests.
    parse(text).map(|index| named(&index))
}

/// The platforms that an index says it has images for, each once.
fn named(index: &ImageIndex) -> Vec<String> {
    let entries = index.manifests().iter();
    let platforms = entries.filter_map(|entry| entry.platform().as_ref());
    let mut names: Vec<_> = platforms
        .map(|p| match p.variant() {
            Some(variant) => format!("{}/{}/{variant}", p.os(), p.architecture()),
            None => format!("{}/{}", p.os(), p.architecture()),
        })
        .filter(|name| name != "unknown/unknown")
        .collect();
    names.sort();
    names.dedup();
    names
}

/// A blob as text; its size and digest are verified.
pub(crate) fn blob(session: &Session, descriptor: &Descriptor) -> Result<String, Failure> {
    if descriptor.size() > LONGEST {
        let (digest, size) = (descriptor.digest(), descriptor.size());
        let text = format!("{digest} has {size} bytes, more than any manifest or config");
        return Err(Failure::Speech(text));
    }
    let mut blob = session.blob(descriptor)?;
    let mut text = String::new();
    let read = blob.read_to_string(&mut text);
    blob.finish()?;
    read.map_err(Failure::speech)?;
    Ok(text)
}

fn parse(text: &str) -> Option<ImageIndex> {
    serde_json::from_str(text).ok()
}

fn is_index(entry: &Descriptor) -> bool {
    match entry.media_type() {
        MediaType::ImageIndex => true,
        MediaType::Other(name) => {
            name == "application/vnd.docker.distribution.manifest.list.v2+json"
        }
        _ => false,
    }
}

/// The first manifest that is said to be for the platform, else the first of which nothing is said.
fn descend(
    index: &ImageIndex,
    platform: &Platform,
    read: &dyn Fn(&Descriptor) -> Result<String, Failure>,
    depth: u32,
) -> Result<Option<Descriptor>, Failure> {
    let entries = index.manifests();
    let said = entries.iter().filter(|e| fits(e, platform) == Some(true));
    let silent = entries.iter().filter(|e| fits(e, platform).is_none());
    for entry in said.chain(silent) {
        if !is_index(entry) {
            return Ok(Some(entry.clone()));
        }
        if depth == 0 {
            return Err(Failure::Speech(format!(
                "more than {DEPTH} indexes lie one in another"
            )));
        }
        let inner = read(entry)?;
        if let Some(inner) = parse(&inner)
            && let Some(found) = descend(&inner, platform, read, depth - 1)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Whether the entry is said to be for the platform; `None` if nothing is said.
fn fits(entry: &Descriptor, platform: &Platform) -> Option<bool> {
    let said = entry.platform().as_ref()?;
    let (os, architecture) = (said.os().to_string(), said.architecture().to_string());
    Some(platform.is(&os, &architecture, said.variant().as_deref()))
}
