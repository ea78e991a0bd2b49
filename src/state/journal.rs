//! The running transaction: steps written down with their undo before they are done.
//!
//! `/var/lib/bedplate/journal/transaction` holds a line of JSON each: the header, the steps, and at the end the
//! commit with what is left to finish. A machine that stops before the commit line is on disk goes back to the
//! old state, one that stops after it goes on to the new: see `recover`. Content that a step replaces is kept beside it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::deployment::{self, STAGING};
use crate::hint::Hinted;
use crate::name::{ContainerName, Generation};
use crate::root::{Kind, Root};
use crate::state::lifecycle::Lifecycle;
use crate::state::step::{Step, Undo};
use crate::state::{JOURNAL, TRANSACTION};
use crate::systemd::Systemd;

/// The journal format that this build writes and reads.
pub(crate) const FORMAT: u32 = 1;

/// A line of the journal.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Line {
    /// The first line.
    Begin {
        /// [`FORMAT`].
        format: u32,
        /// The command that runs, for people.
        verb: String,
    },
    /// A step is about to be done.
    Step(Step),
    /// All steps are done; from here the transaction goes forward.
    Commit {
        /// What is left: repeating it does no harm.
        finish: Vec<Finish>,
    },
}

/// What is done after the commit, repeatable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finish {
    /// What happened is added to what the container has been through.
    Lived {
        /// The container.
        name: ContainerName,
    },
    /// `current` is pointed at the generation.
    Current {
        /// The container.
        name: ContainerName,
        /// Its live generation.
        generation: Generation,
    },
    /// The container's directory is removed with all generations.
    Forget {
        /// The container.
        name: ContainerName,
    },
}

/// An unfinished transaction found on disk.
#[derive(Debug)]
pub struct Unfinished {
    /// The command that began it.
    pub verb: String,
    pub(crate) steps: Vec<Step>,
    pub(crate) finish: Option<Vec<Finish>>,
}

/// What recovery did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Recovered {
    /// The transaction was undone: the host is as before it.
    Undone,
    /// The transaction had been committed and was finished.
    Finished,
}

impl Unfinished {
    /// Reads the journal; `None` when there is no unfinished transaction.
    pub fn find(root: &Root) -> Result<Option<Self>> {
        let text = root.read_text(TRANSACTION)?.unwrap_or_default();
        let mut found = Self {
            verb: "an unknown command".to_owned(),
            steps: Vec::new(),
            finish: None,
        };
        // A line without its newline was being written when the machine stopped: its step was never begun.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        if whole.is_empty() {
            return Ok(None);
        }
        for line in whole.lines() {
            let line: Line = serde_json::from_str(line)
                .with_context(|| format!("reading `{TRANSACTION}`"))
                .hint(
                    "the journal was written by another version of bedplate, or is damaged; \
                     `bedplate recover` of that version reads it",
                )?;
            match line {
                Line::Begin { verb, .. } => found.verb = verb,
                Line::Step(step) => found.steps.push(step),
                Line::Commit { finish } => found.finish = Some(finish),
            }
        }
        Ok(Some(found))
    }

    /// Removes what is left of a journal that tells of no transaction.
    pub fn sweep(root: &Root) -> Result<()> {
        remove_journal(root)
    }

    /// Undoes it, or finishes it if it had been committed, and removes the journal.
    pub fn resolve(self, root: &Root, systemd: &dyn Systemd) -> Result<Recovered> {
        if let Some(finish) = &self.finish {
            systemd.reload()?;
            complete(root, finish)?;
            return Ok(Recovered::Finished);
        }
        let mut undo = Undo::new(root, systemd);
        let mut errors: Vec<anyhow::Error> = Vec::new();
        for step in self.steps.iter().rev() {
            // One step that cannot be undone must not keep the others from it.
            if let Err(error) = undo.step(step) {
                errors.push(error);
            }
        }
        errors.extend(undo.refresh().err());
        if !errors.is_empty() {
            let text: Vec<String> = errors.iter().map(|e| format!("{e:#}")).collect();
            return Err(anyhow!(text.join("; ")));
        }
        root.discard_tree(STAGING)?;
        remove_journal(root)?;
        Ok(Recovered::Undone)
    }
}

