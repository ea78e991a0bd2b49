//! What skopeo hands over through a pipe: a blob, a manifest, a config.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use containers_image_proxy::oci_spec::image::Descriptor;
use rustix::event::{PollFd, PollFlags};
use serde_json::json;

use crate::image::proxy::{Failure, Proxy};
use crate::image::turn::{Reply, TICK, Turn, wait_for};

/// What the pipe holds: skopeo and the reader take turns less often than with the usual 64 KiB.
const PIPE: usize = 1024 * 1024;

/// How long a pipe may be empty before skopeo is asked whether more will come.
const QUIET: Duration = Duration::from_secs(2);

/// A piece of data being read, in any thread; several may be read at once.
///
/// skopeo never closes a pipe before it has been asked for the outcome, also when the source broke off in the middle.
/// The answer takes as long as the transfer, and no other request is answered meanwhile. So a blob's outcome is asked
/// for at its announced end, or when nothing has come for a while: either it broke off, and the answer says so, or
/// the network is slow, and other requests wait their turn.
pub(crate) struct BlobReader {
    proxy: Arc<Proxy>,
    /// Until its end.
    pipe: Option<File>,
    pipe_id: u64,
    /// Bytes to come; what is not announced ends with the pipe.
    left: Option<u64>,
    /// Of a blob.
    digest: String,
    asked: Option<Turn<Arc<Proxy>>>,
    verdict: Option<Result<(), Failure>>,
}

impl BlobReader {
    /// The data of an answer that brought a pipe: this blob, or all that comes.
    pub(crate) fn new(
        proxy: Arc<Proxy>,
        reply: Reply,
        blob: Option<&Descriptor>,
    ) -> Result<Self, Failure> {
        let pipe: OwnedFd = reply
            .pipe
            .ok_or_else(|| Failure::speech("an answer without its data"))?;
        rustix::io::ioctl_fionbio(&pipe, true).map_err(Failure::speech)?;
        // An unprivileged user may be denied it.
        let _smaller_works_too = rustix::pipe::fcntl_setpipe_size(&pipe, PIPE);
        Ok(Self {
            proxy,
            pipe: Some(pipe.into()),
            pipe_id: reply.pipe_id,
            left: blob.map(Descriptor::size),
            digest: blob
                .map(|blob| blob.digest().to_string())
                .unwrap_or_default(),
            asked: None,
            verdict: None,
        })
    }

    /// Reads what is left and returns skopeo's verdict on size and digest.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        match io::copy(&mut self, &mut io::sink()) {
            Ok(_) => {}
            Err(error) => {
                return Err(self
                    .verdict
                    .and_then(Result::err)
                    .unwrap_or(Failure::speech(error)));
            }
        }
        if let Some(verdict) = self.verdict.take() {
            return verdict;
        }
        // A blob that is longer than announced would never be done with.
        self.pipe = None;
        let turn = match self.asked.take() {
            Some(turn) => turn,
            None => self.question(Turn::take(Arc::clone(&self.proxy))?)?,
        };
        match turn.answer() {
            // It was about to write more than was announced.
            Err(Failure::Said { text, .. }) if text.contains("broken pipe") => Err(Failure::Said {
                text: format!("corrupted blob, expecting {}", self.digest),
                transient: false,
            }),
            answer => answer.map(|_| ()),
        }
    }

    /// All of it, however long it is.
    pub(crate) fn all(mut self) -> Result<Vec<u8>, Failure> {
        self.asked = Some(self.question(Turn::take(Arc::clone(&self.proxy))?)?);
        let mut bytes = Vec::new();
        match self.read_to_end(&mut bytes) {
            Ok(_) => self.finish().map(|()| bytes),
            Err(error) => Err(self
                .verdict
                .and_then(Result::err)
                .unwrap_or(Failure::speech(error))),
        }
    }

    /// Asks for the outcome.
    fn question(&self, mut turn: Turn<Arc<Proxy>>) -> Result<Turn<Arc<Proxy>>, Failure> {
        turn.send("FinishPipe", &json!([self.pipe_id]))?;
        Ok(turn)
    }

    /// Waits for data, the end, or skopeo's answer; `silent` is how long there was nothing.
    fn wait(&mut self, silent: Duration) -> Result<bool, Failure> {
        let limit = self.proxy.limit();
        if silent >= limit {
            return Err(Failure::Silent(limit));
        }
        if (silent >= QUIET.min(limit / 2) || self.pipe.is_none())
            && self.asked.is_none()
            && self.verdict.is_none()
            && let Some(turn) = Turn::try_take(Arc::clone(&self.proxy))?
        {
            self.asked = Some(self.question(turn)?);
        }
        let mut fds = Vec::with_capacity(2);
        if let Some(turn) = &self.asked {
            fds.push(PollFd::from_borrowed_fd(turn.socket(), PollFlags::IN));
        }
        if let Some(pipe) = &self.pipe {
            fds.push(PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN));
        }
        let some = wait_for(&mut fds, TICK.min(limit / 4)).map_err(Failure::speech)?;
        let answered = self.asked.is_some() && !fds[0].revents().is_empty();
        if answered && let Some(turn) = self.asked.take() {
            self.verdict = Some(turn.receive().map(|_| ()));
        }
        Ok(some)
    }

    fn next(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        let mut silent = Duration::ZERO;
        loop {
            // What is in the pipe comes first, the verdict on it after.
            match self.pipe.as_mut().map(|pipe| pipe.read(buffer)) {
                Some(Ok(0)) => self.pipe = None,
                Some(Ok(read)) => return Ok(read),
                Some(Err(error)) if error.kind() == ErrorKind::Interrupted => continue,
                Some(Err(error)) if error.kind() != ErrorKind::WouldBlock => {
                    return Err(Failure::speech(error));
                }
                Some(Err(_)) | None => {}
            }
            match &self.verdict {
                Some(Err(failure)) => return Err(failure.clone()),
                Some(Ok(())) if self.pipe.is_none() => return Ok(0),
                _ => {}
            }
            if self.wait(silent)? {
                silent = Duration::ZERO;
            } else {
                silent += TICK.min(self.proxy.limit() / 4);
            }
        }
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = self.left.map_or(buffer.len(), |left| {
            buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX))
        });
        if wanted == 0 {
            return Ok(0);
        }
        match self.next(&mut buffer[..wanted]) {
            // Announced bytes that do not come are skopeo's to complain of.
            Ok(read) => {
                self.left = self
                    .left
                    .map(|left| if read == 0 { 0 } else { left - read as u64 });
                Ok(read)
            }
            Err(failure) => {
                let error = io::Error::other(failure.clone());
                self.verdict = Some(Err(failure));
                Err(error)
            }
        }
    }
}
