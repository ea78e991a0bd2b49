//! Stages 2 to 7 for each image: everything that can be wrong with one image alone is found here.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, bail};

use crate::config::Config;
use crate::contract::manifest::Stage;
use crate::contract::values::{self, Values};
use crate::contract::{self, Contract};
use crate::deployment::{self, Content, Rootfs};
use crate::hint::Hinted;
use crate::name::{ContainerName, Generation, UnitName};
use crate::ops::Host;
use crate::ops::install::Request;
use crate::ops::install::fetch::{Fetched, Source, fetch};
use crate::ops::install::given::SetGiven;
use crate::ops::install::host_files::{host_files, owned_files};
use crate::ops::install::protection::Protected;
use crate::ops::install::rendering::{Rendering, checksums, texts};
use crate::render::Rendered;
use crate::render::files::RenderedFile;
use crate::render::unit::SHAPE;
use crate::root::Root;
use crate::runtime::Runtime;
use crate::state::{FORMAT, Order, Record};
use crate::store::{Checkout, Store, StoredImage};

/// One image of the set.
pub(super) enum Preparation {
    /// The same digest with the same values is installed.
    Unchanged(Box<Record>),
    /// It is to be installed.
    New(Box<Prepared>),
}

impl Preparation {
    /// What is to be installed; `None` when it is there.
    pub(super) fn as_new(&self) -> Option<&Prepared> {
        match self {
            Self::Unchanged(_) => None,
            Self::New(prepared) => Some(prepared),
        }
    }

    /// The container's record: the one on the host, or the one to be.
    pub(super) fn record(&self) -> &Record {
        match self {
            Self::Unchanged(record) => record,
            Self::New(prepared) => &prepared.record,
        }
    }
}

/// An image rendered for this host, not yet on it.
pub(super) struct Prepared {
    pub(super) record: Record,
    pub(super) rendered: Rendered,
    /// Files for the host, tmpfiles.d lines among them.
    pub(super) host_files: Vec<RenderedFile>,
    /// Why its files are not protected better, a line each; empty when nobody asked for it.
    unprotected: Vec<String>,
    image: StoredImage,
    checkout: Option<Checkout>,
}

impl Prepared {
    /// The files of its generation.
    pub(super) fn content(&self) -> Result<Content> {
        let mut texts = texts(&self.rendered)?;
        Ok(Content {
            config_json: texts.remove("config.json").unwrap_or_default(),
            launch_json: texts.remove("launch.json").unwrap_or_default(),
            units: self
                .rendered
                .units
                .iter()
                .map(|u| (u.name.clone(), u.text.clone()))
                .collect(),
            record: self.record.to_text()?,
        })
    }

    /// The checkout apart from the rest, as the generation's rootfs; the record says what that is.
    pub(super) fn with_rootfs(
        mut self: Box<Self>,
        root: &Root,
        store: &Store,
    ) -> Result<(Self, Rootfs)> {
        let checkout = self
            .checkout
            .take()
            .ok_or_else(|| anyhow!("a generation is staged twice: its checkout is gone"))?;
        let targets = deployment::targets(root, &self.rendered.spec)?;
        let integrity = self.record.integrity;
        let rootfs = deployment::rootfs((store, &self.image), checkout, &targets, integrity)
            .with_context(|| format!("preparing `{}`", self.record.name))?;
        if let Some(sum) = rootfs.checksum() {
            self.record
                .rendered
                .insert(deployment::TREE.to_owned(), sum);
        }
        Ok((*self, rootfs))
    }

    /// What the operator should know.
    pub(super) fn notes(&self) -> Vec<String> {
        [&self.rendered.notes[..], &self.unprotected].concat()
    }

    /// The user that its payload runs as on the host.
    pub(super) fn uid(&self) -> u32 {
        let process = self.rendered.spec.process().as_ref();
        process.map_or(0, |process| process.user().uid())
    }

