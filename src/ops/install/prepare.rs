//! Stages 2 to 7 for each image: everything that can be wrong with one image alone is found here.

use anyhow::{Context, Result, anyhow, bail};

use crate::config::Config;
use crate::contract::values::{Given, Recorded};
use crate::contract::{self, Contract};
use crate::deployment;
use crate::hint::Hinted;
use crate::ops::Host;
use crate::ops::deploy::protection::Protected;
use crate::ops::deploy::{Prepared, Preparing, SetGiven, secrets};
use crate::ops::install::Request;
use crate::ops::install::fetch::{Fetched, Source, fetch};
use crate::runtime::Runtime;
use crate::state::{Lifecycle, Record};
use crate::store::Store;

/// One image of the set.
pub(crate) enum Preparation {
    /// The same digest with the same values is installed.
    Unchanged(Box<Record>),
    /// It is to be installed.
    New(Box<Prepared>),
}

impl Preparation {
    /// What is to be installed; `None` when it is there.
    pub(crate) fn as_new(&self) -> Option<&Prepared> {
        match self {
            Self::Unchanged(_) => None,
            Self::New(prepared) => Some(prepared),
        }
    }

    /// The container's record: the one on the host, or the one to be.
    pub(crate) fn record(&self) -> &Record {
        match self {
            Self::Unchanged(record) => record,
            Self::New(prepared) => &prepared.record,
        }
    }
}

/// Prepares every image of the set.
pub(crate) fn set(
    host: &Host,
    request: &Request,
    store: &Store,
    config: &Config,
    runtime: &Runtime,
) -> Result<Vec<Preparation>> {
    host.root.create_dir_all(deployment::STAGING, 0o700)?;
    let protected = Protected::of(host.root, config.store)?;
    let access = request.access.with_network(config.network);
    let mut fetched: Vec<(Fetched, Contract)> = Vec::new();
    for reference in &request.images {
        let installing = || format!("installing `{reference}`");
        let one = fetch(host, request, store, &access, reference)?;
        if fetched.iter().any(|(other, _)| other.name == one.name) {
            bail!("two images of the set would both be called `{}`", one.name);
        }
        let contract = contract::load(&one.rootfs(host.root)).with_context(installing)?;
        fetched.push((one, contract));
    }
    let given = SetGiven::new(&request.set, request.values.as_ref(), &request.secrets)?;
    let images: Vec<_> = fetched
        .iter()
        .map(|(f, c)| (&f.name, &c.manifest))
        .collect();
    given.check(&images)?;
    let alone = fetched.len() == 1;
    let preparing = Preparing {
        host,
        runtime,
        protected: &protected,
        now: request.now,
    };
    fetched
        .into_iter()
        .map(|(one, contract)| {
            let name = one.name.clone();
            let given = given.of(&name, &contract.manifest, alone);
            prepare(&preparing, one, &contract, (&given, request.dry_run))
                .with_context(|| format!("installing `{name}`"))
        })
        .collect()
}

fn prepare(
    preparing: &Preparing,
    one: Fetched,
    contract: &Contract,
    (given, dry_run): (&Given, bool),
) -> Result<Preparation> {
    // The first, unless something still runs from one that an undone install has left.
    let root = preparing.host.root;
    let generation = Lifecycle::default().next(root, &one.name)?;
    let id = (&one.name, generation);
    let nothing = Recorded::default();
    let values = preparing.values(id, (&one.image, contract), &nothing, given)?;
    secrets::check(preparing.host, given)?;
    let checkout = match one.source {
        Source::Installed(record, _)
            if record.values.same_as(&values.to_record())
                && !secrets::differ(preparing.host, &record, given) =>
        {
            return Ok(Preparation::Unchanged(record));
        }
        Source::Installed(record, _) => {
            return Err(anyhow!(
                "it is already installed (generation {}) with other values",
                record.generation
            ))
            .hint(format!(
                "`bedplate update {} --set KEY=VALUE` changes them, `--secret KEY=FILE` a secret; or choose another `--name`",
                record.name
            ));
        }
        Source::Checkout(checkout) => checkout,
    };
    let mut prepared = preparing.prepare(id, one.image, checkout, (contract, &values))?;
    if !dry_run {
        prepared.seal(preparing.host, given, None)?;
    }
    Ok(Preparation::New(prepared))
}
