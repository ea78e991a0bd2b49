//! One request to skopeo and its answer.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendFlags, recvmsg,
    sendmsg,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::image::proxy::{Failure, Line, Proxy};

/// The largest message that either side sends.
const MAX_MESSAGE: usize = 32 * 1024;

/// One unit of waiting. Waits are counted, not measured: a machine that was frozen in between has waited one.
pub(crate) const TICK: Duration = Duration::from_secs(1);

/// What skopeo answers.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) value: Value,
    pub(crate) pipe: Option<OwnedFd>,
    pub(crate) pipe_id: u64,
}

#[derive(Deserialize)]
struct Message {
    success: bool,
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_code: String,
    #[serde(default)]
    pipeid: u64,
    #[serde(default)]
    value: Value,
}

/// The right to the next request, until its answer is there. Dropped in between it ends skopeo: the answer would
/// be taken for another's.
pub(crate) struct Turn<P: AsRef<Proxy>> {
    proxy: P,
    waiting: bool,
}

impl<P: AsRef<Proxy>> Turn<P> {
    /// Waits for it.
    pub(crate) fn take(proxy: P) -> Result<Self, Failure> {
        let owner = proxy.as_ref();
        let mut line = owner.line();
        while line.busy && !line.dead {
            line = owner
                .changed
                .wait(line)
                .unwrap_or_else(PoisonError::into_inner);
        }
        Self::begin(line, &proxy)?;
        Ok(Self {
            proxy,
            waiting: false,
        })
    }

    /// Takes it if nobody has it.
    pub(crate) fn try_take(proxy: P) -> Result<Option<Self>, Failure> {
        let line = proxy.as_ref().line();
        if line.busy && !line.dead {
            return Ok(None);
        }
        Self::begin(line, &proxy)?;
        Ok(Some(Self {
            proxy,
            waiting: false,
        }))
    }

    fn begin(mut line: MutexGuard<'_, Line>, proxy: &P) -> Result<(), Failure> {
        if line.dead {
            drop(line);
            return Err(proxy.as_ref().ended());
        }
        line.busy = true;
        Ok(())
    }

    /// Sends a request.
    pub(crate) fn send(&mut self, method: &str, args: &Value) -> Result<(), Failure> {
        let proxy = self.proxy.as_ref();
        tracing::debug!(method, %args, "asking skopeo");
        let request = json!({ "method": method, "args": args }).to_string();
        let sent = rustix::io::retry_on_intr(|| {
            sendmsg(
                &proxy.socket,
                &[IoSlice::new(request.as_bytes())],
                &mut SendAncillaryBuffer::default(),
                SendFlags::NOSIGNAL,
            )
        });
        sent.map_err(|_| proxy.ended())?;
        self.waiting = true;
        Ok(())
    }

    /// What becomes readable with the answer.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.proxy.as_ref().socket.as_fd()
    }

    /// Receives the answer, which is there or will be.
    pub(crate) fn receive(mut self) -> Result<Reply, Failure> {
        let proxy = self.proxy.as_ref();
        let mut buffer = vec![0; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::io::retry_on_intr(|| {
            recvmsg(
                &proxy.socket,
                &mut [IoSliceMut::new(&mut buffer)],
                &mut ancillary,
                RecvFlags::CMSG_CLOEXEC,
            )
        });
        let length = received.map_or(0, |received| received.bytes);
        if length == 0 {
            return Err(proxy.ended());
        }
        self.waiting = false;
        let pipe = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        let message: Message =
            serde_json::from_slice(&buffer[..length]).map_err(Failure::speech)?;
        if !message.success {
            return Err(Failure::Said {
                text: message.error.trim().to_owned(),
                transient: message.error_code == "retryable",
            });
        }
        Ok(Reply {
            value: message.value,
            pipe,
            pipe_id: message.pipeid,
        })
    }

    /// Asks and waits for the answer.
    pub(crate) fn ask(mut self, method: &str, args: &Value) -> Result<Reply, Failure> {
        self.send(method, args)?;
        self.answer()
    }

    /// Waits for the answer.
    pub(crate) fn answer(self) -> Result<Reply, Failure> {
        let limit = self.proxy.as_ref().limit();
        let mut waited = Duration::ZERO;
        while !ready(self.socket(), TICK.min(limit)).map_err(Failure::speech)? {
            waited += TICK.min(limit);
            if waited >= limit {
                return Err(Failure::Silent(limit));
            }
        }
        self.receive()
    }
}

impl<P: AsRef<Proxy>> Drop for Turn<P> {
    fn drop(&mut self) {
        let proxy = self.proxy.as_ref();
        if self.waiting {
            proxy.kill();
        }
        proxy.line().busy = false;
        proxy.changed.notify_all();
    }
}

/// Waits until `fd` is readable or at its end; false when the time is over or a signal came.
pub(crate) fn ready(fd: impl AsFd, time: Duration) -> io::Result<bool> {
    let fd = fd.as_fd();
    wait_for(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], time)
}

/// Waits until one of these is ready; false when the time is over or a signal came.
pub(crate) fn wait_for(fds: &mut [PollFd<'_>], time: Duration) -> io::Result<bool> {
    let timeout = Timespec::try_from(time).map_err(io::Error::other)?;
    match poll(fds, Some(&timeout)) {
        Ok(count) => Ok(count > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
