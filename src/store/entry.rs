//! What a layer says: its entries, checked.

use anyhow::{Context, Result, bail};
use rustix::fs::FileType;
use serde::{Deserialize, Serialize};

use crate::hash::{hex, unhex};
use crate::store::object::{Meta, Sum};

/// The prefix that makes a name a whiteout (OCI image-spec, layer.md).
const WHITEOUT: &str = ".wh.";

/// The whiteout of everything that lower layers have in a directory.
const OPAQUE: &str = ".wh..wh..opq";

/// Extended attributes, sorted by name; values as hexadecimal text.
pub(crate) type Xattrs = Vec<(String, String)>;

/// Owner, mode (permission bits alone) and extended attributes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Attributes {
    #[serde(rename = "m")]
    pub(crate) mode: u32,
    #[serde(rename = "u", default, skip_serializing_if = "is_zero")]
    pub(crate) uid: u32,
    #[serde(rename = "g", default, skip_serializing_if = "is_zero")]
    pub(crate) gid: u32,
    #[serde(rename = "x", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) xattrs: Xattrs,
}

/// One entry of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Checked: relative, UTF-8, without `.` and `..`; empty for the root itself. For a whiteout the path of what it
    /// removes, for an opaque marker that of the directory.
    #[serde(rename = "p")]
    pub(crate) path: String,
    #[serde(rename = "n")]
    pub(crate) node: Node,
}

/// What an entry puts at its path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", from = "Flat")]
pub(crate) enum Node {
    /// A directory.
    Dir(Attributes),
    /// A regular file: its attributes are part of the object.
    File {
        #[serde(rename = "o")]
        object: Sum,
        #[serde(flatten)]
        attributes: Attributes,
    },
    /// A symbolic link.
    Symlink {
        #[serde(rename = "o")]
        object: Sum,
        #[serde(rename = "t")]
        target: String,
        #[serde(flatten)]
        attributes: Attributes,
    },
    /// Another name for what is at a path of this image.
    Hardlink {
        #[serde(rename = "t")]
        target: String,
    },
    /// Lower layers' file or tree at this path is not there.
    Whiteout,
    /// Lower layers' content of this directory is not there.
    Opaque,
}

/// The same as it is read: with `flatten` serde would take each entry to pieces before it knows what it is.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Flat {
    Dir(Attributes),
    File {
        o: Sum,
        m: u32,
        #[serde(default)]
        u: u32,
        #[serde(default)]
        g: u32,
        #[serde(default)]
        x: Xattrs,
    },
    Symlink {
        o: Sum,
        t: String,
        m: u32,
        #[serde(default)]
        u: u32,
        #[serde(default)]
        g: u32,
        #[serde(default)]
        x: Xattrs,
    },
    Hardlink {
        t: String,
    },
    Whiteout,
    Opaque,
}

impl From<Flat> for Node {
    fn from(flat: Flat) -> Self {
        let attributes = |mode, uid, gid, xattrs| Attributes {
            mode,
            uid,
            gid,
            xattrs,
        };
        match flat {
            Flat::Dir(attributes) => Self::Dir(attributes),
            Flat::File { o, m, u, g, x } => Self::File {
                object: o,
                attributes: attributes(m, u, g, x),
            },
            Flat::Symlink { o, t, m, u, g, x } => Self::Symlink {
                object: o,
                target: t,
                attributes: attributes(m, u, g, x),
            },
            Flat::Hardlink { t } => Self::Hardlink { target: t },
            Flat::Whiteout => Self::Whiteout,
            Flat::Opaque => Self::Opaque,
        }
    }
}

impl Attributes {
    /// Of a file of this type, as its object has them.
    pub(crate) fn meta(&self, kind: FileType, target: Option<&str>) -> Result<Meta> {
        Ok(Meta {
            uid: self.uid,
            gid: self.gid,
            mode: kind.as_raw_mode() | self.mode,
            xattrs: self.plain_xattrs()?,
            target: target.map(str::to_owned),
        })
    }

    /// Those of a directory's object.
    pub(crate) fn of(meta: &Meta) -> Result<Self> {
        let xattrs = meta.xattrs.iter().map(|(name, value)| {
            let name = String::from_utf8(name.clone());
            Ok((name.context("parsing an extended attribute")?, hex(value)))
        });
        Ok(Self {
            mode: meta.mode & 0o7777,
            uid: meta.uid,
            gid: meta.gid,
            xattrs: xattrs.collect::<Result<_>>()?,
        })
    }

    /// The extended attributes, their values as they are.
    pub(crate) fn plain_xattrs(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let xattrs = self.xattrs.iter();
        xattrs
            .map(|(name, value)| Ok((name.clone().into_bytes(), unhex(value)?)))
            .collect::<Result<_>>()
            .context("parsing an extended attribute")
    }
}

