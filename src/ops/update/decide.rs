//! Whether what a reference names now is for the container.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};

use crate::hint::Hinted;
use crate::name::ContainerName;
use crate::ops::update::find::Newest;
use crate::ops::update::{Action, Mode, Outcome, Row, Work};
use crate::state::{self, Lifecycle, Record};

/// A container that gets a new generation, unless its values turn out to be the same.
pub(super) struct Candidate {
    pub(super) record: Record,
    pub(super) life: Lifecycle,
    pub(super) newest: Newest,
}

impl Work<'_> {
    /// Updates some containers as one.
    pub(super) fn set(&self, names: &[ContainerName], outcome: &mut Outcome) -> Result<()> {
        let records: BTreeMap<ContainerName, Record> = state::installed(self.host.root)?
            .into_iter()
            .map(|record| (record.name.clone(), record))
            .collect();
        let mut candidates = Vec::new();
        for record in names.iter().filter_map(|name| records.get(name)) {
            match self.candidate(record)? {
                Ok(candidate) => candidates.push(*candidate),
                Err(row) => outcome.containers.push(*row),
            }
        }
        if candidates.is_empty() {
            return Ok(());
        }
        match self.request.mode {
            Mode::Check => {
                let rows = candidates.iter().map(|c| c.row(Action::Available));
                outcome.containers.extend(rows);
                Ok(())
            }
            Mode::Download => self.download(candidates, outcome),
            Mode::Apply | Mode::DryRun => {
                let installed: Vec<Record> = records.into_values().collect();
                self.change(candidates, &installed, outcome)
            }
        }
    }

    /// What a container is to become, or why nothing.
    fn candidate(&self, record: &Record) -> Result<Result<Box<Candidate>, Box<Row>>> {
        let request = self.request;
        let name = &record.name;
        let life = Lifecycle::read(self.host.root, name)?;
        if let Some(reason) = &life.held {
            let why = match reason.as_str() {
                "" => String::new(),
                reason => format!(": {reason}"),
            };
            if request.names.contains(name) && request.mode != Mode::Check {
                return Err(anyhow!("`{name}` is held{why}"))
                    .hint(format!("`bedplate unhold {name}` lets it be updated again"));
            }
            let mut row = row(record, Action::Held);
            row.notes.push(format!("it is held{why}"));
            return Ok(Err(Box::new(row)));
        }
        if let Some(row) = self.not_due(record, &life)? {
            return Ok(Err(Box::new(row)));
        }
        self.host.report.step(format!("looking for a newer {name}"));
        let newest = self.newest(record)?;
        let same = newest.digest == record.manifest_digest;
        if same && !self.changes_values() && newest.reference.to_string() == record.image {
            let mut row = row(record, Action::UpToDate);
            row.new_digest = Some(newest.digest);
            if newest.reference.digest().is_some() {
                let pinned = "its reference names a digest: nothing newer can be there; `--rebase IMAGE` takes another";
                row.notes.push(pinned.to_owned());
            }
            return Ok(Err(Box::new(row)));
        }
        if let Some(bad) = life
            .why_bad(&newest.digest)
            .filter(|_| !request.retry && !same)
        {
            let mut row = row(record, Action::Bad);
            row.notes.push(format!(
                "what `{}` names now is not taken, it failed before: {}; `--retry` takes it all the same",
                newest.reference, bad.reason
            ));
            row.new_digest = Some(newest.digest);
            return Ok(Err(Box::new(row)));
        }
        Ok(Ok(Box::new(Candidate {
            record: record.clone(),
            life,
            newest,
        })))
    }

    /// Whether other values were asked for.
    pub(super) fn changes_values(&self) -> bool {
        let request = self.request;
        !request.set.is_empty()
            || !request.unset.is_empty()
            || request.values.is_some()
            || !request.secrets.is_empty()
    }

    /// Brings what is newer into the store, to stay there until it is used.
    fn download(&self, candidates: Vec<Candidate>, outcome: &mut Outcome) -> Result<()> {
        for candidate in candidates {
            let mut row = candidate.row(Action::Downloaded);
            let Candidate {
                record,
                mut life,
                newest,
            } = candidate;
            let image = newest.found.into_store(self.host, &self.store)?;
            let digest = image.manifest_digest.to_string();
            if life.downloaded.as_ref() != Some(&digest) {
                life.downloaded = Some(digest.clone());
                life.write(self.host.root, &record.name)?;
            }
            row.new_digest = Some(digest);
            outcome.containers.push(row);
        }
        Ok(())
    }
}

impl Candidate {
    pub(super) fn row(&self, action: Action) -> Row {
        Row {
            image: self.newest.reference.to_string(),
            new_digest: Some(self.newest.digest.clone()),
            ..row(&self.record, action)
        }
    }
}

/// A row with nothing new.
pub(super) fn row(record: &Record, action: Action) -> Row {
    Row {
        name: record.name.clone(),
        action,
        generation: record.generation,
        image: record.image.clone(),
        digest: record.manifest_digest.clone(),
        new_generation: None,
        new_digest: None,
        files: Vec::new(),
        new_privileges: Vec::new(),
        dropped_privileges: Vec::new(),
        notes: Vec::new(),
    }
}
