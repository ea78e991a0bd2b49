//! One layer's way into the repository: its members become objects, its entries a list, both a commit.

use std::io::{self, Read, Write};

use anyhow::{Context, Result, bail};
use containers_image_proxy::oci_spec::image::Digest;
use ostree::gio::{self, prelude::Cast, prelude::OutputStreamExtManual};
use ostree::{MutableTree, Repo, RepoFile};
use rustix::fs::FileType;
use tar::EntryType;

use crate::store::archive::{Archive, Member};
use crate::store::entry::{self, Attributes, Entry, Meaning, Node, clean_path};
use crate::store::inflate::{Hashed, inflate};
use crate::store::merge::{Metadata, Scope, Tree, xattrs_variant};

/// Files up to this size are handed to libostree in one piece, larger ones as a stream.
const SMALL: u64 = 128 * 1024;

/// Set by the policy of the host that runs the container, not by the image.
const SELINUX: &[u8] = b"security.selinux";

/// What a layer holds.
#[derive(Debug, Default)]
pub(crate) struct Layer {
    pub(crate) entries: Vec<Entry>,
    /// Paths of devices, FIFOs and sockets: OSTree has no objects for them.
    pub(crate) skipped: Vec<String>,
}

/// Reads a layer's blob to its end, writes its files as objects of the running transaction, and checks the diff_id.
pub(crate) fn read(repo: &Repo, blob: impl Read, diff_id: &Digest) -> Result<Layer> {
    let mut archive = Archive::new(Hashed::new(inflate(blob)?, diff_id)?);
    let mut layer = Layer::default();
    while let Some(member) = archive.next_member()? {
        layer
            .add(repo, &member, archive.content())
            .with_context(|| member.label())?;
    }
    archive.into_inner().verify()?;
    Ok(layer)
}

/// Commits a layer that has been read: `rootfs/` keeps its objects alive, `entries` says what they are.
pub(crate) fn commit(repo: &Repo, layer: &Layer, diff_id: &Digest) -> Result<String> {
    let mut tree = Tree::default();
    tree.apply(&layer.entries, Scope::Layer)?;
    let list = entry::serialize(diff_id.as_ref(), &layer.entries)?;
    let mode = FileType::RegularFile.as_raw_mode() | 0o600;
    let list = repo
        .write_regfile_inline(None, 0, 0, mode, None, &list, gio::Cancellable::NONE)
        .context("writing the list of entries")?;
    let private = Attributes {
        mode: 0o700,
        ..Attributes::default()
    };
    let top = MutableTree::new();
    top.set_metadata_checksum(&Metadata::new(repo).checksum(&private)?);
    top.replace_file("entries", &list)?;
    tree.write_into(repo, &top.ensure_dir("rootfs")?)?;
    write_commit(repo, &top, None)
}

/// Writes a tree's directories and a commit of it with the given metadata.
pub(crate) fn write_commit(
    repo: &Repo,
    tree: &MutableTree,
    metadata: Option<&ostree::glib::Variant>,
) -> Result<String> {
    let root = repo
        .write_mtree(tree, gio::Cancellable::NONE)
        .context("writing the directories")?;
    let Ok(root) = root.downcast::<RepoFile>() else {
        bail!("libostree returned a tree of another kind");
    };
    // No time: equal content is one commit.
    let commit =
        repo.write_commit_with_time(None, None, None, metadata, &root, 0, gio::Cancellable::NONE);
    Ok(commit.context("writing the commit")?.into())
}

impl Layer {
    fn add(&mut self, repo: &Repo, member: &Member, content: impl Read) -> Result<()> {
        let (path, node) = match entry::meaning(clean_path(&member.path)?)? {
            Meaning::Nothing => return Ok(()),
            Meaning::Whiteout(path) => (path, Node::Whiteout),
            Meaning::Opaque(path) => (path, Node::Opaque),
            Meaning::Plain(path) => match node(repo, member, content)? {
                Some(node) => (path, node),
                None => {
                    self.skipped.push(path);
                    return Ok(());
                }
            },
        };
        self.entries.push(Entry { path, node });
        Ok(())
    }
}

