//! Values: what the templates are filled with, each with its origin.
//!
//! Built-in variables stand above `--set`, that above `--values`, that above what an earlier generation recorded,
//! and that above the manifest's defaults. Only what somebody set is recorded: a new default of a later image
//! reaches those who never set the value.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::builtins::{BuiltIns, is_built_in};
use crate::contract::manifest::{Declaration, Manifest, ValueType};
use crate::contract::parse;
use crate::contract::problems::{Problems, did_you_mean};
use crate::contract::typed::{checked, empty, from_text, from_toml};
use crate::hint::Hinted;

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
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built in"),
            Self::Set => f.write_str("--set"),
            Self::File(path) => path.display().fmt(f),
            Self::Default => f.write_str("default"),
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

/// Every variable that the templates may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Values(BTreeMap<String, Value>);

/// The values that somebody set, as a generation's record keeps them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Recorded(BTreeMap<String, Value>);

impl Values {
    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Each variable, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// What is worth keeping: the values that somebody set.
    pub fn to_record(&self) -> Recorded {
        let set = |value: &Value| matches!(value.origin, Origin::Set | Origin::File(_));
        let kept = self.0.iter().filter(|(_, value)| set(value));
        Recorded(kept.map(|(n, v)| (n.clone(), v.clone())).collect())
    }
}

impl Recorded {
    /// Each value, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
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
        Self(values.into_iter().collect())
    }
}

/// What the operator gives.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// `--set NAME=VALUE`, in order: the last one of a name counts.
    pub set: Vec<(String, String)>,
    /// `--values`: the file's path and text.
    pub file: Option<(PathBuf, String)>,
}

/// The values of a first installation: see [`resolve_over`].
pub fn resolve(manifest: &Manifest, given: &Given, built_ins: &BuiltIns) -> Result<Values> {
    resolve_over(&Recorded::default(), manifest, given, built_ins)
}

/// Every variable's value, over what an earlier generation recorded. A recorded value that the manifest no longer
/// declares is dropped: no template can name it.
///
/// All problems are reported at once: unknown names, ill-typed values, required ones that are missing.
pub fn resolve_over(
    recorded: &Recorded,
    manifest: &Manifest,
    given: &Given,
    built_ins: &BuiltIns,
) -> Result<Values> {
    let mut resolving = Resolving {
        manifest,
        values: BTreeMap::new(),
        seen: BTreeSet::new(),
        unknown: false,
        problems: Problems::default(),
    };
    for (name, text) in given.set.iter().rev() {
        resolving.take(name, &Origin::Set, |kind| from_text(kind, text));
    }
    if let Some((path, text)) = &given.file {
        let table: toml::Table =
            parse::document(text).with_context(|| format!("reading `{}`", path.display()))?;
        for (name, value) in &table {
            let origin = Origin::File(path.clone());
            resolving.take(name, &origin, |kind| from_toml(kind, value));
        }
    }
    for (name, value) in &recorded.0 {
        if manifest.values.contains_key(name) {
            resolving.take(name, &value.origin, |kind| {
                checked(kind, value.data.clone())
            });
        }
    }
    resolving.defaults();
    let missing = resolving.missing();
    let mut result = resolving.problems.into_result();
    if resolving.unknown {
        result = result.hint(format!("the image declares {}", declared(manifest)));
    }
    if let Some(name) = missing {
        result = result.hint(format!("give it as in `--set {name}=VALUE`"));
    }
    result?;
    resolving.values.extend(built_ins.values());
    Ok(Values(resolving.values))
}

/// Values on their way: the first origin that has a name wins.
struct Resolving<'a> {
    manifest: &'a Manifest,
    values: BTreeMap<String, Value>,
    seen: BTreeSet<String>,
    /// Somebody gave what is not declared.
    unknown: bool,
    problems: Problems,
}

