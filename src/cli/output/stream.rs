//! Progress for programs, `--progress-fd`: a line of JSON for each event, on a descriptor that the caller opened.
//!
//! A thread writes the lines, so that a reader who is slow, or gone, never holds up the work. Steps and notes wait for
//! it; counts of bytes do not: what it is given next is how many they are by then.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{OwnedFd, RawFd};
use std::str::FromStr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::error::Failure;
use crate::progress::Event;

/// How often the bytes of one thing are told at most.
const TICK: Duration = Duration::from_millis(100);

/// How long a reader is waited for at the end, counted from the last line that it took; twice over, since a machine
/// that was frozen finds every time passed.
const PATIENCE: Duration = Duration::from_secs(1);

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum Line {
    /// A step began.
    Step {
        /// What is being done, for people, such as `starting etcd.service`.
        text: String,
    },
    /// Something the operator should know that is no error.
    Note {
        /// For people.
        text: String,
    },
    /// A layer is about to be fetched; again, if it has to be fetched once more from its beginning.
    LayerBegin {
        /// The layer's blob digest.
        digest: String,
        /// Compressed bytes.
        size: u64,
    },
    /// A part of the layer was read.
    LayerBytes {
        /// The layer's blob digest.
        digest: String,
        /// Compressed bytes so far.
        bytes: u64,
        /// Compressed bytes in all.
        size: u64,
    },
    /// The layer is in the store.
    LayerDone {
        /// The layer's blob digest.
        digest: String,
    },
    /// Files are about to be hashed.
    CheckBegin {
        /// Their bytes.
        size: u64,
    },
    /// A part of them was hashed.
    CheckBytes {
        /// Bytes so far.
        bytes: u64,
        /// Bytes in all.
        size: u64,
    },
    /// All of them were hashed.
    CheckDone,
    /// The command is done; nothing follows.
    Done,
    /// The command failed; nothing follows.
    Failed(Failure),
}

/// The descriptor of `--progress-fd`.
#[derive(Debug, Clone)]
pub(crate) struct Descriptor(Arc<File>);

impl FromStr for Descriptor {
    type Err = String;

    /// Takes the descriptor of that number: to be called before this process opens any of its own.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = match text.parse::<RawFd>() {
            Ok(number) if number > 2 => number,
            _ => return Err("give the number of a descriptor above 2".to_owned()),
        };
        let fd = duplicate(number).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!("descriptor {number} is not open"),
            _ => format!("descriptor {number}: {error}"),
        })?;
        let flags = rustix::fs::fcntl_getfl(&fd).map_err(|error| error.to_string())?;
        if flags & OFlags::ACCMODE == OFlags::RDONLY {
            return Err(format!("descriptor {number} is not open for writing"));
        }
        Ok(Self(Arc::new(File::from(fd))))
    }
}

/// A descriptor of our own for what is open at that number, without believing that it is open. Where pidfd_getfd(2) is
/// not allowed, as in some containers, all but sockets can be opened once more.
fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{number}");
    rustix::fs::readlinkat(CWD, &path, Vec::new())?;
    let got = pidfd_open(getpid(), PidfdFlags::empty())
        .and_then(|own| pidfd_getfd(own, number, PidfdGetfdFlags::empty()));
    let again = OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC;
    got.or_else(|_| rustix::fs::open(path, again, Mode::empty()))
        .map_err(Into::into)
}

/// What goes to the descriptor. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Stream(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Line>,
    /// By digest; that of a check has none.
    counts: BTreeMap<String, Count>,
    /// Lines that were written.
    written: u64,
    /// No more comes.
    closed: bool,
    /// Nothing is written any more.
    ended: bool,
}

#[derive(Debug, Default)]
struct Count {
    size: u64,
    bytes: u64,
    /// How many of them were told.
    told: u64,
}

