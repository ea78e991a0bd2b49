//! One layer's way into the store: its members become objects, its entries a list, both a commit.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::mpsc::{channel, sync_channel};

use anyhow::{Context, Result, anyhow, bail};
use containers_image_proxy::oci_spec::image::Digest;
use tar::EntryType;

use crate::hash::hex;
use crate::store::archive::{Archive, Content, Member};
use crate::store::entry::{self, Attributes, Entry, Meaning, Node, clean_path};
use crate::store::inflate::{Hashed, inflate};
use crate::store::limits::{Held, Limits};
use crate::store::object::{CHUNK, Meta, SELINUX, Sum};
use crate::store::queue::{self, Batch, Job, Piece, Queue};

/// Files up to this size are held whole, larger ones go to their writer in pieces.
const SMALL: u64 = 1024 * 1024;

/// Pieces of a large file that wait for their writer.
const PIECES: usize = 4;

/// Room for a piece.
const ROOM: usize = 2 * CHUNK;

/// The most that Linux takes as the value of an extended attribute, xattr(7).
const LONGEST_XATTR: usize = 64 * 1024;

/// What the error of a layer with a file in one of tar's sparse forms says: they are not read.
pub(crate) const SPARSE: &str = "sparse files are not supported";

/// What the error of a layer says that ended because of another's: the reason is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Elsewhere;

impl std::fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("another file could not be written")
    }
}

/// What a layer holds.
#[derive(Debug, Default)]
pub(crate) struct Layer {
    pub(crate) entries: Vec<Entry>,
    /// Paths of devices, FIFOs and sockets: OSTree has no objects for them.
    pub(crate) skipped: Vec<String>,
}

/// Reads a layer's blob to its end, hands its files to the writers, waits for them, and checks the diff_id.
///
/// A layer that asks for more than the limits is refused.
pub(crate) fn read(
    queue: &Queue,
    blob: impl Read,
    diff_id: &Digest,
    limits: &Limits,
) -> Result<Layer> {
    // Hashed in large pieces, whatever the archive's headers ask for.
    let hashed = Hashed::new(inflate(blob)?, diff_id, limits.layer())?;
    let stream = BufReader::with_capacity(CHUNK, hashed);
    let mut archive = Archive::new(stream);
    let (done, written) = channel();
    let mut reading = Reading {
        queue,
        batch: Batch::new(done),
        held: limits.list(),
        layer: Layer::default(),
    };
    let read = reading.all(&mut archive);
    let Reading {
        batch,
        held,
        mut layer,
        ..
    } = reading;
    drop(batch);
    // What cannot be written is told before what cannot be read: that may be the reason.
    for (place, checksum) in written.into_iter().flatten() {
        let checksum = checksum.with_context(|| label(&layer.entries[place]))?;
        if let Node::File { object, .. } | Node::Symlink { object, .. } =
            &mut layer.entries[place].node
        {
            *object = checksum;
        }
    }
    read?;
    archive.into_inner().into_inner().verify()?;
    held.keep();
    Ok(layer)
}

/// A layer being read.
struct Reading<'a> {
    queue: &'a Queue,
    /// Files that are not in the queue yet.
    batch: Batch,
    /// What `layer` takes.
    held: Held<'a>,
    layer: Layer,
}

impl Reading<'_> {
    fn all(&mut self, archive: &mut Archive<impl BufRead>) -> Result<()> {
        while let Some(member) = archive.next_member()? {
            self.add(&member, archive.content())
                .with_context(|| member.label())?;
        }
        self.put_batch()
    }

    fn add(&mut self, member: &Member, content: Content<impl BufRead>) -> Result<()> {
        let place = self.layer.entries.len();
        let (path, node) = match entry::meaning(clean_path(&member.path)?)? {
            Meaning::Nothing => return Ok(()),
            Meaning::Whiteout(path) => (path, Node::Whiteout),
            Meaning::Opaque(path) => (path, Node::Opaque),
            Meaning::Plain(path) => {
                let Some(node) = node(member)? else {
                    self.held.add(size_of::<String>() + path.len())?;
                    self.layer.skipped.push(path);
                    return Ok(());
                };
                (path, node)
            }
        };
        let meta = node.meta()?;
        let entry = Entry { path, node };
        self.held.add(entry.memory())?;
        self.layer.entries.push(entry);
        match meta {
            Some(meta) if meta.target.is_none() => self.file(place, meta, member.size, content),
            Some(meta) => self.put(place, meta, queue::Content::Whole(Vec::new())),
            None => Ok(()),
        }
    }

    fn file(
        &mut self,
        place: usize,
        meta: Meta,
        size: u64,
        mut content: Content<impl BufRead>,
    ) -> Result<()> {
        if size <= SMALL {
            let mut whole = Vec::with_capacity(usize::try_from(size)?);
            content.append_to(&mut whole, size)?;
            return self.put(place, meta, queue::Content::Whole(whole));
        }
        let (pieces, writer) = sync_channel(PIECES);
        self.put(place, meta, queue::Content::Pieces(size, writer))?;
        let (back, empty) = channel();
        loop {
            let mut room: Vec<u8> = empty.try_recv().unwrap_or_default();
            room.resize(ROOM, 0);
            let length = fill(&mut room, &mut content)?;
            if length == 0 {
                return Ok(());
            }
            let back = back.clone();
            if pieces.send(Piece { room, length, back }).is_err() {
                return Err(io::Error::other("its writer has stopped").into());
            }
        }
    }

    fn put(&mut self, place: usize, meta: Meta, content: queue::Content) -> Result<()> {
        let job = Job {
            meta,
            content,
            place,
        };
        if self.batch.add(job) {
            return self.put_batch();
        }
        Ok(())
    }

    fn put_batch(&mut self) -> Result<()> {
        if self.batch.is_empty() || self.queue.put(self.batch.take()) {
            return Ok(());
        }
        Err(anyhow!(Elsewhere))
    }
}

