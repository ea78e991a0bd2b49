//! The steps of a transaction: each change to the host with its undo beside it.
//!
//! A step is in the journal before it is done, so its undo must be right whether the step was done, half done or
//! not begun.

mod before;

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::deployment;
use crate::host::processes;
use crate::name::{ContainerName, Generation, UnitName};
use crate::root::{Metadata, Root};
use crate::systemd::Systemd;
use crate::systemd::links::LINKS;

pub(crate) use crate::state::step::before::Before;

/// One change to the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Step {
    /// Directories that did not exist are made, the outermost first.
    MakeDirs {
        /// What is made.
        made: Vec<PathBuf>,
        /// Permission bits of each.
        mode: u32,
    },
    /// A staged generation is moved to its place.
    Deploy {
        /// The container.
        name: ContainerName,
        /// The generation.
        generation: Generation,
        /// Where it was staged.
        staged: PathBuf,
    },
    /// A file is written, or replaced.
    Write {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What was there before.
        before: Before,
    },
    /// A link is made, or replaced.
    Link {
        /// The link.
        path: PathBuf,
        /// Where it points.
        target: PathBuf,
        /// What was there before.
        before: Before,
    },
    /// A file or link is removed.
    Remove {
        /// The file.
        path: PathBuf,
        /// What was there before.
        before: Before,
    },
    /// An empty directory is removed.
    RemoveDir {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Its user and group.
        owner: (u32, u32),
    },
    /// Units are enabled.
    Enable {
        /// The units.
        units: Vec<UnitName>,
    },
    /// Units are disabled.
    Disable {
        /// The units.
        units: Vec<UnitName>,
    },
    /// A unit is started.
    Start {
        /// The unit.
        unit: UnitName,
    },
    /// A unit is stopped.
    Stop {
        /// The unit.
        unit: UnitName,
    },
}

/// Writes the links of `[Install]` sections to disk. systemd makes and removes them without; `/etc` need not be on
/// the file system of the journal, whose next line would take them along.
pub(crate) fn sync_links(root: &Root) -> Result<()> {
    if root.leads_to_dir(LINKS)? == Some(true) {
        root.sync(LINKS)?;
    }
    Ok(())
}

/// Undoes steps; remembers when systemd has to read its files again.
pub(crate) struct Undo<'a> {
    root: &'a Root,
    systemd: &'a dyn Systemd,
    stale: bool,
}

impl<'a> Undo<'a> {
    /// Nothing undone yet.
    pub(crate) fn new(root: &'a Root, systemd: &'a dyn Systemd) -> Self {
        Self {
            root,
            systemd,
            stale: false,
        }
    }

    /// Undoes one step. Steps are undone in reverse order.
    pub(crate) fn step(&mut self, step: &Step) -> Result<()> {
        tracing::debug!(?step, "undoing");
        match step {
            Step::MakeDirs { made, .. } => {
                for dir in made.iter().rev() {
                    // One that somebody has put something into by now is theirs.
                    self.root.remove_empty_dir(dir)?;
                }
            }
            Step::Deploy {
                name, generation, ..
            } => self.undeploy(name, *generation)?,
            Step::Write { path, before, .. }
            | Step::Link { path, before, .. }
            | Step::Remove { path, before } => {
                if *before == Before::Absent {
                    self.stop_unit_of(path)?;
                }
                before.restore(self.root, path)?;
                self.stale = true;
            }
            Step::RemoveDir { path, mode, owner } => {
                self.root.create_dir_all(path, *mode)?;
                // Also when it is there: an undo that was cut short may have made it, and no more.
                let metadata = Metadata {
                    mode: *mode,
                    owner: *owner,
                    ..Metadata::default()
                };
                self.root.dress(path, &metadata)?;
            }
            Step::Enable { units } => {
                self.systemd.disable(units)?;
                sync_links(self.root)?;
                self.stale = true;
            }
            Step::Disable { units } => {
                self.refresh()?;
                self.enable_again(units)?;
                sync_links(self.root)?;
                // systemd counts the links among what a unit is made of.
                self.stale = true;
            }
            Step::Start { unit } => self.systemd.stop(unit)?,
            Step::Stop { unit } => {
                self.refresh()?;
                if self.systemd.is_running() {
                    self.start_again(unit);
                }
            }
        }
        Ok(())
    }

    /// Takes a generation away, unless a shim that a CRI daemon started from it goes on now that the daemon is stopped.
    fn undeploy(&self, name: &ContainerName, generation: Generation) -> Result<()> {
        let dir = deployment::dir(name, generation);
        let users = processes::users(self.root, std::slice::from_ref(&dir))?.concat();
        if let Some(process) = users.first() {
            tracing::warn!(
                "{process} still runs from generation {generation} of `{name}`: it stays on disk, \
                 `bedplate prune` removes it when that has ended"
            );
            return Ok(());
        }
        deployment::unmount(self.root, &dir)?;
        self.root.remove_tree(dir)?;
        self.root
            .remove_empty_dir(deployment::container_dir(name))
            .map(|_| ())
    }

    /// Stops the unit whose file goes: one that was enabled already has been started by a boot since.
    fn stop_unit_of(&self, path: &Path) -> Result<()> {
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(Ok(unit)) = name.map(str::parse::<UnitName>) else {
            return Ok(());
        };
        if self.systemd.is_running() {
            let state = self.systemd.state(&unit)?;
            if state.is_up() && Path::new(&state.fragment) == path {
                self.systemd.stop(&unit)?;
            }
        }
        Ok(())
    }

    /// Enables what was. A unit that the operator has masked cannot be, and starts at no boot whatever its links say.
    fn enable_again(&self, units: &[UnitName]) -> Result<()> {
        let mut able = Vec::new();
        for unit in units {
            if self.systemd.state(unit)?.load != "masked" {
                able.push(unit.clone());
            }
        }
        if able.is_empty() {
            return Ok(());
        }
        self.systemd.enable(&able)
    }

    /// Starts what was up. One that does not come up again is told of, no more: were the transaction kept for it, a
    /// container that is broken could not be uninstalled.
    fn start_again(&self, unit: &UnitName) {
        if let Err(error) = self.systemd.start(unit) {
            tracing::warn!("{unit} was up before and does not come up again: {error:#}");
        }
    }

    /// Lets systemd read its files again if any of them changed.
    pub(crate) fn refresh(&mut self) -> Result<()> {
        if std::mem::take(&mut self.stale) {
            self.systemd.reload()?;
        }
        Ok(())
    }
}
