//! A transaction in progress: each change to the host written down before it is done.

use std::path::Path;

use anyhow::{Result, anyhow};

use crate::deployment::{self, Staged};
use crate::name::{ContainerName, UnitName};
use crate::root::{Kind, Root};
use crate::state::JOURNAL;
use crate::state::journal::{FORMAT, Finish, Line, Unfinished, append, complete};
use crate::state::lifecycle::{Lifecycle, MODE};
use crate::state::lock::Lock;
use crate::state::step::{Before, Step, sync_links};
use crate::systemd::Systemd;

/// A transaction in progress. Dropping it without [`Transaction::commit`] leaves the journal for recovery.
pub struct Transaction<'a> {
    root: &'a Root,
    systemd: &'a dyn Systemd,
    _lock: &'a Lock,
    steps: Vec<Step>,
}

impl<'a> Transaction<'a> {
    /// Begins a transaction; there must be no unfinished one.
    pub fn begin(
        root: &'a Root,
        systemd: &'a dyn Systemd,
        lock: &'a Lock,
        verb: &str,
    ) -> Result<Self> {
        // Whoever holds the lock has looked; to lose what must be undone would be worse than not to begin.
        if let Some(unfinished) = Unfinished::find(root)? {
            return Err(anyhow!(NeedsRecover(format!(
                "an interrupted {} is in the way",
                unfinished.verb
            ))));
        }
        root.remove_tree(JOURNAL)?;
        let begin = Line::Begin {
            format: FORMAT,
            verb: verb.to_owned(),
        };
        let begun = root.create_dir_all(JOURNAL, 0o700);
        if let Err(error) = begun.and_then(|_| append(root, &begin)) {
            // Nothing has begun, and nothing of it is left, as far as that can be helped.
            let _ = Unfinished::sweep(root);
            return Err(error);
        }
        Ok(Self {
            root,
            systemd,
            _lock: lock,
            steps: Vec::new(),
        })
    }

    /// Moves a staged generation to its place.
    pub fn deploy(&mut self, staged: &Staged) -> Result<()> {
        self.make_dirs(&deployment::container_dir(&staged.name), 0o700)?;
        self.note(Step::Deploy {
            name: staged.name.clone(),
            generation: staged.generation,
            staged: staged.path.clone(),
        })?;
        self.root.rename(
            &staged.path,
            deployment::dir(&staged.name, staged.generation),
        )
    }

    /// Makes a directory, and what is missing above it for all to enter.
    pub fn make_dir(&mut self, path: &Path, mode: u32) -> Result<()> {
        self.make_parent(path)?;
        self.make_dirs(path, mode)
    }

    /// Makes a directory and what is missing above it.
    fn make_dirs(&mut self, path: &Path, mode: u32) -> Result<()> {
        let mut missing = Vec::new();
        for dir in path.ancestors() {
            if self.root.kind(dir)?.is_some() || dir == Path::new("/") {
                break;
            }
            missing.insert(0, dir.to_owned());
        }
        if missing.is_empty() {
            return Ok(());
        }
        self.note(Step::MakeDirs {
            made: missing,
            mode,
        })?;
        self.root.create_dir_all(path, mode).map(|_| ())
    }

    /// Writes a file, making the directories above it.
    pub fn write(&mut self, path: &Path, content: &[u8], mode: u32) -> Result<()> {
        self.make_parent(path)?;
        let before = self.keep(path)?;
        self.note(Step::Write {
            path: path.to_owned(),
            mode,
            before,
        })?;
        self.root.replace(path, content, mode)
    }

    /// Makes a symbolic link, making the directories above it.
    pub fn link(&mut self, path: &Path, target: &Path) -> Result<()> {
        self.make_parent(path)?;
        let before = self.keep(path)?;
        self.note(Step::Link {
            path: path.to_owned(),
            target: target.to_owned(),
            before,
        })?;
        self.root.point(path, target)
    }

    /// Lays what a container has been through then beside what it has been through by now; the commit makes it so.
    pub fn live(&mut self, name: &ContainerName, life: &Lifecycle) -> Result<()> {
        let path = Lifecycle::pending(name);
        self.write(&path, life.to_text()?.as_bytes(), MODE)
    }

