//! What the store knows of an image beside its files: the metadata of the image's commit.

use anyhow::{Context, Result, bail};
use containers_image_proxy::oci_spec::image::{Digest, ImageConfiguration, ImageManifest};

use crate::image::platform::Platform;
use crate::image::reference::ImageRef;
use crate::image::remote::{RemoteImage, diff_ids};
use crate::store::gvariant::{Dict, Value, dict};
use crate::store::{StoredImage, tree};

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
pub(crate) fn write(image: &RemoteImage) -> Result<Vec<u8>> {
    let manifest = serde_json::to_string(&image.manifest).context("writing the manifest")?;
    let config = serde_json::to_string(&image.config).context("writing the config")?;
    Ok(written([
        (PLATFORM, image.platform.to_string()),
        (MANIFEST, manifest),
        (INDEX_DIGEST, image.index_digest.to_string()),
        (REFERENCE, image.reference.to_string()),
        (MANIFEST_DIGEST, image.manifest_digest.to_string()),
        (CONFIG, config),
    ]))
}

/// The order is that of glib's dictionaries, which older versions wrote: equal metadata is an equal commit.
fn written(texts: [(&str, String); 6]) -> Vec<u8> {
    let mut entries = vec![(FORMAT_KEY, Value::Number(FORMAT))];
    entries.extend(texts.map(|(key, text)| (key, Value::Text(text))));
    dict(&entries)
}

/// The image of the commit with these bytes; `None` for another format.
pub(crate) fn image(commit: &str, bytes: &[u8]) -> Result<Option<StoredImage>> {
    read(commit, &tree::commit(bytes)?.metadata)
}

/// A text of the metadata.
fn text<'a>(metadata: &'a Dict, key: &str) -> Result<&'a str> {
    match metadata.get(key) {
        Some(Value::Text(text)) => Ok(text),
        _ => bail!("the commit's metadata lacks `{key}`"),
    }
}

/// The image that [`write`] described; `None` for another format.
pub(crate) fn read(commit: &str, metadata: &Dict) -> Result<Option<StoredImage>> {
    if metadata.get(FORMAT_KEY) != Some(&Value::Number(FORMAT)) {
        return Ok(None);
    }
    let text = |key: &str| text(metadata, key);
    let digest = |key: &str| -> Result<Digest> {
        Digest::try_from(text(key)?.to_owned()).with_context(|| format!("parsing `{key}`"))
    };
    let config: ImageConfiguration =
        serde_json::from_str(text(CONFIG)?).with_context(|| format!("parsing `{CONFIG}`"))?;
    Ok(Some(StoredImage {
        reference: ImageRef::try_from(text(REFERENCE)?.to_owned())?,
        index_digest: digest(INDEX_DIGEST)?,
        manifest_digest: digest(MANIFEST_DIGEST)?,
        platform: match metadata.get(PLATFORM) {
            Some(_) => text(PLATFORM)?.parse()?,
            None => Platform::default(),
        },
        diff_ids: diff_ids(&config)?,
        config,
        commit: commit.to_owned(),
    }))
}

/// The manifest of the image of the commit with these bytes.
pub(crate) fn manifest(bytes: &[u8]) -> Result<ImageManifest> {
    let metadata = tree::commit(bytes)?.metadata;
    let text = text(&metadata, MANIFEST)?;
    serde_json::from_str(text).with_context(|| format!("parsing `{MANIFEST}`"))
}

#[cfg(test)]
mod tests {
    use ostree::glib::VariantDict;

    use super::*;

    #[test]
    fn equal_metadata_is_an_equal_commit_of_an_older_version() {
        let glibs = VariantDict::new(None);
        // In the order in which they were put in.
        glibs.insert(FORMAT_KEY, FORMAT);
        for key in [
            REFERENCE,
            INDEX_DIGEST,
            MANIFEST_DIGEST,
            PLATFORM,
            MANIFEST,
            CONFIG,
        ] {
            glibs.insert(key, format!("the {key}"));
        }
        let order = [
            PLATFORM,
            MANIFEST,
            INDEX_DIGEST,
            REFERENCE,
            MANIFEST_DIGEST,
            CONFIG,
        ];
        let ours = written(order.map(|key| (key, format!("the {key}"))));
        assert_eq!(ours, glibs.end().data());
    }
}