impl Entry {
    /// About how many bytes it takes while it is in memory.
    pub(crate) fn memory(&self) -> usize {
        let (text, xattrs) = match &self.node {
            Node::Dir(attributes) | Node::File { attributes, .. } => (0, &attributes.xattrs[..]),
            Node::Symlink {
                target, attributes, ..
            } => (target.len(), &attributes.xattrs[..]),
            Node::Hardlink { target } => (target.len(), &[][..]),
            Node::Whiteout | Node::Opaque => (0, &[][..]),
        };
        let xattrs = xattrs.iter();
        let xattrs =
            xattrs.map(|(name, value)| size_of::<(String, String)>() + name.len() + value.len());
        size_of::<Self>() + self.path.len() + text + xattrs.sum::<usize>()
    }
}

impl Node {
    /// What its object is, for what has one.
    pub(crate) fn meta(&self) -> Result<Option<Meta>> {
        Ok(Some(match self {
            Self::File { attributes, .. } => attributes.meta(FileType::RegularFile, None)?,
            Self::Symlink {
                target, attributes, ..
            } => attributes.meta(FileType::Symlink, Some(target))?,
            Self::Dir(_) | Self::Hardlink { .. } | Self::Whiteout | Self::Opaque => {
                return Ok(None);
            }
        }))
    }
}

/// What a file name means in a layer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A file or directory of that path.
    Plain(String),
    /// The whiteout of that path.
    Whiteout(String),
    /// That directory is opaque.
    Opaque(String),
    /// Bookkeeping of aufs.
    Nothing,
}

/// The longest path in an image. No path of a call may have more than 4,095 bytes (`PATH_MAX`), and everybody who looks
/// at a rootfs from the host, `find` and `du` among them, needs room for where that lies.
const LONGEST_PATH: usize = 4095 - 255;

/// Checks an archive's path and returns it with its superfluous parts removed.
pub(crate) fn clean_path(raw: &[u8]) -> Result<String> {
    let Ok(path) = std::str::from_utf8(raw) else {
        bail!("its name is not UTF-8");
    };
    if path.starts_with('/') {
        bail!("its name is absolute");
    }
    if path.contains('\0') {
        bail!("its name has a NUL byte");
    }
    let mut clean = String::with_capacity(path.len());
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => bail!("its name has a `..` component"),
            part if part.len() > 255 => bail!("its name is longer than Linux allows"),
            part => {
                if !clean.is_empty() {
                    clean.push('/');
                }
                clean.push_str(part);
            }
        }
    }
    if clean.len() > LONGEST_PATH {
        bail!("its name is longer than {LONGEST_PATH} bytes");
    }
    Ok(clean)
}

/// Tells whiteouts from plain names.
pub(crate) fn meaning(path: String) -> Result<Meaning> {
    let (dir, name) = match path.rsplit_once('/') {
        Some((dir, name)) => (dir, name),
        None => ("", path.as_str()),
    };
    if name == OPAQUE {
        return Ok(Meaning::Opaque(dir.to_owned()));
    }
    match name.strip_prefix(WHITEOUT) {
        Some("" | "." | "..") => bail!("it is a whiteout of nothing"),
        Some(inner) if inner.starts_with(WHITEOUT) => Ok(Meaning::Nothing),
        Some(hidden) if dir.is_empty() => Ok(Meaning::Whiteout(hidden.to_owned())),
        Some(hidden) => Ok(Meaning::Whiteout(format!("{dir}/{hidden}"))),
        None => Ok(Meaning::Plain(path)),
    }
}

/// The directory a path lies in; empty for the root.
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_or_refused() {
        for (raw, clean) in [("./", ""), ("./a//b/", "a/b"), ("a/./b", "a/b"), ("a", "a")] {
            assert_eq!(clean_path(raw.as_bytes()).unwrap(), clean);
        }
        // What is superfluous does not count.
        let longest = format!("./{}xx/", "d/".repeat(1919));
        assert_eq!(clean_path(longest.as_bytes()).unwrap().len(), 3840);
        let longer = format!("{}xxx", "d/".repeat(1919));
        let long = "x".repeat(256);
        for (raw, error) in [
            (&b"a/../b"[..], "its name has a `..` component"),
            (b"..", "its name has a `..` component"),
            (b"/etc/passwd", "its name is absolute"),
            (b"caf\xe9", "its name is not UTF-8"),
            (b"a\0b", "its name has a NUL byte"),
            (long.as_bytes(), "its name is longer than Linux allows"),
            (longer.as_bytes(), "its name is longer than 3840 bytes"),
        ] {
            assert_eq!(clean_path(raw).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn whiteouts_are_told_from_names() {
        for (path, expected) in [
            ("a/b", Meaning::Plain("a/b".into())),
            ("a/.wh.b", Meaning::Whiteout("a/b".into())),
            (".wh.b", Meaning::Whiteout("b".into())),
            ("a/.wh..wh..opq", Meaning::Opaque("a".into())),
            (".wh..wh.plnk", Meaning::Nothing),
        ] {
            assert_eq!(meaning(path.to_owned()).unwrap(), expected);
        }
        let error = meaning("a/.wh...".to_owned()).unwrap_err();
        assert_eq!(error.to_string(), "it is a whiteout of nothing");
    }
}
