//! `lint`: what an image's author can know before anybody installs it: the contract, what its templates become, what
//! systemd says of the units, whether the command is there. Nothing is written to the host.

mod command;
mod opened;
mod subject;
mod units;

use std::collections::BTreeMap;

use anyhow::Result;
use containers_image_proxy::oci_spec::runtime::LinuxDeviceType;
use schemars::JsonSchema;
use serde::Serialize;

use crate::contract::builtins::BuiltIns;
use crate::contract::finding::Finding;
use crate::contract::manifest::{Manifest, ValueType};
use crate::contract::secret::Secret;
use crate::contract::survey::{self, MANIFEST, Survey};
use crate::contract::values::{self, Given, Values};
use crate::contract::{Contract, HostContent};
use crate::deployment;
use crate::image::access::Access;
use crate::name::Generation;
use crate::ops::Host;
use crate::ops::deploy::built_ins;
use crate::ops::lint::opened::{NAMELESS, Opened};
use crate::render::device::{Devices, Node};
use crate::render::users::Users;
use crate::render::{self, Rendered};
use crate::runtime::{Runtime, RuntimeKind};
use crate::systemd::{OLDEST, analyze};

pub use crate::ops::lint::opened::Kind;
pub use crate::ops::lint::subject::Subject;

/// What is to be checked.
#[derive(Debug)]
pub struct Request {
    /// A directory or an image.
    pub subject: Subject,
    /// How an image is reached.
    pub access: Access,
    /// `--set`, in order.
    pub set: Vec<(String, String)>,
}

/// What was found.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Outcome {
    /// What was checked, as it was given.
    pub subject: String,
    /// What that is.
    pub kind: Kind,
    /// The manifest's digest, of an image.
    pub digest: Option<String>,
    /// It has a contract; otherwise it is installed from its OCI configuration.
    pub contract: bool,
    /// What keeps it from being installed, or from starting.
    pub problems: Vec<Finding>,
    /// What works, but is hardly meant.
    pub warnings: Vec<Finding>,
    /// What could not be checked, a line each.
    pub unchecked: Vec<String>,
    /// Values that must be set at the installation, with what stood for them here.
    pub placeholders: BTreeMap<String, String>,
    /// What it asks for beyond the safe default, a line each.
    pub privileges: Vec<String>,
    /// Rendered texts by name: units, `config.json`; none when there are problems on the way to them.
    pub rendered: Vec<(String, String)>,
}

/// Checks.
pub fn run(host: &Host, request: &Request) -> Result<Outcome> {
    let opened = Opened::open(host, request)?;
    let survey = survey::take(opened.exports())?;
    let mut lint = Lint {
        systemd: analyze::version()?,
        outcome: Outcome {
            subject: request.subject.to_string(),
            kind: opened.kind,
            digest: opened.digest(),
            contract: survey.is_there,
            problems: Vec::new(),
            warnings: Vec::new(),
            unchecked: Vec::new(),
            placeholders: BTreeMap::new(),
            privileges: Vec::new(),
            rendered: Vec::new(),
        },
        opened: &opened,
        survey: &survey,
    };
    for (file, error) in &survey.errors {
        lint.outcome.problems.extend(Finding::all(file, error));
    }
    lint.rendered(&request.set)?;
    lint.words();
    let place = |finding: &mut Finding| {
        if finding.file.as_deref() == Some(MANIFEST) {
            *finding = finding.clone().placed(&survey.manifest);
        }
    };
    let mut outcome = lint.outcome;
    for found in [&mut outcome.problems, &mut outcome.warnings] {
        found.iter_mut().for_each(place);
        found.sort();
        found.dedup();
    }
    Ok(outcome)
}

/// A check on its way.
struct Lint<'a> {
    /// What checks the units; absent on a machine without.
    systemd: Option<u32>,
    opened: &'a Opened,
    survey: &'a Survey,
    outcome: Outcome,
}

