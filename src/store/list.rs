//! A layer's list of entries in the compact form in which the store keeps it: JSON lines, a header with the format's
//! number and the layer's diff_id, then one line an entry.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::FileType;
use serde::{Deserialize, Serialize};

use crate::hint::Hinted;
use crate::store::entry::Entry;
use crate::store::object::{Meta, Sum};

/// The format this build writes; a layer stored in another one is imported again.
pub(crate) const FORMAT: u32 = 2;

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    diff_id: String,
    entries: usize,
}

/// What the list is as a file of the repository.
pub(crate) fn meta() -> Meta {
    Meta::plain(0, 0, FileType::RegularFile.as_raw_mode() | 0o600)
}

/// Refuses bytes that are not those of this object: what is made of a damaged list would be whole by all that can be
/// asked of it later.
pub(crate) fn check(bytes: &[u8], object: Sum) -> Result<()> {
    if meta().sum(bytes) == object {
        return Ok(());
    }
    Err(anyhow!("the object {object} is damaged")).hint(
        "`bedplate repair` brings it back; if no container is installed from the image that it belongs to, \
         `bedplate images remove IMAGE` and `bedplate prune`, then pull that again",
    )
}

/// The entries as bytes.
pub(crate) fn serialize(diff_id: &str, entries: &[Entry]) -> Result<Vec<u8>> {
    let header = Header {
        format: FORMAT,
        diff_id: diff_id.to_owned(),
        entries: entries.len(),
    };
    let mut bytes = serde_json::to_vec(&header)?;
    bytes.push(b'\n');
    for entry in entries {
        serde_json::to_writer(&mut bytes, entry)?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

/// The entries that [`serialize`] wrote; `None` for another format.
pub(crate) fn deserialize(bytes: &[u8], at: &Path) -> Result<Option<Vec<Entry>>> {
    let reading = || format!("reading the entries in `{}`", at.display());
    let mut lines = bytes
        .strip_suffix(b"\n")
        .unwrap_or(bytes)
        .split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let header: Header = serde_json::from_slice(first).with_context(reading)?;
    if header.format != FORMAT {
        return Ok(None);
    }
    let mut entries = Vec::new();
    for line in lines {
        entries.push(serde_json::from_slice(line).with_context(reading)?);
    }
    if entries.len() != header.entries {
        bail!(
            "reading the entries in `{}`: some are missing",
            at.display()
        );
    }
    Ok(Some(entries))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::entry::{Attributes, Node};

    #[test]
    fn entries_survive_their_form() {
        let attributes = Attributes {
            mode: 0o4755,
            uid: 1,
            gid: 0,
            xattrs: vec![("user.a".into(), "0a00".into())],
        };
        let (object, target) = (Sum::of(b"x"), "b\n".to_owned());
        let nodes = [
            Node::Dir(Attributes::default()),
            Node::File {
                object,
                attributes: attributes.clone(),
            },
            Node::Symlink {
                object,
                target: target.clone(),
                attributes,
            },
            Node::Hardlink { target },
            Node::Whiteout,
            Node::Opaque,
        ];
        let entries: Vec<_> = nodes
            .into_iter()
            .map(|node| Entry {
                path: "a".into(),
                node,
            })
            .collect();
        let bytes = serialize("sha256:00", &entries).unwrap();
        assert_eq!(
            deserialize(&bytes, Path::new("x")).unwrap().unwrap(),
            entries
        );
        let text = String::from_utf8(bytes).unwrap();
        let other = text.replacen("\"format\":2", "\"format\":1", 1);
        assert_eq!(deserialize(other.as_bytes(), Path::new("x")).unwrap(), None);
        let cut = &text[..text.trim_end().rfind('\n').unwrap()];
        assert_eq!(
            deserialize(cut.as_bytes(), Path::new("x"))
                .unwrap_err()
                .to_string(),
            "reading the entries in `x`: some are missing"
        );
    }
}
