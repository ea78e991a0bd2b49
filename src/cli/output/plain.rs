//! Text on a terminal that may hold words of others: of an image, a registry, a service. What is no text there, control
//! characters and marks that turn the direction of writing, is shown as escapes.

use std::borrow::Cow;

/// What each line begins with that goes on about the one above: a problem of several, a line of a service's journal.
const BELOW: &str = "  ";

/// Lines.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |_| true)
}

/// One line.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// A line, and quoted ones below it: no other line is begun by the words of others.
pub(crate) fn with_quotes(text: &str) -> Cow<'_, str> {
    escaped(text, |rest| rest.starts_with(BELOW))
}

/// The text, a line ended only where `ends` says so of what follows.
fn escaped(text: &str, ends: impl Fn(&str) -> bool) -> Cow<'_, str> {
    let is_plain = |at: usize, c: char| match c {
        '\t' => true,
        '\n' => ends(&text[at + 1..]),
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => false,
        c => !c.is_control(),
    };
    if text.char_indices().all(|(at, c)| is_plain(at, c)) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for (at, c) in text.char_indices() {
        if is_plain(at, c) {
            escaped.push(c);
        } else {
            escaped.extend(c.escape_default());
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_escaped() {
        let text = "a\u{1b}[2J\tb\u{202e}c\r\u{9b}\nhint: x\n    y";
        let escapes = r"a\u{1b}[2J	b\u{202e}c\r\u{9b}";
        assert_eq!(lines(text), format!("{escapes}\nhint: x\n    y"));
        assert_eq!(with_quotes(text), format!("{escapes}\\nhint: x\n    y"));
        assert_eq!(line(text), format!("{escapes}\\nhint: x\\n    y"));
        assert!(matches!(lines("é\n„x“"), Cow::Borrowed(_)));
    }
}
