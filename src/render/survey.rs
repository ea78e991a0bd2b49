//! Every template rendered by itself, so that an author sees all that is wrong with them at once: [`render`] ends at
//! the first.
//!
//! [`render`]: crate::render::render

use serde_json::Value as Json;

use crate::contract::Contract;
use crate::contract::finding::Finding;
use crate::contract::survey::MANIFEST;
use crate::contract::values::Values;
use crate::render::template::{self, Context, render_text};
use crate::render::{Subject, files, image_unit, resolve, spec};

/// What cannot be rendered; none: [`crate::render::render`] may still find what is wrong with the whole.
pub fn findings(contract: &Contract, values: &Values, subject: &Subject<'_>) -> Vec<Finding> {
    let mut found = of_manifest(contract, values);
    if found.is_empty()
        && let Err(error) = resolve::fill(&contract.manifest, values)
    {
        found.extend(Finding::all(MANIFEST, &error));
    }
    let name = subject.name;
    let templates = &contract.templates;
    for (template, kind, section) in [
        (&templates.service, "service", "Service"),
        (&templates.socket, "socket", "Socket"),
        (&templates.timer, "timer", "Timer"),
        (&templates.path, "path", "Path"),
    ] {
        if let Some(template) = template
            && let Err(error) = image_unit(template, values, name.unit(kind), section)
        {
            found.extend(all(&template.name, &error));
        }
    }
    if let Some(template) = &templates.tmpfiles
        && let Err(error) = template::render(template, values, Context::Unit)
    {
        found.extend(all(&template.name, &error));
    }
    if let Some(template) = &templates.config
        && let Err(error) = spec::from_template(template, values, subject)
    {
        found.extend(all(&template.name, &error));
    }
    if let Err(error) = files::host_files(contract, values) {
        found.extend(all("hostfs", &error));
    }
    found
}

fn all(name: &str, error: &anyhow::Error) -> Vec<Finding> {
    Finding::all(&format!("exports/{name}"), error)
}

/// Every text of the manifest that is a template, each with its key.
fn of_manifest(contract: &Contract, values: &Values) -> Vec<Finding> {
    let mut texts = Vec::new();
    for (key, part) in [
        (
            "container",
            serde_json::to_value(&contract.manifest.container),
        ),
        ("service", serde_json::to_value(&contract.manifest.service)),
        ("health", serde_json::to_value(&contract.manifest.health)),
    ] {
        texts_of(key, &part.unwrap_or_default(), &mut texts);
    }
    let wrong = texts.iter().filter_map(|(key, text)| {
        let error = render_text(key, text, values, Context::Plain).err()?;
        let mut found = Finding::all(MANIFEST, &error);
        for finding in &mut found {
            finding.text = format!("{key}: {}", finding.text);
        }
        Some(found)
    });
    let mut found: Vec<Finding> = wrong.flatten().collect();
    found.sort();
    found.dedup();
    found
}

fn texts_of(key: &str, part: &Json, texts: &mut Vec<(String, String)>) {
    match part {
        Json::String(text) if text.contains("{{") => texts.push((key.to_owned(), text.clone())),
        Json::Array(items) => items.iter().for_each(|item| texts_of(key, item, texts)),
        Json::Object(members) => members
            .iter()
            .for_each(|(name, member)| texts_of(&format!("{key}.{name}"), member, texts)),
        _ => {}
    }
}
