//! Values: what the templates are filled with, each with its origin.
//!
//! Built-in variables stand above `--set`, that above `--values`, that above what an earlier generation recorded,
//! and that above the manifest's defaults. Only what somebody set is recorded: a new default of a later image
//! reaches those who never set the value.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::manifest::ValueType;
use crate::contract::secret::Secret;
use crate::contract::typed::empty;

pub use crate::contract::resolve::{resolve, resolve_over};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// bedplate itself.
    BuiltIn,
    /// `--set`.
    Set,
    /// This file of `--values`.
    File(PathBuf),
    /// The manifest's default.
    Default,
    /// This file of `--secret`.
    SecretFile(PathBuf),
    /// Standard input, by `--secret`.
    SecretInput,
}

impl Origin {
    /// Whether what comes from there is never shown.
    pub fn is_secret(&self) -> bool {
        matches!(self, Self::SecretFile(_) | Self::SecretInput)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built in"),
            Self::Set => f.write_str("--set"),
            Self::File(path) | Self::SecretFile(path) => path.display().fmt(f),
            Self::Default => f.write_str("default"),
            Self::SecretInput => f.write_str("standard input"),
        }
    }
}

/// A value and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Value {
    /// The value.
    pub data: Data,
    /// Where it comes from.
    pub origin: Origin,
}

/// A value without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Data {
    /// `string`, `path`, `url`.
    Text(String),
    /// `integer`.
    Integer(i64),
    /// `boolean`.
    Boolean(bool),
    /// `list`.
    List(Vec<String>),
}

/// As `--set` would take it.
impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Integer(number) => number.fmt(f),
            Self::Boolean(truth) => truth.fmt(f),
            Self::List(texts) => f.write_str(&texts.join(",")),
        }
    }
}

/// Every variable that the templates may use, and the secrets, which they may not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Values {
    variables: BTreeMap<String, Value>,
    secrets: BTreeMap<String, Origin>,
}

/// The values that somebody set, as a generation's record keeps them; of a secret that it is there, as empty text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Recorded(BTreeMap<String, Value>);

impl Values {
    /// These variables, and where each secret comes from.
    pub(crate) fn new(
        variables: BTreeMap<String, Value>,
        secrets: BTreeMap<String, Origin>,
    ) -> Self {
        Self { variables, secrets }
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.variables.get(name)
    }

    /// Each variable, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        let all = self.variables.iter();
        all.map(|(name, value)| (name.as_str(), value))
    }

    /// Where each secret comes from that somebody gave, by name.
    pub fn secrets(&self) -> &BTreeMap<String, Origin> {
        &self.secrets
    }

    /// What is worth keeping: the values that somebody set.
    pub fn to_record(&self) -> Recorded {
        let set = |value: &Value| matches!(value.origin, Origin::Set | Origin::File(_));
        let kept = self.variables.iter().filter(|(_, value)| set(value));
        let kept = kept.map(|(name, value)| (name.clone(), value.clone()));
        let secrets = self.secrets.iter().map(|(name, origin)| {
            let (data, origin) = (empty(ValueType::Secret), origin.clone());
            (name.clone(), Value { data, origin })
        });
        Recorded(kept.chain(secrets).collect())
    }
}

impl Recorded {
    /// Each value, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The names of the secrets.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let secrets = self.iter().filter(|(_, value)| value.origin.is_secret());
        secrets.map(|(name, _)| name)
    }

    /// It without these values: they follow the manifest's defaults again.
    #[must_use]
    pub fn without(&self, names: &[String]) -> Self {
        let stays = self.0.iter().filter(|(name, _)| !names.contains(name));
        Self(stays.map(|(n, v)| (n.clone(), v.clone())).collect())
    }

    /// Whether the same values were set, wherever they came from.
    pub fn same_as(&self, other: &Self) -> bool {
        let data = |(name, value): (&str, &Value)| (name.to_owned(), value.data.clone());
        self.iter().map(data).eq(other.iter().map(data))
    }
}

impl FromIterator<(String, Value)> for Values {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(values: I) -> Self {
        Self {
            variables: values.into_iter().collect(),
            secrets: BTreeMap::new(),
        }
    }
}

/// What the operator gives.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// `--set NAME=VALUE`, in order: the last one of a name counts.
    pub set: Vec<(String, String)>,
    /// `--values`: the file's path and text.
    pub file: Option<(PathBuf, String)>,
    /// `--secret NAME=FILE`, in order: the last one of a name counts.
    pub secrets: Vec<(String, Secret)>,
}

impl Given {
    /// The secrets that count.
    pub fn last_secrets(&self) -> BTreeMap<&str, &Secret> {
        let all = self.secrets.iter();
        all.map(|(name, secret)| (name.as_str(), secret)).collect()
    }
}
