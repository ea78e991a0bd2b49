//! `lifecycle.toml`: what a container has been through, and what was decided about it. It outlives the generations.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::deployment;
use crate::hint::Hinted;
use crate::name::{ContainerName, Generation};
use crate::root::Root;
use crate::state::journal::Unfinished;
use crate::state::{self, Record};

/// The format that this build writes and the newest it reads.
const FORMAT: u32 = 1;

/// How many events are kept; older ones are dropped.
const EVENTS: usize = 200;

/// A container's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifecycle {
    format: u32,
    /// Why no update is to touch it; empty for no reason given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// The manifest digest of an image that waits in the store for the next update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downloaded: Option<String>,
    /// The last automatic look for a newer image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked: Option<Checked>,
    /// Images that are not taken again by themselves.
    #[serde(default)]
    pub bad: Vec<Bad>,
    /// What happened, oldest first.
    #[serde(default)]
    pub events: Vec<Event>,
}

/// A look for a newer image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Checked {
    /// When: seconds since 1970-01-01 00:00 UTC.
    pub when: i64,
    /// What came of it, a line.
    pub result: String,
}

/// An image that failed, or that the operator went back from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Bad {
    /// The manifest's digest.
    pub digest: String,
    /// When: seconds since 1970-01-01 00:00 UTC.
    pub when: i64,
    /// Why.
    pub reason: String,
}

/// What happened to a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// When: seconds since 1970-01-01 00:00 UTC.
    pub when: i64,
    /// What was done.
    pub what: What,
    /// The generation that it was about. A number is used once.
    pub generation: Generation,
    /// The image's reference.
    pub image: String,
    /// The manifest's digest.
    pub digest: String,
    /// Why it failed; absent: it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// What was done to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// It was installed.
    Installed,
    /// It was updated by command.
    Updated,
    /// It was updated by `bedplate-update.service`.
    UpdatedAutomatically,
    /// It was taken back to an earlier generation.
    RolledBack,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            format: FORMAT,
            held: None,
            downloaded: None,
            checked: None,
            bad: Vec::new(),
            events: Vec::new(),
        }
    }
}

impl Event {
    /// What happened to the generation of this record.
    pub fn of(what: What, record: &Record, when: i64) -> Self {
        Self {
            when,
            what,
            generation: record.generation,
            image: record.image.clone(),
            digest: record.manifest_digest.clone(),
            failed: None,
        }
    }
}

impl Lifecycle {
    /// Where it lies.
    pub fn path(name: &ContainerName) -> PathBuf {
        deployment::container_dir(name).join("lifecycle.toml")
    }

    /// Where a transaction lays what takes its place when it is committed.
    pub(crate) fn pending(name: &ContainerName) -> PathBuf {
        deployment::container_dir(name).join("lifecycle.next")
    }

    /// After a commit, repeatable: what was laid beside it takes its place.
    pub(crate) fn take_place(root: &Root, name: &ContainerName) -> Result<()> {
        let pending = Self::pending(name);
        if root.kind(&pending)?.is_some() {
            root.rename(pending, Self::path(name))?;
        }
        Ok(())
    }

    /// The text as the last committed transaction has it.
    fn committed_text(root: &Root, name: &ContainerName) -> Result<Option<String>> {
        let unfinished = Unfinished::find(root).ok().flatten();
        if unfinished.is_some_and(|found| found.finish.is_some())
            && let Some(text) = root.read_text(Self::pending(name))?
        {
            return Ok(Some(text));
        }
        root.read_text(Self::path(name))
    }

    /// Reads a container's; one that has none yet has lived through nothing.
    pub fn read(root: &Root, name: &ContainerName) -> Result<Self> {
        let path = Self::path(name);
        let Some(text) = Self::committed_text(root, name)? else {
            return Ok(Self::default());
        };
        let reading = || format!("reading `{}`", path.display());
        let table: toml::Table = text.parse().with_context(reading).hint(DAMAGED)?;
        let format = table.get("format").and_then(toml::Value::as_integer);
        if let Some(found) = format.filter(|found| *found > i64::from(FORMAT)) {
            bail!(
                "reading `{}`: it was written by a newer bedplate (format {found}, this one knows {FORMAT})",
                path.display()
            );
        }
        toml::from_str(&text).with_context(reading).hint(DAMAGED)
    }

