//! The serialised form of the few GVariant types that OSTree objects are made of, written and read.
//!
//! A container of elements of varying length ends with the offsets of its elements' ends, in the fewest bytes that can
//! count the whole (GVariant specification, 3.2 "Framing Offsets"). Most of what is here has no alignment above one
//! byte; a dictionary's entries, and the values in them, are padded to eight.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

/// The alignment of a value of any type.
pub(crate) const ALIGNMENT: usize = 8;

/// A dictionary `a{sv}`, as far as its values are of a kind that is used here.
pub(crate) type Dict = BTreeMap<String, Value>;

/// A value of a dictionary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// `u`.
    Number(u32),
    /// `s`.
    Text(String),
}

/// A container: its elements' bytes, then where they end. A tuple gives its ends last first, and leaves out its last
/// element's; an array gives them all, in order.
pub(crate) fn frame(mut body: Vec<u8>, ends: &[usize]) -> Vec<u8> {
    let length = body.len();
    put_ends(&mut body, length, ends);
    body
}

/// Puts the ends of the elements behind them, which have so many bytes.
fn put_ends(bytes: &mut Vec<u8>, length: usize, ends: &[usize]) {
    let fits = |width: usize| {
        let whole = length as u128 + ends.len() as u128 * width as u128;
        whole < 1 << (8 * width)
    };
    let width = WIDTHS.into_iter().find(|w| fits(*w)).unwrap_or(8);
    for end in ends {
        bytes.extend_from_slice(&(*end as u64).to_le_bytes()[..width]);
    }
}

/// How many bytes an offset may have.
const WIDTHS: [usize; 4] = [1, 2, 4, 8];

/// A tuple of such members.
pub(crate) fn tuple(members: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_tuple(&mut bytes, members);
    bytes
}

/// Puts a tuple behind what is there.
fn put_tuple(bytes: &mut Vec<u8>, members: &[&[u8]]) {
    let (start, mut ends) = (bytes.len(), Vec::with_capacity(members.len()));
    for member in members {
        bytes.extend_from_slice(member);
        ends.push(bytes.len() - start);
    }
    let length = ends.pop().unwrap_or_default();
    ends.reverse();
    put_ends(bytes, length, &ends);
}

/// An array of tuples on its way, in one piece: large images have many thousands of them.
#[derive(Debug, Default)]
pub(crate) struct Tuples {
    body: Vec<u8>,
    ends: Vec<usize>,
}

impl Tuples {
    /// Adds one of such members.
    pub(crate) fn push(&mut self, members: &[&[u8]]) {
        put_tuple(&mut self.body, members);
        self.ends.push(self.body.len());
    }

    /// The array.
    pub(crate) fn done(self) -> Vec<u8> {
        frame(self.body, &self.ends)
    }
}

/// A string: its bytes and a NUL.
pub(crate) fn string(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() + 1);
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
    bytes
}

/// Fills up to the alignment.
pub(crate) fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
}

/// A dictionary, `a{sv}`, in this order.
pub(crate) fn dict(entries: &[(&str, Value)]) -> Vec<u8> {
    let (mut body, mut ends) = (Vec::new(), Vec::new());
    for (key, value) in entries {
        pad(&mut body);
        let mut entry = string(key);
        let key_ends = entry.len();
        pad(&mut entry);
        match value {
            Value::Number(number) => {
                entry.extend_from_slice(&number.to_ne_bytes());
                entry.extend_from_slice(b"\0u");
            }
            Value::Text(text) => {
                entry.extend_from_slice(&string(text));
                entry.extend_from_slice(b"\0s");
            }
        }
        body.extend_from_slice(&frame(entry, &[key_ends]));
        ends.push(body.len());
    }
    frame(body, &ends)
}

/// A container as it is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Framed<'a> {
    bytes: &'a [u8],
    width: usize,
}