/// What the member is, its object written; `None` for what cannot be stored.
fn node(repo: &Repo, member: &Member, content: impl Read) -> Result<Option<Node>> {
    Ok(Some(match member.kind {
        EntryType::Regular | EntryType::Continuous => {
            let attributes = attributes(member)?;
            let object = write_file(repo, &attributes, member.size, content)?;
            Node::File { object, attributes }
        }
        EntryType::Directory => Node::Dir(attributes(member)?),
        EntryType::Symlink => symlink(repo, member)?,
        EntryType::Link => Node::Hardlink {
            target: hardlink_target(&member.link)?,
        },
        EntryType::Char | EntryType::Block | EntryType::Fifo => return Ok(None),
        EntryType::GNUSparse => bail!("sparse files are not supported"),
        other => bail!(
            "its tar type `{}` is not known",
            char::from(other.as_byte())
        ),
    }))
}

fn symlink(repo: &Repo, member: &Member) -> Result<Node> {
    let mut attributes = attributes(member)?;
    // Linux gives every symbolic link this mode.
    attributes.mode = 0o777;
    let Ok(target) = std::str::from_utf8(&member.link) else {
        bail!("its target is not UTF-8");
    };
    if target.is_empty() || target.len() > 4095 || target.contains('\0') {
        bail!("its target is no path");
    }
    let (uid, gid) = (attributes.uid, attributes.gid);
    let xattrs = xattrs_variant(&attributes.xattrs)?;
    let object = repo
        .write_symlink(
            None,
            uid,
            gid,
            Some(&xattrs),
            target,
            gio::Cancellable::NONE,
        )
        .context("writing the link")?;
    Ok(Node::Symlink {
        object: object.into(),
        target: target.to_owned(),
        attributes,
    })
}

/// The target of a hard link is a path of the image. Some writers put a `/` before it, which then means the image's
/// root.
fn hardlink_target(link: &[u8]) -> Result<String> {
    let relative = link.strip_prefix(b"/").unwrap_or(link);
    clean_path(relative)
        .with_context(|| format!("its link target `{}`", String::from_utf8_lossy(link)))
}

fn attributes(member: &Member) -> Result<Attributes> {
    let id = |id: u64, what: &str| match u32::try_from(id) {
        Ok(id) if id != u32::MAX => Ok(id),
        _ => bail!("its {what} {id} is out of range"),
    };
    let mut xattrs = Vec::new();
    for (name, value) in member.xattrs.iter().filter(|(name, _)| name != SELINUX) {
        let Ok(name) = std::str::from_utf8(name) else {
            bail!("the name of an extended attribute is not UTF-8");
        };
        if name.is_empty() || name.contains('\0') {
            bail!("the name of an extended attribute is malformed");
        }
        let value = value.iter().map(|byte| format!("{byte:02x}")).collect();
        xattrs.push((name.to_owned(), value));
    }
    Ok(Attributes {
        mode: member.mode,
        uid: id(member.uid, "uid")?,
        gid: id(member.gid, "gid")?,
        xattrs,
    })
}

fn write_file(
    repo: &Repo,
    attributes: &Attributes,
    size: u64,
    mut content: impl Read,
) -> Result<String> {
    let mode = FileType::RegularFile.as_raw_mode() | attributes.mode;
    let (uid, gid) = (attributes.uid, attributes.gid);
    let xattrs = xattrs_variant(&attributes.xattrs)?;
    if size <= SMALL {
        let mut data = Vec::new();
        content.read_to_end(&mut data)?;
        let object = repo
            .write_regfile_inline(
                None,
                uid,
                gid,
                mode,
                Some(&xattrs),
                &data,
                gio::Cancellable::NONE,
            )
            .context("writing the file")?;
        return Ok(object.into());
    }
    let writer = repo
        .write_regfile(None, uid, gid, mode, size, Some(&xattrs))
        .context("writing the file")?;
    let mut stream = writer.into_write();
    copy(&mut content, &mut stream)?;
    let writer = stream.into_output_stream();
    Ok(writer
        .finish(gio::Cancellable::NONE)
        .context("writing the file")?
        .into())
}

/// As `io::copy`, with a larger buffer: each piece goes through GObject's stream.
fn copy(from: &mut impl Read, to: &mut impl Write) -> Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => to.write_all(&buffer[..read]).context("writing the file")?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}
