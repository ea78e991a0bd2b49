//! What the pages of files have in common: their head, paragraphs, and entries.

use clap_mangen::roff::{Inline, Roff, bold, roman};

/// A page that is being written.
pub(super) struct Page {
    head: String,
    body: Roff,
    /// Nothing stands below the heading yet.
    begins: bool,
}

impl Page {
    /// With its `NAME`.
    pub(super) fn new(name: &str, section: &str, what: &str) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let head =
            format!(".TH {name} {section} \"\" \"bedplate {version}\" \"System containers\"\n");
        let mut page = Self {
            head,
            body: Roff::new(),
            begins: false,
        };
        page.section("NAME");
        page.body.text([roman(format!("{name} - {what}"))]);
        page
    }

    pub(super) fn section(&mut self, title: &str) {
        self.body.control("SH", [title]);
        self.begins = true;
    }

    pub(super) fn subsection(&mut self, title: &str) {
        self.body.control("SS", [title]);
        self.begins = true;
    }

    fn apart(&mut self) {
        if !std::mem::take(&mut self.begins) {
            self.body.control("PP", []);
        }
    }

    /// A paragraph; what stands in backticks is bold.
    pub(super) fn paragraph(&mut self, text: &str) {
        self.apart();
        self.body.text(inline(text));
    }

    /// What something means.
    pub(super) fn entry(&mut self, name: &str, meaning: &str) {
        self.begins = false;
        self.body.control("TP", []);
        self.body.text([bold(name)]);
        self.body.text(inline(meaning));
    }

    /// Lines as they are.
    pub(super) fn example(&mut self, text: &str) {
        self.apart();
        self.body.control("EX", []);
        for line in text.trim().lines() {
            self.body.text([roman(line)]);
        }
        self.body.control("EE", []);
    }

    pub(super) fn see_also(mut self, pages: &str) -> Vec<u8> {
        self.section("SEE ALSO");
        self.body.text([roman(pages)]);
        (self.head + &self.body.to_roff()).into_bytes()
    }
}

/// Words on one line, those in backticks bold.
fn inline(text: &str) -> Vec<Inline> {
    // Not every troff reads more than ASCII.
    let text = text.replace('…', "...");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let parts = text.split('`').enumerate();
    let parts = parts.filter(|(_, part)| !part.is_empty());
    parts
        .map(|(n, part)| if n % 2 == 1 { bold(part) } else { roman(part) })
        .collect()
}
