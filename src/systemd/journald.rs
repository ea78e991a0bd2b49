//! Entries of the system journal, by journald's native protocol: a datagram with a field a line.

use std::fmt::Display;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// How long a journald that does not read is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// An entry in the making.
#[derive(Debug, Default)]
pub struct Entry(Vec<u8>);

impl Entry {
    /// Adds a field. Names are upper case, as systemd.journal-fields(7) has them.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl Display) -> Self {
        let value = value.to_string();
        self.0.extend_from_slice(name.as_bytes());
        // What has several lines is given by its length.
        if value.contains('\n') {
            self.0.push(b'\n');
            self.0
                .extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            self.0.push(b'=');
        }
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'\n');
        self
    }

    /// Hands the entry to the journal of the running host. A host without journald has none: no error.
    pub fn send(&self) {
        if let Err(error) = self.send_to(Path::new(SOCKET)) {
            // What was done stays done, told of or not.
            tracing::debug!("{error:#}");
        }
    }

    fn send_to(&self, path: &Path) -> Result<()> {
        let writing = || format!("writing to the journal at `{}`", path.display());
        let socket = UnixDatagram::unbound().with_context(writing)?;
        socket
            .set_write_timeout(Some(PATIENCE))
            .with_context(writing)?;
        socket.send_to(&self.0, path).with_context(writing)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_datagram() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let entry = Entry::default()
            .field("MESSAGE", "two\nlines")
            .field("GENERATION", 1);
        assert!(entry.send_to(&path).is_err());
        let journald = UnixDatagram::bind(&path).unwrap();
        journald.set_read_timeout(Some(PATIENCE)).unwrap();
        entry.send_to(&path).unwrap();
        let mut read = [0; 256];
        let length = journald.recv(&mut read).unwrap();
        assert_eq!(
            &read[..length],
            b"MESSAGE\n\x09\0\0\0\0\0\0\0two\nlines\nGENERATION=1\n"
        );
    }
}
