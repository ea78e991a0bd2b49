//! How much of this machine an image may ask for while it is imported.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, bail};

/// Bytes that the lists of an image's layers may take in memory, where they are until the image is put together. More
/// than two million files have room.
const LISTS: usize = 512 * 1024 * 1024;

/// What the layers of one image share.
#[derive(Debug)]
pub(crate) struct Limits {
    layer: u64,
    lists: AtomicUsize,
}

/// What a layer's list takes; given back when it is dropped, unless it was kept.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    limits: &'a Limits,
    bytes: usize,
}

impl Limits {
    /// For layers that unpack to at most so many bytes each.
    pub(crate) fn new(layer: u64) -> Self {
        Self {
            layer,
            lists: AtomicUsize::new(0),
        }
    }

    /// Bytes to which a layer may unpack.
    pub(crate) fn layer(&self) -> u64 {
        self.layer
    }

    /// For the list of one more layer.
    pub(crate) fn list(&self) -> Held<'_> {
        Held {
            limits: self,
            bytes: 0,
        }
    }
}

impl Held<'_> {
    /// The list takes so many bytes more.
    pub(crate) fn add(&mut self, bytes: usize) -> Result<()> {
        let before = self.limits.lists.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        if before.saturating_add(bytes) > LISTS {
            bail!("the names and attributes in the image's layers take more than {LISTS} bytes");
        }
        Ok(())
    }

    /// The list is used, until the image is in the store.
    pub(crate) fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.limits.lists.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_of_an_image_have_one_limit() {
        let limits = Limits::new(1);
        let (mut one, mut two) = (limits.list(), limits.list());
        one.add(LISTS / 2).unwrap();
        two.add(LISTS / 2).unwrap();
        assert!(two.add(1).is_err());
        // Another attempt begins anew.
        drop(two);
        one.keep();
        let mut again = limits.list();
        again.add(LISTS / 2).unwrap();
        assert!(again.add(1).is_err());
    }
}
