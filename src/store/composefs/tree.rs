//! A checkout as the tree that an image is made of: each file leads to the object that it is.
#![expect(
    clippy::disallowed_methods,
    reason = "the store owns what lies in its own private directories"
)]

use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::FileType;

use crate::store::composefs::erofs::{Content, Node};
use crate::store::composefs::verity::{self, Digest};
use crate::store::object::{Kind, Meta, Sum, relative_path};
use crate::store::objects::Objects;
use crate::store::tree::{self, Root};

/// overlayfs's own attributes (linux, Documentation/filesystems/overlayfs.rst): this file has metadata only, and
/// there, below the data-only layer, is its content.
const METACOPY: &[u8] = b"trusted.overlay.metacopy";
const REDIRECT: &[u8] = b"trusted.overlay.redirect";
/// An image's own attributes of these names are kept from overlayfs by a second `overlay.`.
const OVERLAY: &[u8] = b"trusted.overlay.";

/// Digests of sealed objects, by checksum.
pub(crate) type Sealed = HashMap<String, Digest>;

/// Reads the checkout `dir` of `commit`, with what was added to it since. With `sealed` every object must be.
pub(crate) fn read(
    objects: &Objects,
    commit: &str,
    dir: &Path,
    sealed: Option<&Sealed>,
) -> Result<Node> {
    let commit = objects.read(commit, Kind::Commit);
    let root = commit.and_then(|bytes| Ok(tree::commit(&bytes)?.root));
    let root = root.context("reading its commit")?;
    let reading = Reading { objects, sealed };
    reading.node(dir, Origin::Dir(Some(root)))
}

/// What the commit has at a path.
enum Origin {
    /// A directory, or nothing.
    Dir(Option<Root>),
    /// A file by its object.
    File(Sum),
}

/// A checkout being read.
struct Reading<'a> {
    objects: &'a Objects,
    sealed: Option<&'a Sealed>,
}

impl Reading<'_> {
    fn node(&self, path: &Path, origin: Origin) -> Result<Node> {
        let reading = || format!("reading `{}`", path.display());
        let meta = Meta::of(path).with_context(reading)?;
        let mut node = Node {
            uid: meta.uid,
            gid: meta.gid,
            mode: meta.mode,
            xattrs: escaped(meta.xattrs),
            content: Content::File(0),
        };
        match (FileType::from_raw_mode(meta.mode), meta.target, origin) {
            (FileType::Directory, _, Origin::Dir(dir)) => {
                node.content = Content::Dir(self.children(path, dir.as_ref())?);
            }
            (FileType::Symlink, Some(target), _) => {
                node.content = Content::Link(target.into_bytes());
            }
            (FileType::RegularFile, _, origin) => {
                let length = path.symlink_metadata().with_context(reading)?.len();
                // An empty file has no content that overlayfs would have to find; mount targets are such.
                if length > 0 {
                    let Origin::File(object) = origin else {
                        bail!("`{}` is no file of the image", path.display());
                    };
                    node.content = Content::File(length);
                    lead(&mut node, &object.to_string(), self.sealed)?;
                }
            }
            _ => bail!("`{}` is not what the image has there", path.display()),
        }
        Ok(node)
    }

    fn children(&self, path: &Path, dir: Option<&Root>) -> Result<BTreeMap<Vec<u8>, Node>> {
        let listing = || format!("listing `{}`", path.display());
        let mut known: HashMap<String, Origin> = HashMap::new();
        if let Some(dir) = dir {
            let bytes = self.objects.read(&dir.tree.to_string(), Kind::DirTree);
            let names = bytes.and_then(|bytes| tree::dirtree(&bytes));
            let names = names.with_context(listing)?;
            let dirs = names.dirs.into_iter();
            known.extend(dirs.map(|(name, dir)| (name, Origin::Dir(Some(dir)))));
            let files = names.files.into_iter();
            known.extend(files.map(|(name, object)| (name, Origin::File(object))));
        }
        let mut children = BTreeMap::new();
        for entry in std::fs::read_dir(path).with_context(listing)? {
            let name = entry.with_context(listing)?.file_name();
            let origin = name.to_str().and_then(|name| known.remove(name));
            let child = self.node(&path.join(&name), origin.unwrap_or(Origin::Dir(None)))?;
            children.insert(name.into_vec(), child);
        }
        if let Some(missing) = known.into_keys().next() {
            bail!("`{}` is missing", path.join(missing).display());
        }
        Ok(children)
    }
}

/// Gives a file the attributes by which overlayfs finds its content.
fn lead(node: &mut Node, object: &str, sealed: Option<&Sealed>) -> Result<()> {
    let metacopy = match sealed {
        None => Vec::new(),
        Some(sealed) => metacopy(
            sealed
                .get(object)
                .ok_or_else(|| anyhow!("the object {object} is not sealed"))?,
        ),
    };
    let redirect = format!("/{}", relative_path(object, Kind::File));
    node.xattrs.push((METACOPY.to_vec(), metacopy));
    node.xattrs.push((REDIRECT.to_vec(), redirect.into_bytes()));
    node.xattrs.sort();
    Ok(())
}

/// `struct ovl_metacopy`: version, length, flags, algorithm, digest.
fn metacopy(digest: &Digest) -> Vec<u8> {
    let mut bytes = vec![0, 4, 0, verity::SHA256];
    bytes.extend_from_slice(digest);
    bytes[1] += u8::try_from(digest.len()).unwrap_or_default();
    bytes
}

fn escaped(xattrs: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let escape = |name: Vec<u8>| match name.strip_prefix(OVERLAY) {
        Some(rest) => [OVERLAY, b"overlay.", rest].concat(),
        None => name,
    };
    let mut xattrs: Vec<_> = xattrs.into_iter().map(|(n, v)| (escape(n), v)).collect();
    xattrs.sort();
    xattrs
}

/// A tree of one file, for trying what a host can do.
pub(crate) fn sample(object: &str, length: u64, digest: Option<Digest>) -> Result<Node> {
    let mut file = Node {
        uid: 0,
        gid: 0,
        mode: FileType::RegularFile.as_raw_mode() | 0o644,
        xattrs: Vec::new(),
        content: Content::File(length),
    };
    let sealed = digest.map(|digest| Sealed::from([(object.to_owned(), digest)]));
    lead(&mut file, object, sealed.as_ref())?;
    Ok(Node {
        uid: 0,
        gid: 0,
        mode: FileType::Directory.as_raw_mode() | 0o755,
        xattrs: Vec::new(),
        content: Content::Dir(BTreeMap::from([(b"file".to_vec(), file)])),
    })
}
