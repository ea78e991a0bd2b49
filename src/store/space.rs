//! Whether there is room for an image, before its first byte is fetched.
//!
//! The rule, on the layers that the store does not have:
//!
//! - Less free than their compressed size, or fewer inodes than four a layer: **refused**, with both numbers. Files
//!   take no less room than their compressed form, so that cannot fit, with one exception: files that another image
//!   has brought take none. So an update of an image in the store (one of the same repository) is not refused.
//! - Less free than two and a half times their compressed size (Debian's layers grow to 2.4 to 2.8 times), or less
//!   than one inode for each 12 KiB of it: **a note**, and it is tried. An import that runs out of room does no harm.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use containers_image_proxy::oci_spec::image::{Descriptor, Digest};
use rustix::fs::{StatVfs, statvfs};

use crate::hint::Hinted;
use crate::image::remote::RemoteImage;
use crate::progress::Report;
use crate::store::Store;

/// What a layer itself has beside its files: a commit, two directories, their metadata, its list of entries.
const INODES_OF_A_LAYER: u64 = 4;

/// Compressed bytes for which a file is expected.
const BYTES_OF_A_FILE: u64 = 12 * 1024;

/// What is to be fetched, or what is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Amount {
    bytes: u64,
    /// `None`: the file system makes them as it needs them.
    inodes: Option<u64>,
}

/// What the numbers say.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Fits,
    Perhaps(String),
    Cannot(String),
}

impl Store {
    /// The layers that the store does not have, each once.
    pub fn missing<'a>(&self, image: &'a RemoteImage) -> Result<Vec<&'a Descriptor>> {
        let mut seen: HashSet<&Digest> = HashSet::new();
        let mut missing = Vec::new();
        for (layer, diff_id) in image.layers().iter().zip(image.diff_ids()) {
            let stored = self.layer(diff_id).context("looking for a layer")?;
            if stored.is_none() && seen.insert(diff_id) {
                missing.push(layer);
            }
        }
        Ok(missing)
    }

    /// Refuses an image for which there cannot be room; says so when there may not be.
    pub fn require_room(&self, image: &RemoteImage, report: &Report) -> Result<()> {
        let missing = self.missing(image)?;
        let free = statvfs(&self.path)
            .with_context(|| format!("asking for the free space of `{}`", self.path.display()))?;
        let sizes = missing.iter().map(|layer| layer.size());
        let wanted = sizes.fold(0, u64::saturating_add);
        let reference = &image.reference;
        match judge(wanted, missing.len() as u64, free_of(&free)) {
            Verdict::Fits => Ok(()),
            Verdict::Cannot(why) if self.relative(reference)?.is_none() => {
                Err(anyhow!("importing `{reference}`: {why}")).hint(self.free_space())
            }
            Verdict::Perhaps(why) | Verdict::Cannot(why) => {
                report.note(format!("`{reference}` may not fit: {why}"));
                Ok(())
            }
        }
    }

    /// The remedy where there is no room.
    pub(crate) fn free_space(&self) -> String {
        format!(
            "free space on the file system of `{}`: `bedplate prune` removes what nobody needs",
            self.path.display()
        )
    }
}

/// How much of the file system of a directory is free, in percent, and of its inodes: the lesser.
pub(crate) fn free_percent(dir: &Path) -> Result<u64> {
    let stat = statvfs(dir)
        .with_context(|| format!("asking for the free space of `{}`", dir.display()))?;
    let percent = |free: u64, all: u64| (free.saturating_mul(100)).checked_div(all);
    let bytes = percent(stat.f_bfree, stat.f_blocks).unwrap_or(100);
    Ok(bytes.min(percent(stat.f_ffree, stat.f_files).unwrap_or(100)))
}

/// What root may still use.
fn free_of(stat: &StatVfs) -> Amount {
    Amount {
        bytes: stat.f_bfree.saturating_mul(stat.f_frsize),
        inodes: (stat.f_files > 0).then_some(stat.f_ffree),
    }
}

fn judge(compressed: u64, layers: u64, free: Amount) -> Verdict {
    let least = Amount {
        bytes: compressed,
        inodes: Some(layers * INODES_OF_A_LAYER),
    };
    let expected = Amount {
        bytes: compressed.saturating_add(compressed / 2 * 3),
        inodes: Some(layers * INODES_OF_A_LAYER + compressed / BYTES_OF_A_FILE),
    };
    if let Some(why) = lack(least, free, "at least") {
        return Verdict::Cannot(why);
    }
    lack(expected, free, "about").map_or(Verdict::Fits, Verdict::Perhaps)
}

/// What is missing, in both numbers.
fn lack(wanted: Amount, free: Amount, how: &str) -> Option<String> {
    if wanted.bytes > free.bytes {
        let (wanted, free) = (megabytes(wanted.bytes), megabytes(free.bytes));
        return Some(format!("it needs {how} {wanted} MB, {free} MB are free"));
    }
    match (wanted.inodes, free.inodes) {
        (Some(wanted), Some(free)) if wanted > free => {
            Some(format!("it needs {how} {wanted} inodes, {free} are free"))
        }
        _ => None,
    }
}

/// Tenths are enough.
fn megabytes(bytes: u64) -> String {
    let tenths = bytes / 100_000;
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule() {
        const MB: u64 = 1_000_000;
        let free = |bytes, inodes| Amount { bytes, inodes };
        let cannot = |why: &str| Verdict::Cannot(why.to_owned());
        let perhaps = |why: &str| Verdict::Perhaps(why.to_owned());
        for (compressed, layers, free, verdict) in [
            (0, 0, free(0, Some(0)), Verdict::Fits),
            (100 * MB, 2, free(250 * MB, None), Verdict::Fits),
            (
                100 * MB,
                2,
                free(249 * MB, None),
                perhaps("it needs about 250.0 MB, 249.0 MB are free"),
            ),
            (
                100 * MB,
                2,
                free(99 * MB + 950_000, None),
                cannot("it needs at least 100.0 MB, 99.9 MB are free"),
            ),
            (
                100 * MB,
                2,
                free(900 * MB, Some(1000)),
                perhaps("it needs about 8146 inodes, 1000 are free"),
            ),
            (
                100 * MB,
                2,
                free(900 * MB, Some(7)),
                cannot("it needs at least 8 inodes, 7 are free"),
            ),
        ] {
            assert_eq!(judge(compressed, layers, free), verdict);
        }
    }
}
