//! Contract and values in, everything a generation is made of out: units, config.json, the launcher's plan, and
//! what to tell people. Pure: it reads no disk and writes none.
//!
//! ```text
//! manifest ─ resolve ─► words and paths ─┬─ spec ──► config.json ─┬─ plan ─► launch.json
//! image configuration, users, values ────┘                       ├─ unit ─► NAME.service
//!                                                                └─ privilege ─► lines for people
//! ```
//!
//! Privileges are read from what will really be run (the configuration and the units), so that a configuration of
//! the image's own is told of like one made here. The order of services is not decided here: it depends on what
//! else is installed.

pub mod capability;
pub mod device;
pub mod directories;
pub mod files;
pub mod resolve;
pub mod survey;
pub mod template;
pub mod unit;
pub mod users;

mod mount;
mod names;
mod oci;
mod plan;
mod privilege;
mod process;
mod rootfs;
mod seccomp;
mod secret;
mod signal;
mod spec;
mod syntax;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use containers_image_proxy::oci_spec::image::ImageConfiguration;
use containers_image_proxy::oci_spec::runtime::{Capabilities, Spec};

use crate::contract::manifest::Health;
use crate::contract::values::Values;
use crate::contract::{Contract, Template};
use crate::launch::LaunchPlan;
use crate::name::{ContainerName, Generation, UnitName};
use crate::render::device::Devices;
use crate::render::files::RenderedFile;
use crate::render::resolve::Resolved;
use crate::render::template::Context;
use crate::render::users::Users;
use crate::runtime::Runtime;

/// What is rendered for: everything that neither contract nor values say.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The container.
    pub name: &'a ContainerName,
    /// The generation that is being made.
    pub generation: Generation,
    /// Its directory on the target host, `/var/lib/bedplate/containers/NAME/N`.
    pub generation_dir: PathBuf,
    /// The image's configuration.
    pub image: &'a ImageConfiguration,
    /// The image's users and groups.
    pub users: Users,
    /// The runtime that will start it.
    pub runtime: &'a Runtime,
    /// The version of the target host's systemd, 252 or later.
    pub systemd: u32,
    /// The most that the target host can grant; unknown for a root that does not run.
    pub bounding: Option<Capabilities>,
    /// The target host's nodes of the declared devices.
    pub devices: Devices,
    /// The image's reference as it was asked for.
    pub reference: String,
    /// The digest of the image's manifest.
    pub digest: String,
    /// How overlayfs makes the rootfs of an image of its tree; `None` when the rootfs is a directory.
    pub overlay: Option<String>,
}

/// All that a generation is made of, as text and types; nothing of it is on a disk.
#[derive(Debug)]
pub struct Rendered {
    /// The units, the service first.
    pub units: Vec<RenderedUnit>,
    /// The image's own tmpfiles.d lines.
    pub tmpfiles: Option<String>,
    /// The files of `hostfs/`, by path.
    pub host_files: Vec<RenderedFile>,
    /// config.json.
    pub spec: Spec,
    /// launch.json.
    pub launch: LaunchPlan,
    /// What it may do beyond the safe default, a line each.
    pub privileges: Vec<String>,
    /// What is other than the image asked, a line each.
    pub notes: Vec<String>,
    /// Its place in the order of services.
    pub service: Resolved,
    /// How an update judges it.
    pub health: Option<Health>,
}

/// A unit's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedUnit {
    /// Its file's name.
    pub name: UnitName,
    /// Its file's content.
    pub text: String,
}

impl Rendered {
    /// The content of launch.json.
    pub fn launch_json(&self) -> Result<String> {
        let mut text = serde_json::to_string_pretty(&self.launch).context("writing launch.json")?;
        text.push('\n');
        Ok(text)
    }

