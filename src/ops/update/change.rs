//! The change of a set: planned, then shown or made; what came of it is remembered.

use anyhow::{Error, Result};

use crate::name::ContainerName;
use crate::ops::changes::{Change, Subject};
use crate::ops::deploy::diff;
use crate::ops::deploy::switch::{Move, Switch};
use crate::ops::deploy::work::Failed;
use crate::ops::install::DropIn;
use crate::ops::update::decide::{Candidate, row};
use crate::ops::update::{Action, Made, Mode, Outcome, Row, WentBack, Work};
use crate::state::{self, Checked, Event, Lifecycle, NeedsRecover, Record, What};

type Lives = Vec<(ContainerName, Lifecycle)>;

impl Work<'_> {
    /// Brings the candidates to their next generations.
    pub(super) fn change(
        &self,
        candidates: Vec<Candidate>,
        installed: &[Record],
        outcome: &mut Outcome,
    ) -> Result<()> {
        let next = self.prepare(candidates)?;
        outcome.containers.extend(next.same);
        if next.moves.is_empty() {
            return Ok(());
        }
        let before: Vec<Record> = next.moves.iter().map(|m| m.from.clone()).collect();
        let names = before.iter().map(|record| record.name.clone());
        let mut lives: Lives = names.zip(next.lives).collect();
        let switch = Switch::plan(self.host, next.moves, installed)?;
        let rows: Vec<Row> = switch
            .moves
            .iter()
            .map(|m| self.shown(m))
            .collect::<Result<_>>()?;
        let mut made = described(&switch);
        let (Some(lock), Mode::Apply) = (&self.lock, self.request.mode) else {
            outcome.containers.extend(rows);
            outcome.changes.push(made);
            return Ok(());
        };
        let after: Vec<Record> = switch.moves.iter().map(|m| m.to.record().clone()).collect();
        for (name, life) in &mut lives {
            for record in after.iter().filter(|record| record.name == *name) {
                life.forgive(&record.manifest_digest);
                life.add(Event::of(self.what(), record, self.request.now));
            }
        }
        match switch.make(self.host, (Some(&self.store), lock), "update", &lives) {
            Ok(switched) => made.downtime = switched.downtime.map(|time| time.as_secs_f64()),
            Err(failed) => return Err(self.failed(failed, &before, &after)),
        }
        for record in &after {
            let subject = Subject::of(record);
            self.host.changed("update", &Change::Updated(subject));
        }
        outcome.containers.extend(rows);
        outcome.changes.push(made);
        Ok(())
    }

    fn what(&self) -> What {
        if self.request.automatic {
            What::UpdatedAutomatically
        } else {
            What::Updated
        }
    }

    fn shown(&self, one: &Move) -> Result<Row> {
        let record = one.to.record();
        let lacks = |all: &[String], one: &&String| !all.contains(one);
        let new = record.privileges.iter();
        let old = one.from.privileges.iter();
        let dry = self.request.mode == Mode::DryRun;
        Ok(Row {
            image: record.image.clone(),
            new_generation: Some(record.generation),
            new_digest: Some(record.manifest_digest.clone()),
            files: if dry {
                diff::of(self.host.root, one)?
            } else {
                Vec::new()
            },
            new_privileges: new
                .filter(|p| lacks(&one.from.privileges, p))
                .cloned()
                .collect(),
            dropped_privileges: old
                .filter(|p| lacks(&record.privileges, p))
                .cloned()
                .collect(),
            notes: one.to.notes(),
            ..row(&one.from, Action::Updated)
        })
    }

    /// Remembers what failed, so that it is not taken again by itself, and says what the host is like now.
    fn failed(&self, failed: Failed, before: &[Record], after: &[Record]) -> Error {
        let reason = crate::ops::chain(&failed.error);
        let first = reason.lines().next().unwrap_or_default().to_owned();
        // What was refused or failed before anything was stopped may have nothing to do with the image.
        let blamed =
            |record: &&Record| failed.went_back && failed.culprit.as_ref() == Some(&record.name);
        // What is neither done nor undone is recovery's: it would put back what is written here.
        if failed.error.downcast_ref::<NeedsRecover>().is_some() {
            return failed.error;
        }
        for record in after {
            let old = before.iter().find(|old| old.name == record.name);
            let is_new = old.is_some_and(|old| old.manifest_digest != record.manifest_digest);
            let mut event = Event::of(self.what(), record, self.request.now);
            event.failed = Some(first.clone());
            let remembered = Lifecycle::read(self.host.root, &record.name).and_then(|mut life| {
                life.add(event);
                if is_new && blamed(&record) {
                    let digest = &record.manifest_digest;
                    life.condemn(digest, self.request.now, first.clone());
                }
                life.write(self.host.root, &record.name)
            });
            if let Err(error) = remembered {
                let name = &record.name;
                self.host.report.note(format!(
                    "the failure of `{name}` is not remembered: {error:#}"
                ));
            }
            let subject = Subject::of(record);
            let error = &failed.error;
            self.host
                .changed("update", &Change::UpdateFailed { of: subject, error });
        }
        let names: Vec<_> = after
            .iter()
            .map(|record| format!("`{}`", record.name))
            .collect();
        if !failed.went_back {
            return failed
                .error
                .context(format!("updating {}", names.join(", ")));
        }
        let what = format!(
            "the update of {} failed, the version before runs again",
            names.join(", ")
        );
        failed.error.context(WentBack(what))
    }

    /// Notes a set that failed while others go on.
    pub(super) fn note(
        &self,
        names: &[ContainerName],
        error: &Error,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let went_back = error.downcast_ref::<WentBack>().is_some();
        for name in names {
            if let Some(record) = state::find(self.host.root, name)? {
                let mut row = row(&record, Action::Failed);
                row.notes.push(crate::ops::chain(error));
                outcome.containers.push(row);
            }
        }
        outcome.changes.push(Made {
            containers: names.to_vec(),
            error: Some(crate::ops::chain(error)),
            went_back,
            ..Made::default()
        });
        Ok(())
    }

    /// Remembers what an automatic look has found.
    pub(super) fn remember(&self, outcome: &Outcome) -> Result<()> {
        let looked = |row: &&Row| !matches!(row.action, Action::NotDue | Action::Held);
        for row in outcome.containers.iter().filter(looked) {
            let mut life = Lifecycle::read(self.host.root, &row.name)?;
            let mut result = row.action.word().to_owned();
            if let (Action::Failed, Some(why)) = (row.action, row.notes.first()) {
                let why = why.lines().next().unwrap_or_default();
                result = format!("{result}: {why}");
            }
            life.checked = Some(Checked {
                when: self.request.now,
                result,
            });
            life.write(self.host.root, &row.name)?;
            if row.action == Action::UpToDate {
                let record = state::find(self.host.root, &row.name)?;
                let subject = record.as_ref().map(Subject::of);
                if let Some(subject) = subject {
                    self.host.changed("update", &Change::UpToDate(subject));
                }
            }
        }
        Ok(())
    }
}

impl Action {
    /// It in words.
    pub fn word(self) -> &'static str {
        match self {
            Self::Updated => "updated",
            Self::UpToDate => "up to date",
            Self::Available => "a newer image is there",
            Self::Downloaded => "the newer image is in the store",
            Self::Held => "held",
            Self::Bad => "what is newer failed before",
            Self::NotDue => "not due yet",
            Self::Failed => "failed",
        }
    }
}

/// The change as data, not made yet.
pub(crate) fn described(switch: &Switch) -> Made {
    let order = switch.order.iter().map(|(path, text)| DropIn {
        path: path.clone(),
        text: text.clone(),
    });
    Made {
        containers: switch.moves.iter().map(|m| m.from.name.clone()).collect(),
        taken_along: switch.along.clone(),
        host_files: switch.files.changes(),
        kept: switch.files.kept.clone(),
        order: order.collect(),
        ..Made::default()
    }
}
