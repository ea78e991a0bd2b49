//! Objects written over damaged ones: whole, on disk, and only when the checksum is right.
#![expect(clippy::disallowed_methods, reason = "the store's own objects")]

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use anyhow::{Context, Result};
use containers_image_proxy::oci_spec::image::Digest;
use openssl::sha::Sha256;
use rustix::fs::{AtFlags, CWD, Mode, XattrFlags};
use tempfile::TempDir;

use crate::hash::sha256;
use crate::store::dress::{EPOCH, dress, owner};
use crate::store::entry::Entry;
use crate::store::object::{CHUNK, Meta, Object, Sum};
use crate::store::repair::scratch::Scratch;
use crate::store::verify::content::{hash_as, read};
use crate::store::{Store, refs};

/// What private directories are called.
pub(crate) const PRIVATE: &str = "bedplate-repair-";

impl Store {
    /// A private directory on the file system of the store; gone when dropped.
    pub(crate) fn private(&self) -> Result<TempDir> {
        let parent = self.path.join("tmp");
        let mut dir = tempfile::Builder::new();
        dir.prefix(PRIVATE)
            .tempdir_in(&parent)
            .with_context(|| format!("making a directory in `{}`", parent.display()))
    }

    /// Removes what a repair left that was cut short. Writers hold the lock: nobody uses it.
    pub(crate) fn sweep_private(&self) -> Result<()> {
        let dir = self.path.join("tmp");
        let sweeping = || format!("tidying up `{}`", dir.display());
        for entry in std::fs::read_dir(&dir).with_context(sweeping)? {
            let entry = entry.with_context(sweeping)?;
            if entry.file_name().to_string_lossy().starts_with(PRIVATE) {
                std::fs::remove_dir_all(entry.path()).with_context(sweeping)?;
            }
        }
        Ok(())
    }

    /// A private repository beside the objects.
    pub(crate) fn scratch(&self) -> Result<Scratch> {
        Scratch::below(&self.path.join("tmp"))
    }

    /// How many bytes a layer may have.
    pub(crate) fn layer_limit(&self) -> u64 {
        self.settings.layer_limit
    }

    /// Takes from a private repository the metadata objects that are not there, or not whole.
    pub(crate) fn take_metadata(&self, from: &Scratch) -> Result<()> {
        for object in from.objects()? {
            if let Some(bytes) = from.read(object)
                && !self.has_metadata(object)
            {
                self.put_metadata(object, &bytes)?;
            }
        }
        Ok(())
    }

    /// Whether a metadata object is there and whole.
    fn has_metadata(&self, object: Object) -> bool {
        let bytes = read(&self.object_path(object));
        bytes.is_ok_and(|bytes| Sum::new(&sha256(&bytes)).ok() == Some(object.sum))
    }

    /// The entries of a layer; `None` when its list is not there or damaged.
    pub(crate) fn layer_list(&self, diff_id: &Digest) -> Option<Vec<Entry>> {
        self.layer_entries(diff_id)
            .inspect_err(|error| tracing::debug!("{error:#}"))
            .ok()?
    }

    /// Takes a file object from a private repository, if it is there and whole; says whether it was.
    pub(crate) fn take_file(&self, from: &Scratch, sum: Sum) -> Result<bool> {
        self.copy_file(&from.object_path(Object::file(sum)), sum, None)
    }

    /// Takes a file object from a file: as it is, or with these attributes.
    pub(crate) fn copy_file(&self, from: &Path, sum: Sum, meta: Option<&Meta>) -> Result<bool> {
        let Ok(found) = Meta::of(from) else {
            return Ok(false);
        };
        let meta = meta.unwrap_or(&found);
        if hash_as(from, meta, &mut |_| {}).ok() != Some(sum) {
            return Ok(false);
        }
        if meta.target.is_some() {
            return self.put_file(sum, meta, &mut std::io::empty());
        }
        let mut content = File::open(from)?;
        self.put_file(sum, meta, &mut content)
    }

    /// Writes a file object if this content has its checksum, and says whether it had.
    pub(crate) fn put_file(&self, sum: Sum, meta: &Meta, content: &mut dyn Read) -> Result<bool> {
        let object = Object::file(sum);
        let writing = || format!("writing object {object}");
        let private = self.private()?;
        let temporary = private.path().join("object");
        let found = make_file(&temporary, meta, content).with_context(writing)?;
        if found != sum {
            return Ok(false);
        }
        self.take_place(&temporary, object).with_context(writing)?;
        Ok(true)
    }

    /// Writes a metadata object if these bytes have its checksum, and says whether they had.
    pub(crate) fn put_metadata(&self, object: Object, bytes: &[u8]) -> Result<bool> {
        let writing = || format!("writing object {object}");
        if Sum::new(&sha256(bytes))? != object.sum {
            return Ok(false);
        }
        let private = self.private()?;
        let temporary = private.path().join("object");
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&temporary)?;
            file.write_all(bytes)?;
            rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))?;
            file.sync_all()
        };
        write().with_context(writing)?;
        self.take_place(&temporary, object).with_context(writing)?;
        Ok(true)
    }

    /// Lets a ref name a commit.
    pub(crate) fn put_ref(&self, name: &str, commit: &str) -> Result<()> {
        refs::set(&self.repo, name, Some(commit))
    }

    /// Moves a file that is on disk to the object's place.
    fn take_place(&self, temporary: &Path, object: Object) -> std::io::Result<()> {
        let path = self.object_path(object);
        if let Some(dir) = path.parent() {
            match std::fs::create_dir(dir) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            // A rename cannot put a file over a directory; an object is none, and what it was is not known.
            if path.is_dir() && !path.is_symlink() {
                std::fs::rename(&path, path.with_extension("damaged"))?;
            }
            std::fs::rename(temporary, &path)?;
            File::open(dir)?.sync_all()?;
        }
        Ok(())
    }
}

/// Whether [`Store::copy_file`] would find what it needs.
pub(crate) fn could_copy(from: &Path, sum: Sum, meta: Option<&Meta>) -> bool {
    let Ok(found) = Meta::of(from) else {
        return false;
    };
    hash_as(from, meta.unwrap_or(&found), &mut |_| {}).ok() == Some(sum)
}

/// Whether a file without content, or a link, has this checksum.
pub(crate) fn would_fit(sum: Sum, meta: &Meta) -> Result<bool> {
    Ok(Sum::new(&sha256(&meta.header()))? == sum)
}

/// Makes a file or link of these attributes and returns its checksum. It is on disk, but for its name.
pub(crate) fn make_file(at: &Path, meta: &Meta, content: &mut dyn Read) -> Result<Sum> {
    let mut hasher = Sha256::new();
    hasher.update(&meta.header());
    if let Some(target) = &meta.target {
        std::os::unix::fs::symlink(target, at)?;
        let (uid, gid) = owner(meta);
        rustix::fs::chownat(CWD, at, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        for (name, value) in &meta.xattrs {
            rustix::fs::lsetxattr(at, name.as_slice(), value, XattrFlags::empty())?;
        }
        rustix::fs::utimensat(CWD, at, &EPOCH, AtFlags::SYMLINK_NOFOLLOW)?;
        return Sum::new(&hasher.finish());
    }
    let mut file = File::create(at)?;
    let mut buffer = vec![0; CHUNK];
    loop {
        match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                hasher.update(&buffer[..read]);
                file.write_all(&buffer[..read])?;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    dress(&file, meta)?;
    file.sync_all()?;
    Sum::new(&hasher.finish())
}