impl<'a> Lint<'a> {
    /// Renders as an installation would, and looks at what comes out.
    fn rendered(&mut self, set: &[(String, String)]) -> Result<()> {
        if !self.survey.manifest_known {
            self.unchecked("the templates: what they are filled with is not known");
            return Ok(());
        }
        let contract = &self.survey.contract;
        let Some(values) = self.values(contract, set) else {
            return Ok(());
        };
        let runtime = runtime();
        let users = match self.opened.users()? {
            Some(users) => users,
            None => self.unknown_users(&contract.manifest, &values),
        };
        let subject = self.subject(contract, users, &runtime);
        let found = render::survey::findings(contract, &values, &subject);
        let whole = found.is_empty();
        self.outcome.problems.extend(found);
        if !whole {
            return Ok(());
        }
        let rendered = match render::render(contract, &values, &subject) {
            Ok(rendered) => rendered,
            Err(error) => {
                let found = Finding::all(self.opened.config_file(), &error);
                self.outcome.problems.extend(found);
                return Ok(());
            }
        };
        self.look_at(&rendered)
    }

    fn look_at(&mut self, rendered: &Rendered) -> Result<()> {
        let notes = rendered.notes.iter();
        let file = self.opened.config_file();
        let notes = notes.map(|note| Finding::of(file, note));
        self.outcome.warnings.extend(notes);
        self.outcome.privileges.clone_from(&rendered.privileges);
        command::check(self.opened, &rendered.spec, &mut self.outcome)?;
        if self.systemd.is_some() {
            let own = self.survey.contract.templates.service.is_some();
            let complaints = units::complaints(&rendered.units, own)?;
            self.outcome.problems.extend(complaints.problems);
            self.outcome.warnings.extend(complaints.warnings);
        } else {
            self.unchecked("the units: this machine has no `systemd-analyze`");
        }
        let units = rendered.units.iter();
        let units = units.map(|unit| (unit.name.to_string(), unit.text.clone()));
        self.outcome.rendered = units.collect();
        let config = rendered.config_json()?;
        self.outcome
            .rendered
            .push(("config.json".to_owned(), config));
        Ok(())
    }

    fn unchecked(&mut self, what: &str) {
        self.outcome.unchecked.push(what.to_owned());
    }

    fn built_ins(&self, contract: &Contract, runtime: &Runtime) -> Result<BuiltIns> {
        let id = (&self.opened.name, Generation::FIRST);
        built_ins(id, &self.opened.image, &runtime.path, contract)
    }

    /// The defaults, what was set, and a placeholder for each value that has to be.
    fn values(&mut self, contract: &Contract, set: &[(String, String)]) -> Option<Values> {
        let manifest = &contract.manifest;
        let required = manifest.values.iter().filter(|(name, declared)| {
            let given = set.iter().any(|(set, _)| set == *name);
            declared.required && !given
        });
        for (name, declared) in required {
            let placeholder = placeholder(declared.kind);
            let placeholders = placeholder.map(|value| (name.clone(), value.to_owned()));
            self.outcome.placeholders.extend(placeholders);
        }
        let mut all: Vec<_> = self.outcome.placeholders.clone().into_iter().collect();
        all.extend_from_slice(set);
        // Nothing is known of a secret but that it will be there.
        let secrets = manifest
            .values
            .iter()
            .filter(|(_, declared)| declared.required && declared.kind == ValueType::Secret);
        let given = Given {
            set: all,
            file: None,
            secrets: secrets
                .map(|(name, _)| (name.clone(), Secret::unknown()))
                .collect(),
        };
        let resolved = self
            .built_ins(contract, &runtime())
            .and_then(|built_ins| values::resolve(manifest, &given, &built_ins));
        match resolved {
            Ok(values) => Some(values),
            Err(error) => {
                let found = Finding::all(MANIFEST, &error).into_iter();
                // What is wrong with a declaration was told with its key.
                let new = found.filter(|finding| !finding.text.starts_with("the default of `"));
                self.outcome.problems.extend(new);
                None
            }
        }
    }