    /// Its units with their texts, the service first.
    pub(super) fn units(&self) -> impl Iterator<Item = (&UnitName, &str)> {
        self.rendered
            .units
            .iter()
            .map(|u| (&u.name, u.text.as_str()))
    }
}

/// Prepares every image of the set.
pub(super) fn set(
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
    let given = SetGiven::new(&request.set, request.values.as_ref())?;
    let images: Vec<_> = fetched
        .iter()
        .map(|(f, c)| (&f.name, &c.manifest))
        .collect();
    given.check(&images)?;
    let alone = fetched.len() == 1;
    fetched
        .into_iter()
        .map(|(one, contract)| {
            let name = one.name.clone();
            let context = Preparing {
                host,
                request,
                runtime,
                protected: &protected,
            };
            let given = given.of(&name, &contract.manifest, alone);
            context
                .prepare(one, &contract, &given)
                .with_context(|| format!("installing `{name}`"))
        })
        .collect()
}

/// What stages 5 to 7 of every image need.
struct Preparing<'a> {
    host: &'a Host<'a>,
    request: &'a Request,
    runtime: &'a Runtime,
    protected: &'a Protected,
}

impl Preparing<'_> {
    fn prepare(
        &self,
        one: Fetched,
        contract: &Contract,
        given: &values::Given,
    ) -> Result<Preparation> {
        let generation = Generation::FIRST;
        let rendering = Rendering {
            host: self.host,
            runtime: self.runtime,
            name: &one.name,
            generation,
            image: &one.image,
            integrity: self.protected.by,
        };
        let built_ins = rendering.built_ins(contract)?;
        let values = values::resolve(&contract.manifest, given, &built_ins)?;
        let checkout = match one.source {
            Source::Installed(record, _) if record.values.same_as(&values.to_record()) => {
                return Ok(Preparation::Unchanged(record));
            }
            Source::Installed(record, _) => {
                return Err(anyhow!(
                    "it is already installed (generation {}) with other values",
                    record.generation
                ))
                .hint(format!(
                    "`bedplate uninstall {}` first, its data is kept; or choose another `--name`",
                    record.name
                ));
            }
            Source::Checkout(checkout) => checkout,
        };
        let root = self.host.root;
        let rendered = rendering.render(contract, &values, checkout.dir())?;
        let host_files = host_files(&one.name, contract, &values, rendered.tmpfiles.as_deref())?;
        let mut record = self.record(&one.image, contract, &values, (&one.name, &rendered));
        record.rendered = checksums(&texts(&rendered)?);
        record.files = owned_files(root, &host_files)?;
        Ok(Preparation::New(Box::new(Prepared {
            record,
            rendered,
            host_files,
            unprotected: self.protected.not_more.clone(),
            image: one.image,
            checkout: Some(checkout),
        })))
    }

    fn record(
        &self,
        image: &StoredImage,
        contract: &Contract,
        values: &Values,
        (name, rendered): (&ContainerName, &Rendered),
    ) -> Record {
        let service = &rendered.service;
        Record {
            record: FORMAT,
            name: name.clone(),
            generation: Generation::FIRST,
            description: contract.manifest.description.clone(),
            image: image.reference.to_string(),
            index_digest: image.index_digest.to_string(),
            manifest_digest: image.manifest_digest.to_string(),
            platform: image.platform.to_string(),
            runtime: self.runtime.path.clone(),
            contract: contract.manifest.contract,
            shape: SHAPE,
            installed: self.request.now,
            units: rendered.units.iter().map(|u| u.name.clone()).collect(),
            privileges: rendered.privileges.clone(),
            integrity: self.protected.by,
            order: Order {
                provides: service.provides.clone(),
                requires: service.requires.clone(),
                after: service.after.clone(),
                before: service.before.clone(),
                early: service.stage == Stage::Early,
            },
            commit: image.commit.clone(),
            rendered: BTreeMap::new(),
            values: values.to_record(),
            files: Vec::new(),
        }
    }
}
