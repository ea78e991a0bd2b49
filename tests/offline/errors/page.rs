//! `docs/errors.md`, a chapter at a time: what the program has said, with cause and remedy. It is a test of its own whether
//! a chapter is as the document has it; with `BEDPLATE_BLESS=1` it is written there.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

pub(crate) const HEAD: &str = "\
<!-- Made by tests/offline/errors.rs and tests/vm/failing.rs, which provoke each of these. BEDPLATE_BLESS=1 writes it anew. -->
# What goes wrong, why, and what to do

Each entry is what bedplate says on stderr, with the cause above and, where the hint is not all there is to it, the remedy
below. What stands for a part that differs is `…`. Wrong words on the command line are told by every command itself,
with exit status 2. All other errors here leave the host as it was, with exit status 1, unless the entry says something
else. With `--json` the same is an object: [automation.md](automation.md).
";

/// The chapters of the document, in this order.
pub(crate) const CHAPTERS: [&str; 10] = [
    "This machine",
    "Where images come from",
    "What is in an image",
    "The contract of an image",
    "Values",
    "What is there already",
    "Order",
    "Updates",
    "A service that does not come up",
    "The store and what is recorded",
];

/// One error.
pub(crate) struct Entry {
    cause: &'static str,
    pub(crate) said: String,
    /// What the hint does not say.
    remedy: &'static str,
}

impl Entry {
    /// What the program said for this cause.
    pub(crate) fn new(cause: &'static str, said: &str) -> Self {
        Self {
            cause,
            said: without_digests(said.trim_end()),
            remedy: "",
        }
    }

    /// What to do, where its hint does not say all of it.
    pub(crate) fn remedy(&mut self, remedy: &'static str) {
        self.remedy = remedy;
    }
}

/// Compares a chapter with the document's, or writes it there.
pub(crate) fn settle(title: &str, entries: &[Entry]) -> Result<(), String> {
    let mut text = format!("## {title}\n");
    for told in entries {
        if !told.said.contains("\nhint: ") && told.remedy.is_empty() {
            return Err(format!("no remedy for: {}", told.said));
        }
        let said = told.said.replace('\n', "\n    ");
        let _ = write!(text, "\n**{}**\n\n    {said}\n", told.cause);
        if !told.remedy.is_empty() {
            let _ = write!(text, "\n{}\n", told.remedy);
        }
    }
    document(title, &text)
}

/// `sha256:` and what follows as `sha256:…`.
fn without_digests(text: &str) -> String {
    let mut parts = text.split("sha256:");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_hexdigit());
        shown.push_str("sha256:…");
        shown.push_str(rest);
    }
    shown
}

/// Where the document is.
pub(crate) fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/errors.md")
}

/// The chapters of a document, each from its heading on.
pub(crate) fn chapters(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in text.split("\n## ").skip(1) {
        found.push(format!("## {}\n", part.trim_end()));
    }
    found
}

fn document(title: &str, chapter: &str) -> Result<(), String> {
    static WRITING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let text = fs::read_to_string(path()).unwrap_or_default();
    let known = chapters(&text);
    let heading = |title: &str| format!("## {title}\n");
    let find = |title: &str| known.iter().find(|c| c.starts_with(&heading(title)));
    if std::env::var_os("BEDPLATE_BLESS").is_none() {
        let there = find(title).map(String::as_str).unwrap_or_default();
        let same = there == chapter;
        return same.then_some(()).ok_or_else(|| {
            format!("docs/errors.md differs; BEDPLATE_BLESS=1 writes it anew. There:\n{there}\nnow:\n{chapter}")
        });
    }
    let mut parts = vec![HEAD.to_owned()];
    for other in CHAPTERS {
        let part = if other == title {
            Some(chapter.to_owned())
        } else {
            find(other).cloned()
        };
        parts.extend(part);
    }
    fs::write(path(), parts.join("\n")).map_err(|error| error.to_string())
}