    /// Gives a file that this transaction wrote to its owner.
    pub fn own(&self, path: &Path, uid: u32, gid: u32) -> Result<()> {
        self.root.own(path, uid, gid)
    }

    /// Removes a file or link, if it is there.
    pub fn remove(&mut self, path: &Path) -> Result<()> {
        if self.root.kind(path)?.is_none() {
            return Ok(());
        }
        let before = self.keep(path)?;
        self.note(Step::Remove {
            path: path.to_owned(),
            before,
        })?;
        self.root.remove_file(path).map(|_| ())
    }

    /// Removes a directory if it is there and empty.
    pub fn remove_dir(&mut self, path: &Path) -> Result<()> {
        if self.root.kind(path)? != Some(Kind::Dir) || !self.root.list(path)?.is_empty() {
            return Ok(());
        }
        self.note(Step::RemoveDir {
            path: path.to_owned(),
            mode: self.root.mode(path)?,
            owner: self.root.owner(path)?,
        })?;
        self.root.remove_empty_dir(path).map(|_| ())
    }

    /// Lets systemd read its unit files again. It needs no undo of its own: whatever puts a file back does it too.
    pub fn reload(&self) -> Result<()> {
        self.systemd.reload()
    }

    /// Enables units.
    pub fn enable(&mut self, units: &[UnitName]) -> Result<()> {
        self.note(Step::Enable {
            units: units.to_vec(),
        })?;
        self.systemd.enable(units)?;
        sync_links(self.root)
    }

    /// Disables units.
    pub fn disable(&mut self, units: &[UnitName]) -> Result<()> {
        self.note(Step::Disable {
            units: units.to_vec(),
        })?;
        self.systemd.disable(units)?;
        sync_links(self.root)
    }

    /// Starts a unit and waits until it is ready.
    pub fn start(&mut self, unit: &UnitName) -> Result<()> {
        self.note(Step::Start { unit: unit.clone() })?;
        self.systemd.start(unit)
    }

    /// Stops a unit that is up and waits until it has ended.
    pub fn stop(&mut self, unit: &UnitName) -> Result<()> {
        self.note(Step::Stop { unit: unit.clone() })?;
        self.systemd.stop(unit)
    }

    /// Commits: from here on nothing is undone. `finish` is done at once, or by recovery.
    pub fn commit(self, finish: &[Finish]) -> Result<()> {
        let line = Line::Commit {
            finish: finish.to_vec(),
        };
        if let Err(error) = append(self.root, &line) {
            // What reached the journal decides, as it would after a crash.
            return match Unfinished::find(self.root) {
                Ok(Some(found)) if found.finish.is_none() => Err(self.roll_back(error)),
                _ => Err(anyhow!(NeedsRecover(format!("{error:#}")))),
            };
        }
        complete(self.root, finish).map_err(|error| {
            anyhow!(NeedsRecover(format!(
                "what was asked for is done, but not tidied up: {error:#}"
            )))
        })
    }

    /// Undoes every step, last first, after `cause` made going on impossible, and returns the error to show.
    pub fn roll_back(self, cause: anyhow::Error) -> anyhow::Error {
        let unfinished = Unfinished {
            verb: String::new(),
            steps: self.steps,
            finish: None,
        };
        match unfinished.resolve(self.root, self.systemd) {
            Ok(_) => cause,
            Err(undo) => anyhow!(NeedsRecover(format!(
                "{cause:#}; then undoing it: {undo:#}"
            ))),
        }
    }

    fn make_parent(&mut self, path: &Path) -> Result<()> {
        match path.parent() {
            Some(parent) => self.make_dirs(parent, 0o755),
            None => Ok(()),
        }
    }

    fn keep(&self, path: &Path) -> Result<Before> {
        Before::keep(self.root, path, format!("before-{}", self.steps.len()))
    }

    /// Writes the step down; when this returns it is on disk and may be done.
    fn note(&mut self, step: Step) -> Result<()> {
        tracing::debug!(?step, "doing");
        append(self.root, &Line::Step(step.clone()))?;
        self.steps.push(step);
        Ok(())
    }
}

/// A change that could neither be finished nor undone: the journal is kept, and `bedplate recover` tries again.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NeedsRecover(pub(crate) String);
