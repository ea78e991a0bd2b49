//! Whether what `--json` prints is as the published schemas say, `docs/schema/`: looked at wherever a test asks for JSON.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::host::Host;
use crate::layout::Image;

/// Those that are no verb's.
const PROGRESS: &str = "progress";
const ERROR: &str = "error";

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema")
}

/// The schema of a call: a verb's own, or that of its subcommand.
fn name(args: &[&str]) -> String {
    let verb = args[0].to_owned();
    match args.get(1).map(|sub| format!("{verb}-{sub}")) {
        Some(both) if dir().join(format!("{both}.json")).exists() => both,
        _ => verb,
    }
}

/// Fails when what these arguments printed is not as the schema of their verb says.
pub(crate) fn check(args: &[&str], printed: &str) {
    let printed: Value = serde_json::from_str(printed).unwrap();
    fits(&name(args), &printed);
}

/// Fails when a line of `--progress-fd` is not as its schema says.
pub(crate) fn check_event(event: &Value) {
    fits(PROGRESS, event);
}

/// Fails when what a command with `--json` says last, when it failed, is not as its schema says.
pub(crate) fn check_error(stderr: &str) {
    let last = stderr.lines().last().unwrap_or_default();
    let error = serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {stderr}"));
    fits(ERROR, &error);
}

fn fits(name: &str, value: &Value) {
    let path = dir().join(format!("{name}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let schema: Value = serde_json::from_str(&text).unwrap();
    let problems = Checker { root: &schema }.problems(&schema, value, "");
    assert!(problems.is_empty(), "{name}: {problems:#?} in {value:#}");
}

/// JSON Schema, as far as the published ones use it; a word that is not known here is an error, never passed over.
struct Checker<'a> {
    root: &'a Value,
}

impl Checker<'_> {
    fn problems(&self, schema: &Value, value: &Value, place: &str) -> Vec<String> {
        let mut found = Vec::new();
        for (word, rule) in schema.as_object().unwrap() {
            found.extend(self.word(word, rule, value, place));
        }
        // Nothing is printed that is not documented; what is flattened into an object is in its `oneOf`.
        if let (Some(known), Some(members)) = (schema["properties"].as_object(), value.as_object())
            && schema.get("oneOf").is_none()
        {
            let unknown = members.keys().filter(|key| !known.contains_key(*key));
            found.extend(unknown.map(|key| format!("{place}.{key} is not in the schema")));
        }
        found
    }

    fn word(&self, word: &str, rule: &Value, value: &Value, place: &str) -> Vec<String> {
        let wrong = |is_wrong: bool| {
            let text = format!("{place} is {value}, against {word} {rule}");
            is_wrong.then_some(text).into_iter().collect()
        };
        let matching = |schemas: &Value| {
            let schemas = schemas.as_array().unwrap().iter();
            let fits = |schema: &&Value| self.problems(schema, value, place).is_empty();
            schemas.filter(fits).count()
        };
        match word {
            "$schema" | "$defs" | "title" | "description" | "default" | "format" => Vec::new(),
            "$ref" => {
                let target = rule.as_str().unwrap().trim_start_matches('#');
                self.problems(self.root.pointer(target).unwrap(), value, place)
            }
            "type" => wrong(!is_of(rule, value)),
            "const" => wrong(value != rule),
            "enum" => wrong(!rule.as_array().unwrap().contains(value)),
            "maximum" => wrong(value.is_number() && value.as_f64() > rule.as_f64()),
            "minimum" => wrong(value.is_number() && value.as_f64() < rule.as_f64()),
            "required" => {
                let keys = rule.as_array().unwrap().iter().filter_map(Value::as_str);
                wrong(keys.into_iter().any(|key| value.get(key).is_none()))
            }
            "properties" => {
                let members = rule.as_object().unwrap().iter();
                let there = members.filter_map(|(key, rule)| Some((key, rule, value.get(key)?)));
                there
                    .flat_map(|(key, rule, value)| {
                        self.problems(rule, value, &format!("{place}.{key}"))
                    })
                    .collect()
            }
            "additionalProperties" if rule.is_boolean() => Vec::new(),
            "additionalProperties" => {
                let members = value.as_object().into_iter().flatten();
                members
                    .flat_map(|(key, value)| self.problems(rule, value, &format!("{place}.{key}")))
                    .collect()
            }
            "items" => {
                let items = value.as_array().into_iter().flatten().enumerate();
                items
                    .flat_map(|(n, item)| self.problems(rule, item, &format!("{place}[{n}]")))
                    .collect()
            }
            "prefixItems" => {
                let items = value.as_array().into_iter().flatten();
                let rules = rule.as_array().unwrap().iter();
                rules
                    .zip(items)
                    .flat_map(|(rule, item)| self.problems(rule, item, place))
                    .collect()
            }
            "minItems" => wrong(value.is_array() && length(value) < rule.as_u64()),
            "maxItems" => wrong(value.is_array() && length(value) > rule.as_u64()),
            "anyOf" => wrong(matching(rule) == 0),
            "oneOf" => wrong(matching(rule) != 1),
            _ => vec![format!("{place}: `{word}` is not known to this test")],
        }
    }
}