    /// It as text.
    pub fn to_text(&self) -> Result<String> {
        toml::to_string(self).context("writing what a container has been through")
    }

    /// Writes it by itself; within a change of more the transaction does.
    pub fn write(&self, root: &Root, name: &ContainerName) -> Result<()> {
        root.replace(Self::path(name), self.to_text()?.as_bytes(), MODE)
    }

    /// Adds what happened.
    pub fn add(&mut self, event: Event) {
        self.events.push(event);
        let over = self.events.len().saturating_sub(EVENTS);
        self.events.drain(..over);
    }

    /// Remembers that an image is not to be taken again by itself.
    pub fn condemn(&mut self, digest: &str, when: i64, reason: String) {
        self.forgive(digest);
        self.bad.push(Bad {
            digest: digest.to_owned(),
            when,
            reason,
        });
    }

    /// Forgets that an image failed.
    pub fn forgive(&mut self, digest: &str) {
        self.bad.retain(|bad| bad.digest != digest);
    }

    /// Why an image is not taken again by itself.
    pub fn why_bad(&self, digest: &str) -> Option<&Bad> {
        self.bad.iter().find(|bad| bad.digest == digest)
    }

    /// The generation to go back to: of those on disk before the live one the newest that did not prove bad.
    pub fn previous(
        &self,
        root: &Root,
        (name, live): (&ContainerName, Generation),
    ) -> Result<Option<Generation>> {
        let mut older = deployment::generations(root, name)?;
        older.retain(|generation| *generation < live);
        for generation in older.iter().rev() {
            let record = state::record(root, name, *generation);
            if record.is_ok_and(|record| self.why_bad(&record.manifest_digest).is_none()) {
                return Ok(Some(*generation));
            }
        }
        Ok(older.last().copied())
    }

    /// The number of the next generation: one that was never used.
    pub fn next(&self, root: &Root, name: &ContainerName) -> Result<Generation> {
        let there = deployment::generations(root, name)?.into_iter();
        let used = there.chain(self.events.iter().map(|event| event.generation));
        Ok(used.max().map_or(Generation::FIRST, Generation::next))
    }
}

/// Permission bits of the file.
pub(crate) const MODE: u32 = 0o600;

const DAMAGED: &str = "the file is damaged: remove it, the container stays as it is; its history and what was held \
                       or found bad are forgotten with it";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_survives_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let name: ContainerName = "etcd".parse().unwrap();
        let mut life = Lifecycle::read(&root, &name).unwrap();
        assert_eq!(life, Lifecycle::default());
        root.create_dir_all(deployment::container_dir(&name), 0o700)
            .unwrap();
        life.condemn("sha256:0", 1, "it failed".to_owned());
        life.condemn("sha256:0", 2, "it failed again".to_owned());
        life.held = Some(String::new());
        for number in 1..=u32::try_from(EVENTS).unwrap() + 2 {
            life.add(Event {
                when: 3,
                what: What::Updated,
                generation: number.try_into().unwrap(),
                image: "oci:/x".to_owned(),
                digest: "sha256:0".to_owned(),
                failed: None,
            });
        }
        life.write(&root, &name).unwrap();
        let found = Lifecycle::read(&root, &name).unwrap();
        assert_eq!(found, life);
        assert_eq!(found.bad.len(), 1);
        assert_eq!(found.events.len(), EVENTS);
        assert_eq!(u32::from(found.next(&root, &name).unwrap()), 203);
        root.replace(Lifecycle::path(&name), b"format = 9\n", MODE)
            .unwrap();
        assert_eq!(
            Lifecycle::read(&root, &name).unwrap_err().to_string(),
            "reading `/var/lib/bedplate/containers/etcd/lifecycle.toml`: it was written by a newer bedplate (format 9, \
             this one knows 1)"
        );
        root.replace(Lifecycle::path(&name), b"format =\n", MODE)
            .unwrap();
        assert!(Lifecycle::read(&root, &name).is_err());
    }
}
