//! Progress on stderr: bars on a terminal, plain lines elsewhere.
#![expect(
    clippy::print_stderr,
    reason = "progress is for people: it goes to stderr"
)]

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::cli::output::plain;
use crate::cli::output::stream::Stream;
use crate::cli::output::table::short;
use crate::progress::{Event, Report};

/// The report that draws on this process's stderr, and hands on to `stream`.
pub(crate) fn report(stream: Option<Stream>) -> Report {
    let Some(stream) = stream else {
        return drawing();
    };
    let drawing = drawing();
    Report::new(move |event| {
        stream.event(&event);
        drawing.event(event);
    })
}

fn drawing() -> Report {
    if std::io::stderr().is_terminal() {
        let bars = Bars::default();
        Report::new(move |event| bars.draw(event))
    } else {
        Report::new(|event| {
            if let Some(line) = line(&event) {
                eprintln!("{line}");
            }
        })
    }
}

/// An event as a plain line; bytes that trickle in are none.
fn line(event: &Event) -> Option<String> {
    Some(match event {
        Event::Step(text) => plain::line(text).into_owned(),
        Event::LayerBegin { digest, size } => {
            format!("fetching layer {} ({})", short(digest), bytes(*size))
        }
        Event::LayerBytes { .. }
        | Event::CheckBegin { .. }
        | Event::CheckBytes { .. }
        | Event::CheckDone => return None,
        Event::LayerDone { digest } => format!("stored layer {}", short(digest)),
        Event::Note(text) => format!("note: {}", plain::line(text)),
    })
}

#[derive(Default)]
struct Bars {
    all: MultiProgress,
    /// By digest; that of a check has none.
    layers: Mutex<BTreeMap<String, ProgressBar>>,
}

impl Bars {
    fn bar(&self, size: u64, message: &str) -> ProgressBar {
        let template = "  {msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}";
        let style = ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ");
        let bar = self.all.add(ProgressBar::new(size).with_style(style));
        bar.set_message(message.to_owned());
        bar
    }

    fn draw(&self, event: Event) {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::LayerBegin { digest, size } => {
                let bar = self.bar(size, short(&digest));
                layers.insert(digest, bar);
            }
            Event::CheckBegin { bytes } => {
                layers.insert(String::new(), self.bar(bytes, "checking files"));
            }
            Event::CheckBytes { bytes } => {
                if let Some(bar) = layers.get("") {
                    bar.inc(bytes);
                }
            }
            Event::CheckDone => {
                if let Some(bar) = layers.remove("") {
                    bar.finish_and_clear();
                }
            }
            Event::LayerBytes { digest, bytes } => {
                if let Some(bar) = layers.get(&digest) {
                    bar.inc(bytes);
                }
            }
            Event::LayerDone { digest } => {
                if let Some(bar) = layers.remove(&digest) {
                    bar.finish();
                }
            }
            Event::Step(_) | Event::Note(_) => {
                if let Some(line) = line(&event) {
                    self.all.suspend(|| eprintln!("{line}"));
                }
            }
        }
    }
}

/// A size for people, in binary units with one decimal.
#[expect(
    clippy::cast_precision_loss,
    reason = "a size for people needs three digits"
)]
pub(crate) fn bytes(size: u64) -> String {
    let mut value = size as f64;
    for unit in ["B", "KiB", "MiB"] {
        if value < 1024.0 {
            return if unit == "B" {
                format!("{size} B")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1} GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_lines() {
        let begin = Event::LayerBegin {
            digest: "sha256:0123456789abcdef".to_owned(),
            size: 3 << 20,
        };
        assert_eq!(
            line(&begin).unwrap(),
            "fetching layer sha256:0123456789ab (3.0 MiB)"
        );
        assert_eq!(line(&Event::Note("x".to_owned())).unwrap(), "note: x");
        assert_eq!(
            line(&Event::Note("x\nhint: \u{1b}[2J".to_owned())).unwrap(),
            r"note: x\nhint: \u{1b}[2J"
        );
        assert_eq!(bytes(12), "12 B");
        assert_eq!(bytes(5 << 30), "5.0 GiB");
    }
}
