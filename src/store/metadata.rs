//! What the store knows of an image beside its files: the metadata of the image's commit.

use std::collections::HashMap;

use anyhow::{Context, Result};
use containers_image_proxy::oci_spec::image::{Digest, ImageConfiguration, ImageManifest};
use ostree::{Repo, glib};

use crate::image::platform::Platform;
use crate::image::reference::ImageRef;
use crate::image::remote::{RemoteImage, diff_ids};
use crate::store::StoredImage;

/// The layout of the metadata; another one is as if the image were not there.
const FORMAT: u32 = 1;

const FORMAT_KEY: &str = "bedplate.format";
const REFERENCE: &str = "bedplate.reference";
const INDEX_DIGEST: &str = "bedplate.index-digest";
const MANIFEST_DIGEST: &str = "bedplate.manifest-digest";
/// Absent in what an older bedplate wrote: the machine's.
const PLATFORM: &str = "bedplate.platform";
const MANIFEST: &str = "bedplate.manifest";
const CONFIG: &str = "bedplate.config";

/// The metadata of an image's commit, `a{sv}`.
pub(crate) fn write(image: &RemoteImage) -> Result<glib::Variant> {
    let manifest = serde_json::to_string(&image.manifest).context("writing the manifest")?;
    let config = serde_json::to_string(&image.config).context("writing the config")?;
    let dict = glib::VariantDict::new(None);
    dict.insert(FORMAT_KEY, FORMAT);
    for (key, value) in [
        (REFERENCE, image.reference.to_string()),
        (INDEX_DIGEST, image.index_digest.to_string()),
        (MANIFEST_DIGEST, image.manifest_digest.to_string()),
        (PLATFORM, image.platform.to_string()),
        (MANIFEST, manifest),
        (CONFIG, config),
    ] {
        dict.insert(key, value);
    }
    Ok(dict.end())
}

/// What [`write`] wrote of this commit.
fn load(repo: &Repo, commit: &str) -> Result<glib::Variant> {
    let (variant, _) = repo.load_commit(commit)?;
    Ok(variant.child_value(0))
}

/// The image of this commit; `None` for another format.
pub(crate) fn image(repo: &Repo, commit: &str) -> Result<Option<StoredImage>> {
    read(commit, &load(repo, commit)?)
}

/// The image that [`write`] described; `None` for another format.
pub(crate) fn read(commit: &str, metadata: &glib::Variant) -> Result<Option<StoredImage>> {
    let values: HashMap<String, glib::Variant> =
        metadata.get().context("the commit has no metadata")?;
    if values.get(FORMAT_KEY).and_then(glib::Variant::get::<u32>) != Some(FORMAT) {
        return Ok(None);
    }
    let text = |key: &str| -> Result<String> {
        let value = values.get(key).and_then(glib::Variant::get);
        value.with_context(|| format!("the commit's metadata lacks `{key}`"))
    };
    let digest = |key: &str| -> Result<Digest> {
        Digest::try_from(text(key)?).with_context(|| format!("parsing `{key}`"))
    };
    let config: ImageConfiguration =
        serde_json::from_str(&text(CONFIG)?).with_context(|| format!("parsing `{CONFIG}`"))?;
    Ok(Some(StoredImage {
        reference: ImageRef::try_from(text(REFERENCE)?)?,
        index_digest: digest(INDEX_DIGEST)?,
        manifest_digest: digest(MANIFEST_DIGEST)?,
        platform: match values.get(PLATFORM) {
            Some(_) => text(PLATFORM)?.parse()?,
            None => Platform::default(),
        },
        diff_ids: diff_ids(&config)?,
        config,
        commit: commit.to_owned(),
    }))
}

/// The manifest of the image of this commit.
pub(crate) fn manifest(repo: &Repo, commit: &str) -> Result<ImageManifest> {
    let values: HashMap<String, glib::Variant> = load(repo, commit)?
        .get()
        .context("the commit has no metadata")?;
    let text: Option<String> = values.get(MANIFEST).and_then(glib::Variant::get);
    let text = text.with_context(|| format!("the commit's metadata lacks `{MANIFEST}`"))?;
    serde_json::from_str(&text).with_context(|| format!("parsing `{MANIFEST}`"))
}
