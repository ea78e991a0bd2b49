//! fs-verity of single files: the kernel keeps a tree of hashes and checks each block that is read against it.
#![expect(
    clippy::disallowed_methods,
    reason = "the store owns what lies in its own private directories"
)]

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Error, Result};
use composefs_ioctls::fsverity::{
    EnableVerityError, MeasureVerityError, fs_ioc_enable_verity, fs_ioc_measure_verity,
};

/// `FS_VERITY_HASH_ALG_SHA256`.
pub(crate) const SHA256: u8 = 1;
const BLOCK: u32 = 4096;

/// What fs-verity knows a file by: the hash of a descriptor of its hash tree and its length.
pub(crate) type Digest = [u8; 32];

/// The digest of a sealed file; `None` when it is not sealed.
pub(crate) fn measure(path: &Path) -> Result<Option<Digest>> {
    let file = open(path)?;
    match fs_ioc_measure_verity::<32>(&file, SHA256) {
        Ok(digest) => Ok(Some(digest)),
        Err(MeasureVerityError::VerityMissing) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("measuring `{}`", path.display())),
    }
}

/// Seals a file and gives its digest. It can be read, linked and removed from then on, and never written to.
pub(crate) fn seal(path: &Path) -> Result<Digest> {
    let sealing = || format!("sealing `{}` with fs-verity", path.display());
    let file = open(path)?;
    match fs_ioc_enable_verity(&file, SHA256, BLOCK) {
        Ok(()) | Err(EnableVerityError::AlreadyEnabled) => {}
        Err(error) => return Err(Error::from(error)).with_context(sealing),
    }
    fs_ioc_measure_verity::<32>(&file, SHA256).with_context(sealing)
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("opening `{}`", path.display()))
}
