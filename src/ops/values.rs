//! `values`: what an image can be told, and what a container has been told.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, anyhow};
use schemars::JsonSchema;
use serde::Serialize;

use crate::config;
use crate::contract::builtins::BUILT_INS;
use crate::contract::manifest::{Declaration, ValueType};
use crate::contract::values::{Data, Given, Origin, Value, Values, resolve_over};
use crate::contract::{self, Contract};
use crate::hint::Hinted;
use crate::image::reference::{ImageRef, ReferenceError};
use crate::name::ContainerName;
use crate::ops::Host;
use crate::ops::deploy::built_ins;
use crate::ops::images::Wanted;
use crate::state::{self, Record};
use crate::store::{Store, StoredImage};

/// Whose values are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A container's.
    Container(ContainerName),
    /// An image's.
    Image(Wanted),
}

/// A container's name has neither `:` nor `/`, an image has one of them.
impl FromStr for Subject {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        match text.parse() {
            Ok(name) => Ok(Self::Container(name)),
            Err(_) => text.parse().map(Self::Image),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(name) => f.write_str(name.as_str()),
            Self::Image(wanted) => wanted.fmt(f),
        }
    }
}

/// The values.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Outcome {
    /// The container; `None` when an image was asked for.
    pub container: Option<ContainerName>,
    /// The image's reference.
    pub image: String,
    /// The manifest's digest.
    pub digest: String,
    /// What the image declares, by name.
    pub values: Vec<Declared>,
    /// The built-in variables, by name.
    pub built_in: Vec<BuiltIn>,
}

/// A declared value.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Declared {
    /// Its name.
    pub name: String,
    /// What may be written into it.
    #[serde(rename = "type")]
    pub kind: ValueType,
    /// Whoever installs the image must set it.
    pub required: bool,
    /// Its value when nobody sets it.
    pub default: Option<Data>,
    /// What it is in the container; never that of a secret.
    pub value: Option<Data>,
    /// Where that comes from.
    pub origin: Option<Origin>,
    /// One line of help.
    pub help: String,
}

/// A built-in variable.
#[derive(Debug, Serialize, JsonSchema)]
pub struct BuiltIn {
    /// Its name.
    pub name: &'static str,
    /// What it is in the container.
    pub value: Option<Data>,
    /// One line of help.
    pub help: &'static str,
}

/// Looks.
pub fn run(host: &Host, subject: &Subject) -> Result<Outcome> {
    let store = Store::existing(host.root, config::load(host.root)?.store)?;
    match subject {
        Subject::Image(wanted) => {
            let image = wanted.find(store.as_ref())?;
            let contract = contract_of(store.as_ref(), &image)?;
            Ok(outcome(&image, &contract, None))
        }
        Subject::Container(name) => {
            let record = state::find(host.root, name)?
                .ok_or_else(|| anyhow!("`{name}` is not installed"))
                .hint("`bedplate list` shows what is; an image is written out, such as `docker://registry.example/etcd`")?;
            let reading = || format!("reading the values of `{name}`");
            of_container(store.as_ref(), record).with_context(reading)
        }
    }
}

fn of_container(store: Option<&Store>, record: Record) -> Result<Outcome> {
    let digest = record.manifest_digest.as_str();
    let image = match store {
        Some(store) => store.find(&digest.parse()?)?,
        None => None,
    };
    let image = image
        .ok_or_else(|| anyhow!("its image ({digest}) is not in the store"))
        .hint(format!("`bedplate pull {}` brings it there", record.image))?;
    let image = StoredImage {
        reference: ImageRef::try_from(record.image)?,
        ..image
    };
    let contract = contract_of(store, &image)?;
    let id = (&record.name, record.generation);
    let built_ins = built_ins(id, &image, &record.runtime, &contract)?;
    let given = Given::default();
    let values = resolve_over(&record.values, &contract.manifest, &given, &built_ins)?;
    Ok(Outcome {
        container: Some(record.name),
        ..outcome(&image, &contract, Some(&values))
    })
}

/// What the image says about itself.
fn contract_of(store: Option<&Store>, image: &StoredImage) -> Result<Contract> {
    let dir = store.map(|store| store.exports(image)).transpose()?;
    match dir.flatten() {
        Some(dir) => contract::load(dir.path())
            .with_context(|| format!("reading the contract of `{}`", image.reference)),
        None => Ok(Contract::default()),
    }
}

fn outcome(image: &StoredImage, contract: &Contract, values: Option<&Values>) -> Outcome {
    let value = |name: &str| values.and_then(|values| values.get(name)).cloned();
    let secret = |name: &str| {
        values
            .and_then(|values| values.secrets().get(name))
            .cloned()
    };
    let declared = contract.manifest.values.iter();
    let built_ins = BUILT_INS.iter();
    Outcome {
        container: None,
        image: image.reference.to_string(),
        digest: image.manifest_digest.to_string(),
        values: declared
            .map(|(n, d)| Declared::new(n, d, value(n), secret(n)))
            .collect(),
        built_in: built_ins
            .map(|built_in| BuiltIn {
                name: built_in.name,
                value: value(built_in.name).map(|value| value.data),
                help: built_in.doc,
            })
            .collect(),
    }
}

impl Declared {
    fn new(
        name: &str,
        declared: &Declaration,
        value: Option<Value>,
        secret: Option<Origin>,
    ) -> Self {
        let (value, origin) = value.map(|value| (value.data, value.origin)).unzip();
        Self {
            name: name.to_owned(),
            kind: declared.kind,
            required: declared.required,
            default: declared.default_data(),
            value,
            origin: origin.or(secret),
            help: declared.help.clone(),
        }
    }
}
