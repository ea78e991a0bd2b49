//! A tree as an EROFS image: directories, links and what overlayfs must know of each file; no content.
//!
//! The layout (linux, fs/erofs/erofs_fs.h): a superblock at byte 1024, then the inodes, each with its extended
//! attributes and, where it fits, its directory entries or link target behind it; then the blocks of what did not fit.
//! A file is a hole as long as its content, with the attributes by which overlayfs finds the content (`metacopy`,
//! `redirect`). Equal trees are equal images.

use std::collections::{BTreeMap, VecDeque};

use anyhow::{Result, bail};

use crate::store::composefs::inode::{Inode, Placed};

pub(crate) const BLOCK: usize = 4096;
const SUPERBLOCK: usize = 1024;
const SUPERBLOCK_SIZE: usize = 128;
const MAGIC: u32 = 0xE0F5_E1E2;
/// `EROFS_FEATURE_INCOMPAT_CHUNKED_FILE`: files are holes.
const CHUNKED_FILE: u32 = 4;
/// An inode's number is its position in units of this.
pub(crate) const SLOT: usize = 32;

/// A file, link or directory of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// With the type of the file, as `st_mode` has it.
    pub(crate) mode: u32,
    /// Sorted by name; overlayfs's own among them.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) content: Content,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// Further nodes by name.
    Dir(BTreeMap<Vec<u8>, Node>),
    /// The target of a symbolic link.
    Link(Vec<u8>),
    /// The length of a file.
    File(u64),
}

/// Writes the image of the tree whose root directory is `root`.
pub(crate) fn image(root: &Node) -> Result<Vec<u8>> {
    let inodes = inodes(root)?;
    let (placed, inodes_end) = place(&inodes);
    let blocks_start = inodes_end.next_multiple_of(BLOCK);
    let blocks: usize = inodes.iter().map(Inode::blocks).sum();
    let mut image = vec![0; blocks_start + blocks * BLOCK];
    let mut free = blocks_start;
    for (index, inode) in inodes.iter().enumerate() {
        inode.write(&mut image, index, &placed, free)?;
        free += inode.blocks() * BLOCK;
    }
    let superblock = superblock(inodes.len(), image.len(), &placed)?;
    image[SUPERBLOCK..SUPERBLOCK + SUPERBLOCK_SIZE].copy_from_slice(&superblock);
    Ok(image)
}

/// Every node as an inode, the root first: its number must fit 16 bits.
fn inodes(root: &Node) -> Result<Vec<Inode>> {
    let mut inodes = Vec::new();
    // A node with the index of its directory's inode.
    let mut waiting = VecDeque::from([(root, 0)]);
    let mut known = 1;
    while let Some((node, parent)) = waiting.pop_front() {
        let index = inodes.len();
        let mut entries = Vec::new();
        if let Content::Dir(children) = &node.content {
            for (name, child) in children {
                check_name(name)?;
                entries.push((name.clone(), known, child.mode));
                waiting.push_back((child, index));
                known += 1;
            }
            entries.push((b".".to_vec(), index, node.mode));
            entries.push((b"..".to_vec(), parent, node.mode));
            // The kernel searches them by bisection.
            entries.sort();
        }
        inodes.push(Inode::new(node, entries)?);
    }
    Ok(inodes)
}

fn check_name(name: &[u8]) -> Result<()> {
    let plain = !name.is_empty() && name != b"." && name != b".." && name.len() <= 255;
    if !plain || name.contains(&b'/') || name.contains(&0) {
        bail!(
            "`{}` is no name of a file",
            String::from_utf8_lossy(name).escape_debug()
        );
    }
    Ok(())
}

/// Where each inode lies, and where the last one ends. What lies behind an inode must not cross into another block.
fn place(inodes: &[Inode]) -> (Placed, usize) {
    let mut at = SUPERBLOCK + SUPERBLOCK_SIZE;
    let mut placed = Vec::with_capacity(inodes.len());
    for inode in inodes {
        at = at.next_multiple_of(SLOT);
        if inode.must_not_cross() && at % BLOCK + inode.size() > BLOCK {
            at = at.next_multiple_of(BLOCK);
        }
        placed.push(at);
        at += inode.size();
    }
    (placed, at)
}

fn superblock(inodes: usize, size: usize, placed: &Placed) -> Result<[u8; SUPERBLOCK_SIZE]> {
    let root = placed.first().map_or(0, |at| at / SLOT);
    let mut block = [0; SUPERBLOCK_SIZE];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &MAGIC.to_le_bytes());
    put(12, &[u8::try_from(BLOCK.ilog2())?]);
    put(14, &u16::try_from(root)?.to_le_bytes());
    put(16, &u64::try_from(inodes)?.to_le_bytes());
    put(36, &u32::try_from(size / BLOCK)?.to_le_bytes());
    put(80, &CHUNKED_FILE.to_le_bytes());
    Ok(block)
}
