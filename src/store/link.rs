//! A commit's tree as hard links to its objects, by all cores: directory by directory.
//!
//! What a link costs is the kernel's; libostree's checkout asks for each object's attributes besides and uses one
//! core: 1.2 s for 40,000 files against 0.4 s here.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use rustix::fs::{self, AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::store::dress::{dress, owner};
use crate::store::object::{Kind, Meta, Sum, relative_path};
use crate::store::objects::Objects;
use crate::store::tree::{self, Root};

/// More threads than this wait for the file system's journal.
const THREADS: usize = 4;

/// A checkout under way.
pub(crate) struct Linking<'a> {
    objects: &'a Objects,
    root: OwnedFd,
    work: Mutex<Work>,
    changed: Condvar,
    /// Directories' own attributes: most directories of an image are alike.
    metas: Mutex<HashMap<Sum, Arc<Meta>>>,
}

/// Directories that have been made and are still empty.
struct Work {
    left: Vec<(String, Root)>,
    /// Threads that are filling one, and may find more.
    busy: usize,
    failed: Option<anyhow::Error>,
}

impl<'a> Linking<'a> {
    /// Makes the directory `at` and fills it with the commit's tree.
    pub(crate) fn all(objects: &'a Objects, commit: &str, at: &Path) -> Result<()> {
        let root = tree::commit(&objects.read(commit, Kind::Commit)?)?.root;
        fs::mkdirat(CWD, at, Mode::RWXU)?;
        let linking = Self {
            objects,
            root: fs::open(at, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?,
            work: Mutex::new(Work {
                left: vec![(".".to_owned(), root)],
                busy: 0,
                failed: None,
            }),
            changed: Condvar::new(),
            metas: Mutex::default(),
        };
        let threads = thread::available_parallelism().map_or(1, |cores| cores.get().min(THREADS));
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| linking.run());
            }
        });
        let work = linking.work.into_inner();
        let failed = work.unwrap_or_else(PoisonError::into_inner).failed;
        failed.map_or(Ok(()), Err)
    }

    fn run(&self) {
        while let Some((path, dir)) = self.next() {
            let filled = self
                .fill(&path, dir)
                .with_context(|| format!("making `{}`", path.trim_start_matches("./")));
            let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
            work.busy -= 1;
            match filled {
                Ok(found) => work.left.extend(found),
                Err(error) => drop(work.failed.get_or_insert(error)),
            }
            drop(work);
            self.changed.notify_all();
        }
    }

    /// A directory to be filled; `None` when there will be none.
    fn next(&self) -> Option<(String, Root)> {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if work.failed.is_some() {
                return None;
            }
            if let Some(dir) = work.left.pop() {
                work.busy += 1;
                return Some(dir);
            }
            if work.busy == 0 {
                return None;
            }
            work = self
                .changed
                .wait(work)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Fills one directory; the ones in it, which are made.
    fn fill(&self, path: &str, dir: Root) -> Result<Vec<(String, Root)>> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let at = fs::openat(&self.root, path, flags, Mode::empty())?;
        let names = tree::dirtree(&self.objects.read(&dir.tree.to_string(), Kind::DirTree)?)?;
        for (name, sum) in &names.files {
            self.link(&sum.to_string(), &at, name)
                .with_context(|| format!("making `{name}`"))?;
        }
        let mut found = Vec::with_capacity(names.dirs.len());
        for (name, inner) in names.dirs {
            fs::mkdirat(&at, &name, Mode::RWXU).with_context(|| format!("making `{name}`"))?;
            found.push((format!("{path}/{name}"), inner));
        }
        // Nothing is put into it any more: its time stays.
        let meta = self.meta(dir.meta)?;
        dress(&at, Some(owner(&meta)), &meta)?;
        Ok(found)
    }

    fn meta(&self, sum: Sum) -> Result<Arc<Meta>> {
        let metas = || self.metas.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = metas().get(&sum) {
            return Ok(Arc::clone(known));
        }
        let read = self.objects.read(&sum.to_string(), Kind::DirMeta)?;
        let meta = Arc::new(tree::dirmeta(&read)?);
        metas().insert(sum, Arc::clone(&meta));
        Ok(meta)
    }

    fn link(&self, checksum: &str, at: &OwnedFd, name: &str) -> Result<()> {
        let object = relative_path(checksum, Kind::File);
        match fs::linkat(self.objects.dir(), &object, at, name, AtFlags::empty()) {
            // The empty file may have more names than a file may have (ext4: 65,000).
            Err(Errno::MLINK) => self.copy(&object, at, name),
            linked => Ok(linked?),
        }
    }

    fn copy(&self, object: &str, at: &OwnedFd, name: &str) -> Result<()> {
        let meta = Meta::of(&self.objects.path().join(object))?;
        if let Some(target) = &meta.target {
            fs::symlinkat(target, at, name)?;
            let (uid, gid) = owner(&meta);
            let no_follow = AtFlags::SYMLINK_NOFOLLOW;
            return Ok(fs::chownat(at, name, Some(uid), Some(gid), no_follow)?);
        }
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let mut file = std::fs::File::from(fs::openat(at, name, flags, Mode::RUSR)?);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let from = fs::openat(self.objects.dir(), object, flags, Mode::empty())?;
        std::io::copy(&mut std::fs::File::from(from), &mut file)?;
        Ok(dress(&file, Some(owner(&meta)), &meta)?)
    }
}
