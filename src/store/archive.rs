//! A layer's tar stream, member by member.
//!
//! Formats: ustar, GNU long names, PAX. The `tar` crate's own iteration is not used: it splits PAX records at
//! newlines, which breaks binary values such as `security.capability`, and reads headers of any size into memory.

use std::io::{self, BufRead, ErrorKind, Read};

use anyhow::{Context, Result, bail};
use tar::{EntryType, Header};

const BLOCK: usize = 512;

/// More than any name, link or set of extended attributes that Linux can hold (xattr(7): 64 KiB a value).
const MAX_METADATA: u64 = 1024 * 1024;

/// One member's header, the PAX and GNU extensions applied. Names are as they stand in the archive.
pub(crate) struct Member {
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) kind: EntryType,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    /// Bytes of content; 0 for all but regular files.
    pub(crate) size: u64,
    /// Sorted by name.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A tar stream being read.
pub(crate) struct Archive<R> {
    stream: R,
    /// Content and padding of the member last returned that have not been read yet.
    content: u64,
    padding: u64,
}

/// What extension headers say of the member that follows.
#[derive(Default)]
struct Extensions {
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    records: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<R: BufRead> Archive<R> {
    pub(crate) fn new(stream: R) -> Self {
        Self {
            stream,
            content: 0,
            padding: 0,
        }
    }

    /// The next member; its content is read through [`Archive::content`].
    pub(crate) fn next_member(&mut self) -> Result<Option<Member>> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_content()?;
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let kind = header.entry_type();
            if !matches!(
                kind,
                EntryType::XHeader
                    | EntryType::XGlobalHeader
                    | EntryType::GNULongName
                    | EntryType::GNULongLink
            ) {
                return self.member(&header, extensions).map(Some);
            }
            let data = self.metadata(&header)?;
            match kind {
                EntryType::XHeader => extensions.records = records(&data)?,
                EntryType::GNULongName => extensions.long_path = Some(name(data)),
                EntryType::GNULongLink => extensions.long_link = Some(name(data)),
                // A global header holds a comment, such as git's commit; nothing in it concerns files.
                _ => {}
            }
        }
    }

    /// The content of the member last returned.
    pub(crate) fn content(&mut self) -> Content<'_, R> {
        Content(self)
    }

    /// The stream, with what follows the archive's end still to be read.
    pub(crate) fn into_inner(self) -> R {
        self.stream
    }

    fn header(&mut self) -> Result<Option<Header>> {
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        let mut filled = 0;
        while filled < BLOCK {
            match self.stream.read(&mut block[filled..])? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(truncated().into()),
                n => filled += n,
            }
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        // The sum is taken with its own field as blanks.
        let sum = |range: &[u8]| range.iter().map(|byte| u32::from(*byte)).sum::<u32>();
        let expected = sum(&block[..148]) + sum(&block[156..]) + 8 * u32::from(b' ');
        if header.cksum().ok() != Some(expected) {
            return Err(
                io::Error::new(ErrorKind::InvalidData, "no tar header where one must be").into(),
            );
        }
        Ok(Some(header))
    }

    fn member(&mut self, header: &Header, extensions: Extensions) -> Result<Member> {
        let path = header.path_bytes().into_owned();
        let link = header.link_name_bytes().map(std::borrow::Cow::into_owned);
        let old = header.as_old();
        let number = |field: &str, raw: &[u8], parsed: io::Result<u64>| match parsed {
            Ok(number) => Ok(number),
            // Left out by some writers.
            Err(_) if raw.iter().all(|byte| matches!(byte, 0 | b' ')) => Ok(0),
            Err(_) => Err(malformed(field)).with_context(|| label(&header.path_bytes())),
        };
        let mode = number("mode", &old.mode, header.mode().map(u64::from))?;
        let mut member = Member {
            path: extensions.long_path.unwrap_or(path),
            link: extensions.long_link.or(link).unwrap_or_default(),
            kind: header.entry_type(),
            mode: u32::try_from(mode & 0o7777)?,
            uid: number("uid", &old.uid, header.uid())?,
            gid: number("gid", &old.gid, header.gid())?,
            size: number("size", &old.size, header.entry_size())?,
            xattrs: Vec::new(),
        };
        for (key, value) in extensions.records {
            member.apply(&key, value).with_context(|| member.label())?;
        }
        member.xattrs.sort();
        if member
            .size
            .checked_add(BLOCK as u64)
            .is_none_or(|size| size > i64::MAX as u64)
        {
            return Err(malformed("size")).with_context(|| member.label());
        }
        // Old archives mark a directory by its trailing slash alone.
        if member.kind == EntryType::Regular && member.path.ends_with(b"/") {
            member.kind = EntryType::Directory;
        }
        // Links and special files have no content, whatever their size field says (pax, POSIX).
        if matches!(
            member.kind,
            EntryType::Link
                | EntryType::Symlink
                | EntryType::Char
                | EntryType::Block
                | EntryType::Fifo
        ) {
            member.size = 0;
        }
        self.expect_content(member.size);
        Ok(member)
    }

    fn expect_content(&mut self, size: u64) {
        self.content = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
    }

    /// Padding may be missing at the end of the stream, like the blocks of zeros that mark an archive's end: umoci
    /// leaves out both. No byte of the image is missed by that, for the diff_id is of all there is.
    fn skip_content(&mut self) -> io::Result<()> {
        let (content, left) = (self.content, self.content + self.padding);
        (self.content, self.padding) = (0, 0);
        match io::copy(&mut (&mut self.stream).take(left), &mut io::sink())? {
            skipped if skipped < content => Err(truncated()),
            _ => Ok(()),
        }
    }

    /// The content of an extension header.
    fn metadata(&mut self, header: &Header) -> Result<Vec<u8>> {
        let size = header.entry_size().map_err(|_| malformed("size"))?;
        if size > MAX_METADATA {
            bail!("an extension header of {size} bytes; at most {MAX_METADATA} are read");
        }
        self.expect_content(size);
        let mut data = Vec::new();
        self.content().read_to_end(&mut data)?;
        Ok(data)
    }
}

