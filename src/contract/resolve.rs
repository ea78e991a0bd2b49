//! How the values of an installation are found: what is given, over what was, over the manifest's defaults.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

use crate::contract::builtins::{BuiltIns, is_built_in};
use crate::contract::manifest::{Declaration, Manifest, ValueType};
use crate::contract::parse;
use crate::contract::problems::{Problems, did_you_mean};
use crate::contract::typed::{checked, empty, from_text, from_toml};
use crate::contract::values::{Data, Given, Origin, Recorded, Value, Values};
use crate::hint::Hinted;

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
        secrets: BTreeMap::new(),
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
    for (name, secret) in given.secrets.iter().rev() {
        resolving.take_secret(name, &secret.origin());
    }
    for (name, value) in recorded.iter() {
        let declared = manifest.values.get(name);
        if value.origin.is_secret() {
            // One that is no secret any more is given anew.
            if declared.is_some_and(|declared| declared.kind == ValueType::Secret) {
                resolving.take_secret(name, &value.origin);
            }
        } else if declared.is_some_and(|declared| declared.kind != ValueType::Secret) {
            // One that is a secret by now is not taken from where anybody may have read it.
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
        let how = match manifest.values.get(&name).map(|declared| declared.kind) {
            Some(ValueType::Secret) => format!("--secret {name}=FILE"),
            _ => format!("--set {name}=VALUE"),
        };
        result = result.hint(format!("give it as in `{how}`"));
    }
    result?;
    resolving.values.extend(built_ins.values());
    Ok(Values::new(resolving.values, resolving.secrets))
}

/// Values on their way: the first origin that has a name wins.
struct Resolving<'a> {
    manifest: &'a Manifest,
    values: BTreeMap<String, Value>,
    secrets: BTreeMap<String, Origin>,
    seen: BTreeSet<String>,
    /// Somebody gave what is not declared.
    unknown: bool,
    problems: Problems,
}

impl<'a> Resolving<'a> {
    /// Takes the value of `name` unless a stronger origin gave one.
    fn take(
        &mut self,
        name: &str,
        origin: &Origin,
        read: impl FnOnce(ValueType) -> Result<Data, String>,
    ) {
        let place = place(name, origin);
        let Some(declared) = self.declared(name, &place) else {
            return;
        };
        let found = read(declared.kind).and_then(|data| given(declared, data));
        if let Some(data) = self.problems.check(&place, found) {
            let origin = origin.clone();
            self.values.insert(name.to_owned(), Value { data, origin });
        }
    }

    /// Takes a secret of which it is known where it comes from, and no more.
    fn take_secret(&mut self, name: &str, origin: &Origin) {
        let place = place(name, origin);
        let Some(declared) = self.declared(name, &place) else {
            return;
        };
        if declared.kind == ValueType::Secret {
            self.secrets.insert(name.to_owned(), origin.clone());
        } else {
            let problem = format!("{place}: it is no secret: it is given by --set");
            self.problems.add(problem);
        }
    }

    /// What is declared of `name`, unless a stronger origin gave it; what nobody declares is a problem.
    fn declared(&mut self, name: &str, place: &str) -> Option<&'a Declaration> {
        if !self.seen.insert(name.to_owned()) {
            return None;
        }
        if is_built_in(name) {
            let problem = format!("{place}: it is built in and cannot be set");
            self.problems.add(problem);
            return None;
        }
        let manifest: &'a Manifest = self.manifest;
        let found = manifest.values.get(name);
        if found.is_none() {
            let known = self.manifest.values.keys().map(String::as_str);
            let meant = did_you_mean(name, known);
            self.unknown = true;
            let problem = format!("{place}: the image declares no such value{meant}");
            self.problems.add(problem);
        }
        found
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
        _ => format!("`{name}`"),
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
            ..Given::default()
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

    /// What was given in the open before the image called it a secret is asked for anew.
    #[test]
    fn a_value_becomes_a_secret() {
        let manifest = |kind: &str| {
            let text = format!(
                "contract = 1\nvalues.KEY = {{ type = '{kind}', required = true, help = 'x' }}"
            );
            parse::manifest(&text).unwrap()
        };
        let values = resolve(
            &manifest("string"),
            &set(&[("KEY", "v")]),
            &builtins::sample(),
        );
        let recorded = values.unwrap().to_record();
        let over = |kind| {
            resolve_over(
                &recorded,
                &manifest(kind),
                &Given::default(),
                &builtins::sample(),
            )
        };
        assert!(over("string").is_ok());
        let error = over("secret").unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "`KEY`: a value is required: a secret: x"
        );
        let hints = crate::hint::hints(&error);
        assert_eq!(hints[0].0, "give it as in `--secret KEY=FILE`");
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
            (required, vec![], "`KEY`: a value is required: a secret: x"),
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