impl Resolving<'_> {
    /// Takes the value of `name` unless a stronger origin gave one.
    fn take(
        &mut self,
        name: &str,
        origin: &Origin,
        read: impl FnOnce(ValueType) -> Result<Data, String>,
    ) {
        if !self.seen.insert(name.to_owned()) {
            return;
        }
        let place = place(name, origin);
        if is_built_in(name) {
            let problem = format!("{place}: it is built in and cannot be set");
            return self.problems.add(problem);
        }
        let Some(declared) = self.manifest.values.get(name) else {
            let known = self.manifest.values.keys().map(String::as_str);
            let meant = did_you_mean(name, known);
            self.unknown = true;
            let problem = format!("{place}: the image declares no such value{meant}");
            return self.problems.add(problem);
        };
        let found = read(declared.kind).and_then(|data| given(declared, data));
        if let Some(data) = self.problems.check(&place, found) {
            let origin = origin.clone();
            self.values.insert(name.to_owned(), Value { data, origin });
        }
    }

    /// Takes the defaults of what nobody gave. A secret is no variable: no template may name it.
    fn defaults(&mut self) {
        for (name, declared) in &self.manifest.values {
            if declared.kind == ValueType::Secret || declared.required || self.seen.contains(name) {
                continue;
            }
            let data = match &declared.default {
                Some(value) => from_toml(declared.kind, value),
                None => Ok(empty(declared.kind)),
            };
            if let Some(data) = self
                .problems
                .check(&format!("the default of `{name}`"), data)
            {
                let origin = Origin::Default;
                self.values.insert(name.clone(), Value { data, origin });
            }
        }
    }

    /// Reports what is required and missing, and returns the first.
    fn missing(&mut self) -> Option<String> {
        let mut first = None;
        for (name, declared) in &self.manifest.values {
            if !declared.required || self.seen.contains(name) {
                continue;
            }
            if declared.kind == ValueType::Secret {
                let problem =
                    format!("`{name}`: a secret is required, and bedplate takes none yet");
                self.problems.add(problem);
                continue;
            }
            let kind = declared.kind;
            let problem = format!("`{name}`: a value is required: {kind}: {}", declared.help);
            self.problems.add(problem);
            first.get_or_insert_with(|| name.clone());
        }
        first
    }
}

/// The names that may be set, in words.
fn declared(manifest: &Manifest) -> String {
    let names = manifest.values.keys().map(|name| format!("`{name}`"));
    let names: Vec<_> = names.collect();
    if names.is_empty() {
        return "no values".to_owned();
    }
    names.join(", ")
}

/// A value as errors name it.
fn place(name: &str, origin: &Origin) -> String {
    let name = name.escape_debug();
    match origin {
        Origin::File(path) => format!("`{name}` of `{}`", path.display()),
        Origin::Set | Origin::BuiltIn | Origin::Default => format!("`{name}`"),
    }
}

