//! What is not on disk yet: objects are written without waiting for the disk, and one wait comes before the refs.
//!
//! Until then a layer that is complete has a ref below `bedplate/pending/`, and the repository has the file `unsynced`
//! with the boot's id and that of the mount. A command that was killed has lost nothing: its pages are still there, and
//! whoever comes next in the same boot takes its layers as they are. After a power cut, or when a disk had gone and was
//! mounted anew, an object may be torn, but then nothing that is on disk refers to it: all that no ref names goes before
//! anything is written again.
#![expect(
    clippy::disallowed_methods,
    reason = "the store owns what lies in its own private directories"
)]

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use containers_image_proxy::oci_spec::image::Digest;
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use crate::store::object::Object;
use crate::store::refs::{self, LAYERS, Next, PENDING};
use crate::store::{Store, tree};

/// The file that says that there may be objects which are not on disk yet.
pub(crate) const MARK: &str = "unsynced";

impl Store {
    /// Before anything is written.
    pub(crate) fn begin(&self) -> Result<()> {
        let beginning = || format!("preparing the store `{}`", self.path.display());
        let here = here(&self.path);
        match fs::read_to_string(self.mark()) {
            Ok(found) if here.as_ref() == Some(&found) => return Ok(()),
            Ok(_) => self.forget_torn().with_context(beginning)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(beginning),
        }
        let mark = || -> std::io::Result<()> {
            let mut file = fs::File::create(self.mark())?;
            file.write_all(here.unwrap_or_default().as_bytes())?;
            file.sync_all()?;
            fs::File::open(&self.path)?.sync_all()
        };
        mark().with_context(beginning)
    }

    /// Remembers a complete layer that may not be on disk yet.
    pub(crate) fn set_pending(&self, diff_id: &Digest, commit: &str) -> Result<()> {
        Next::new(&self.repo, &refs::name(PENDING, diff_id), commit)?.put()
    }

    /// Waits for the disk, then gives the pending layers and the image their refs.
    pub(crate) fn end(&self, image: &str, commit: &str) -> Result<()> {
        let image = Next::new(&self.repo, image, commit)?;
        // The refs' own files among the rest: then each is only renamed.
        self.objects.sync()?;
        for pending in refs::list(&self.repo, Some(PENDING))?.into_keys() {
            refs::rename(&self.repo, &pending, &pending.replacen(PENDING, LAYERS, 1))?;
        }
        image.put()?;
        Ok(fs::remove_file(self.mark())?)
    }

    fn forget_pending(&self) -> Result<()> {
        for name in refs::list(&self.repo, Some(PENDING))?.into_keys() {
            refs::set(&self.repo, &name, None)?;
        }
        Ok(())
    }

    /// Removes what a power cut may have torn: all that no ref names.
    fn forget_torn(&self) -> Result<()> {
        tracing::info!("removing what an import left when the power failed");
        self.forget_pending()?;
        let mut needed = HashSet::new();
        for commit in refs::list(&self.repo, None)?.into_values() {
            tree::traverse(&self.objects, &commit, &mut needed)?;
        }
        for dir in fs::read_dir(self.objects.path())? {
            let dir = dir?;
            for file in fs::read_dir(dir.path())? {
                let file = file?;
                let path = Path::new(&dir.file_name()).join(file.file_name());
                if Object::of_path(&path).is_some_and(|object| !needed.contains(&object)) {
                    fs::remove_file(file.path())?;
                }
            }
        }
        Ok(())
    }

    fn mark(&self) -> PathBuf {
        self.path.join(MARK)
    }
}

/// This boot, and this mount of the file system on which the repository lies; `None` if the kernel does not say.
fn here(repo: &Path) -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let found = statx(CWD, repo, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
    let says = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::MNT_ID);
    says.then(|| format!("{} {}\n", boot.trim(), found.stx_mnt_id))
}
