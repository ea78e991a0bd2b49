//! Files on their way from the layers that are being read to the threads that write them.
//!
//! The files that wait have a bounded number of bytes in all. A large file is never held whole: it comes through a
//! channel of its own, from the layer that is reading it to the one writer that took it, so that no layer ever waits
//! for another layer's reader.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::Result;

use crate::store::object::{Meta, Sum};
use crate::store::objects::Objects;

/// How many bytes may wait to be written.
const WAITING: usize = 16 * 1024 * 1024;

/// What a file that waits costs beside its content: an empty one is not free.
const OVERHEAD: usize = 256;

/// Files of a layer that go to a writer together, up to this size: a small file takes about as long to write as to hand
/// over by itself.
const TOGETHER: usize = 64 * 1024;

/// The content of a file to be written.
pub(crate) enum Content {
    /// All of it.
    Whole(Vec<u8>),
    /// So many bytes, in pieces.
    Pieces(u64, Receiver<Piece>),
}

/// A piece of a large file, whose room goes back to who filled it.
pub(crate) struct Piece {
    pub(crate) room: Vec<u8>,
    /// How much of it is filled.
    pub(crate) length: usize,
    pub(crate) back: Sender<Vec<u8>>,
}

/// A file to be written.
pub(crate) struct Job {
    pub(crate) meta: Meta,
    pub(crate) content: Content,
    /// Which of its layer's entries it is.
    pub(crate) place: usize,
}

/// The checksums of a layer's files, by their places.
pub(crate) type Written = Vec<(usize, Result<Sum>)>;

/// Files of a layer that one writer writes, one after the other.
pub(crate) struct Batch {
    jobs: Vec<Job>,
    cost: usize,
    /// Where their checksums go; none goes there of a file whose pieces ended too soon.
    done: Sender<Written>,
}

/// The files that wait.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    /// A file waits, or none ever will.
    work: Condvar,
    /// A file has been written, or one could not be.
    room: Condvar,
}

#[derive(Default)]
struct State {
    batches: VecDeque<Batch>,
    bytes: usize,
    /// How many wait for a file: nobody is called when nobody waits, which costs a system call.
    idle: usize,
    /// How many wait for room.
    crowded: usize,
    closed: bool,
    failed: bool,
}

/// Does work that puts files into a queue while so many threads write them; all are written when it returns.
pub(crate) fn with_writers<T>(
    objects: &Objects,
    threads: usize,
    work: impl FnOnce(&Queue) -> T,
) -> T {
    /// The writers end also when the work panics.
    struct Closing<'a>(&'a Queue);
    impl Drop for Closing<'_> {
        fn drop(&mut self) {
            self.0.lock().closed = true;
            self.0.work.notify_all();
        }
    }
    let queue = Queue::default();
    thread::scope(|scope| {
        let closing = Closing(&queue);
        for _ in 0..threads {
            scope.spawn(|| queue.write_to(objects));
        }
        work(closing.0)
    })
}

impl Queue {
    /// Adds files, when there is room; `false` once a file could not be written.
    pub(crate) fn put(&self, batch: Batch) -> bool {
        let cost = batch.cost;
        let mut state = self.lock();
        // One batch is always let in: none may be larger than the room.
        while state.bytes > 0 && state.bytes + cost > WAITING && !state.failed {
            state.crowded += 1;
            state = wait(&self.room, state);
            state.crowded -= 1;
        }
        if state.failed {
            return false;
        }
        state.bytes += cost;
        state.batches.push_back(batch);
        let is_awaited = state.idle > 0;
        drop(state);
        if is_awaited {
            self.work.notify_one();
        }
        true
    }

    /// Writes files until the queue is closed and empty.
    fn write_to(&self, objects: &Objects) {
        while let Some(batch) = self.take() {
            let cost = batch.cost;
            let failed = batch.write(objects);
            let mut state = self.lock();
            state.bytes -= cost;
            state.failed |= failed;
            let is_awaited = state.crowded > 0;
            drop(state);
            if is_awaited {
                self.room.notify_all();
            }
        }
    }

    fn take(&self) -> Option<Batch> {
        let mut state = self.lock();
        loop {
            if let Some(batch) = state.batches.pop_front() {
                return Some(batch);
            }
            if state.closed {
                return None;
            }
            state.idle += 1;
            state = wait(&self.work, state);
            state.idle -= 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wait<'a>(on: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
    on.wait(state).unwrap_or_else(PoisonError::into_inner)
}

impl Batch {
    /// None yet.
    pub(crate) fn new(done: Sender<Written>) -> Self {
        Self {
            jobs: Vec::new(),
            cost: 0,
            done,
        }
    }

    /// Adds a file; whether they are to be written now, for no more may come before these.
    pub(crate) fn add(&mut self, job: Job) -> bool {
        let is_in_pieces = matches!(job.content, Content::Pieces(..));
        self.cost += job.cost();
        self.jobs.push(job);
        is_in_pieces || self.cost > TOGETHER
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// What has been added; none is left.
    pub(crate) fn take(&mut self) -> Self {
        let empty = Self::new(self.done.clone());
        std::mem::replace(self, empty)
    }

    /// Writes the files and says so; whether one failed.
    fn write(self, objects: &Objects) -> bool {
        let jobs = self.jobs.into_iter();
        let written: Written = jobs.filter_map(|job| job.write(objects)).collect();
        let failed = written.iter().any(|(_, written)| written.is_err());
        // A layer that has failed already does not listen any more.
        let _ = self.done.send(written);
        failed
    }
}

impl Job {
    fn cost(&self) -> usize {
        match &self.content {
            Content::Whole(bytes) => bytes.len() + OVERHEAD,
            // Its pieces are bounded by their channel.
            Content::Pieces(..) => OVERHEAD,
        }
    }

    /// Writes the file; `None` when its pieces ended too soon.
    fn write(self, objects: &Objects) -> Option<(usize, Result<Sum>)> {
        let written = match self.content {
            Content::Whole(bytes) => objects.write(&self.meta, &bytes),
            Content::Pieces(size, pieces) => {
                objects.write_pieces(&self.meta, size, pieces).transpose()?
            }
        };
        Some((self.place, written))
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.room[..self.length]
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let _nobody_needs_it = self.back.send(std::mem::take(&mut self.room));
    }
}
