//! What happens while a verb runs, never how it looks: domain code emits events, the command line draws them.

use std::sync::Arc;

/// Something worth telling while a verb runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A step began; the text is a gerund and its object, such as "starting etcd.service".
    Step(String),
    /// A layer is about to be fetched. `size` is the compressed size in bytes.
    LayerBegin {
        /// The layer's blob digest.
        digest: String,
        /// Compressed bytes that the manifest announces.
        size: u64,
    },
    /// So many more compressed bytes of the layer were read.
    LayerBytes {
        /// The layer's blob digest.
        digest: String,
        /// Bytes since the last such event.
        bytes: u64,
    },
    /// The layer is in the store.
    LayerDone {
        /// The layer's blob digest.
        digest: String,
    },
    /// Files are about to be hashed.
    CheckBegin {
        /// How many bytes they have.
        bytes: u64,
    },
    /// So many more of these bytes were hashed.
    CheckBytes {
        /// Bytes since the last such event.
        bytes: u64,
    },
    /// All of them were hashed.
    CheckDone,
    /// Something the operator should know that is no error.
    Note(String),
}

/// Where events go. Cheap to clone.
#[derive(Clone)]
pub struct Report(Arc<dyn Fn(Event) + Send + Sync>);

impl Report {
    /// A report that hands every event to `sink`.
    pub fn new(sink: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sink))
    }

    /// A report that drops everything.
    pub fn silent() -> Self {
        Self::new(|_| {})
    }

    /// Emits one event.
    pub fn event(&self, event: Event) {
        (self.0)(event);
    }

    /// Emits [`Event::Step`].
    pub fn step(&self, text: impl Into<String>) {
        self.event(Event::Step(text.into()));
    }

    /// Emits [`Event::Note`].
    pub fn note(&self, text: impl Into<String>) {
        self.event(Event::Note(text.into()));
    }
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Report")
    }
}
