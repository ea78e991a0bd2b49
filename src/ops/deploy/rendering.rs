//! Stages 6 and 7 with what this host adds to them; and the same again for a generation that is there.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use containers_image_proxy::oci_spec::runtime::Capabilities;

use crate::config;
use crate::contract::builtins::BuiltIns;
use crate::contract::values::{self, Values};
use crate::contract::{self, Contract, HostContent};
use crate::deployment;
use crate::host;
use crate::image::reference::ImageRef;
use crate::name::{ContainerName, Generation};
use crate::ops::Host;
use crate::ops::deploy::host_files::all as host_files;
use crate::ops::deploy::protection::overlay;
use crate::render::device::Devices;
use crate::render::directories::name_directories;
use crate::render::files::RenderedFile;
use crate::render::unit::launch_command;
use crate::render::users::Users;
use crate::render::{self, Rendered, Subject, capability};
use crate::root::Root;
use crate::runtime::Runtime;
use crate::state::Record;
use crate::store::composefs::Protection;
use crate::store::{Store, StoredImage};

/// What is rendered, and for whom.
pub(crate) struct Rendering<'a> {
    pub(crate) host: &'a Host<'a>,
    pub(crate) runtime: &'a Runtime,
    pub(crate) name: &'a ContainerName,
    pub(crate) generation: Generation,
    pub(crate) image: &'a StoredImage,
    pub(crate) integrity: Protection,
}

impl Rendering<'_> {
    pub(crate) fn built_ins(&self, contract: &Contract) -> Result<BuiltIns> {
        let id = (self.name, self.generation);
        built_ins(id, self.image, &self.runtime.path, contract)
    }

    /// Renders; `rootfs` is where the image's files can be looked at.
    pub(crate) fn render(
        &self,
        contract: &Contract,
        values: &Values,
        rootfs: &Path,
    ) -> Result<Rendered> {
        let root = self.host.root;
        let directory = deployment::dir(self.name, self.generation);
        let subject = Subject {
            name: self.name,
            generation: self.generation,
            overlay: overlay(self.integrity, &directory),
            generation_dir: directory,
            image: &self.image.config,
            reference: self.image.reference.to_string(),
            digest: self.image.manifest_digest.to_string(),
            users: Users::read(rootfs)?,
            bounding: bounding(root)?,
            devices: Devices::read(root, &contract.manifest.container.devices),
            runtime: self.runtime,
            systemd: self.host.systemd.version(),
        };
        render::render(contract, values, &subject)
    }
}

/// The built-in variables of a generation.
pub(crate) fn built_ins(
    (name, generation): (&ContainerName, Generation),
    image: &StoredImage,
    runtime: &Path,
    contract: &Contract,
) -> Result<BuiltIns> {
    let below = |base: &str| Path::new(base).join(name.as_str());
    let directory = deployment::dir(name, generation);
    let mut built_ins = BuiltIns {
        name: name.clone(),
        generation,
        image: image.reference.to_string(),
        digest: image.manifest_digest.to_string(),
        rootfs: directory.join("rootfs"),
        runtime: runtime.to_owned(),
        launch: launch_command(&directory),
        arch: image.config.architecture().to_string(),
        state_dir: below("/var/lib"),
        runtime_dir: below("/run"),
        logs_dir: below("/var/log"),
        cache_dir: below("/var/cache"),
    };
    name_directories(&mut built_ins, &contract.manifest.service.directories)?;
    Ok(built_ins)
}

/// The files of a generation beside its rootfs and its record, by their paths in it.
pub(crate) fn files(
    rendered: &Rendered,
    host_files: &[RenderedFile],
) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::from([
        (
            "config.json".to_owned(),
            rendered.config_json()?.into_bytes(),
        ),
        (
            "launch.json".to_owned(),
            rendered.launch_json()?.into_bytes(),
        ),
    ]);
    for unit in &rendered.units {
        files.insert(format!("units/{}", unit.name), unit.text.clone().into());
    }
    for file in host_files {
        if let HostContent::File(content) = &file.content {
            let path = deployment::host_file(&file.path);
            files.insert(path.display().to_string(), content.clone());
        }
    }
    Ok(files)
}

/// The checksums of these files, as the record keeps them.
pub(crate) fn checksums(files: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, String> {
    let sum = |(path, content): (&String, &Vec<u8>)| (path.clone(), host::checksum(content));
    files.iter().map(sum).collect()
}

/// What an installed generation was made of.
pub(crate) struct Again {
    /// The files beside its rootfs, by their paths in the generation.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Its files for the host.
    pub(crate) host_files: Vec<RenderedFile>,
}

/// Renders an installed generation again. The host may have changed since: what comes out is the same only if its
/// checksum says so.
pub(crate) fn again(host: &Host, record: &Record, image: &StoredImage) -> Result<Again> {
    let rendering = || format!("rendering `{}` again", record.name);
    let dir = deployment::dir(&record.name, record.generation);
    let mounted = !host.root.list(dir.join("rootfs"))?.is_empty();
    let checkout = if mounted || !record.integrity.is_image() {
        None
    } else {
        let store = Store::open(host.root, config::load(host.root)?.store)?;
        host.root.create_dir_all(deployment::STAGING, 0o700)?;
        Some(store.checkout(image, &host.root.outside(deployment::STAGING))?)
    };
    let rootfs = match &checkout {
        Some(checkout) => checkout.dir().to_owned(),
        None => host.root.outside(dir.join("rootfs")),
    };
    let contract = contract::load(&rootfs).with_context(rendering)?;
    let runtime = Runtime::choose(record.runtime.to_str(), host.root).with_context(rendering)?;
    let image = StoredImage {
        reference: ImageRef::try_from(record.image.clone())?,
        ..image.clone()
    };
    let of = Rendering {
        host,
        runtime: &runtime,
        name: &record.name,
        generation: record.generation,
        image: &image,
        integrity: record.integrity,
    };
    let built_ins = of.built_ins(&contract)?;
    let given = values::Given::default();
    let values = values::resolve_over(&record.values, &contract.manifest, &given, &built_ins)
        .with_context(rendering)?;
    let rendered = of
        .render(&contract, &values, &rootfs)
        .with_context(rendering)?;
    let tmpfiles = rendered.tmpfiles.as_deref();
    let host_files = host_files(&record.name, &contract, &values, tmpfiles)?;
    Ok(Again {
        files: files(&rendered, &host_files)?,
        host_files,
    })
}

/// What the running host can grant at most; unknown for a root that does not run.
fn bounding(root: &Root) -> Result<Option<Capabilities>> {
    if !root.is_host() {
        return Ok(None);
    }
    let status = root.read_text("/proc/self/status")?;
    Ok(status.as_deref().and_then(capability::bounding))
}
