//! What was rendered: from the generation, from the live unit, else rendered again if that gives the same. In one
//! transaction.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Result, anyhow};

use crate::contract::HostContent;
use crate::deployment;
use crate::host::{self, OwnedContent, OwnedFile};
use crate::name::Generation;
use crate::ops::deploy::{Again, again};
use crate::ops::ordering::{self, UNIT_DIR};
use crate::ops::repair::Work;
use crate::ops::verify::Thing;
use crate::ops::verify::files::{BadFile, Which};
use crate::ops::verify::subject::Subject;
use crate::ops::verify::survey::Survey;
use crate::render::files::RenderedFile;
use crate::root::Kind;
use crate::state::{Finish, Lock, Record, Transaction};

/// What is to be put where.
enum Mend {
    Text(Vec<u8>),
    Host(Box<RenderedFile>),
}

impl Work<'_> {
    /// Mends rendered files, units, host files, order and the link to the live generation.
    pub(super) fn files(&mut self, survey: &Survey, lock: &Lock) -> Result<()> {
        let mut again: HashMap<usize, Result<Again, String>> = HashMap::new();
        let mut mends = Vec::new();
        for bad in &survey.files {
            let subject = &survey.subjects[bad.subject];
            let name = bad.path.display().to_string();
            let source = if bad.is_itself() {
                self.itself(bad)
            } else {
                self.source(survey, bad, &mut again)
            };
            match source {
                Ok((mend, from)) => {
                    let thing = bad.fault(subject).thing;
                    self.repaired(thing, name, from);
                    mends.push((bad, mend));
                }
                Err(error) => self.reason(name, format!("{error:#}")),
            }
        }
        let current = self.current(survey)?;
        for path in survey.order.keys() {
            let name = path.display().to_string();
            self.repaired(Thing::Order, name, "the installed set");
        }
        let nothing = mends.is_empty() && current.is_empty() && survey.order.is_empty();
        if self.dry() || nothing {
            return Ok(());
        }
        let (root, systemd) = (self.host.root, self.host.systemd);
        let mut transaction = Transaction::begin(root, systemd, lock, "repair")?;
        let done = (|| {
            for (bad, mend) in &mends {
                self.mend(survey, &mut transaction, bad, mend)?;
            }
            ordering::apply(&mut transaction, &survey.order)?;
            transaction.reload()
        })();
        match done {
            Ok(()) => transaction.commit(&current),
            Err(error) => Err(transaction.roll_back(error)),
        }
    }

    /// What a file holds already.
    fn itself(&self, bad: &BadFile) -> Result<(Mend, &'static str)> {
        let content = self.host.root.read(&bad.path)?.unwrap_or_default();
        let from = "its own content, its attributes put right";
        Ok((Mend::Text(content), from))
    }

    /// Finds what a file must hold.
    fn source(
        &self,
        survey: &Survey,
        bad: &BadFile,
        again: &mut HashMap<usize, Result<Again, String>>,
    ) -> Result<(Mend, &'static str)> {
        let subject = &survey.subjects[bad.subject];
        let record = &subject.record;
        let dir = deployment::dir(&record.name, record.generation);
        let file = match &bad.which {
            Which::Generation(file) if file == deployment::TREE => {
                return Ok((Mend::Text(self.tree(survey, subject)?), "the store"));
            }
            Which::Generation(file) => file.clone(),
            Which::Unit(unit) => format!("units/{unit}"),
            Which::Host(owned) => {
                let again = self.again(survey, bad.subject, again)?;
                let found = host_file(&again.host_files, owned)?;
                return Ok((Mend::Host(Box::new(found)), "the image"));
            }
        };
        let sum = record.rendered.get(&file);
        let fits = |text: &[u8]| sum.is_none_or(|sum| host::checksum(text) == *sum);
        let unit = file
            .strip_prefix("units/")
            .map(|unit| Path::new(UNIT_DIR).join(unit));
        let other = match bad.which {
            Which::Unit(_) => Some((dir.join(&file), "the generation")),
            _ => unit
                .filter(|_| subject.live)
                .map(|unit| (unit, "the live unit")),
        };
        if let Some((path, from)) = other
            && self.host.root.kind(&path)? == Some(Kind::File)
            && let Some(text) = self.host.root.read(path)?
            && fits(&text)
            && !text.is_empty()
        {
            return Ok((Mend::Text(text), from));
        }
        if sum.is_none() {
            return Err(anyhow!(
                "its record is an older bedplate's, which kept no checksum of it"
            ));
        }
        is_no_secret(record, &file)?;
        let again = self.again(survey, bad.subject, again)?;
        let copied = |f: &&RenderedFile| deployment::host_file(&f.path) == Path::new(&file);
        if let Some(found) = again.host_files.iter().find(copied)
            && again.files.get(&file).is_some_and(|content| fits(content))
        {
            // A generation's copy has the mode and the owner that the host's file is to have.
            let copy = RenderedFile {
                path: dir.join(&file),
                ..found.clone()
            };
            return Ok((Mend::Host(Box::new(copy)), "rendered again"));
        }
        match again.files.get(&file) {
            Some(content) if fits(content) => Ok((Mend::Text(content.clone()), "rendered again")),
            _ => Err(anyhow!(
                "rendered again it is another, for the host has changed since: \
                 uninstall the container and install it again, its data stays"
            )),
        }
    }

    fn again<'a>(
        &self,
        survey: &Survey,
        at: usize,
        known: &'a mut HashMap<usize, Result<Again, String>>,
    ) -> Result<&'a Again> {
        let made = known.entry(at).or_insert_with(|| {
            let record = &survey.subjects[at].record;
            let digest = record.manifest_digest.parse().map_err(|e| format!("{e}"))?;
            let images = &survey.inventory.images;
            let image = images.get(&digest).and_then(|(image, _)| image.as_ref());
            let image = image.ok_or("the image is not in the store")?;
            again(self.host, record, image).map_err(|e| format!("{e:#}"))
        });
        made.as_ref().map_err(|error| anyhow!(error.clone()))
    }

    fn mend(
        &mut self,
        survey: &Survey,
        transaction: &mut Transaction,
        bad: &BadFile,
        mend: &Mend,
    ) -> Result<()> {
        let subject = &survey.subjects[bad.subject];
        match mend {
            Mend::Text(text) => {
                self.keep(subject, bad)?;
                let mode = bad.which.mode().unwrap_or(0o644);
                transaction.write(&bad.path, text, mode)?;
                self.seal_tree(subject, bad)
            }
            Mend::Host(file) => {
                match &file.content {
                    HostContent::File(content) => {
                        transaction.write(&file.path, content, file.mode)?;
                    }
                    HostContent::Link(target) => transaction.link(&file.path, target)?,
                    HostContent::Dir => transaction.make_dir(&file.path, file.mode)?,
                }
                if file.uid != 0 || file.gid != 0 {
                    transaction.own(&file.path, file.uid, file.gid)?;
                }
                Ok(())
            }
        }
    }

    /// Keeps a changed text: it may be somebody's work.
    fn keep(&mut self, subject: &Subject, bad: &BadFile) -> Result<()> {
        let root = self.host.root;
        let Some(kind) = root.kind(&bad.path)? else {
            return Ok(());
        };
        if bad.is_itself() {
            return Ok(());
        }
        let at = self.aside(subject, &bad.path)?;
        if kind != Kind::File {
            return root.rename(&bad.path, at);
        }
        // A copy: until the new one takes its place the old one stays.
        let content = root.read(&bad.path)?.unwrap_or_default();
        root.replace(at, &content, 0o600)
    }

    /// The links to live generations that are lost: the unit names the generation.
    fn current(&mut self, survey: &Survey) -> Result<Vec<Finish>> {
        let mut found = Vec::new();
        let lost = survey.records.iter().filter(|f| f.thing == Thing::Current);
        for fault in lost {
            let names = fault.places.iter().filter_map(|p| p.container.clone());
            for name in names {
                let unit = Path::new(UNIT_DIR).join(name.service().as_str());
                let text = self.host.root.read_text(&unit)?.unwrap_or_default();
                let prefix = format!("{}/", deployment::container_dir(&name).display());
                let generation = text.split(&prefix).skip(1).find_map(number);
                let known = |g: &Generation| {
                    let of = |s: &&Subject| s.record.name == name && s.record.generation == *g;
                    survey.subjects.iter().any(|s| of(&s))
                };
                match generation.filter(known) {
                    Some(generation) => {
                        self.repaired(Thing::Current, fault.name.clone(), "the live unit");
                        found.push(Finish::Current { name, generation });
                    }
                    None => self.reason(
                        fault.name.clone(),
                        "no live unit names a generation that is there",
                    ),
                }
            }
        }
        Ok(found)
    }
}