impl Stream {
    /// Starts the thread that writes.
    pub(crate) fn start(descriptor: &Descriptor) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (thread, Descriptor(file)) = (shared.clone(), descriptor.clone());
        std::thread::Builder::new()
            .name("progress".to_owned())
            .spawn(move || {
                if let Err(error) = thread.write(&file) {
                    // The reader is gone: the work goes on.
                    tracing::debug!("writing progress: {error}");
                }
                let mut queue = thread.lock();
                queue.ended = true;
                queue.lines.clear();
                thread.changed.notify_all();
            })?;
        Ok(Self(shared))
    }

    /// Hands an event on; never waits.
    pub(crate) fn event(&self, event: &Event) {
        let mut queue = self.0.lock();
        if !queue.ended {
            queue.event(event);
            self.0.changed.notify_all();
        }
    }

    /// Tells how the command ended, and waits until all is written, as long as the reader takes lines.
    pub(crate) fn finish(&self, failure: Option<&Failure>) {
        let mut queue = self.0.lock();
        queue.tell_counts();
        queue.counts.clear();
        let end = failure.map_or(Line::Done, |failure| Line::Failed(failure.clone()));
        if !queue.ended {
            queue.lines.push_back(end);
        }
        queue.closed = true;
        self.0.changed.notify_all();
        let (mut written, mut missed) = (queue.written, 0);
        while !queue.ended && missed < 2 {
            let waited = self.0.changed.wait_timeout(queue, PATIENCE);
            let (found, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            queue = found;
            if queue.written != written {
                (written, missed) = (queue.written, 0);
            } else if timeout.timed_out() {
                missed += 1;
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what comes, until no more does.
    fn write(&self, mut file: &File) -> io::Result<()> {
        let mut due = Instant::now();
        let mut queue = self.lock();
        loop {
            if let Some(line) = queue.lines.pop_front() {
                drop(queue);
                let mut text = serde_json::to_vec(&line)?;
                text.push(b'\n');
                file.write_all(&text)?;
                queue = self.lock();
                queue.written += 1;
                self.changed.notify_all();
                continue;
            }
            let now = Instant::now();
            let untold = queue.counts.values().any(Count::is_untold);
            if untold && (now >= due || queue.closed) {
                due = now + TICK;
                queue.tell_counts();
            } else if untold {
                let waited = self.changed.wait_timeout(queue, due - now);
                queue = waited.unwrap_or_else(PoisonError::into_inner).0;
            } else if queue.closed {
                return Ok(());
            } else {
                let waited = self.changed.wait(queue);
                queue = waited.unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

impl Queue {
    fn event(&mut self, event: &Event) {
        let line = match event.clone() {
            Event::Step(text) => Line::Step { text },
            Event::Note(text) => Line::Note { text },
            Event::LayerBegin { digest, size } => {
                self.begin(&digest, size);
                Line::LayerBegin { digest, size }
            }
            Event::CheckBegin { bytes: size } => {
                self.begin("", size);
                Line::CheckBegin { size }
            }
            Event::LayerBytes { digest, bytes } => return self.count(&digest, bytes),
            Event::CheckBytes { bytes } => return self.count("", bytes),
            Event::LayerDone { digest } => {
                self.end(&digest);
                Line::LayerDone { digest }
            }
            Event::CheckDone => {
                self.end("");
                Line::CheckDone
            }
        };
        self.lines.push_back(line);
    }

    fn begin(&mut self, of: &str, size: u64) {
        let count = Count {
            size,
            ..Count::default()
        };
        self.counts.insert(of.to_owned(), count);
    }

    fn count(&mut self, of: &str, bytes: u64) {
        if let Some(count) = self.counts.get_mut(of) {
            count.bytes += bytes;
        }
    }

    /// The last count comes before the end.
    fn end(&mut self, of: &str) {
        if let Some(mut count) = self.counts.remove(of)
            && count.is_untold()
        {
            self.lines.push_back(count.tell(of));
        }
    }

    fn tell_counts(&mut self) {
        for (of, count) in &mut self.counts {
            if count.is_untold() {
                self.lines.push_back(count.tell(of));
            }
        }
    }
}

impl Count {
    fn is_untold(&self) -> bool {
        self.bytes > self.told
    }

    fn tell(&mut self, of: &str) -> Line {
        self.told = self.bytes;
        let (bytes, size) = (self.bytes, self.size);
        if of.is_empty() {
            return Line::CheckBytes { bytes, size };
        }
        Line::LayerBytes {
            digest: of.to_owned(),
            bytes,
            size,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsRawFd;

    use super::*;

    fn stream(fd: &impl AsRawFd) -> Stream {
        let descriptor: Descriptor = fd.as_raw_fd().to_string().parse().unwrap();
        Stream::start(&descriptor).unwrap()
    }

    #[test]
    fn events_are_lines() {
        let (mut reader, writer) = io::pipe().unwrap();
        let stream = stream(&writer);
        drop(writer);
        let digest = || "sha256:0".to_owned();
        let size = 5;
        for event in [
            Event::Step("starting etcd.service".to_owned()),
            Event::LayerBegin {
                digest: digest(),
                size,
            },
            Event::LayerBytes {
                digest: digest(),
                bytes: 2,
            },
            Event::LayerBytes {
                digest: digest(),
                bytes: 3,
            },
            Event::LayerDone { digest: digest() },
            Event::CheckBegin { bytes: 7 },
            Event::CheckBytes { bytes: 7 },
            Event::CheckDone,
            Event::Note("late".to_owned()),
        ] {
            stream.event(&event);
        }
        let failure = Failure {
            error: "a: b".to_owned(),
            causes: vec!["a".to_owned(), "b".to_owned()],
            hints: Vec::new(),
            exit: 1,
        };
        stream.finish(Some(&failure));
        drop(stream);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        // How the bytes are parted is a matter of time.
        let lines: Vec<_> = text
            .lines()
            .filter(|line| !line.contains("\"bytes\":2,"))
            .collect();
        assert_eq!(
            lines,
            [
                r#"{"event":"step","text":"starting etcd.service"}"#,
                r#"{"event":"layer-begin","digest":"sha256:0","size":5}"#,
                r#"{"event":"layer-bytes","digest":"sha256:0","bytes":5,"size":5}"#,
                r#"{"event":"layer-done","digest":"sha256:0"}"#,
                r#"{"event":"check-begin","size":7}"#,
                r#"{"event":"check-bytes","bytes":7,"size":7}"#,
                r#"{"event":"check-done"}"#,
                r#"{"event":"note","text":"late"}"#,
                r#"{"event":"failed","error":"a: b","causes":["a","b"],"hints":[],"exit":1}"#,
            ]
        );
    }

    /// More than a pipe holds, and nobody reads; or nobody is there.
    #[test]
    fn a_reader_who_does_not_read_holds_up_nothing() {
        let (reader, writer) = io::pipe().unwrap();
        let stuck = stream(&writer);
        let (gone, other) = io::pipe().unwrap();
        drop(gone);
        let lost = stream(&other);
        for stream in [&stuck, &lost] {
            for _ in 0..100 {
                stream.event(&Event::Note("x".repeat(4000)));
            }
            stream.finish(None);
        }
        let minute = Duration::from_mins(1);
        let queue = lost.0.lock();
        let waited = lost
            .0
            .changed
            .wait_timeout_while(queue, minute, |queue| !queue.ended);
        assert!(!waited.unwrap().1.timed_out());
        assert!(!stuck.0.lock().ended);
        drop(reader);
    }

    #[test]
    fn a_descriptor_must_be_there() {
        let (reader, writer) = io::pipe().unwrap();
        let number = reader.as_raw_fd();
        let wrong = |text: &str| text.parse::<Descriptor>().unwrap_err();
        for text in ["1", "-1", "x", ""] {
            assert_eq!(wrong(text), "give the number of a descriptor above 2");
        }
        let not_for_writing = format!("descriptor {number} is not open for writing");
        assert_eq!(wrong(&number.to_string()), not_for_writing);
        assert_eq!(wrong("9999"), "descriptor 9999 is not open");
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        for open in [writer.as_raw_fd(), socket.as_raw_fd()] {
            open.to_string().parse::<Descriptor>().unwrap();
        }
    }
}
