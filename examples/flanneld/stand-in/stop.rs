//! SIGTERM and SIGINT as something that can be waited for.

use std::io::{ErrorKind, Read as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, Result};
use signal_hook::consts::{SIGINT, SIGTERM};

/// The wish to stop.
pub(crate) struct Stop {
    wakes: UnixStream,
}

impl Stop {
    /// Takes the signals over. Also as PID 1, which the kernel spares signals without a handler.
    ///
    /// # Errors
    /// The kernel has no more file descriptors.
    pub(crate) fn listen() -> Result<Self> {
        let (wakes, sender) = UnixStream::pair().context("listening for signals")?;
        for signal in [SIGTERM, SIGINT] {
            let sender = sender.try_clone().context("listening for signals")?;
            signal_hook::low_level::pipe::register(signal, sender)
                .context("listening for signals")?;
        }
        Ok(Self { wakes })
    }

    /// Waits so long; says whether to stop.
    pub(crate) fn within(&self, time: Duration) -> bool {
        if self.wakes.set_read_timeout(Some(time)).is_err() {
            return true;
        }
        let mut byte = [0];
        loop {
            match (&self.wakes).read(&mut byte) {
                // The signal itself interrupts the wait for what its handler writes.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                }
                Ok(_) => return true,
            }
        }
    }
}