/// A secret cannot be made again.
fn is_no_secret(record: &Record, file: &str) -> Result<()> {
    let Some(secret) = file.strip_prefix("secrets/") else {
        return Ok(());
    };
    Err(anyhow!(
        "only whoever gave the secret has it: `bedplate update {} --secret {secret}=FILE` takes it anew",
        record.name
    ))
}

/// The number that a text begins with.
fn number(text: &str) -> Option<Generation> {
    let digits = text.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// The file of the record as it was rendered again, if it is the same.
fn host_file(files: &[RenderedFile], owned: &OwnedFile) -> Result<RenderedFile> {
    if let OwnedContent::Dir(mode) = owned.content {
        let known = files.iter().find(|f| f.path == owned.path);
        return Ok(RenderedFile {
            path: owned.path.clone(),
            mode,
            uid: known.map_or(0, |f| f.uid),
            gid: known.map_or(0, |f| f.gid),
            content: HostContent::Dir,
        });
    }
    let found = files.iter().find(|f| f.path == owned.path);
    let same = |file: &&RenderedFile| match (&file.content, &owned.content) {
        (HostContent::File(content), OwnedContent::Sha256(sum)) => host::checksum(content) == *sum,
        (HostContent::Link(target), OwnedContent::Link(known)) => target == known,
        _ => false,
    };
    found.filter(same).cloned().ok_or_else(|| {
        anyhow!(
            "rendered again it is another, for the host has changed since: \
             uninstall the container and install it again, its data stays"
        )
    })
}
