//! Layers on their way from the image's source into the store, several at once.

use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::{slice, thread};

use anyhow::{Error, Result, ensure};
use containers_image_proxy::oci_spec::image::{Descriptor, Digest};

use crate::image::remote::RemoteImage;
use crate::image::retry::with_retries;
use crate::progress::{Event, Report};
use crate::store::layer::{self, Elsewhere, Layer};
use crate::store::limits::Limits;
use crate::store::objects::{Objects, Writing};
use crate::store::queue::{Queue, with_writers};

/// How many layers are read at once: enough to keep the machine busy while one waits for the network.
const AT_ONCE: usize = 4;

/// A layer that the store does not have.
pub(crate) struct Wanted<'a> {
    pub(crate) descriptor: &'a Descriptor,
    pub(crate) diff_id: &'a Digest,
}

/// What fetching needs.
pub(crate) struct Fetch<'a> {
    pub(crate) image: &'a RemoteImage,
    /// What the layers may ask for.
    pub(crate) limits: Limits,
    pub(crate) report: &'a Report,
}

/// A layer as errors name it.
pub(crate) fn label(descriptor: &Descriptor) -> String {
    format!("layer {}", descriptor.digest())
}

impl Fetch<'_> {
    /// Fetches the layers and hands each to `complete` when all of its files are written. The first failure ends it.
    pub(crate) fn all<'a>(
        &self,
        objects: &Objects,
        wanted: &[Wanted<'a>],
        mut complete: impl FnMut(&Wanted<'a>, Layer) -> Result<()>,
    ) -> Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        let writers = thread::available_parallelism().map_or(2, usize::from);
        let stopped = AtomicBool::new(false);
        let waiting = Mutex::new(wanted.iter());
        let (done, read) = channel();
        with_writers(objects, writers, |queue| {
            thread::scope(|scope| {
                for _ in 0..AT_ONCE.min(wanted.len()) {
                    let (done, waiting, stopped) = (done.clone(), &waiting, &stopped);
                    scope.spawn(move || {
                        while let Some(layer) = next(waiting, stopped) {
                            let read = self.until_it_is_read(queue, layer, stopped);
                            let _nobody_waits = done.send((layer, read));
                        }
                    });
                }
                drop(done);
                let mut failed = None;
                for (layer, read) in read {
                    let completed = read.and_then(|read| complete(layer, read));
                    if let Err(error) = completed
                        && failed.as_ref().is_none_or(|known| explains(&error, known))
                    {
                        stopped.store(true, Ordering::Relaxed);
                        // Nobody waits for a network that has nothing to say.
                        self.image.end();
                        failed = Some(error.context(label(layer.descriptor)));
                    }
                }
                failed.map_or(Ok(()), Err)
            })
        })
    }

    /// Reads a layer, again if the network spoils it, unless another one has failed.
    fn until_it_is_read(
        &self,
        queue: &Queue,
        layer: &Wanted,
        stopped: &AtomicBool,
    ) -> Result<Layer> {
        with_retries(self.report, &label(layer.descriptor), |_| {
            let go_on = || {
                let stop = stopped.load(Ordering::Relaxed);
                ensure!(!stop, "another layer failed");
                Ok(())
            };
            // Also after the pause before another attempt: no skopeo is started for nothing.
            go_on()?;
            match self.one(queue, layer, stopped) {
                Err(error) if error.is::<Writing>() => Err(error),
                read => go_on().and(read),
            }
        })
    }

    fn one(&self, queue: &Queue, layer: &Wanted, stopped: &AtomicBool) -> Result<Layer> {
        let digest = layer.descriptor.digest().to_string();
        self.report.event(Event::LayerBegin {
            digest: digest.clone(),
            size: layer.descriptor.size(),
        });
        let mut blob = self.image.blob(layer.descriptor)?;
        let counted = Counted {
            blob: &mut blob,
            digest: &digest,
            report: self.report,
            stopped,
        };
        let read = layer::read(queue, counted, layer.diff_id, &self.limits);
        match read {
            Err(error) if error.is::<Writing>() || error.is::<Elsewhere>() => Err(error),
            // Bytes that make no sense are most often not the layer's bytes: skopeo's verdict on them comes first.
            read => blob.finish().map_err(Error::from).and(read),
        }
    }
}

/// Whether an error is the reason of one that came before.
fn explains(error: &Error, known: &Error) -> bool {
    known.is::<Elsewhere>() && error.is::<Writing>()
}

/// The next layer to be read.
fn next<'w, 'a>(
    waiting: &Mutex<slice::Iter<'w, Wanted<'a>>>,
    stopped: &AtomicBool,
) -> Option<&'w Wanted<'a>> {
    if stopped.load(Ordering::Relaxed) {
        return None;
    }
    let mut waiting = waiting.lock().ok()?;
    waiting.next()
}

/// Reports how much of a blob has been read, and ends when there is no more use in reading.
struct Counted<'a, R> {
    blob: R,
    digest: &'a str,
    report: &'a Report,
    stopped: &'a AtomicBool,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(io::Error::other("another layer failed"));
        }
        let read = self.blob.read(buffer)?;
        if read > 0 {
            self.report.event(Event::LayerBytes {
                digest: self.digest.to_owned(),
                bytes: read as u64,
            });
        }
        Ok(read)
    }
}
