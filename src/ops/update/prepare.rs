//! The next generation of each container: its values over the new image's defaults, rendered.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};

use crate::contract::values::Recorded;
use crate::contract::{self, Contract};
use crate::deployment;
use crate::hint::Hinted;
use crate::name::ContainerName;
use crate::ops::deploy::protection::Protected;
use crate::ops::deploy::switch::Move;
use crate::ops::deploy::{Incoming, Preparing, SetGiven, secrets};
use crate::ops::update::decide::{Candidate, row};
use crate::ops::update::find::Newest;
use crate::ops::update::{Action, Mode, Row, Work};
use crate::runtime::Runtime;
use crate::state::Lifecycle;
use crate::store::{Begun, Checkout, StoredImage};

/// What a set becomes.
#[derive(Default)]
pub(super) struct Next {
    pub(super) moves: Vec<Move>,
    pub(super) lives: Vec<Lifecycle>,
    /// Those that turned out to be as they are to be.
    pub(super) same: Vec<Row>,
}

/// A candidate with its image's files at hand.
struct Opened {
    candidate: Rest,
    image: StoredImage,
    checkout: Checkout,
    contract: Contract,
}

/// What is left of a candidate when its image is in the store.
struct Rest {
    record: crate::state::Record,
    life: Lifecycle,
}

impl Work<'_> {
    /// Prepares the next generations.
    pub(super) fn prepare(&self, candidates: Vec<Candidate>) -> Result<Next> {
        let root = self.host.root;
        root.create_dir_all(deployment::STAGING, 0o700)?;
        let protected = Protected::of(root, self.config.store)?;
        let mut opened = Vec::new();
        for candidate in candidates {
            let name = candidate.record.name.clone();
            let one = self.open(candidate);
            opened.push(one.with_context(|| format!("updating `{name}`"))?);
        }
        let others = self.others(&opened);
        let given = SetGiven::new(
            &self.request.set,
            self.request.values.as_ref(),
            &self.request.secrets,
        )?
        .without(&others);
        let images: Vec<_> = opened
            .iter()
            .map(|one| (&one.candidate.record.name, &one.contract.manifest))
            .collect();
        given.check(&images)?;
        self.check_unset(&opened, &others)?;
        let alone = opened.len() == 1;
        let mut next = Next::default();
        for one in opened {
            let name = one.candidate.record.name.clone();
            let given = given.of(&name, &one.contract.manifest, alone);
            self.one(one, &given, &protected, &mut next)
                .with_context(|| format!("updating `{name}`"))?;
        }
        Ok(next)
    }

    fn open(&self, candidate: Candidate) -> Result<Opened> {
        let Candidate {
            record,
            life,
            newest,
        } = candidate;
        let Newest {
            found, reference, ..
        } = newest;
        let staging: PathBuf = self.host.root.outside(deployment::STAGING);
        let store = &self.store;
        let guess = || match store.guess(&reference, &staging) {
            Some(begun) => Ok(begun),
            None => Begun::new(&staging),
        };
        let (image, checkout) = found.into_checkout(self.host, store, guess)?;
        let image = StoredImage { reference, ..image };
        Ok(Opened {
            contract: contract::load(checkout.dir())?,
            candidate: Rest { record, life },
            image,
            checkout,
        })
    }

    fn one(
        &self,
        one: Opened,
        given: &contract::values::Given,
        protected: &Protected,
        next: &mut Next,
    ) -> Result<()> {
        let Rest { record, mut life } = one.candidate;
        let runtime = Runtime::choose(record.runtime.to_str(), self.host.root)?;
        let preparing = Preparing {
            host: self.host,
            runtime: &runtime,
            protected,
            now: self.request.now,
        };
        let id = (&record.name, life.next(self.host.root, &record.name)?);
        let recorded: Recorded = record.values.without(&self.unset_of(record.name.as_str()));
        let values = preparing.values(id, (&one.image, &one.contract), &recorded, given)?;
        let digest = one.image.manifest_digest.to_string();
        let same_image = digest == record.manifest_digest;
        let same_reference = one.image.reference.to_string() == record.image;
        secrets::check(self.host, given)?;
        let same_values = values.to_record().same_as(&record.values)
            && !secrets::differ(self.host, &record, given);
        if same_image && same_reference && same_values {
            next.same.push(row(&record, Action::UpToDate));
            return Ok(());
        }
        life.downloaded = None;
        let of = (&one.contract, &values);
        let mut prepared = preparing.prepare(id, one.image, one.checkout, of)?;
        if self.request.mode == Mode::Apply {
            prepared.seal(self.host, given, Some(&record))?;
        }
        next.lives.push(life);
        next.moves.push(Move {
            to: Incoming::New(prepared),
            from: record,
        });
        Ok(())
    }

    /// The values of a container that are to follow the defaults again.
    fn unset_of(&self, container: &str) -> Vec<String> {
        let names = self.request.unset.iter();
        let mine = names.filter_map(|name| match name.rsplit_once('.') {
            Some((to, key)) if to == container => Some(key.to_owned()),
            Some(_) => None,
            None => Some(name.clone()),
        });
        mine.collect()
    }

    /// The containers of this update that are not of this set: with `--each` they have one of their own.
    fn others(&self, opened: &[Opened]) -> Vec<&ContainerName> {
        let here =
            |name: &ContainerName| opened.iter().any(|one| one.candidate.record.name == *name);
        self.named.iter().filter(|name| !here(name)).collect()
    }

    /// Refuses to unset what nobody set.
    fn check_unset(&self, opened: &[Opened], others: &[&ContainerName]) -> Result<()> {
        for name in &self.request.unset {
            let to = name.rsplit_once('.').map(|(to, _)| to);
            if others.iter().any(|other| Some(other.as_str()) == to) {
                continue;
            }
            let is_set = opened.iter().any(|one| {
                let record = &one.candidate.record;
                let mine = self.unset_of(record.name.as_str());
                let key = name.rsplit_once('.').map_or(name.as_str(), |(_, key)| key);
                mine.iter().any(|k| k == key) && record.values.iter().any(|(n, _)| n == key)
            });
            if !is_set {
                return Err(anyhow!("`--unset {name}`: nobody has set it"))
                    .hint("`bedplate values NAME` shows what is set, and by whom");
            }
        }
        Ok(())
    }
}
