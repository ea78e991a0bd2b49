//! The verbs: each takes a request and gives an outcome. What they share is here and in `ordering`, `preflight`.

mod changes;
pub mod check;
pub mod config;
pub mod deploy;
pub mod df;
pub mod doctor;
pub mod exec;
pub mod fetching;
pub mod graph;
pub mod history;
pub mod hold;
pub mod images;
pub mod install;
pub mod lint;
pub mod list;
mod login;
pub mod logs;
mod ordering;
pub mod preflight;
pub mod prune;
pub mod pull;
pub mod recover;
pub mod repair;
pub mod rollback;
pub mod show;
pub mod status;
mod stopping;
pub mod uninstall;
pub mod update;
pub mod values;
pub mod verify;

use anyhow::{Result, anyhow};

use crate::ops::changes::Change;
use crate::progress::Report;
use crate::root::Root;
use crate::state::{Lock, NeedsRecover, Recovered, Unfinished};
use crate::systemd::{Bus, Offline, Systemd};

/// What every verb works on.
pub struct Host<'a> {
    /// `/`, or the directory of `--root`.
    pub root: &'a Root,
    /// Its service manager.
    pub systemd: &'a dyn Systemd,
    /// Where events go.
    pub report: &'a Report,
}

impl Host<'_> {
    /// Takes the writers' lock and resolves what an earlier command left unfinished.
    fn write_lock(&self, verb: &str) -> Result<Lock> {
        self.settled(Lock::take(self.root, verb, self.report)?, verb)
    }

    /// The same; `None` where bedplate keeps nothing yet.
    fn lock_if_used(&self, verb: &str) -> Result<Option<Lock>> {
        let lock = Lock::take_if_used(self.root, verb, self.report)?;
        lock.map(|lock| self.settled(lock, verb)).transpose()
    }

    fn settled(&self, lock: Lock, verb: &str) -> Result<Lock> {
        if let Some((interrupted, outcome)) = self.recover(&lock, verb)? {
            let what = changes::word(outcome);
            self.report
                .note(format!("an interrupted {interrupted} was {what} first"));
        }
        Ok(lock)
    }

    /// Resolves an unfinished transaction for `verb`; the lock shows that no other command is at work on it.
    fn recover(&self, _lock: &Lock, verb: &str) -> Result<Option<(String, Recovered)>> {
        let mut found = None;
        if let Some(unfinished) = Unfinished::find(self.root)? {
            let interrupted = unfinished.verb.clone();
            let outcome = unfinished
                .resolve(self.root, self.systemd)
                .map_err(|error| {
                    let what = format!("recovering from an interrupted {interrupted}: {error:#}");
                    self.failed(verb, anyhow!(NeedsRecover(what)))
                })?;
            let change = Change::Recovered {
                interrupted: &interrupted,
                outcome,
            };
            self.changed(verb, &change);
            found = Some((interrupted, outcome));
        } else {
            Unfinished::sweep(self.root)?;
        }
        // What was being prepared when a command died belongs to nobody.
        self.root.remove_tree(crate::deployment::STAGING)?;
        Ok(found)
    }
}

/// The running host's systemd, or the offline one for `--root`. A reader does without the bus: it then shows
/// what is recorded and calls the units' state unknown.
pub fn manager(root: &Root, writes: bool) -> Result<Box<dyn Systemd + '_>> {
    if !root.is_host() {
        return unit_files(root);
    }
    match Bus::connect() {
        Ok(bus) => Ok(Box::new(bus)),
        Err(error) if writes => Err(error),
        Err(error) => {
            tracing::warn!("{error:#}");
            unit_files(root)
        }
    }
}

/// The unit files of a root, whether or not its systemd runs.
pub fn unit_files(root: &Root) -> Result<Box<dyn Systemd + '_>> {
    Ok(Box::new(Offline::new(root)?))
}

/// The chain of an error's causes as one line. Some libraries end an error's text with that of its cause: then it is not said again.
pub fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let error = anyhow!("no such file")
            .context("connecting to `x`: no such file")
            .context("reading");
        assert_eq!(chain(&error), "reading: connecting to `x`: no such file");
    }
}
