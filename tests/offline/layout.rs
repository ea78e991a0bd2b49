//! Images as OCI layouts, written blob by blob: so the broken ones can be made as well.

use std::borrow::Borrow;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;
use tar::{EntryType, Header};

use crate::pieces::{CONFIG, HERE, LAYER, MANIFEST, begin, blob, digest, gzip};

/// A manifest of the contract that is complete and asks for nothing.
pub(crate) const PLAIN: &str = "contract = 1\ndescription = \"A test\"\n";

/// An image on its way: tar members in one layer, those of others below it, `sleep` as its command.
#[derive(Clone, Default)]
pub(crate) struct Image {
    members: Vec<Member>,
    lower: Vec<Image>,
}

#[derive(Clone)]
struct Member {
    path: String,
    kind: EntryType,
    mode: u32,
    link: String,
    owner: u64,
    content: Vec<u8>,
    /// Records of an extended header before it, as pax has them.
    records: Vec<u8>,
}

/// An image that lies on disk.
#[derive(Clone)]
pub(crate) struct Layout {
    /// The directory.
    pub(crate) dir: PathBuf,
    /// `oci:DIR:latest`.
    pub(crate) reference: String,
    /// Digest of the manifest.
    pub(crate) digest: String,
    /// Digest of the uppermost layer's blob.
    pub(crate) layer: String,
    /// Digests of all layers' blobs, lowest first.
    pub(crate) layers: Vec<String>,
    /// Digest of that layer's tar stream.
    pub(crate) diff_id: String,
}

impl Image {
    /// An image without a contract.
    pub(crate) fn bare() -> Self {
        Self::default()
            .file("bin/sleep", "not really a program\n")
            .file("etc/passwd", "root:x:0:0::/:/bin/sh\n")
    }

    /// An image with a contract of this manifest.
    pub(crate) fn new(manifest: &str) -> Self {
        Self::bare().file("exports/manifest.toml", manifest)
    }

    /// Puts the layers of another image below those that are there.
    pub(crate) fn over(mut self, lower: &Self) -> Self {
        // Without what lies below each of them: that would be there again for every layer above.
        let alone = |layer: &Self| Self {
            lower: Vec::new(),
            ..layer.clone()
        };
        self.lower.splice(..0, lower.layers().map(alone));
        self
    }

    /// Its layers as images of one, lowest first.
    fn layers(&self) -> impl Iterator<Item = &Self> {
        self.lower.iter().chain([self])
    }