/// Does what is left after a commit, then removes the journal.
pub(crate) fn complete(root: &Root, finish: &[Finish]) -> Result<()> {
    for item in finish {
        match item {
            Finish::Lived { name } => Lifecycle::take_place(root, name)?,
            Finish::Current { name, generation } => {
                deployment::point_current(root, name, *generation)?;
            }
            Finish::Forget { name } => {
                let dir = deployment::container_dir(name);
                if root.kind(&dir)? == Some(Kind::Dir) {
                    deployment::unmount_all(root, name)?;
                    // Out of sight in one step: readers never meet a half-removed container.
                    root.create_dir_all(STAGING, 0o700)?;
                    let away: PathBuf = Path::new(STAGING).join(format!("removed-{name}"));
                    root.remove_tree(&away)?;
                    root.rename(&dir, &away)?;
                }
            }
        }
    }
    root.discard_tree(STAGING)?;
    remove_journal(root)
}

/// Removes the journal: the transaction file first, and that for good, so that what is left is never read as a
/// transaction.
fn remove_journal(root: &Root) -> Result<()> {
    root.remove_file(TRANSACTION)?;
    root.discard_tree(JOURNAL)
}

pub(crate) fn append(root: &Root, line: &Line) -> Result<()> {
    let mut text = serde_json::to_vec(line).context("writing the journal")?;
    text.push(b'\n');
    root.append(TRANSACTION, &text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::UnitName;
    use crate::progress::Report;
    use crate::state::{Lock, Transaction};
    use crate::systemd::Offline;

    fn root() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        (dir, root)
    }

    #[test]
    fn a_journal_that_was_not_begun_is_none() {
        let (_dir, root) = root();
        root.create_dir_all(JOURNAL, 0o700).unwrap();
        assert!(Unfinished::find(&root).unwrap().is_none());
        root.append(TRANSACTION, b"{\"begin\":{\"for").unwrap();
        assert!(Unfinished::find(&root).unwrap().is_none());
        Unfinished::sweep(&root).unwrap();
        assert_eq!(root.kind(JOURNAL).unwrap(), None);
    }

    /// A recovery may be cut short as well: each step is undone twice, and then all again.
    #[test]
    fn undoing_again_does_no_harm() {
        let (_dir, root) = root();
        let systemd = Offline::new(&root).unwrap();
        root.create_dir_all("/etc/x", 0o755).unwrap();
        root.replace("/etc/x/changed", b"old", 0o640).unwrap();
        root.replace("/etc/x/removed", b"old", 0o600).unwrap();
        root.point("/etc/x/link", Path::new("old")).unwrap();
        let lock = Lock::take(&root, "test", &Report::silent()).unwrap();
        let mut transaction = Transaction::begin(&root, &systemd, &lock, "test").unwrap();
        transaction
            .write(Path::new("/etc/x/changed"), b"new", 0o644)
            .unwrap();
        transaction
            .write(Path::new("/etc/y/z/new"), b"new", 0o644)
            .unwrap();
        transaction
            .link(Path::new("/etc/x/link"), Path::new("new"))
            .unwrap();
        transaction.remove(Path::new("/etc/x/removed")).unwrap();
        drop(transaction);
        let found = Unfinished::find(&root).unwrap().unwrap();
        for step in found.steps.iter().rev() {
            let mut undo = Undo::new(&root, &systemd);
            undo.step(step).unwrap();
            undo.step(step).unwrap();
        }
        assert_eq!(found.resolve(&root, &systemd).unwrap(), Recovered::Undone);
        for path in ["/etc/x/changed", "/etc/x/removed"] {
            assert_eq!(root.read(path).unwrap().unwrap(), b"old", "{path}");
        }
        assert_eq!(root.mode("/etc/x/changed").unwrap(), 0o640);
        assert_eq!(
            root.link_target("/etc/x/link").unwrap().unwrap(),
            Path::new("old")
        );
        assert_eq!(root.kind("/etc/y").unwrap(), None);
        assert_eq!(root.kind(JOURNAL).unwrap(), None);
    }

    /// An uninstall of a masked unit that was cut short can be undone: it was enabled, and cannot be again.
    #[test]
    fn a_masked_unit_keeps_nothing_from_being_undone() {
        let (_dir, root) = root();
        let systemd = Offline::new(&root).unwrap();
        let unit: UnitName = "a.service".parse().unwrap();
        root.create_dir_all("/etc/systemd/system", 0o755).unwrap();
        root.point("/etc/systemd/system/a.service", Path::new("/dev/null"))
            .unwrap();
        let lock = Lock::take(&root, "test", &Report::silent()).unwrap();
        let mut transaction = Transaction::begin(&root, &systemd, &lock, "test").unwrap();
        transaction.disable(std::slice::from_ref(&unit)).unwrap();
        let cause = transaction.roll_back(anyhow!("the cause"));
        assert_eq!(cause.to_string(), "the cause");
        assert_eq!(root.kind(JOURNAL).unwrap(), None);
    }
}
