//! The serialised form of the few GVariant types that OSTree objects are made of.
//!
//! Only what has no alignment above one byte, or starts with its aligned integers, is put together here: arrays and
//! tuples of strings and byte arrays. A container of elements of varying length ends with the offsets of its
//! elements' ends, in the fewest bytes that can count the whole (GVariant specification, 3.2 "Framing Offsets").

/// A container: its elements' bytes, then where they end. A tuple gives its ends last first, and leaves out its last
/// element's; an array gives them all, in order.
pub(crate) fn frame(mut body: Vec<u8>, ends: &[usize]) -> Vec<u8> {
    let fits = |width: u32| {
        let whole = body.len() as u128 + ends.len() as u128 * u128::from(width);
        whole < 1 << (8 * width)
    };
    let width = [1, 2, 4, 8].into_iter().find(|w| fits(*w)).unwrap_or(8);
    for end in ends {
        let bytes = (*end as u64).to_le_bytes();
        body.extend_from_slice(&bytes[..width as usize]);
    }
    body
}

/// An array of such elements.
pub(crate) fn array(elements: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let (mut body, mut ends) = (Vec::new(), Vec::new());
    for element in elements {
        body.extend_from_slice(&element);
        ends.push(body.len());
    }
    frame(body, &ends)
}

/// A tuple of such members.
pub(crate) fn tuple(members: &[&[u8]]) -> Vec<u8> {
    let (mut body, mut ends) = (Vec::new(), Vec::new());
    for member in members {
        body.extend_from_slice(member);
        ends.push(body.len());
    }
    ends.pop();
    ends.reverse();
    frame(body, &ends)
}

/// A string: its bytes and a NUL.
pub(crate) fn string(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() + 1);
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
    bytes
}

#[cfg(test)]
mod tests {
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
                assert_eq!(
                    array(vec![pair.clone(); count]),
                    expected.data(),
                    "{length} {count}"
                );
            }
        }
    }
}
