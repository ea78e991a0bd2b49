//! The published schemas of what `--json` prints: `docs/schema/VERB.json`, made from the outcomes' types.

use std::collections::BTreeSet;
use std::path::Path;

use clap::CommandFactory;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde_json::Value;

use crate::cli::Cli;
use crate::cli::error::Failure;
use crate::cli::output::stream::Line;
use crate::{ops, order};

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/schema");

/// The verbs whose output is not an outcome: `--json` means nothing to them.
const WITHOUT: [&str; 4] = ["completions", "exec", "logs", "man"];

/// Each verb with the schema of its outcome.
fn schemas() -> Vec<(&'static str, Schema)> {
    vec![
        ("check", of::<ops::check::Outcome>()),
        ("config", of::<ops::config::Outcome>()),
        ("df", of::<ops::df::Outcome>()),
        ("doctor", of::<ops::doctor::Outcome>()),
        ("graph", of::<order::Document>()),
        ("history", of::<ops::history::Outcome>()),
        ("hold", of::<ops::hold::Held>()),
        ("images", of::<Vec<ops::images::Row>>()),
        ("images-remove", of::<ops::images::remove::Outcome>()),
        ("images-show", of::<ops::images::show::Outcome>()),
        ("install", of::<ops::install::Outcome>()),
        ("lint", of::<ops::lint::Outcome>()),
        ("list", of::<Vec<ops::list::Row>>()),
        ("pin", of::<ops::hold::Pinned>()),
        ("prune", of::<ops::prune::Outcome>()),
        ("pull", of::<ops::pull::Outcome>()),
        ("recover", of::<ops::recover::Outcome>()),
        ("repair", of::<ops::repair::Outcome>()),
        ("rollback", of::<ops::rollback::Outcome>()),
        ("show", of::<ops::show::Outcome>()),
        ("status", of::<ops::status::Outcome>()),
        ("unhold", of::<ops::hold::Held>()),
        ("uninstall", of::<ops::uninstall::Outcome>()),
        ("unpin", of::<ops::hold::Pinned>()),
        ("update", of::<ops::update::Outcome>()),
        ("values", of::<ops::values::Outcome>()),
        ("verify", of::<ops::verify::Outcome>()),
    ]
}

/// The schema of what is written, in JSON Schema's draft 2020-12.
fn of<T: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft2020_12()
        .for_serialize()
        .with_transform(RecursiveTransform(may_grow));
    settings.into_generator().into_root_schema_for::<T>()
}

/// Keys may be added, also to what is refused with unknown keys where it is read.
fn may_grow(schema: &mut Schema) {
    if schema.get("additionalProperties") == Some(&Value::Bool(false)) {
        schema.remove("additionalProperties");
    }
}

/// The file's name, its title, and its schema, of all that are published.
fn published() -> Vec<(&'static str, String, Schema)> {
    let verbs = schemas().into_iter();
    let verbs = verbs.map(|(verb, schema)| {
        let command = verb.replace('-', " ");
        (verb, format!("bedplate {command} --json"), schema)
    });
    let line = "a line of bedplate --progress-fd".to_owned();
    let error = "the last line on stderr of a bedplate --json that failed".to_owned();
    let others = [
        ("progress", line, of::<Line>()),
        ("error", error, of::<Failure>()),
    ];
    verbs.chain(others).collect()
}

/// As it is published. Descriptions are the types' own: what is a link there is a name here.
fn text(title: &str, schema: Schema) -> String {
    let mut schema = schema;
    schema.insert("title".to_owned(), title.into());
    let mut text = serde_json::to_string_pretty(&schema).unwrap();
    text.push('\n');
    text.replace("[`", "`").replace("`]", "`")
}

/// What a schema promises, by its place in the document: `.disk.total` is a key, `.action=installed` a word; a key
/// that is always there says so.
struct Promises<'a> {
    root: &'a Value,
    found: BTreeSet<String>,
}

