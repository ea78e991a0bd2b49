//! Writing below a root: whole files, in one step, on disk when it is done.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::root::metadata::dress;
use crate::root::{DIR_FLAGS, Metadata, Root, relative, temporary, unlink_temporary};

/// When what was written is on disk.
#[derive(Clone, Copy)]
enum Disk {
    /// Before the call returns.
    Now,
    /// When the file system is synced as a whole.
    Later,
}

impl Disk {
    fn wait(self, fd: impl AsFd) -> rustix::io::Result<()> {
        match self {
            Self::Now => rustix::fs::fsync(fd),
            Self::Later => Ok(()),
        }
    }
}

/// Gives a file its mode, apart from open(2), which the umask would change.
fn moded(mode: u32) -> impl Fn(&File) -> Result<(), Errno> {
    move |file| rustix::fs::fchmod(file, Mode::from_raw_mode(mode))
}

impl Root {
    /// Makes the directory and those above it that are missing, with `mode` each whatever the umask, and returns
    /// what it made, outermost first.
    pub fn create_dir_all(&self, path: impl AsRef<Path>, mode: u32) -> Result<Vec<PathBuf>> {
        self.make_dirs(path.as_ref(), mode, Disk::Now)
    }

    /// As [`Root::create_dir_all`], of what is private until [`Root::sync`] has brought it to the disk.
    pub fn prepare_dir_all(&self, path: impl AsRef<Path>, mode: u32) -> Result<Vec<PathBuf>> {
        self.make_dirs(path.as_ref(), mode, Disk::Later)
    }

    fn make_dirs(&self, path: &Path, mode: u32, disk: Disk) -> Result<Vec<PathBuf>> {
        let (mut at, mut made) = (PathBuf::from("/"), Vec::new());
        for part in relative(path).components() {
            at.push(part);
            let making = || format!("making the directory `{}`", at.display());
            let (dir, name) = self.parent(&at).with_context(making)?;
            match rustix::fs::mkdirat(&dir, &name, Mode::from_raw_mode(mode)) {
                Ok(()) => {
                    let new = rustix::fs::openat(
                        &dir,
                        &name,
                        DIR_FLAGS | OFlags::NOFOLLOW,
                        Mode::empty(),
                    )
                    .with_context(making)?;
                    rustix::fs::fchmod(&new, Mode::from_raw_mode(mode)).with_context(making)?;
                    disk.wait(&dir).with_context(making)?;
                    made.push(at.clone());
                }
                Err(Errno::EXIST) => {}
                Err(e) => return Err(e).with_context(making),
            }
        }
        Ok(made)
    }

    /// Replaces the file by `content` in one step: a reader, and a machine after a power cut, sees the old file
    /// or the new one, whole. The directory must exist.
    pub fn replace(&self, path: impl AsRef<Path>, content: &[u8], mode: u32) -> Result<()> {
        self.put(path.as_ref(), content, Disk::Now, &moded(mode))
    }

    /// As [`Root::replace`], with all that a file has besides its content.
    pub fn restore(
        &self,
        path: impl AsRef<Path>,
        content: &[u8],
        metadata: &Metadata,
    ) -> Result<()> {
        let dress = |file: &File| dress(file, metadata);
        self.put(path.as_ref(), content, Disk::Now, &dress)
    }

    /// As [`Root::replace`], of what is private until [`Root::sync`] has brought it to the disk.
    pub fn prepare(&self, path: impl AsRef<Path>, content: &[u8], mode: u32) -> Result<()> {
        self.put(path.as_ref(), content, Disk::Later, &moded(mode))
    }

