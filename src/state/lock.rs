//! The writers' lock, held as a value: one command changes the host at a time. Readers take none.

use std::fs::File;
use std::io::{Read, Seek, Write};

use anyhow::{Context, Result};
use rustix::fs::FlockOperation;
use rustix::io::{Errno, FdFlags};

use crate::progress::Report;
use crate::root::Root;
use crate::state::{DIR, LOCK};

/// Holding this is the permission to write. The kernel drops the lock with the process, however it ends, and those
/// that it started.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// As [`Lock::take`]; `None` where bedplate keeps nothing yet: a command that has nothing to do there leaves nothing.
    pub fn take_if_used(root: &Root, verb: &str, report: &Report) -> Result<Option<Self>> {
        let is_used = root.kind(DIR)?.is_some();
        is_used.then(|| Self::take(root, verb, report)).transpose()
    }

    /// Takes the lock; while another command holds it, waits for it and says which it is.
    pub fn take(root: &Root, verb: &str, report: &Report) -> Result<Self> {
        // An image build may begin with nothing at all.
        root.create_dir_all("/var/lib", 0o755)?;
        root.create_dir_all(DIR, 0o700)?;
        let mut file = root.open_file(LOCK)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                // Who holds it is a courtesy: an unreadable name is no reason not to wait.
                let _ = file.read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => "another bedplate command",
                    holder => holder,
                };
                report.note(format!("waiting for {holder} to finish"));
                rustix::fs::flock(&file, FlockOperation::LockExclusive)
                    .context("waiting for the lock")?;
            }
            Err(e) => return Err(e).context("taking the lock"),
        }
        file.rewind().context("signing the lock")?;
        file.set_len(0).context("signing the lock")?;
        writeln!(file, "`bedplate {verb}` (pid {})", std::process::id())
            .context("signing the lock")?;
        // The programs that this command runs inherit the lock: if it is killed, whoever comes to undo its work
        // waits until they have ended as well, and nothing is done after it was undone.
        rustix::io::fcntl_setfd(&file, FdFlags::empty()).context("passing the lock on")?;
        Ok(Self { _file: file })
    }
}
