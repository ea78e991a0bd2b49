//! One layer's way into the repository: its members become objects, its entries a list, both a commit.

use std::io::{self, Read};

use anyhow::{Context, Result, bail};
use containers_image_proxy::oci_spec::image::Digest;
use ostree::gio::{self, prelude::Cast, prelude::OutputStreamExtManual};
use ostree::{ContentWriter, MutableTree, Repo, RepoFile};
use rustix::fs::FileType;
use tar::EntryType;

use crate::image::hex;
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
///
/// A layer that unpacks to more than `limit` bytes is refused.
pub(crate) fn read(repo: &Repo, blob: impl Read, diff_id: &Digest, limit: u64) -> Result<Layer> {
    let mut archive = Archive::new(Hashed::new(inflate(blob)?, diff_id, limit)?);
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
            Meaning::Plain(path) => {
                let Some(node) = node(repo, member, content)? else {
                    self.skipped.push(path);
                    return Ok(());
                };
                (path, node)
            }
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
        xattrs.push((name.to_owned(), hex(value)));
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
    copy(&mut content, &writer)?;
    Ok(writer
        .finish(gio::Cancellable::NONE)
        .context("writing the file")?
        .into())
}

/// As `io::copy`, with a larger buffer (each piece goes through GObject's stream) and libostree's own errors.
fn copy(from: &mut impl Read, to: &ContentWriter) -> Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => {
                let (_, error) = to
                    .write_all(&buffer[..read], gio::Cancellable::NONE)
                    .context("writing the file")?;
                if let Some(error) = error {
                    return Err(error).context("writing the file");
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use ostree::RepoMode;
    use tar::{Builder, Header};

    use super::*;

    fn repo() -> (tempfile::TempDir, Repo) {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repo::new_for_path(dir.path());
        repo.create(RepoMode::Bare, gio::Cancellable::NONE).unwrap();
        repo.set_disable_fsync(true);
        (dir, repo)
    }

    /// Reads an archive as a layer whose diff_id is right.
    fn read_archive(archive: &[u8]) -> Result<Layer> {
        let (_dir, repo) = repo();
        let transaction = repo.auto_transaction(gio::Cancellable::NONE).unwrap();
        let diff_id = format!("sha256:{}", hex(&openssl::sha::sha256(archive)));
        let diff_id = Digest::from_str(&diff_id).unwrap();
        let layer = read(&repo, archive, &diff_id, u64::MAX)?;
        commit(&repo, &layer, &diff_id)?;
        transaction.commit(gio::Cancellable::NONE).unwrap();
        Ok(layer)
    }

    /// A header with the name as it is: the `tar` crate would refuse to write the hostile ones.
    fn header(kind: EntryType, name: &[u8], link: &[u8], size: u64) -> Header {
        let mut header = Header::new_ustar();
        let ustar = header.as_ustar_mut().unwrap();
        ustar.name[..name.len()].copy_from_slice(name);
        ustar.linkname[..link.len()].copy_from_slice(link);
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(size);
        header.set_cksum();
        header
    }

    fn archive(members: &[(Header, &[u8])]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (header, content) in members {
            builder.append(header, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn file(name: &[u8]) -> (Header, &'static [u8]) {
        (header(EntryType::Regular, name, b"", 1), b"x")
    }

    fn pax(records: &[u8]) -> (Header, &[u8]) {
        let size = records.len() as u64;
        (header(EntryType::XHeader, b"pax", b"", size), records)
    }

    /// A PAX record; its length counts itself.
    fn record(text: &[u8]) -> Vec<u8> {
        let rest = text.len() + 2;
        let length = (rest..rest + 9)
            .find(|n| *n == rest + n.to_string().len())
            .unwrap();
        [format!("{length} ").as_bytes(), text, b"\n"].concat()
    }

    fn refuse(members: &[(Header, &[u8])], error: &str) {
        let found = format!("{:#}", read_archive(&archive(members)).unwrap_err());
        assert_eq!(found, error);
    }

    #[test]
    fn hostile_names_are_refused() {
        use EntryType as T;
        let dir = |name| (header(T::Directory, name, b"", 0), &b""[..]);
        let link = |name, to| (header(T::Symlink, name, to, 0), &b""[..]);
        for (members, error) in [
            (
                vec![file(b"a/../b")],
                "entry `a/../b`: its name has a `..` component",
            ),
            (
                vec![file(b"/etc/x")],
                "entry `/etc/x`: its name is absolute",
            ),
            (
                vec![file(b"caf\xe9")],
                "entry `caf\u{fffd}`: its name is not UTF-8",
            ),
            (
                vec![link(b"a", b"/"), file(b"a/b")],
                "entry `a/b`: its parent `a` is a symbolic link",
            ),
            (
                vec![dir(b"d/"), link(b"d/a", b".."), dir(b"d/a/b/c")],
                "entry `d/a/b/c`: its parent `d/a` is a symbolic link",
            ),
            (
                vec![file(b"a"), file(b"a/b")],
                "entry `a/b`: its parent `a` is a file",
            ),
            (
                vec![link(b"./", b"x")],
                "entry ``: the root must be a directory",
            ),
            (
                vec![(header(T::Link, b"l", b"../x", 0), b"")],
                "entry `l`: its link target `../x`: its name has a `..` component",
            ),
            (
                vec![(header(T::Symlink, b"l", b"", 0), b"")],
                "entry `l`: its target is no path",
            ),
            (
                vec![file(b"d/.wh...")],
                "entry `d/.wh...`: it is a whiteout of nothing",
            ),
        ] {
            refuse(&members, error);
        }
    }

    #[test]
    fn hostile_fields_are_refused() {
        use EntryType as T;
        let mut negative = header(T::Regular, b"f", b"", 0);
        negative.as_old_mut().size = [0xff; 12];
        negative.set_cksum();
        let mut owner = header(T::Regular, b"f", b"", 0);
        owner.set_uid(u64::from(u32::MAX) + 1);
        owner.set_cksum();
        for (members, error) in [
            (
                vec![(negative, &b""[..])],
                "entry `f`: its size is malformed",
            ),
            (
                vec![(owner, b"")],
                "entry `f`: its uid 4294967296 is out of range",
            ),
            (
                vec![pax(&record(b"size=99999999999999999999")), file(b"f")],
                "entry `f`: its size is malformed",
            ),
            (
                vec![pax(&record(b"size=9223372036854775807")), file(b"f")],
                "entry `f`: its size is malformed",
            ),
            (
                vec![pax(b"999 path=x\n"), file(b"f")],
                "its PAX header is malformed",
            ),
            (
                vec![pax(&record(b"GNU.sparse.major=1")), file(b"f")],
                "entry `f`: sparse files are not supported",
            ),
            (
                vec![(header(T::XHeader, b"p", b"", 1 << 32), b"")],
                "an extension header of 4294967296 bytes; at most 1048576 are read",
            ),
            (
                vec![(header(T::new(b'N'), b"x", b"", 0), b"")],
                "entry `x`: its tar type `N` is not known",
            ),
        ] {
            refuse(&members, error);
        }
    }

    #[test]
    fn nothing_is_allocated_by_what_a_size_field_says() {
        // An exbibyte: no disk has it.
        let size = record(b"size=1152921504606846976");
        refuse(
            &[pax(&size), file(b"f")],
            "entry `f`: the layer ends before its archive does",
        );
    }

    #[test]
    fn a_truncated_layer_is_refused() {
        let whole = archive(&[
            file(b"f"),
            (header(EntryType::Regular, b"g", b"", 2000), &[7; 2000]),
        ]);
        for (length, error) in [
            (100, "the layer ends before its archive does"),
            (512, "entry `f`: the layer ends before its archive does"),
            (700, "the layer ends before its archive does"),
            (
                1024 + 512 + 600,
                "entry `g`: the layer ends before its archive does",
            ),
        ] {
            let found = format!("{:#}", read_archive(&whole[..length]).unwrap_err());
            assert_eq!(found, error, "{length}");
        }
        let noise = [b'x'; 1024];
        let error = format!("{:#}", read_archive(&noise).unwrap_err());
        assert_eq!(error, "no tar header where one must be");
    }

    #[test]
    fn another_content_than_the_config_says_is_refused() {
        let (_dir, repo) = repo();
        let _transaction = repo.auto_transaction(gio::Cancellable::NONE).unwrap();
        let diff_id = format!("sha256:{}", "0".repeat(64));
        let bytes = archive(&[file(b"f")]);
        let error = read(
            &repo,
            &bytes[..],
            &Digest::from_str(&diff_id).unwrap(),
            u64::MAX,
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "its content has the diff_id sha256:{}, the image's config says {diff_id}",
                hex(&openssl::sha::sha256(&bytes))
            )
        );
    }

    #[test]
    fn names_and_attributes_are_read_in_every_form() {
        let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
        let gnu = [long.as_bytes(), b"\0"].concat();
        let gnu_link = header(EntryType::GNULongLink, b"l", b"", gnu.len() as u64);
        let gnu_name = header(EntryType::GNULongName, b"n", b"", gnu.len() as u64);
        let records = [
            record(b"path=p/q"),
            record(b"uid=300000"),
            record(b"SCHILY.xattr.user.a=\n\0=x y\n"),
            record(b"SCHILY.xattr.security.selinux=no"),
        ]
        .concat();
        let mut setuid = header(EntryType::Regular, b"ignored", b"", 0);
        setuid.set_mode(0o104_755);
        setuid.set_cksum();
        let layer = read_archive(&archive(&[
            (
                header(EntryType::XGlobalHeader, b"g", b"", 14),
                b"14 comment=ab\n",
            ),
            (gnu_name, &gnu),
            file(b"cut"),
            (gnu_link, &gnu),
            (header(EntryType::Link, b"hard", b"cut", 0), b""),
            pax(&records),
            (setuid, b""),
            (header(EntryType::Char, b"dev/null", b"", 0), b""),
            (header(EntryType::Regular, b"old-dir/", b"", 0), b""),
        ]))
        .unwrap();
        assert_eq!(layer.skipped, ["dev/null"]);
        let paths: Vec<_> = layer.entries.iter().map(|e| e.path.as_str()).collect();
        assert_eq!(paths, [long.as_str(), "hard", "p/q", "old-dir"]);
        assert_eq!(
            layer.entries[1].node,
            Node::Hardlink {
                target: long.clone()
            }
        );
        let Node::File { attributes, .. } = &layer.entries[2].node else {
            panic!("no file: {:?}", layer.entries[2]);
        };
        let expected = Attributes {
            mode: 0o4755,
            uid: 300_000,
            gid: 0,
            xattrs: vec![("user.a".into(), "0a003d7820790a".into())],
        };
        assert_eq!(*attributes, expected);
        assert!(matches!(layer.entries[3].node, Node::Dir(_)));
    }
}