/// Refuses a required value that is given as nothing.
fn given(declared: &Declaration, data: Data) -> Result<Data, String> {
    if declared.required && data == empty(ValueType::String) {
        return Err("it is required and may not be empty".to_owned());
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::builtins;

    const MANIFEST: &str = "contract = 1\n\
        [values]\n\
        NAME = { type = 'string', required = true, help = 'Its name' }\n\
        PORT = { type = 'integer', default = 2379, help = 'x' }\n\
        TLS = { type = 'boolean', help = 'x' }\n\
        CERT = { type = 'path', help = 'x' }\n\
        CLIENT_URL = { type = 'url', default = 'http://127.0.0.1:2379', help = 'x' }\n\
        PEERS = { type = 'list', default = ['a', 'b'], help = 'x' }\n";

    fn set(pairs: &[(&str, &str)]) -> Given {
        Given {
            set: pairs
                .iter()
                .map(|(n, v)| ((*n).into(), (*v).into()))
                .collect(),
            file: None,
        }
    }

    fn resolved(manifest: &str, given: &Given) -> Result<Values> {
        resolve(
            &parse::manifest(manifest).unwrap(),
            given,
            &builtins::sample(),
        )
    }

    fn shown(values: &Values) -> String {
        let mine = values.iter().filter(|(_, v)| v.origin != Origin::BuiltIn);
        let lines: Vec<_> = mine
            .map(|(n, v)| format!("{n}={} {:?}", v.data, v.origin))
            .collect();
        lines.join("\n")
    }

    #[test]
    fn the_stronger_origin_wins() {
        let mut given = set(&[("NAME", "x"), ("NAME", "one"), ("PEERS", "c, d")]);
        given.file = Some((
            "/etc/v.toml".into(),
            "NAME = 'two'\nPORT = 1\nTLS = true".to_owned(),
        ));
        let values = resolved(MANIFEST, &given).unwrap();
        assert_eq!(
            shown(&values),
            "CERT= Default\n\
             CLIENT_URL=http://127.0.0.1:2379 Default\n\
             NAME=one Set\n\
             PEERS=c,d Set\n\
             PORT=1 File(\"/etc/v.toml\")\n\
             TLS=true File(\"/etc/v.toml\")"
        );
        assert_eq!(values.get("name").unwrap().data, Data::Text("etcd".into()));
    }

    #[test]
    fn a_new_default_reaches_those_who_never_set_it() {
        let mut given = set(&[("NAME", "one")]);
        given.file = Some(("/etc/v.toml".into(), "TLS = true".to_owned()));
        let record = resolved(MANIFEST, &given).unwrap().to_record();
        let text = toml::to_string(&record).unwrap();
        assert_eq!(
            text,
            "[NAME]\ndata = \"one\"\norigin = \"set\"\n\n\
             [TLS]\ndata = true\n\n[TLS.origin]\nfile = \"/etc/v.toml\"\n"
        );
        let recorded: Recorded = toml::from_str(&text).unwrap();
        assert_eq!(recorded, record);

        let newer = MANIFEST
            .replace("2379, help", "4001, help")
            .replace("TLS", "SSL");
        let newer = parse::manifest(&newer).unwrap();
        let values =
            resolve_over(&recorded, &newer, &Given::default(), &builtins::sample()).unwrap();
        assert_eq!(values.get("NAME").unwrap().origin, Origin::Set);
        assert_eq!(values.get("PORT").unwrap().data, Data::Integer(4001));
        assert_eq!(values.get("TLS"), None);
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let mut given = set(&[
            ("PROT", "1"),
            ("PORT", "many"),
            ("TLS", "yes"),
            ("CERT", "etc/x"),
            ("name", "x"),
            ("PEERS", "a,b\nc"),
        ]);
        given.file = Some((
            "/etc/v.toml".into(),
            "CLIENT_URL = 3\nPORT = 1\nOTHER = {}".to_owned(),
        ));
        let error = resolved(MANIFEST, &given).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "9 problems\n  \
             `CERT`: expected an absolute path without `..`, found `etc/x`\n  \
             `CLIENT_URL` of `/etc/v.toml`: expected a URL, found an integer\n  \
             `NAME`: a value is required: a string: Its name\n  \
             `OTHER` of `/etc/v.toml`: the image declares no such value\n  \
             `PEERS`: must be one line without control characters\n  \
             `PORT`: expected an integer, found `many`\n  \
             `PROT`: the image declares no such value; did you mean `PORT`?\n  \
             `TLS`: expected a boolean, `true` or `false`, found `yes`\n  \
             `name`: it is built in and cannot be set"
        );
        let hints = crate::hint::hints(&error);
        assert_eq!(hints[0].0, "give it as in `--set NAME=VALUE`");
    }

    #[test]
    fn one_problem_is_one_line() {
        let secret = "contract = 1\nvalues.KEY = { type = 'secret', help = 'x' }";
        let required =
            "contract = 1\nvalues.KEY = { type = 'secret', required = true, help = 'x' }";
        for (manifest, pairs, problem) in [
            (
                MANIFEST,
                vec![],
                "`NAME`: a value is required: a string: Its name",
            ),
            (
                MANIFEST,
                vec![("NAME", "")],
                "`NAME`: it is required and may not be empty",
            ),
            (
                MANIFEST,
                vec![("NAME", "x\nExecStart=/bin/sh")],
                "`NAME`: must be one line without control characters",
            ),
            (
                secret,
                vec![("KEY", "x")],
                "`KEY`: it is a secret: a secret is given by --secret",
            ),
            (
                required,
                vec![],
                "`KEY`: a secret is required, and bedplate takes none yet",
            ),
        ] {
            let error = resolved(manifest, &set(&pairs)).unwrap_err();
            assert_eq!(format!("{error:#}"), problem);
        }
        let values = resolved(secret, &Given::default()).unwrap();
        assert_eq!(values.get("KEY"), None);
    }

    #[test]
    fn a_file_that_is_no_toml_names_its_line() {
        let mut given = set(&[("NAME", "x")]);
        given.file = Some(("/etc/v.toml".into(), "\nPORT = ".to_owned()));
        assert_eq!(
            format!("{:#}", resolved(MANIFEST, &given).unwrap_err()),
            "reading `/etc/v.toml`: line 2: string values must be quoted, expected literal string"
        );
    }
}
