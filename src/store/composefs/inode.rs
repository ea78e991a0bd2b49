//! One inode of an EROFS image: its header, its extended attributes, and what lies behind it.

use anyhow::{Context, Result, anyhow};
use rustix::fs::FileType;

use crate::store::composefs::erofs::{BLOCK, Content, Node, SLOT};

/// The offset of every inode, by index.
pub(crate) type Placed = Vec<usize>;

/// `struct erofs_inode_extended`.
const HEADER: usize = 64;
/// `struct erofs_xattr_ibody_header`.
const XATTR_HEADER: usize = 12;
/// The most that a directory keeps behind its inode: more would leave holes between inodes.
const DIR_TAIL: usize = BLOCK / 2;
const DIRENT: usize = 12;

/// `EROFS_INODE_FLAT_PLAIN` and its like, as bits of `i_format`; all inodes are extended ones (bit 0).
const PLAIN: u16 = 1;
const INLINE: u16 = 2 << 1 | 1;
const CHUNKED: u16 = 4 << 1 | 1;
/// `EROFS_NULL_ADDR`: a chunk that is a hole.
const HOLE: [u8; 4] = [0xff; 4];

/// The prefixes of names that the format has numbers for; a POSIX ACL's is the whole name.
const PREFIXES: [(&[u8], u8); 5] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
];

/// A directory entry: name, index of its inode, mode.
type Entry = (Vec<u8>, usize, u32);

/// An inode, as far as it can be known before the inodes are placed.
pub(crate) struct Inode {
    mode: u32,
    uid: u32,
    gid: u32,
    links: u32,
    length: u64,
    /// In the format's form; empty when there are none.
    xattrs: Vec<u8>,
    body: Body,
}

enum Body {
    /// The entries, cut into blocks; the last piece lies behind the inode if `tail`.
    Dir { pieces: Vec<Vec<Entry>>, tail: bool },
    /// A target that lies behind the inode if `tail`.
    Link { target: Vec<u8>, tail: bool },
    /// One chunk, as long as the file or longer, of this many bits beyond a block's.
    Hole { bits: u32 },
    /// No content.
    Empty,
}

impl Inode {
    pub(crate) fn new(node: &Node, entries: Vec<Entry>) -> Result<Self> {
        let xattrs = xattrs(&node.xattrs)?;
        let room = BLOCK - HEADER - xattrs.len().min(BLOCK - HEADER);
        let is_dir = |entry: &&Entry| FileType::from_raw_mode(entry.2) == FileType::Directory;
        let (body, length, links) = match &node.content {
            Content::Dir(_) => {
                // `.` and `..` are the two links that a directory has without any in it.
                let links = u32::try_from(entries.iter().filter(is_dir).count())?;
                let pieces = cut(entries);
                let last = pieces.last().map_or(0, |piece| piece_size(piece));
                let length = (pieces.len().saturating_sub(1) * BLOCK + last) as u64;
                let tail = last <= room.min(DIR_TAIL);
                (Body::Dir { pieces, tail }, length, links)
            }
            Content::Link(target) => {
                let (target, tail) = (target.clone(), target.len() <= room);
                let length = target.len() as u64;
                (Body::Link { target, tail }, length, 1)
            }
            Content::File(0) => (Body::Empty, 0, 1),
            Content::File(length) => {
                let bits = length.next_power_of_two().ilog2();
                let bits = bits.saturating_sub(BLOCK.ilog2());
                (Body::Hole { bits }, *length, 1)
            }
        };
        Ok(Self {
            mode: node.mode,
            uid: node.uid,
            gid: node.gid,
            links,
            length,
            xattrs,
            body,
        })
    }

    /// Whether what lies behind it must lie in the same block.
    pub(crate) fn must_not_cross(&self) -> bool {
        self.tail() > 0 && !matches!(self.body, Body::Hole { .. })
    }

    /// Its bytes among the inodes.
    pub(crate) fn size(&self) -> usize {
        HEADER + self.xattrs.len() + self.tail()
    }

    /// How many blocks it has beside.
    pub(crate) fn blocks(&self) -> usize {
        match &self.body {
            Body::Dir { pieces, tail } => pieces.len() - usize::from(*tail),
            Body::Link { tail: false, .. } => 1,
            _ => 0,
        }
    }

    fn tail(&self) -> usize {
        match &self.body {
            Body::Dir { pieces, tail: true } => pieces.last().map_or(0, |piece| piece_size(piece)),
            Body::Link { target, tail: true } => target.len(),
            Body::Hole { .. } => HOLE.len(),
            _ => 0,
        }
    }

