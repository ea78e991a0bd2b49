//! Stages 5 to 7: the contract's values, and everything rendered from them for one generation; nothing of it is on
//! the host yet.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow};

use crate::contract::Contract;
use crate::contract::manifest::Stage;
use crate::contract::values::{self, Given, Recorded, Values};
use crate::deployment::{self, Content, Rootfs};
use crate::host;
use crate::name::{ContainerName, Generation, UnitName};
use crate::ops::Host;
use crate::ops::deploy::Coming;
use crate::ops::deploy::host_files::all as host_files;
use crate::ops::deploy::protection::Protected;
use crate::ops::deploy::rendering::{Rendering, checksums, files};
use crate::ops::deploy::secrets::{self, Sealed};
use crate::render::Rendered;
use crate::render::files::RenderedFile;
use crate::render::unit::SHAPE;
use crate::root::Root;
use crate::runtime::Runtime;
use crate::state::{FORMAT, Order, Record};
use crate::store::{Checkout, Store, StoredImage};

/// A generation rendered for this host, not yet on it.
pub(crate) struct Prepared {
    pub(crate) record: Record,
    pub(crate) rendered: Rendered,
    /// Its units with their texts, the service first.
    pub(crate) units: Vec<(UnitName, String)>,
    /// Files for the host, tmpfiles.d lines among them.
    pub(crate) host_files: Vec<RenderedFile>,
    /// Why its files are not protected better, a line each; empty when nobody asked for it.
    unprotected: Vec<String>,
    /// None yet in a dry run.
    secrets: Sealed,
    image: StoredImage,
    checkout: Option<Checkout>,
}

impl Prepared {
    /// The files of its generation.
    pub(crate) fn content(&self) -> Result<Content> {
        Ok(Content {
            config_json: self.config_json()?,
            launch_json: self.rendered.launch_json()?,
            units: self.units.clone(),
            record: self.record.to_text()?,
            host_files: self.host_files.clone(),
            secrets: self.secrets.clone(),
        })
    }

    /// Seals the secrets that are given, and takes over the others from the generation before.
    pub(crate) fn seal(
        &mut self,
        host: &Host,
        given: &Given,
        before: Option<&Record>,
    ) -> Result<()> {
        self.secrets = secrets::seal(host, &self.record.values, given, before)?;
        for (name, sealed) in &self.secrets {
            let file = deployment::secret(name).display().to_string();
            self.record.rendered.insert(file, host::checksum(sealed));
        }
        Ok(())
    }

    /// Its config.json.
    pub(crate) fn config_json(&self) -> Result<String> {
        self.rendered.config_json()
    }

    /// The checkout apart from the rest, as the generation's rootfs; the record says what that is.
    pub(crate) fn with_rootfs(
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
    pub(crate) fn notes(&self) -> Vec<String> {
        let values = self.record.values.iter();
        let secrets = values.filter(|(_, value)| value.origin.is_secret());
        let secrets = secrets.map(|(name, value)| {
            format!("the secret `{name}` is from {}, kept sealed", value.origin)
        });
        let notes = [&self.rendered.notes[..], &self.unprotected].concat();
        notes.into_iter().chain(secrets).collect()
    }

    /// It, as far as the host is concerned.
    pub(crate) fn coming(&self) -> Coming<'_> {
        let process = self.rendered.spec.process().as_ref();
        let uid = process.map_or(0, |process| process.user().uid());
        Coming {
            record: &self.record,
            units: &self.units,
            host_files: &self.host_files,
            // Root's are nobody's to lose.
            gives: match uid {
                0 => (0, &[]),
                _ => (uid, &self.rendered.launch.own),
            },
            kept: false,
        }
    }
}

/// What stages 5 to 7 of every image of a command need.
pub(crate) struct Preparing<'a> {
    pub(crate) host: &'a Host<'a>,
    pub(crate) runtime: &'a Runtime,
    pub(crate) protected: &'a Protected,
    /// Seconds since 1970-01-01 00:00 UTC.
    pub(crate) now: i64,
}

/// The container and the number of its generation.
pub(crate) type Id<'a> = (&'a ContainerName, Generation);

impl Preparing<'_> {
    /// Stage 6: every value that the templates may use, what is given over what was recorded.
    pub(crate) fn values(
        &self,
        id: Id,
        (image, contract): (&StoredImage, &Contract),
        recorded: &Recorded,
        given: &Given,
    ) -> Result<Values> {
        let built_ins = self.rendering(id, image).built_ins(contract)?;
        values::resolve_over(recorded, &contract.manifest, given, &built_ins)
    }

    /// Stage 7: all that the generation is made of.
    pub(crate) fn prepare(
        &self,
        id: Id,
        image: StoredImage,
        checkout: Checkout,
        (contract, values): (&Contract, &Values),
    ) -> Result<Box<Prepared>> {
        let rendering = self.rendering(id, &image);
        let mut rendered = rendering.render(contract, values, checkout.dir())?;
        let host_files = host_files(id.0, contract, values, rendered.tmpfiles.as_deref())?;
        let mut record = self.record(id, &image, (contract, values), &rendered);
        record.rendered = checksums(&files(&rendered, &host_files)?);
        let units = std::mem::take(&mut rendered.units).into_iter();
        Ok(Box::new(Prepared {
            record,
            units: units.map(|unit| (unit.name, unit.text)).collect(),
            rendered,
            host_files,
            unprotected: self.protected.not_more.clone(),
            secrets: Sealed::new(),
            image,
            checkout: Some(checkout),
        }))
    }

    fn rendering<'a>(
        &'a self,
        (name, generation): Id<'a>,
        image: &'a StoredImage,
    ) -> Rendering<'a> {
        Rendering {
            host: self.host,
            runtime: self.runtime,
            name,
            generation,
            image,
            integrity: self.protected.by,
        }
    }

    fn record(
        &self,
        (name, generation): Id,
        image: &StoredImage,
        (contract, values): (&Contract, &Values),
        rendered: &Rendered,
    ) -> Record {
        let service = &rendered.service;
        Record {
            record: FORMAT,
            name: name.clone(),
            generation,
            description: contract.manifest.description.clone(),
            image: image.reference.to_string(),
            index_digest: image.index_digest.to_string(),
            manifest_digest: image.manifest_digest.to_string(),
            platform: image.platform.to_string(),
            runtime: self.runtime.path.clone(),
            contract: contract.manifest.contract,
            shape: SHAPE,
            installed: self.now,
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
            health: rendered.health.clone(),
        }
    }
}
