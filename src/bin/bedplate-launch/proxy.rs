//! The launcher's own notify socket, for payloads that must not hold systemd's.
//!
//! A process with host uid 0 that reaches the real socket can name any process of the host as its main process,
//! and systemd would kill that one at stop. Such a payload gets a socket that ends here: [`FORWARDED`] passes,
//! nothing else does, and once the payload is ready the launcher and the socket are gone.
#![expect(
    clippy::disallowed_methods,
    reason = "the launcher is a program of its own, without the library's root handle"
)]

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, lchown};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::config::Owner;
use crate::manager::Manager;

/// Whether the value of an assignment may pass.
type Valid = fn(&str) -> bool;

/// What passes: an assignment's name, and what its value must be like.
const FORWARDED: &[(&str, Valid)] = &[
    ("READY", |value| value == "1"),
    ("STATUS", |value| !value.chars().any(char::is_control)),
    ("EXTEND_TIMEOUT_USEC", |value| {
        !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit())
    }),
];

/// systemd's own limit for a datagram (`PIPE_BUF`); what is longer it ignores, and so do we.
const LONGEST: usize = 4096;

/// A socket that listens.
pub(crate) struct Proxy {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Proxy {
    /// Listens at `path` for `owner`, and root, alone.
    pub(crate) fn listen(path: PathBuf, owner: Owner) -> Result<Self> {
        let listen = || -> std::io::Result<UnixDatagram> {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let socket = UnixDatagram::bind(&path)?;
            fs::set_permissions(&path, Permissions::from_mode(0o600))?;
            lchown(&path, Some(owner.uid), Some(owner.gid))?;
            Ok(socket)
        };
        let socket = listen().with_context(|| format!("listening at `{}`", path.display()))?;
        Ok(Self { socket, path })
    }

    /// Where it listens.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Forwards until the payload is ready or gone. `payload` is its pidfd.
    pub(crate) fn forward(self, payload: &OwnedFd, manager: &Manager) -> Result<()> {
        // One byte more shows what was cut off. Descriptors that come along are closed by the kernel, as no room
        // is made for them.
        let mut buffer = [0; LONGEST + 1];
        let mut ready = false;
        while !ready {
            let (message, gone) = self.wait(payload)?;
            if message {
                let length = self
                    .socket
                    .recv(&mut buffer)
                    .context("reading the payload's notify socket")?;
                let lines = filter(&buffer[..length]);
                ready = lines.contains(&"READY=1");
                if !lines.is_empty() {
                    manager.tell(&lines.join("\n"))?;
                }
            } else if gone {
                break;
            }
        }
        // It may be gone already, with the unit's RuntimeDirectory.
        let _ = fs::remove_file(&self.path);
        Ok(())
    }

    /// Waits for a message or the payload's end.
    fn wait(&self, payload: &OwnedFd) -> Result<(bool, bool)> {
        let mut waiting = [
            PollFd::new(&self.socket, PollFlags::IN),
            PollFd::new(payload, PollFlags::IN),
        ];
        while let Err(error) = poll(&mut waiting, None) {
            if error != Errno::INTR {
                return Err(error).context("waiting for the payload");
            }
        }
        Ok((
            !waiting[0].revents().is_empty(),
            !waiting[1].revents().is_empty(),
        ))
    }
}

/// The lines of `datagram` that pass.
fn filter(datagram: &[u8]) -> Vec<&str> {
    if datagram.len() > LONGEST {
        return Vec::new();
    }
    let lines = datagram
        .split(|byte| *byte == b'\n')
        .filter_map(|line| str::from_utf8(line).ok());
    lines
        .filter(|line| line.split_once('=').is_some_and(passes))
        .collect()
}

/// Whether an assignment passes.
fn passes((name, value): (&str, &str)) -> bool {
    FORWARDED
        .iter()
        .any(|(known, valid)| *known == name && valid(value))
}

#[cfg(test)]
mod tests {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;

    #[test]
    fn three_assignments_pass_and_nothing_else() {
        let long = format!("READY=1\nSTATUS={}", "x".repeat(LONGEST));
        let cases: &[(&str, &[&str])] = &[
            ("READY=1", &["READY=1"]),
            ("STATUS=up\nREADY=1", &["STATUS=up", "READY=1"]),
            (
                "MAINPID=1\nREADY=1\nFDSTORE=1\nERRNO=2\nBUSERROR=x\nEXTEND_TIMEOUT_USEC=90",
                &["READY=1", "EXTEND_TIMEOUT_USEC=90"],
            ),
            ("MAINPID=1", &[]),
            ("STATUS=a=b MAINPID=1\n", &["STATUS=a=b MAINPID=1"]),
            ("STATUS=a\0MAINPID=1", &[]),
            ("STATUS=a\rMAINPID=1", &[]),
            (" MAINPID=1\n READY=1\nREADY=0\nREADY=11\nready=1", &[]),
            ("EXTEND_TIMEOUT_USEC=\nEXTEND_TIMEOUT_USEC=1s", &[]),
            (
                "WATCHDOG=1\nWATCHDOG_USEC=0\nSTOPPING=1\nRELOADING=1\nMAINPIDFD=1\nBARRIER=1\nNOTIFYACCESS=all",
                &[],
            ),
            ("\n\n", &[]),
            ("", &[]),
            (&long, &[]),
        ];
        for (datagram, lines) in cases {
            assert_eq!(filter(datagram.as_bytes()), *lines, "{datagram:?}");
        }
        assert_eq!(filter(b"STATUS=\xff\nREADY=1"), ["READY=1"]);
    }

    #[test]
    fn it_forwards_until_ready_and_ends_with_the_payload() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name| directory.path().join(name);
        let owner = Owner {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        };
        let host = UnixDatagram::bind(path("manager")).unwrap();
        // The manager reads, so that barriers end.
        let reader = std::thread::spawn(move || {
            let mut seen = Vec::new();
            let mut buffer = [0; 64];
            while !seen.ends_with(&["STATUS=b\nREADY=1".to_owned(), "BARRIER=1".to_owned()]) {
                let length = host.recv(&mut buffer).unwrap();
                seen.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
            }
            seen.retain(|message| message != "BARRIER=1");
            seen
        });
        let manager = Manager::connect(path("manager").to_str()).unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let proxy = Proxy::listen(path("proxy"), owner).unwrap();
        assert_eq!(
            path("proxy").metadata().unwrap().permissions().mode() & 0o777,
            0o600
        );
        let client = UnixDatagram::unbound().unwrap();
        for message in ["MAINPID=1", "STATUS=a\nMAINPID=1", "STATUS=b\nREADY=1"] {
            client.send_to(message.as_bytes(), path("proxy")).unwrap();
        }
        proxy.forward(&pidfd, &manager).unwrap();
        assert_eq!(reader.join().unwrap(), ["STATUS=a", "STATUS=b\nREADY=1"]);
        assert!(!path("proxy").exists());

        let proxy = Proxy::listen(path("proxy"), owner).unwrap();
        child.kill().unwrap();
        proxy.forward(&pidfd, &manager).unwrap();
        child.wait().unwrap();
    }
}