    /// Writes it into the image, its blocks from `blocks` on.
    pub(crate) fn write(
        &self,
        image: &mut [u8],
        index: usize,
        placed: &Placed,
        blocks: usize,
    ) -> Result<()> {
        let at = placed.get(index).context("an inode has no place")?;
        let header = self.header(index, blocks)?;
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        put(*at, &header);
        put(at + HEADER, &self.xattrs);
        let behind = at + HEADER + self.xattrs.len();
        match &self.body {
            Body::Dir { pieces, tail } => {
                for (number, piece) in pieces.iter().enumerate() {
                    let last = number + 1 == pieces.len();
                    let at = if last && *tail {
                        behind
                    } else {
                        blocks + number * BLOCK
                    };
                    put(at, &dir_block(piece, placed)?);
                }
            }
            Body::Link { target, tail: true } => put(behind, target),
            Body::Link { target, .. } => put(blocks, target),
            Body::Hole { .. } => put(behind, &HOLE),
            Body::Empty => {}
        }
        Ok(())
    }

    fn header(&self, index: usize, blocks: usize) -> Result<[u8; HEADER]> {
        let (format, union) = match &self.body {
            Body::Dir { tail: true, .. } | Body::Link { tail: true, .. } => {
                (INLINE, blocks / BLOCK)
            }
            Body::Dir { .. } | Body::Link { .. } => (PLAIN, blocks / BLOCK),
            Body::Hole { bits } => (CHUNKED, *bits as usize),
            Body::Empty => (PLAIN, 0),
        };
        let xattr_count = match self.xattrs.len() {
            0 => 0,
            size => (size - XATTR_HEADER) / 4 + 1,
        };
        let mut header = [0; HEADER];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &format.to_le_bytes());
        put(2, &u16::try_from(xattr_count)?.to_le_bytes());
        put(4, &u16::try_from(self.mode)?.to_le_bytes());
        put(8, &self.length.to_le_bytes());
        put(16, &u32::try_from(union)?.to_le_bytes());
        put(20, &u32::try_from(index + 1)?.to_le_bytes());
        put(24, &self.uid.to_le_bytes());
        put(28, &self.gid.to_le_bytes());
        put(44, &self.links.to_le_bytes());
        Ok(header)
    }
}

/// The extended attributes as they lie behind an inode's header.
fn xattrs(pairs: &[(Vec<u8>, Vec<u8>)]) -> Result<Vec<u8>> {
    if pairs.is_empty() {
        return Ok(Vec::new());
    }
    let mut bytes = vec![0; XATTR_HEADER];
    for (name, value) in pairs {
        let shown = || format!("the extended attribute `{}`", String::from_utf8_lossy(name));
        let known = PREFIXES
            .iter()
            .find_map(|(prefix, number)| Some((name.strip_prefix(*prefix)?, *number)));
        let (suffix, number) =
            known.ok_or_else(|| anyhow!("{} has a prefix that is not known", shown()))?;
        bytes.push(u8::try_from(suffix.len()).with_context(shown)?);
        bytes.push(number);
        bytes.extend_from_slice(
            &u16::try_from(value.len())
                .with_context(shown)?
                .to_le_bytes(),
        );
        bytes.extend_from_slice(suffix);
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    Ok(bytes)
}

/// Cuts entries into pieces of at most a block; each is searched by itself.
fn cut(entries: Vec<Entry>) -> Vec<Vec<Entry>> {
    let mut pieces: Vec<Vec<Entry>> = Vec::new();
    let mut free = 0;
    for entry in entries {
        let size = DIRENT + entry.0.len();
        match pieces.last_mut() {
            Some(piece) if size <= free => piece.push(entry),
            _ => {
                pieces.push(vec![entry]);
                free = BLOCK;
            }
        }
        free -= size;
    }
    pieces
}

fn piece_size(piece: &[Entry]) -> usize {
    piece.iter().map(|(name, ..)| DIRENT + name.len()).sum()
}

/// `struct erofs_dirent` of each entry, then the names.
fn dir_block(piece: &[Entry], placed: &Placed) -> Result<Vec<u8>> {
    let mut block = Vec::with_capacity(piece_size(piece));
    let mut name_at = piece.len() * DIRENT;
    for (name, index, mode) in piece {
        let at = placed.get(*index).context("an entry has no inode")?;
        block.extend_from_slice(&((at / SLOT) as u64).to_le_bytes());
        block.extend_from_slice(&u16::try_from(name_at)?.to_le_bytes());
        block.extend_from_slice(&[kind(*mode), 0]);
        name_at += name.len();
    }
    for (name, ..) in piece {
        block.extend_from_slice(name);
    }
    Ok(block)
}

/// `enum erofs_ftype`, which is readdir(3)'s.
fn kind(mode: u32) -> u8 {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => 1,
        FileType::Directory => 2,
        FileType::Symlink => 7,
        _ => 0,
    }
}
