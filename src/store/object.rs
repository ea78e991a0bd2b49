//! What an OSTree object is: its name, and for files what is hashed of them (ostree-core.h, mode bare).
//!
//! A file's checksum covers owner, mode, extended attributes and content, or a symbolic link's target; times are not
//! part of it.
#![expect(
    clippy::disallowed_methods,
    reason = "the store owns what lies in its own private directories"
)]

use std::ffi::CString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use openssl::sha::Sha256;
use rustix::fs::FileType;

use crate::hash::hex;
use crate::store::gvariant::{Tuples, frame, string};
pub(crate) use crate::store::sum::Sum;

/// Set by the policy of the host that runs the container, not by the image: never stored, never hashed.
pub(crate) const SELINUX: &[u8] = b"security.selinux";

/// How much of a large file is held at once.
pub(crate) const CHUNK: usize = 256 * 1024;

/// The kinds of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A regular file or a symbolic link.
    File,
    /// The names in a directory.
    DirTree,
    /// A directory's owner, mode and extended attributes.
    DirMeta,
    /// A tree with its metadata.
    Commit,
}

impl Kind {
    const ALL: [Self; 4] = [Self::File, Self::DirTree, Self::DirMeta, Self::Commit];

    fn suffix(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::DirTree => "dirtree",
            Self::DirMeta => "dirmeta",
            Self::Commit => "commit",
        }
    }
}

/// Where an object lies below `objects/`.
pub(crate) fn relative_path(checksum: &str, kind: Kind) -> String {
    let (start, rest) = checksum.split_at(checksum.len().min(2));
    format!("{start}/{rest}.{}", kind.suffix())
}

/// An object's name. Displays as libostree's tools have it: `CHECKSUM.dirtree`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Object {
    pub(crate) kind: Kind,
    pub(crate) sum: Sum,
}

impl Object {
    /// A file or link.
    pub(crate) fn file(sum: Sum) -> Self {
        Self {
            kind: Kind::File,
            sum,
        }
    }

    /// Its path below `objects/`.
    pub(crate) fn path(self) -> String {
        relative_path(&self.sum.to_string(), self.kind)
    }

    /// Of a path below `objects/`; `None` for what is no object.
    pub(crate) fn of_path(path: &Path) -> Option<Self> {
        let path = path.to_str()?;
        let (stem, suffix) = path.rsplit_once('.')?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.suffix() == suffix)?;
        let sum = Sum::parse(&stem.replacen('/', "", 1)).ok()?;
        let object = Self { kind, sum };
        // There is one way to write it.
        (object.path() == path).then_some(object)
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path().replacen('/', "", 1))
    }
}

/// What a file object is beside its content.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Meta {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// With the type of the file, as `st_mode` has it.
    pub(crate) mode: u32,
    /// Sorted by name.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Of a symbolic link.
    pub(crate) target: Option<String>,
}

impl Meta {
    /// Of what has no extended attributes and is no link; `mode` with the type of the file.
    pub(crate) fn plain(uid: u32, gid: u32, mode: u32) -> Self {
        Self {
            uid,
            gid,
            mode,
            xattrs: Vec::new(),
            target: None,
        }
    }

    /// What is hashed before the content: `OSTREE_FILE_HEADER_GVARIANT_FORMAT` `(uuuusa(ayay))`, integers
    /// big-endian, after its length and four NUL bytes.
    pub(crate) fn header(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(32);
        for number in [self.uid, self.gid, self.mode, 0] {
            body.extend_from_slice(&number.to_be_bytes());
        }
        body.extend_from_slice(&string(self.target.as_deref().unwrap_or_default()));
        let text_ends = body.len();
        body.extend_from_slice(&xattrs(&self.xattrs));
        let header = frame(body, &[text_ends]);
        let length = u32::try_from(header.len()).unwrap_or(u32::MAX);
        [&length.to_be_bytes()[..], &[0; 4], &header].concat()
    }

    /// The checksum of a file or link that is this and has the content.
    pub(crate) fn sum(&self, content: &[u8]) -> Sum {
        let mut hasher = Sha256::new();
        hasher.update(&self.header());
        hasher.update(content);
        Sum::hashed(hasher)
    }

    /// What the file at `path` is; a symbolic link is not followed.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let found = std::fs::symlink_metadata(path)?;
        let target = if found.is_symlink() {
            let target = std::fs::read_link(path)?;
            let target = target.into_os_string().into_string();
            Some(target.map_err(|_| io::Error::other("its target is not UTF-8"))?)
        } else {
            None
        };
        Ok(Self {
            uid: found.uid(),
            gid: found.gid(),
            mode: found.mode(),
            xattrs: read_xattrs(path)?,
            target,
        })
    }
}

/// Extended attributes as OSTree has them, `a(ayay)`; names end with a NUL byte.
pub(crate) fn xattrs(xattrs: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut pairs = Tuples::default();
    for (name, value) in xattrs {
        pairs.push(&[&[name.as_slice(), &[0]].concat(), value]);
    }
    pairs.done()
}