/// A GNU long name: a C string.
fn name(mut data: Vec<u8>) -> Vec<u8> {
    data.pop_if(|last| *last == 0);
    data
}

impl Member {
    /// The member as errors name it.
    pub(crate) fn label(&self) -> String {
        label(&self.path)
    }

    /// Applies one PAX record, of those that concern what is stored.
    fn apply(&mut self, key: &[u8], value: Vec<u8>) -> Result<()> {
        match key {
            // A sparse file's header has a made-up name.
            b"path" | b"GNU.sparse.name" => self.path = value,
            b"linkpath" => self.link = value,
            b"size" => self.size = number(&value, "size")?,
            b"uid" => self.uid = number(&value, "uid")?,
            b"gid" => self.gid = number(&value, "gid")?,
            _ if key.starts_with(b"GNU.sparse.") => self.kind = EntryType::GNUSparse,
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.retain(|(known, _)| known != name);
                    self.xattrs.push((name.to_owned(), value));
                }
            }
        }
        Ok(())
    }
}

fn label(path: &[u8]) -> String {
    format!("entry `{}`", String::from_utf8_lossy(path))
}

/// Reads a member's content and nothing beyond; a stream that ends before is an error.
pub(crate) struct Content<'a, R>(&'a mut Archive<R>);

impl<R: BufRead> Content<'_, R> {
    /// Appends what is left, but not more than so many bytes; how many. Reading to the end of a reader would fill the
    /// room for each byte with zeros first.
    pub(crate) fn append_to(&mut self, bytes: &mut Vec<u8>, most: u64) -> io::Result<u64> {
        let archive = &mut *self.0;
        let wanted = archive.content.min(most);
        let mut left = wanted;
        while left > 0 {
            let buffer = match archive.stream.fill_buf() {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                buffer => buffer?,
            };
            let length = buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            if length == 0 {
                return Err(truncated());
            }
            bytes.extend_from_slice(&buffer[..length]);
            archive.stream.consume(length);
            left -= length as u64;
            archive.content -= length as u64;
        }
        Ok(wanted)
    }
}

impl<R: BufRead> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let archive = &mut *self.0;
        let wanted = buffer
            .len()
            .min(usize::try_from(archive.content).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        match archive.stream.read(&mut buffer[..wanted])? {
            0 => Err(truncated()),
            read => {
                archive.content -= read as u64;
                Ok(read)
            }
        }
    }
}

/// PAX records: `LENGTH KEY=VALUE\n`, the value of any bytes.
fn records(mut data: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut found = Vec::new();
    while !data.is_empty() {
        let record = record(data).ok_or_else(|| malformed("PAX header"))?;
        data = record.rest;
        found.push((record.key.to_owned(), record.value.to_owned()));
    }
    Ok(found)
}

struct Record<'a> {
    key: &'a [u8],
    value: &'a [u8],
    rest: &'a [u8],
}

fn record(data: &[u8]) -> Option<Record<'_>> {
    let blank = data.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&data[..blank]).ok()?.parse().ok()?;
    let (record, rest) = data.split_at_checked(length)?;
    let record = record.get(blank + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    Some(Record { key, value, rest })
}

fn number(value: &[u8], field: &str) -> Result<u64> {
    let parsed = std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse().ok());
    Ok(parsed.ok_or_else(|| malformed(field))?)
}

fn malformed(field: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("its {field} is malformed"))
}

fn truncated() -> io::Error {
    io::Error::new(
        ErrorKind::UnexpectedEof,
        "the layer ends before its archive does",
    )
}