impl Promises<'_> {
    fn of(text: &str) -> BTreeSet<String> {
        let root = serde_json::from_str(text).unwrap_or_default();
        let mut promises = Promises {
            root: &root,
            found: BTreeSet::new(),
        };
        promises.add(&root, "", 0);
        promises.found
    }

    fn add(&mut self, schema: &Value, place: &str, depth: usize) {
        assert!(depth < 30, "{place}: a type that holds itself");
        if let Some(name) = schema["$ref"].as_str() {
            let target = self.root.pointer(name.trim_start_matches('#')).unwrap();
            self.add(target, place, depth + 1);
        }
        for (key, member) in schema["properties"].as_object().into_iter().flatten() {
            let place = format!("{place}.{key}");
            self.add(member, &place, depth + 1);
            self.found.insert(place);
        }
        for key in schema["required"].as_array().into_iter().flatten() {
            let key = key.as_str().unwrap();
            self.found.insert(format!("{place}.{key}, always"));
        }
        if let Some(word) = schema.get("const") {
            self.found.insert(format!("{place}={word}"));
        }
        for (members, mark) in [("items", "[]"), ("additionalProperties", ".*")] {
            if schema[members].is_object() {
                self.add(&schema[members], &format!("{place}{mark}"), depth + 1);
            }
        }
        for choice in ["anyOf", "oneOf", "prefixItems"] {
            for schema in schema[choice].as_array().into_iter().flatten() {
                self.add(schema, place, depth + 1);
            }
        }
    }
}

/// The verbs as they are called, a subcommand after its command: `images-show`.
fn verbs(command: &clap::Command, above: &str, found: &mut BTreeSet<String>) {
    for sub in command.get_subcommands() {
        let name = format!("{above}{}", sub.get_name());
        verbs(sub, &format!("{name}-"), found);
        if !sub.is_subcommand_required_set() && sub.get_name() != "help" {
            found.insert(name);
        }
    }
}

#[test]
fn every_verb_has_a_schema() {
    let mut all = BTreeSet::new();
    verbs(&Cli::command(), "", &mut all);
    let with: BTreeSet<String> = schemas()
        .into_iter()
        .map(|(verb, _)| verb)
        .chain(WITHOUT)
        .map(str::to_owned)
        .collect();
    assert_eq!(all, with);
}

/// `BEDPLATE_BLESS=1` writes them anew, unless something promised goes away: that breaks whoever reads it. If it must be, remove
/// the file first and say so in the changelog.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "reads and, when told to, writes files of the source tree"
)]
fn the_published_schemas_are_these() {
    for (name, title, schema) in published() {
        let path = Path::new(DIR).join(format!("{name}.json"));
        let now = text(&title, schema);
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        let (known, there) = (Promises::of(&before), Promises::of(&now));
        let lost: Vec<_> = known.difference(&there).collect();
        assert!(
            lost.is_empty(),
            "what docs/schema/{name}.json promises is not kept: {lost:?}"
        );
        if std::env::var_os("BEDPLATE_BLESS").is_some() {
            std::fs::create_dir_all(DIR).unwrap();
            std::fs::write(&path, &now).unwrap();
            continue;
        }
        assert_eq!(
            before, now,
            "docs/schema/{name}.json differs; BEDPLATE_BLESS=1 writes it anew"
        );
    }
}

#[test]
fn a_promise_is_a_place_in_the_document() {
    let found = Promises::of(&text("recover", of::<ops::recover::Outcome>()));
    let expected = [
        ".command",
        ".command, always",
        ".outcome",
        ".outcome, always",
        ".outcome=\"finished\"",
        ".outcome=\"undone\"",
    ];
    assert!(found.iter().eq(expected), "{found:?}");
    let found = Promises::of(&text("df", of::<ops::df::Outcome>()));
    assert!(found.contains(".containers[].unique, always"), "{found:?}");
}
