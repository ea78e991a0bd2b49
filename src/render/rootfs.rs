//! The units that mount a generation's rootfs, when it is an image of its tree: the image, and overlayfs over it.
//!
//! They come up with the service and stay until the container is uninstalled or the host shuts down: a mounted file
//! system costs nothing, and what a service has left running may still use it.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use handlebars::Handlebars;
use serde::Serialize;

use crate::hint::Hinted;
use crate::name::UnitName;
use crate::render::{RenderedUnit, Subject, syntax};

const TREE: &str = include_str!("../../unit-templates/tree.mount.hbs");
const ROOTFS: &str = include_str!("../../unit-templates/rootfs.mount.hbs");

/// The variables of both templates.
#[derive(Serialize)]
struct View<'a> {
    name: &'a str,
    generation: u32,
    directory: String,
    options: &'a str,
}

/// What the service needs to be mounted: the rootfs, and with it all above it.
pub(crate) fn needed(subject: &Subject) -> PathBuf {
    match subject.overlay {
        Some(_) => subject.generation_dir.join("rootfs"),
        None => subject.generation_dir.clone(),
    }
}

/// What a service unit of the image's own is given, so that its rootfs is there.
pub(crate) fn requirement(subject: &Subject) -> Result<String> {
    if subject.overlay.is_none() {
        return Ok(String::new());
    }
    let rootfs = syntax::quote(&needed(subject))?;
    Ok(format!(
        "\n# Added by bedplate: the rootfs is mounted.\n[Unit]\nRequiresMountsFor={rootfs}\n"
    ))
}

/// The units; none when the rootfs is a directory.
pub(crate) fn units(subject: &Subject) -> Result<Vec<RenderedUnit>> {
    let Some(options) = &subject.overlay else {
        return Ok(Vec::new());
    };
    let view = View {
        name: subject.name.as_str(),
        generation: subject.generation.into(),
        directory: subject.generation_dir.display().to_string(),
        options,
    };
    let mut registry = Handlebars::new();
    registry.set_strict_mode(true);
    registry.register_escape_fn(handlebars::no_escape);
    [("tree", TREE), ("rootfs", ROOTFS)]
        .into_iter()
        .map(|(place, template)| {
            let name = UnitName::mount(&subject.generation_dir.join(place)).hint(
                "with `integrity` in `[store]` the name stands in that of a mount unit: choose a shorter `--name`",
            )?;
            let text = registry
                .render_template(template, &view)
                .with_context(|| format!("rendering `{place}.mount.hbs`"))?;
            Ok(RenderedUnit { name, text })
        })
        .collect()
}
