//! The service manager's notify socket, sd_notify(3).

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use anyhow::{Context, Result, anyhow};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::hint::Hinted;

/// How long the manager may take to work off its queue, seconds. A busy one only costs the wait.
const BARRIER: i64 = 10;

/// A connection to the manager.
pub(crate) struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    /// Connects to `$NOTIFY_SOCKET`, here `address`: a path, or `@` and an abstract name.
    pub(crate) fn connect(address: Option<&str>) -> Result<Self> {
        let address = address
            .ok_or_else(|| anyhow!("NOTIFY_SOCKET is not set"))
            .hint(
                "the container is started by its unit (systemctl start), which needs NotifyAccess=",
            )?;
        let connect = || -> std::io::Result<UnixDatagram> {
            let place = match address.strip_prefix('@') {
                Some(name) => SocketAddr::from_abstract_name(name)?,
                None => SocketAddr::from_pathname(address)?,
            };
            let socket = UnixDatagram::unbound()?;
            socket.connect_addr(&place)?;
            Ok(socket)
        };
        let socket =
            connect().with_context(|| format!("connecting to the notify socket `{address}`"))?;
        Ok(Self { socket })
    }

    /// Sends `message` and waits until the manager has taken it.
    ///
    /// The wait matters: the manager learns the sender's unit from its process id and ignores messages about, or
    /// from, processes that are gone by the time it reads them.
    pub(crate) fn tell(&self, message: &str) -> Result<()> {
        self.send(message)?;
        self.barrier().context("waiting for the service manager")
    }

    /// Sends `message`, newline-separated assignments.
    pub(crate) fn send(&self, message: &str) -> Result<()> {
        self.socket
            .send(message.as_bytes())
            .with_context(|| format!("sending `{message}` to the service manager"))?;
        Ok(())
    }

    /// sd_notify_barrier(3): the manager closes the descriptor sent when it comes to it in its queue.
    fn barrier(&self) -> Result<()> {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [theirs.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        sendmsg(
            &self.socket,
            &[IoSlice::new(b"BARRIER=1")],
            &mut control,
            SendFlags::NOSIGNAL,
        )?;
        drop(theirs);
        let timeout = Timespec {
            tv_sec: BARRIER,
            tv_nsec: 0,
        };
        poll(
            &mut [PollFd::new(&ours, PollFlags::empty())],
            Some(&timeout),
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_and_the_wait_ends_with_the_queue() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 64];
            [(); 2].map(|()| {
                let length = manager.recv(&mut buffer).unwrap();
                String::from_utf8_lossy(&buffer[..length]).into_owned()
            })
        });
        Manager::connect(path.to_str())
            .unwrap()
            .tell("MAINPID=7")
            .unwrap();
        assert_eq!(reader.join().unwrap(), ["MAINPID=7", "BARRIER=1"]);
    }

    #[test]
    fn a_start_without_a_manager_is_explained() {
        let error = Manager::connect(None).err().unwrap();
        assert_eq!(error.to_string(), "NOTIFY_SOCKET is not set");
        let error = Manager::connect(Some("/nonexistent/n")).err().unwrap();
        let expected = "connecting to the notify socket `/nonexistent/n`: No such file or directory (os error 2)";
        assert_eq!(format!("{error:#}"), expected);
    }
}