    /// The content of config.json. Sets are sorted, so that equal configurations are equal texts.
    pub fn config_json(&self) -> Result<String> {
        let mut value = serde_json::to_value(&self.spec).context("writing config.json")?;
        if let Some(sets) = value.pointer_mut("/process/capabilities") {
            for set in sets
                .as_object_mut()
                .into_iter()
                .flat_map(|sets| sets.values_mut())
            {
                if let Some(set) = set.as_array_mut() {
                    set.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
                }
            }
        }
        for map in ["/annotations", "/linux/sysctl"] {
            if let Some(map) = value.pointer_mut(map).and_then(|map| map.as_object_mut()) {
                map.sort_keys();
            }
        }
        let mut text = serde_json::to_string_pretty(&value).context("writing config.json")?;
        text.push('\n');
        Ok(text)
    }
}

/// Renders `contract` with `values` for `subject`.
pub fn render(contract: &Contract, values: &Values, subject: &Subject<'_>) -> Result<Rendered> {
    let manifest = &contract.manifest;
    let filled = resolve::fill(manifest, values)?;
    let made = match &contract.templates.config {
        Some(template) => spec::from_template(template, values, subject)?,
        None => spec::from_manifest(&manifest.container, &filled, subject)?,
    };
    plan::check_sockets(contract, &made.spec)?;
    let start = plan::start(&manifest.service, &filled, &made, subject);
    let mut privileges = privilege::of_spec(&made.spec, &start.launch);
    let parts = unit::Parts {
        manifest,
        filled: &filled,
        made: &made,
        start: &start,
        secrets: secret::credentials(values, subject),
        subject,
    };
    let (units, commands) = units(contract, values, &parts)?;
    privileges.extend(commands);
    let tmpfiles = contract.templates.tmpfiles.as_ref();
    let tmpfiles = tmpfiles
        .map(|template| template::render(template, values, Context::Unit))
        .transpose()?;
    if let Some(lines) = &tmpfiles {
        privileges.extend(privilege::of_tmpfiles(lines));
    }
    let host_files = files::host_files(contract, values)?;
    privileges.extend(privilege::of_files(&host_files));
    let notes = made.notes.into_iter().chain(start.notes).collect();
    Ok(Rendered {
        units,
        tmpfiles,
        host_files,
        spec: made.spec,
        launch: start.launch,
        privileges,
        notes,
        service: resolve::order(manifest, subject.name),
        health: filled.health,
    })
}

/// The units, the service first, and what those of the image run on the host.
fn units(
    contract: &Contract,
    values: &Values,
    parts: &unit::Parts<'_>,
) -> Result<(Vec<RenderedUnit>, Vec<String>)> {
    let templates = &contract.templates;
    let subject = parts.subject;
    let name = subject.name;
    let launch = unit::launch_command(&subject.generation_dir);
    let mut units = Vec::new();
    let mut commands = Vec::new();
    if templates.service.is_none() {
        let name = name.service();
        let text = parts.render()?;
        units.push(RenderedUnit { name, text });
        commands.extend(privilege::of_kill_mode(parts.start.kill_mode));
    }
    for (template, kind, section) in [
        (&templates.service, "service", "Service"),
        (&templates.socket, "socket", "Socket"),
        (&templates.timer, "timer", "Timer"),
        (&templates.path, "path", "Path"),
    ] {
        if let Some(template) = template {
            let mut unit = image_unit(template, values, name.unit(kind), section)?;
            if kind == "service" {
                unit.text.push_str(&rootfs::requirement(subject)?);
                unit.text.push_str(&secret::requirement(&parts.secrets));
            }
            commands.extend(privilege::of_unit(unit.name.as_str(), &unit.text, &launch));
            units.push(unit);
        }
    }
    units.extend(rootfs::units(subject)?);
    Ok((units, commands))
}

/// A unit that the image ships.
fn image_unit(
    template: &Template,
    values: &Values,
    name: UnitName,
    section: &str,
) -> Result<RenderedUnit> {
    let text = template::render(template, values, Context::Unit)?;
    syntax::check(&template.name, &text, section)?;
    Ok(RenderedUnit { name, text })
}
