//! How an image of the store is named: by its reference, or by its digest or the beginning of that.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use anyhow::{Result, anyhow};

use crate::hint::Hinted;
use crate::image::reference::{ImageRef, ReferenceError};
use crate::store::{Store, StoredImage};

const DIGEST: &str = "sha256:";

/// An image as the operator names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// A digest, or how one begins.
    Digest(String),
    /// A reference.
    Image(ImageRef),
}

impl FromStr for Wanted {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let hex = text.strip_prefix(DIGEST);
        let plain = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        match hex.filter(|hex| (4..=64).contains(&hex.len()) && hex.chars().all(plain)) {
            Some(_) => Ok(Self::Digest(text.to_owned())),
            None => text.parse().map(Self::Image),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(digest) => f.write_str(digest),
            Self::Image(image) => image.fmt(f),
        }
    }
}

impl Wanted {
    /// The reference, if that is how it is named.
    pub fn reference(&self) -> Option<&ImageRef> {
        match self {
            Self::Digest(_) => None,
            Self::Image(reference) => Some(reference),
        }
    }

    /// Finds it: a kept image first.
    pub(crate) fn find(&self, store: Option<&Store>) -> Result<StoredImage> {
        let missing = || anyhow!("`{self}` is not in the store");
        let found = match (store, self) {
            (None, _) => None,
            (Some(store), Self::Image(reference)) => store.find_reference(reference, None)?,
            (Some(store), Self::Digest(begin)) => self.by_digest(store, begin)?,
        };
        let hint = match self {
            Self::Image(image) => {
                format!("`bedplate images` lists what is; `bedplate pull {image}` brings it there")
            }
            Self::Digest(_) => "`bedplate images` lists what is".to_owned(),
        };
        found.ok_or_else(missing).hint(hint)
    }

    fn by_digest(&self, store: &Store, begin: &str) -> Result<Option<StoredImage>> {
        let mut found = BTreeMap::new();
        for image in store.images()?.into_iter().chain(store.kept()?) {
            let digests = [&image.manifest_digest, &image.index_digest];
            if digests.iter().any(|d| d.as_ref().starts_with(begin)) {
                found.insert(image.manifest_digest.to_string(), image);
            }
        }
        if found.len() > 1 {
            let several: Result<()> = Err(anyhow!("`{self}` is how {} digests begin", found.len()));
            several.hint("write more of it; `bedplate images --json` has the whole")?;
        }
        Ok(found.into_values().next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_no_reference() {
        let digest = |text: &str| Ok(Wanted::Digest(text.to_owned()));
        assert_eq!("sha256:0123abcd".parse(), digest("sha256:0123abcd"));
        let image = "oci:/x:latest".parse().unwrap();
        assert_eq!("oci:/x:latest".parse(), Ok(Wanted::Image(image)));
        for neither in ["sha256:01", "sha256:0123ABCD", "etcd", ""] {
            assert!(neither.parse::<Wanted>().is_err(), "{neither}");
        }
    }
}
