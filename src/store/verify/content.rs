//! File objects hashed again, on all cores: each file streamed, so that memory does not depend on their sizes.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::Result;
use openssl::sha::Sha256;
use rustix::fs::{Mode, OFlags};

use crate::progress::{Event, Report};
use crate::store::Store;
use crate::store::object::{Meta, Object, Sum};
use crate::store::verify::defect::{Defect, Finding};

/// How much is read at once.
const BUFFER: usize = 256 * 1024;

/// No metadata object is larger (`OSTREE_MAX_METADATA_SIZE`), and hardly a list of entries.
const LARGEST: u64 = 1 << 30;

/// How much is hashed before it is told of.
const TOLD: u64 = 4 << 20;

/// What hashing the store's files found.
#[derive(Debug, Default)]
pub(crate) struct Swept {
    pub(crate) bad: BTreeMap<Sum, Finding>,
    /// Device and inode of each object that is there.
    pub(crate) inodes: HashMap<Sum, (u64, u64)>,
    pub(crate) bytes: u64,
}

impl Store {
    /// Where an object lies.
    pub(crate) fn object_path(&self, object: Object) -> PathBuf {
        self.path.join("objects").join(object.path())
    }

    /// Hashes these file objects; of `others` only the inodes are looked up.
    pub(crate) fn sweep(&self, sums: &[Sum], others: &[Sum], report: &Report) -> Swept {
        let mut swept = Swept::default();
        let mut sized: Vec<(u64, Sum)> = Vec::new();
        for (sum, hashed) in sums
            .iter()
            .map(|s| (s, true))
            .chain(others.iter().map(|s| (s, false)))
        {
            match std::fs::symlink_metadata(self.object_path(Object::file(*sum))) {
                Ok(stat) => {
                    swept.inodes.insert(*sum, (stat.dev(), stat.ino()));
                    if hashed {
                        swept.bytes += stat.size();
                        sized.push((stat.size(), *sum));
                    }
                }
                Err(error) if hashed => {
                    swept.bad.insert(*sum, from_io(&error));
                }
                Err(_) => {}
            }
        }
        // The largest first: no thread is left alone with one at the end.
        sized.sort_unstable_by(|a, b| b.cmp(a));
        report.event(Event::CheckBegin { bytes: swept.bytes });
        let objects = self.path.join("objects");
        swept.bad.extend(hash_all(&objects, &sized, report));
        report.event(Event::CheckDone);
        swept
    }
}

fn hash_all(objects: &Path, sized: &[(u64, Sum)], report: &Report) -> BTreeMap<Sum, Finding> {
    let next = AtomicUsize::new(0);
    let bad = Mutex::new(BTreeMap::new());
    let work = || {
        let mut told = Told { report, bytes: 0 };
        while let Some((_, sum)) = sized.get(next.fetch_add(1, Ordering::Relaxed)) {
            let path = objects.join(Object::file(*sum).path());
            if let Some(found) = check(&path, *sum, &mut |bytes| told.add(bytes)) {
                let mut bad = bad.lock().unwrap_or_else(PoisonError::into_inner);
                bad.insert(*sum, found);
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 1..threads.min(sized.len()) {
            scope.spawn(work);
        }
        work();
    });
    bad.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Reports bytes in pieces that are worth it.
struct Told<'a> {
    report: &'a Report,
    bytes: u64,
}

impl Told<'_> {
    fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        if self.bytes >= TOLD {
            self.tell();
        }
    }

    fn tell(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.report.event(Event::CheckBytes { bytes });
    }
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.tell();
    }
}

/// Opens a regular file, and nothing that could keep us waiting.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(
        ErrorKind::InvalidInput,
        "it is no regular file",
    ))
}

/// Reads a metadata object or a list, whatever lies there.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Compares a file or link with the checksum that it should have; `None` when it is intact.
pub(crate) fn check(path: &Path, sum: Sum, progress: &mut dyn FnMut(u64)) -> Option<Finding> {
    match checksum(path, progress) {
        Ok(found) if found == sum => None,
        Err(_) if is_special(path) => Some(Finding::new(Defect::Type, "no file")),
        Ok(_) => Some(Finding::new(Defect::Content, "")),
        Err(error) => Some(match error.downcast_ref::<io::Error>() {
            Some(error) => from_io(error),
            None => Finding::new(Defect::Unreadable, format!("{error:#}")),
        }),
    }
}

fn is_special(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|stat| !stat.is_file() && !stat.is_symlink())
}

fn checksum(path: &Path, progress: &mut dyn FnMut(u64)) -> Result<Sum> {
    let meta = Meta::of(path)?;
    hash_as(path, &meta, progress)
}

/// The checksum that the file's content would have with these attributes.
pub(crate) fn hash_as(path: &Path, meta: &Meta, progress: &mut dyn FnMut(u64)) -> Result<Sum> {
    let mut hasher = Sha256::new();
    hasher.update(&meta.header());
    if meta.target.is_none() {
        let mut file = open(path)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => {
                    hasher.update(&buffer[..read]);
                    progress(read as u64);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Sum::new(&hasher.finish())
}

fn from_io(error: &io::Error) -> Finding {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Finding::new(Defect::Missing, ""),
        _ => Finding::new(Defect::Unreadable, error.to_string()),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests look from outside")]
mod tests {
    use std::collections::HashSet;
    use std::sync::{Arc, Condvar};
    use std::time::Duration;

    use super::*;

    /// Objects of so many zeros; none has its checksum.
    fn objects(count: u8, size: u64) -> (tempfile::TempDir, Vec<(u64, Sum)>) {
        let place = tempfile::tempdir().unwrap();
        let object = |number| {
            let sum = Sum::new(&[number; 32]).unwrap();
            let path = place.path().join(Object::file(sum).path());
            std::fs::create_dir(path.parent().unwrap()).unwrap();
            File::create(path).unwrap().set_len(size).unwrap();
            (size, sum)
        };
        let sized = (0..count).map(object).collect();
        (place, sized)
    }

    #[test]
    fn a_large_file_is_told_of_piece_by_piece() {
        let (place, sized) = objects(1, 2 * TOLD + 1);
        let told = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&told);
        let report = Report::new(move |event| sink.lock().unwrap().push(event));
        let bad = hash_all(place.path(), &sized, &report);
        assert_eq!(bad[&sized[0].1].defects, [Defect::Content]);
        let bytes = [TOLD, TOLD, 1].map(|bytes| Event::CheckBytes { bytes });
        assert_eq!(*told.lock().unwrap(), bytes);
    }

    /// Whoever has hashed something waits until as many have as there are cores.
    #[test]
    fn files_are_hashed_on_all_cores() {
        let cores = thread::available_parallelism().map_or(1, |cores| cores.get().min(16));
        let (place, sized) = objects(u8::try_from(cores).unwrap(), TOLD);
        let seen = Arc::new((Mutex::new(HashSet::new()), Condvar::new()));
        let told = Arc::clone(&seen);
        let report = Report::new(move |event| {
            if event == (Event::CheckBytes { bytes: 0 }) {
                return;
            }
            let (threads, changed) = &*told;
            let mut threads = threads.lock().unwrap();
            threads.insert(thread::current().id());
            changed.notify_all();
            let limit = Duration::from_secs(30);
            let waited = changed.wait_timeout_while(threads, limit, |seen| seen.len() < cores);
            drop(waited.unwrap());
        });
        hash_all(place.path(), &sized, &report);
        assert_eq!(seen.0.lock().unwrap().len(), cores);
    }
}