    fn subject<'s>(
        &self,
        contract: &Contract,
        users: Users,
        runtime: &'s Runtime,
    ) -> render::Subject<'s>
    where
        'a: 's,
    {
        let opened = self.opened;
        let devices = contract.manifest.container.devices.iter();
        // Whether a host has them is the host's affair.
        let node = Node {
            kind: LinuxDeviceType::C,
            major: 1,
            minor: 3,
        };
        render::Subject {
            name: &opened.name,
            generation: Generation::FIRST,
            generation_dir: deployment::dir(&opened.name, Generation::FIRST),
            image: &opened.image.config,
            users,
            runtime,
            systemd: self.systemd.unwrap_or(OLDEST),
            bounding: None,
            devices: devices.map(|path| (path.into(), node)).collect::<Devices>(),
            reference: opened.image.reference.to_string(),
            digest: opened.image.manifest_digest.to_string(),
            overlay: None,
        }
    }

    /// The user that the manifest names, taken for one that is not root.
    fn unknown_users(&mut self, manifest: &Manifest, values: &Values) -> Users {
        let wanted = manifest.container.user.as_deref().unwrap_or_default();
        let context = render::template::Context::Plain;
        let wanted = render::template::render_text("container.user", wanted, values, context);
        let wanted = wanted.unwrap_or_default();
        let (user, group) = wanted.split_once(':').unwrap_or((wanted.as_str(), ""));
        let group = if group.is_empty() { user } else { group };
        if wanted.is_empty() {
            self.unchecked("the user: the image's own is not known here, root is assumed");
        } else if user == "root" {
            return Users::parse("root:x:0:0::/:\n", &format!("{group}:x:0:\n"));
        } else if user.parse::<u32>().is_err() {
            self.unchecked(&format!("whether the image has the user `{wanted}`"));
        }
        Users::parse(
            &format!("{user}:x:{NAMELESS}:{NAMELESS}::/:\n"),
            &format!("{group}:x:{NAMELESS}:\n"),
        )
    }

    /// What is legal and hardly meant.
    fn words(&mut self) {
        let survey = self.survey;
        if !survey.is_there || !survey.manifest_known {
            return;
        }
        let manifest = &survey.contract.manifest;
        let mut warn = |text: String| self.outcome.warnings.push(Finding::of(MANIFEST, text));
        if manifest.description.is_empty() {
            warn("description: there is none; the unit is described by its name".to_owned());
        }
        let templates = templates(survey);
        let variables = manifest.values.iter();
        let variables = variables.filter(|(_, declared)| declared.kind != ValueType::Secret);
        for (name, _) in variables {
            let used = |text: &&str| text.contains("{{") && holds(text, name);
            if !templates.iter().any(used) {
                warn(format!("values.{name}: no template uses it"));
            }
        }
        for (name, declared) in &manifest.values {
            if declared.help.is_empty() {
                warn(format!(
                    "values.{name}: its `help` is empty: an operator sees nothing but its name"
                ));
            }
        }
    }
}

/// Every text that may be a template.
fn templates(survey: &Survey) -> Vec<&str> {
    let contract = &survey.contract;
    let mut texts: Vec<&str> = contract.templates.iter().map(|t| t.text.as_str()).collect();
    texts.extend(survey.manifest.lines());
    for file in &contract.host_files {
        if let (true, HostContent::File(bytes)) = (file.template, &file.content) {
            texts.extend(std::str::from_utf8(bytes));
        }
    }
    texts
}

/// Whether the text has the name as a word.
fn holds(text: &str, name: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(name).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + name.len()..]);
        !before.ends_with(part) && !after.starts_with(part)
    })
}

/// What stands for a value that only an operator knows; nothing stands for a secret.
fn placeholder(kind: ValueType) -> Option<&'static str> {
    match kind {
        ValueType::String | ValueType::List => Some("example"),
        ValueType::Integer => Some("1"),
        ValueType::Boolean => Some("true"),
        ValueType::Path => Some("/example"),
        ValueType::Url => Some("http://example.invalid"),
        ValueType::Secret => None,
    }
}

/// The one that hosts prefer: what this machine has tells nothing of them.
fn runtime() -> Runtime {
    Runtime {
        path: "/usr/bin/crun".into(),
        kind: RuntimeKind::Crun,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_whole_word() {
        assert!(holds("{{#if (eq PORT 1)}}", "PORT"));
        assert!(!holds("{{PORTS}} {{MY_PORT}}", "PORT"));
    }
}