    /// Adds a file.
    pub(crate) fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.member(path, EntryType::Regular, content.as_ref())
    }

    /// Adds a symbolic link.
    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.link(EntryType::Symlink, path, target)
    }

    /// Adds a hard link.
    pub(crate) fn hardlink(self, path: &str, target: &str) -> Self {
        self.link(EntryType::Link, path, target)
    }

    /// Adds a FIFO.
    pub(crate) fn fifo(self, path: &str) -> Self {
        self.member(path, EntryType::Fifo, b"")
    }

    fn link(mut self, kind: EntryType, path: &str, target: &str) -> Self {
        self = self.member(path, kind, b"");
        if let Some(member) = self.members.last_mut() {
            target.clone_into(&mut member.link);
        }
        self
    }

    /// Adds a directory with these permission bits and this owner.
    pub(crate) fn dir(mut self, path: &str, mode: u32, owner: u64) -> Self {
        self = self.member(path, EntryType::Directory, b"");
        if let Some(member) = self.members.last_mut() {
            (member.mode, member.owner) = (mode, owner);
        }
        self
    }

    /// Gives what was added last an extended attribute.
    pub(crate) fn xattr(mut self, name: &str, value: &str) -> Self {
        if let Some(member) = self.members.last_mut() {
            let rest = format!(" SCHILY.xattr.{name}={value}\n");
            // Its length counts as well: two digits of it.
            let record = format!("{}{rest}", rest.len() + 2);
            member.records.extend_from_slice(record.as_bytes());
        }
        self
    }

    fn member(mut self, path: &str, kind: EntryType, content: &[u8]) -> Self {
        self.members.push(Member {
            path: path.to_owned(),
            kind,
            mode: if path.starts_with("bin/") {
                0o755
            } else {
                0o644
            },
            link: String::new(),
            owner: 0,
            content: content.to_owned(),
            records: Vec::new(),
        });
        self
    }

    /// Writes the layout; the directory's name is what the container will be called.
    pub(crate) fn write(&self, dir: &Path) -> Layout {
        Self::write_each(self.layers(), dir)
    }

    /// The same of layers that need not all be in memory at once, lowest first.
    pub(crate) fn write_each<L: Borrow<Self>>(
        layers: impl Iterator<Item = L>,
        dir: &Path,
    ) -> Layout {
        let layer = |layer: L| {
            let tar = layer.borrow().tar();
            (gzip(&tar), digest(&tar))
        };
        Self::assemble_layers(dir, &layers.map(layer).collect::<Vec<_>>())
    }

    /// As [`Image::write`], over a layer with the members of `lower`, whose digest is returned too.
    pub(crate) fn write_over(&self, lower: &Self, dir: &Path) -> (Layout, String) {
        let (tar, below) = (self.tar(), lower.tar());
        let layers = [(gzip(&below), digest(&below)), (gzip(&tar), digest(&tar))];
        let lower = digest(&layers[0].0);
        (Self::assemble_layers(dir, &layers), lower)
    }

    /// As [`Image::write`], the layer's bytes cut off at `length` of its uncompressed form and compressed then: every
    /// checksum is right, the archive is not whole.
    pub(crate) fn write_cut(&self, dir: &Path, length: usize) -> Layout {
        let tar = &self.tar()[..length];
        Self::assemble(dir, &gzip(tar), &digest(tar))
    }

    /// As [`Image::write`], with the diff_id of another image in its config.
    pub(crate) fn write_as(&self, dir: &Path, other: &Layout) -> Layout {
        Self::assemble(dir, &gzip(&self.tar()), &other.diff_id)
    }

    /// An image whose one layer is this archive.
    pub(crate) fn write_archive(dir: &Path, tar: &[u8]) -> Layout {
        Self::assemble(dir, &gzip(tar), &digest(tar))
    }

    /// As [`Image::write`], the layer compressed with zstd, a checksum at its end as gzip has one.
    pub(crate) fn write_zstd(&self, dir: &Path) -> Layout {
        self.write_spoilt(dir, true, |_| ())
    }

    /// As [`Image::write`], the layer compressed with gzip or zstd and then spoilt: all digests are right.
    pub(crate) fn write_spoilt(
        &self,
        dir: &Path,
        zstd: bool,
        spoil: impl FnOnce(&mut Vec<u8>),
    ) -> Layout {
        let tar = self.tar();
        let mut layer = if zstd {
            let mut encoder = zstd::Encoder::new(Vec::new(), 0).unwrap();
            encoder.include_checksum(true).unwrap();
            encoder.write_all(&tar).unwrap();
            encoder.finish().unwrap()
        } else {
            gzip(&tar)
        };
        spoil(&mut layer);
        Self::assemble(dir, &layer, &digest(&tar))
    }

    /// An image whose one layer has a file of so many zeros, a multiple of 64 MiB. With another diff_id than it should:
    /// to find that takes a reading of all of it.
    pub(crate) fn write_zeros(dir: &Path, path: &str, size: u64) -> Layout {
        const PART: usize = 64 << 20;
        let mut header = Header::new_gnu();
        header.set_path(path).unwrap();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(size);
        header.set_cksum();
        let mut layer = gzip(header.as_bytes());
        // Members of one gzip file are one stream.
        let part = gzip(&vec![0; PART]);
        (0..size / PART as u64).for_each(|_| layer.extend_from_slice(&part));
        Self::assemble(dir, &layer, &digest(b"another"))
    }

    fn assemble(dir: &Path, layer: &[u8], diff_id: &str) -> Layout {
        Self::assemble_layers(dir, &[(layer.to_owned(), diff_id.to_owned())])
    }

    /// The layers with their diff_ids, lowest first; the layout names the uppermost.
    fn assemble_layers(dir: &Path, layers: &[(Vec<u8>, String)]) -> Layout {
        begin(dir);
        let diff_ids: Vec<_> = layers.iter().map(|(_, diff_id)| diff_id).collect();
        let config = json!({
            "architecture": HERE,
            "os": "linux",
            "config": { "Entrypoint": ["/bin/sleep"], "Cmd": ["infinity"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let blobs = layers.iter().map(|(layer, _)| {
            let zstd = layer.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
            let kind = if zstd { "zstd" } else { "gzip" };
            blob(dir, &format!("{LAYER}+{kind}"), layer)
        });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": blob(dir, CONFIG, config.to_string().as_bytes()),
            "layers": blobs.collect::<Vec<_>>(),
        });
        let mut entry = blob(dir, MANIFEST, manifest.to_string().as_bytes());
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": "latest" });
        let index = json!({ "schemaVersion": 2, "manifests": [entry] });
        fs::write(dir.join("index.json"), index.to_string()).unwrap();
        let (layer, diff_id) = layers.last().unwrap();
        Layout {
            dir: dir.to_owned(),
            reference: format!("oci:{}:latest", dir.display()),
            digest: entry["digest"].as_str().unwrap().to_owned(),
            layer: digest(layer),
            layers: layers.iter().map(|(layer, _)| digest(layer)).collect(),
            diff_id: diff_id.clone(),
        }
    }

    fn tar(&self) -> Vec<u8> {
        let mut tar = Vec::new();
        for member in &self.members {
            let mut header = Header::new_ustar();
            let short = member.path.len().min(100);
            if short < member.path.len() {
                let name = [member.path.as_bytes(), &[0]].concat();
                extension(&mut tar, EntryType::GNULongName, &name);
            }
            if !member.records.is_empty() {
                extension(&mut tar, EntryType::XHeader, &member.records);
            }
            // By hand: the crate would refuse the names that are the point of some tests.
            header.as_old_mut().name[..short].copy_from_slice(&member.path.as_bytes()[..short]);
            let link = member.link.as_bytes();
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
            header.set_entry_type(member.kind);
            header.set_mode(member.mode);
            header.set_uid(member.owner);
            header.set_gid(member.owner);
            header.set_mtime(0);
            header.set_size(member.content.len() as u64);
            header.set_cksum();
            tar.extend_from_slice(header.as_bytes());
            tar.extend_from_slice(&member.content);
            tar.resize(tar.len().next_multiple_of(512), 0);
        }
        tar.resize(tar.len() + 1024, 0);
        tar
    }
}

impl Layout {
    /// The layer's file.
    pub(crate) fn layer_path(&self) -> PathBuf {
        let hex = self.layer.strip_prefix("sha256:").unwrap();
        self.dir.join("blobs/sha256").join(hex)
    }
}

/// A member that says more of the next one: its name, longer than a header's field, as GNU tar writes it, or what pax has.
fn extension(tar: &mut Vec<u8>, kind: EntryType, content: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_cksum();
    tar.extend_from_slice(header.as_bytes());
    tar.extend_from_slice(content);
    tar.resize(tar.len().next_multiple_of(512), 0);
}