fn length(value: &Value) -> Option<u64> {
    value.as_array().map(|items| items.len() as u64)
}

fn is_of(kind: &Value, value: &Value) -> bool {
    if let Some(kinds) = kind.as_array() {
        return kinds.iter().any(|kind| is_of(kind, value));
    }
    match kind.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other} is no type"),
    }
}

const VALUED: &str = "contract = 1\nvalues.NAME = { type = 'string', help = 'x' }\n";

/// Other tests look at more; here each verb is asked at least once.
#[test]
fn every_verb_prints_what_its_schema_says() {
    let host = Host::new();
    let image = host.image("etcd", &Image::new(VALUED).file("big", "content"));
    host.put(
        "/etc/bedplate/bedplate.toml",
        "store.layer_limit = \"1G\"\n",
    );
    let mut asked = BTreeSet::new();
    let mut json = |args: &[&str]| {
        let printed = host.run(&[args, &["--json"]].concat()).ok();
        assert!(printed.ends_with('\n'), "{args:?}");
        asked.insert(name(args));
    };
    json(&["config"]);
    json(&["pull", "--dry-run", &image.reference]);
    json(&["pull", &image.reference]);
    json(&["install", "--dry-run", &image.reference]);
    json(&["install", &image.reference]);
    json(&["images"]);
    json(&["images", "show", &image.reference]);
    json(&["values", "etcd"]);
    json(&["list"]);
    json(&["show", "etcd"]);
    json(&["graph"]);
    json(&["check", "--boot"]);
    json(&["df"]);
    json(&["verify"]);
    json(&["doctor"]);
    json(&["update", "etcd"]);
    json(&["update", "etcd", "--set", "NAME=x"]);
    json(&["rollback", "etcd"]);
    json(&["history", "etcd"]);
    json(&["status"]);
    json(&["hold", "etcd"]);
    json(&["unhold", "etcd"]);
    json(&["pin", "etcd"]);
    json(&["unpin", "etcd"]);
    json(&["lint", &image.reference]);
    json(&["repair"]);
    json(&["uninstall", "etcd"]);
    json(&["images", "remove", &image.reference]);
    json(&["prune"]);
    json(&["recover"]);
    let published: BTreeSet<String> = fs::read_dir(dir())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name != PROGRESS && name != ERROR)
        .collect();
    assert_eq!(asked, published);
}

type Change = fn(&mut Value);

#[test]
fn the_checker_finds_what_is_wrong() {
    let schema: Value =
        serde_json::from_str(&fs::read_to_string(dir().join("list.json")).unwrap()).unwrap();
    let row = serde_json::json!({
        "name": "etcd", "generation": 1, "image": "", "digest": "", "unit": "etcd.service", "state": "", "enabled": "", "held": false
    });
    let problems = |change: Change| {
        let mut row = row.clone();
        change(&mut row);
        Checker { root: &schema }.problems(&schema, &Value::Array(vec![row]), "")
    };
    assert_eq!(problems(|_| {}), Vec::<String>::new());
    let wrong: [(Change, &str); 3] = [
        (|row| row["generation"] = "1".into(), "against type"),
        (
            |row| row["more"] = 1.into(),
            "[0].more is not in the schema",
        ),
        (|row| row["unit"] = Value::Null, "[0].unit is null"),
    ];
    for (change, text) in wrong {
        let found = problems(change);
        assert!(found.len() == 1 && found[0].contains(text), "{found:?}");
    }
}