/// `OSTREE_DIRMETA_GVARIANT_FORMAT`, `(uuua(ayay))`; `mode` with the type of the file.
pub(crate) fn dirmeta(uid: u32, gid: u32, mode: u32, attributes: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut body = Vec::new();
    for number in [uid, gid, mode] {
        body.extend_from_slice(&number.to_be_bytes());
    }
    body.extend_from_slice(&xattrs(attributes));
    body
}

/// The checksum of a file object as it lies on disk.
#[allow(dead_code, reason = "verify's, which follows")]
pub(crate) fn checksum(path: &Path) -> Result<String> {
    let hashing = || format!("hashing `{}`", path.display());
    let meta = Meta::of(path).with_context(hashing)?;
    let mut hasher = Sha256::new();
    hasher.update(&meta.header());
    match FileType::from_raw_mode(meta.mode) {
        FileType::Symlink => {}
        FileType::RegularFile => {
            let mut file = File::open(path).with_context(hashing)?;
            let mut buffer = vec![0; CHUNK];
            loop {
                match file.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(read) => hasher.update(&buffer[..read]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error).with_context(hashing),
                }
            }
        }
        _ => bail!(
            "hashing `{}`: it is no regular file or symbolic link",
            path.display()
        ),
    }
    Ok(hex(&hasher.finish()))
}

/// The extended attributes of a file, sorted by name, [`SELINUX`] left out.
fn read_xattrs(path: &Path) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let names = sized(|buffer| rustix::fs::llistxattr(&path, buffer))?;
    let mut found = Vec::new();
    for name in names.split(|byte| *byte == 0) {
        if name.is_empty() || name == SELINUX {
            continue;
        }
        let value = sized(|buffer| rustix::fs::lgetxattr(&path, name, buffer))?;
        found.push((name.to_vec(), value));
    }
    found.sort();
    Ok(found)
}

/// What a call of the xattr(7) family fills a buffer with.
fn sized(call: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Vec<u8>> {
    // No list or value is longer than 64 KiB.
    let mut buffer = vec![0; 512];
    loop {
        match call(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(rustix::io::Errno::RANGE) => buffer.resize(buffer.len() * 8, 0),
            Err(rustix::io::Errno::NOTSUP) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use ostree::gio;
    use ostree::glib::prelude::ToVariant;
    use ostree::{Repo, RepoMode};

    use super::*;

    #[test]
    fn objects_are_known_by_their_paths() {
        let rest = "b".repeat(62);
        let checksum = format!("a0{rest}");
        for kind in Kind::ALL {
            let object = Object::of_path(Path::new(&relative_path(&checksum, kind))).unwrap();
            assert_eq!(
                (object.kind, object.sum.to_string()),
                (kind, checksum.clone())
            );
        }
        for path in [
            format!("aa/{rest}.other"),
            format!("aa/{rest}"),
            format!("aab/{}.file", "b".repeat(61)),
            format!("AA/{rest}.file"),
            format!("aa/{rest}b.file"),
            "aa/tmp.Ab12xY".to_owned(),
        ] {
            assert_eq!(Object::of_path(Path::new(&path)), None, "{path}");
        }
    }

    #[test]
    fn checksums_are_libostrees() {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repo::new_for_path(dir.path());
        let none = gio::Cancellable::NONE;
        repo.create(RepoMode::Bare, none).unwrap();
        let transaction = repo.auto_transaction(none).unwrap();
        let one = vec![(b"user.a".to_vec(), b"1".to_vec())];
        let two = vec![
            (b"user.a".to_vec(), vec![]),
            (b"user.long".to_vec(), vec![3; 500]),
        ];
        let mut checksums = Vec::new();
        for (uid, gid, mode, attributes, content) in [
            (0, 0, 0o100_644, vec![], &b"hello"[..]),
            (1000, 7, 0o104_755, one.clone(), b""),
            (0, 0, 0o100_600, two, b"x"),
        ] {
            let pairs: Vec<_> = attributes
                .iter()
                .map(|(name, value): &(Vec<u8>, Vec<u8>)| {
                    ([name.as_slice(), &[0]].concat(), value.clone())
                })
                .collect();
            let variant = pairs.to_variant();
            let written =
                repo.write_regfile_inline(None, uid, gid, mode, Some(&variant), content, none);
            checksums.push(written.unwrap().to_string());
        }
        for target in ["a", &"long/".repeat(100)] {
            let written = repo.write_symlink(None, 3, 4, None, target, none);
            checksums.push(written.unwrap().to_string());
        }
        transaction.commit(none).unwrap();
        for expected in checksums {
            let path = dir
                .path()
                .join("objects")
                .join(relative_path(&expected, Kind::File));
            assert_eq!(checksum(&path).unwrap(), expected);
        }
        let body = dirmeta(1, 2, 0o40_755, &one);
        let variant = (
            1_u32.to_be(),
            2_u32.to_be(),
            0o40_755_u32.to_be(),
            vec![(b"user.a\0".to_vec(), b"1".to_vec())],
        );
        assert_eq!(body, variant.to_variant().data());
    }
}