impl<'a> Framed<'a> {
    /// Of these bytes.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let counts = |width: &usize| *width == 8 || bytes.len() < 1 << (8 * width);
        Self {
            bytes,
            width: WIDTHS.into_iter().find(counts).unwrap_or(8),
        }
    }

    /// The offset that is so far from the end of the table: 0 is the last.
    pub(crate) fn offset(&self, from_last: usize) -> Result<usize> {
        let at = self.table(from_last.saturating_add(1))?;
        let bytes = &self.bytes[at..at + self.width];
        let shifted = |number: usize, byte: &u8| (number << 8) | usize::from(*byte);
        let number = bytes.iter().rev().fold(0, shifted);
        if number > self.bytes.len() {
            bail!("an offset leads out of it");
        }
        Ok(number)
    }

    /// Where a table of so many offsets begins.
    pub(crate) fn table(&self, count: usize) -> Result<usize> {
        let length = count.checked_mul(self.width);
        let begins = length.and_then(|length| self.bytes.len().checked_sub(length));
        begins.context("it is too short")
    }

    /// A part of it.
    pub(crate) fn part(&self, from: usize, to: usize) -> Result<&'a [u8]> {
        self.bytes
            .get(from..to)
            .context("an offset leads out of it")
    }

    /// The elements of an array of elements of varying length.
    pub(crate) fn elements(&self, alignment: usize) -> Result<Vec<&'a [u8]>> {
        if self.bytes.is_empty() {
            return Ok(Vec::new());
        }
        let table = self.offset(0)?;
        let count = (self.bytes.len() - table) / self.width;
        let (mut from, mut elements) = (0_usize, Vec::with_capacity(count));
        for index in 0..count {
            let to = self.offset(count - 1 - index)?;
            if to > table {
                bail!("an offset leads out of it");
            }
            elements.push(self.part(from.next_multiple_of(alignment), to)?);
            from = to;
        }
        Ok(elements)
    }
}

/// Reads a string.
pub(crate) fn read_string(bytes: &[u8]) -> Result<&str> {
    let text = bytes
        .strip_suffix(&[0])
        .context("a string without its end")?;
    std::str::from_utf8(text).context("a string that is not UTF-8")
}

/// Reads an `a{sv}`; values of other types are left out.
pub(crate) fn read_dict(bytes: &[u8]) -> Result<Dict> {
    let mut found = Dict::new();
    for entry in Framed::new(bytes).elements(ALIGNMENT)? {
        let entry = Framed::new(entry);
        let key_ends = entry.offset(0)?;
        let key = read_string(entry.part(0, key_ends)?)?;
        let value = entry.part(key_ends.next_multiple_of(ALIGNMENT), entry.table(1)?)?;
        let kind = value
            .iter()
            .rposition(|byte| *byte == 0)
            .context("a value without its type")?;
        let (value, kind) = (&value[..kind], &value[kind + 1..]);
        let value = match kind {
            b"u" => Value::Number(u32::from_ne_bytes(value.try_into()?)),
            b"s" => Value::Text(read_string(value)?.to_owned()),
            _ => continue,
        };
        found.insert(key.to_owned(), value);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use ostree::glib::VariantDict;
    use ostree::glib::prelude::ToVariant;

    use super::*;

    #[test]
    fn it_is_as_glib_has_it() {
        for length in [0, 1, 200, 250, 255, 300, 70_000] {
            let text = "x".repeat(length);
            let bytes = vec![7_u8; length];
            let pair = tuple(&[&string(&text), &bytes]);
            assert_eq!(
                pair,
                (text.clone(), bytes.clone()).to_variant().data(),
                "{length}"
            );
            let triple = tuple(&[&string(&text), &bytes, &bytes]);
            let expected = (text.clone(), bytes.clone(), bytes.clone()).to_variant();
            assert_eq!(triple, expected.data(), "{length}");
            for count in [0, 1, 3, 300] {
                let expected = vec![(text.clone(), bytes.clone()); count].to_variant();
                let mut tuples = Tuples::default();
                for _ in 0..count {
                    tuples.push(&[&string(&text), &bytes]);
                }
                assert_eq!(tuples.done(), expected.data(), "{length} {count}");
            }
        }
    }

    #[test]
    fn a_dictionary_is_as_glib_has_it() {
        for length in [0, 1, 7, 8, 240, 255, 300, 70_000] {
            let text = "x".repeat(length);
            let entries = [
                ("number", Value::Number(7)),
                ("text", Value::Text(text.clone())),
            ];
            for (index, entry) in entries.iter().enumerate() {
                let glibs = VariantDict::new(None);
                match &entry.1 {
                    Value::Number(number) => glibs.insert(entry.0, number),
                    Value::Text(text) => glibs.insert(entry.0, text),
                }
                let ours = dict(&entries[index..=index]);
                assert_eq!(ours, glibs.end().data(), "{length}");
            }
            let read = read_dict(&dict(&entries)).unwrap();
            assert_eq!(read, Dict::from(entries.map(|(k, v)| (k.to_owned(), v))));
        }
        assert_eq!(dict(&[]), VariantDict::new(None).end().data());
        assert_eq!(read_dict(&[]).unwrap(), Dict::new());
    }

    /// What is damaged is an error, never a panic and never an endless read.
    #[test]
    fn damaged_bytes_are_refused() {
        let entries = [("a", Value::Number(7)), ("b", Value::Text("x".repeat(300)))];
        let whole = dict(&entries);
        for at in 0..whole.len() {
            let _cut = read_dict(&whole[..at]);
            for flipped in [0, 1, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = flipped;
                let _changed = read_dict(&bytes);
            }
        }
    }
}