/// Fills room with content while there is place for what is read at once, so that it need not be copied; how much.
fn fill(room: &mut [u8], content: &mut impl Read) -> io::Result<usize> {
    let mut filled = 0;
    while room.len() - filled >= CHUNK {
        match content.read(&mut room[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The entry as errors name it.
fn label(entry: &Entry) -> String {
    format!("entry `{}`", entry.path)
}

/// What the member is, its object still to be written; `None` for what cannot be stored.
fn node(member: &Member) -> Result<Option<Node>> {
    let object = Sum::default();
    Ok(Some(match member.kind {
        EntryType::Regular | EntryType::Continuous => Node::File {
            object,
            attributes: attributes(member)?,
        },
        EntryType::Directory => Node::Dir(attributes(member)?),
        EntryType::Symlink => symlink(member)?,
        EntryType::Link => Node::Hardlink {
            target: hardlink_target(&member.link)?,
        },
        EntryType::Char | EntryType::Block | EntryType::Fifo => return Ok(None),
        EntryType::GNUSparse => bail!(SPARSE),
        other => bail!(
            "its tar type `{}` is not known",
            char::from(other.as_byte())
        ),
    }))
}

fn symlink(member: &Member) -> Result<Node> {
    let mut attributes = attributes(member)?;
    // Linux gives every symbolic link this mode.
    attributes.mode = 0o777;
    let Ok(target) = std::str::from_utf8(&member.link) else {
        bail!("its target is not UTF-8");
    };
    if target.is_empty() || target.len() > 4095 || target.contains('\0') {
        bail!("its target is no path");
    }
    Ok(Node::Symlink {
        object: Sum::default(),
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
        if value.len() > LONGEST_XATTR {
            bail!("its extended attribute `{name}` is longer than Linux allows");
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

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use ostree::{Repo, RepoMode, gio};
    use tar::{Builder, Header};

    use super::*;
    use crate::store::commit;
    use crate::store::merge::Tree;
    use crate::store::objects::Objects;
    use crate::store::queue::with_writers;

    /// An empty repository.
    fn repo() -> (tempfile::TempDir, Objects) {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repo::new_for_path(dir.path());
        repo.create(RepoMode::Bare, gio::Cancellable::NONE).unwrap();
        let objects = Objects::open(dir.path()).unwrap();
        (dir, objects)
    }

    fn read_blob(blob: &[u8], diff_id: &str) -> Result<Layer> {
        let (_dir, objects) = repo();
        let diff_id = Digest::from_str(diff_id).unwrap();
        let limits = Limits::new(u64::MAX);
        let layer = with_writers(&objects, 2, |queue| read(queue, blob, &diff_id, &limits))?;
        Tree::default().apply(&layer.entries)?;
        commit::layer(&objects, &layer, &diff_id)?;
        Ok(layer)
    }

    /// Reads an archive as a layer whose diff_id is right.
    fn read_archive(archive: &[u8]) -> Result<Layer> {
        read_blob(
            archive,
            &format!("sha256:{}", hex(&crate::hash::sha256(archive))),
        )
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
            (
                1024 + 512 + 600,
                "entry `g`: the layer ends before its archive does",
            ),
        ] {
            let found = format!("{:#}", read_archive(&whole[..length]).unwrap_err());
            assert_eq!(found, error, "{length}");
        }
        // What is missing is padding, or the end's mark.
        for length in [700, 1024, 1024 + 512 + 2000] {
            read_archive(&whole[..length]).unwrap();
        }
        let noise = [b'x'; 1024];
        let error = format!("{:#}", read_archive(&noise).unwrap_err());
        assert_eq!(error, "no tar header where one must be");
    }

    #[test]
    fn another_content_than_the_config_says_is_refused() {
        let diff_id = format!("sha256:{}", "0".repeat(64));
        let bytes = archive(&[file(b"f")]);
        let error = read_blob(&bytes, &diff_id).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "its content has the diff_id sha256:{}, the image's config says {diff_id}",
                hex(&crate::hash::sha256(&bytes))
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