    fn put(
        &self,
        path: &Path,
        content: &[u8],
        disk: Disk,
        dress: &dyn Fn(&File) -> Result<(), Errno>,
    ) -> Result<()> {
        let writing = || format!("writing `{}`", path.display());
        let (dir, name) = self.parent(path).with_context(writing)?;
        let temp = temporary(&name);
        unlink_temporary(&dir, &temp).with_context(writing)?;
        // Never a file that is there: in a rootfs it could be a hard link to an object of the store.
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&dir, &temp, flags, Mode::from_raw_mode(0o600))
            .with_context(writing)?;
        let written = (|| -> io::Result<()> {
            let mut file = File::from(fd);
            file.write_all(content)?;
            dress(&file)?;
            disk.wait(&file)?;
            rustix::fs::renameat(&dir, &temp, &dir, &name)?;
            disk.wait(&dir)?;
            Ok(())
        })();
        if written.is_err() {
            // What matters is the first error; a temporary file that stays is harmless and replaced next time.
            let _ = rustix::fs::unlinkat(&dir, &temp, AtFlags::empty());
        }
        written.with_context(writing)
    }

    /// Appends a line-sized piece to the file, which is made if missing, and returns once it is on disk. A file that is
    /// there has its name on disk already.
    pub fn append(&self, path: impl AsRef<Path>, content: &[u8]) -> Result<()> {
        let path = path.as_ref();
        let writing = || format!("writing `{}`", path.display());
        let (dir, name) = self.parent(path).with_context(writing)?;
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let (fd, is_new) = match rustix::fs::openat(&dir, &name, flags, mode) {
            Err(Errno::NOENT) => {
                let flags = flags | OFlags::CREATE;
                (rustix::fs::openat(&dir, &name, flags, mode), true)
            }
            found => (found, false),
        };
        let mut file = File::from(fd.with_context(writing)?);
        file.write_all(content).with_context(writing)?;
        file.sync_all().with_context(writing)?;
        if is_new {
            rustix::fs::fsync(&dir).with_context(writing)?;
        }
        Ok(())
    }

    /// Opens the file for reading and writing, making it (mode 0600) if it is missing.
    pub fn open_file(&self, path: impl AsRef<Path>) -> Result<File> {
        let path = path.as_ref();
        let opening = || format!("opening `{}`", path.display());
        let (dir, name) = self.parent(path).with_context(opening)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&dir, &name, flags, Mode::from_raw_mode(0o600))
            .with_context(opening)?;
        Ok(File::from(fd))
    }

    /// Gives what lies at `path` to a user and a group, on disk when this returns; a link itself, not what it points at.
    pub fn own(&self, path: impl AsRef<Path>, uid: u32, gid: u32) -> Result<()> {
        let path = path.as_ref();
        let owning = || format!("giving `{}` to {uid}:{gid}", path.display());
        let (dir, name) = self.parent(path).with_context(owning)?;
        rustix::fs::chownat(
            &dir,
            &name,
            Some(rustix::fs::Uid::from_raw(uid)),
            Some(rustix::fs::Gid::from_raw(gid)),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .with_context(owning)?;
        match self.open_to_dress(path) {
            Ok(file) => rustix::fs::fsync(&file),
            // A link itself cannot be written to disk, the directory that holds it can.
            Err(Errno::LOOP) => rustix::fs::fsync(&dir),
            Err(e) => Err(e),
        }
        .with_context(owning)
    }

    /// Makes `path` a symbolic link to `target` in one step, whatever link or file was there.
    pub fn point(&self, path: impl AsRef<Path>, target: &Path) -> Result<()> {
        let path = path.as_ref();
        let linking = || format!("pointing `{}` at `{}`", path.display(), target.display());
        let (dir, name) = self.parent(path).with_context(linking)?;
        let temp = temporary(&name);
        unlink_temporary(&dir, &temp).with_context(linking)?;
        rustix::fs::symlinkat(target, &dir, &temp).with_context(linking)?;
        rustix::fs::renameat(&dir, &temp, &dir, &name).with_context(linking)?;
        rustix::fs::fsync(&dir).with_context(linking)
    }

    /// Moves a file or directory within the root.
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
        let (from, to) = (from.as_ref(), to.as_ref());
        let moving = || format!("moving `{}` to `{}`", from.display(), to.display());
        let (from_dir, from_name) = self.parent(from).with_context(moving)?;
        let (to_dir, to_name) = self.parent(to).with_context(moving)?;
        rustix::fs::renameat(&from_dir, &from_name, &to_dir, &to_name).with_context(moving)?;
        rustix::fs::fsync(&to_dir).with_context(moving)?;
        if from.parent() == to.parent() {
            return Ok(());
        }
        rustix::fs::fsync(&from_dir).with_context(moving)
    }

    /// Writes the names in the directory to disk; one that is not there is fine.
    pub fn sync_dir(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let syncing = || format!("writing the directory `{}` to disk", path.display());
        match self.open_at(path, DIR_FLAGS) {
            Ok(fd) => rustix::fs::fsync(&fd).with_context(syncing),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
            Err(e) => Err(e).with_context(syncing),
        }
    }

    /// Writes all of the file system that holds `path` to disk.
    pub fn sync(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let syncing = || format!("writing the file system of `{}` to disk", path.display());
        let fd = self.open_at(path, DIR_FLAGS).with_context(syncing)?;
        rustix::fs::syncfs(&fd).with_context(syncing)
    }
}
