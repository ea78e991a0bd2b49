//! `bedplate-contract(7)`: what an image may ship in `/exports`, from the types that read it.

use std::fmt::Write as _;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use crate::cli::man::text::Page;
use crate::contract::builtins::BUILT_INS;
use crate::contract::manifest::{CONTRACT, Manifest};
use crate::contract::{FILES, manifest};

/// The reference, which has an example.
const REFERENCE: &str = include_str!("../../../docs/contract.md");

/// The page.
pub(super) fn page() -> Vec<u8> {
    let mut page = Page::new(
        "bedplate-contract",
        "7",
        "what an image says about how it runs on a host",
    );
    page.section("DESCRIPTION");
    page.paragraph(
        "A system container is an OCI image. What its author has to say about how it runs on a host lies in the image's \
         directory `/exports`; an image without one is installed from its OCI configuration. Whatever is not of the \
         contract is an error. `bedplate lint` checks a contract before there is an image; `bedplate install \
         --dry-run` shows what it comes to on a host.",
    );
    page.section("FILES");
    for (name, what) in FILES {
        page.entry(&format!("/exports/{name}"), what);
    }
    page.section("MANIFEST");
    page.paragraph(&format!(
        "`manifest.toml` is TOML, of version {CONTRACT} of the contract. What is called a template may name values and \
         built-in variables as `{{{{NAME}}}}`."
    ));
    let schema = SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<Manifest>();
    let schema = Value::from(schema);
    Keys {
        root: &schema,
        page: &mut page,
    }
    .table("", &schema);
    page.section("BUILT-IN VARIABLES");
    for built_in in BUILT_INS {
        page.entry(built_in.name, built_in.doc);
    }
    page.section("TEMPLATES");
    page.paragraph(
        "Templates are handlebars in strict mode: every name must be known, also in a branch that is not taken. \
         `{{NAME}}` is escaped for what is being written, so that no value adds a line or a directive; `{{{NAME}}}` is \
         the value as it is; `{{join LIST \",\"}}` writes a list; there are `#if`, `#unless`, `#each` and `#with`, and \
         the comparisons `eq`, `ne`, `gt`, `gte`, `lt`, `lte`, `and`, `or`, `not`, `len`, `lookup`.",
    );
    page.section("EXAMPLES");
    page.paragraph("An etcd that runs as its own user, and is ready when it says so:");
    page.example(example());
    page.see_also("bedplate(8), bedplate-lint(8), bedplate-values(8), bedplate.toml(5), systemd.service(5), tmpfiles.d(5)")
}

/// The first manifest of the reference.
fn example() -> &'static str {
    let block = REFERENCE.split_once("```toml\n");
    let block = block.and_then(|(_, rest)| rest.split_once("```"));
    block.map_or("", |(example, _)| example)
}

/// The keys of the manifest, one table after the other.
struct Keys<'a> {
    root: &'a Value,
    page: &'a mut Page,
}

impl Keys<'_> {
    /// The keys of a table; `name` is where it lies, such as `container.mounts`.
    fn table(&mut self, name: &str, schema: &Value) {
        let nothing = Map::new();
        let keys = schema["properties"].as_object().unwrap_or(&nothing);
        let required = schema["required"].as_array();
        let is_required = |key: &str| required.is_some_and(|all| all.iter().any(|k| k == key));
        if !name.is_empty() {
            self.page.subsection(&format!("[{name}]"));
            let text = description(schema);
            // `[container]: …`: the heading says that.
            let text = text.split_once("]`: ").map_or(&*text, |(_, rest)| rest);
            let (first, rest) = text.split_at(text.chars().next().map_or(0, char::len_utf8));
            self.page.paragraph(&(first.to_uppercase() + rest));
        }
        let mut below = Vec::new();
        for (key, member) in keys {
            let (kind, table) = self.kind(member);
            let mut text = format!("({kind}) {}", description(member));
            if is_required(key) {
                text.push_str(" Required.");
            } else if let Some(default) = default(member) {
                let _ = write!(text, " Default: `{default}`.");
            }
            for (word, meaning) in self.words(member) {
                let _ = write!(text, " `{word}`: {meaning}");
            }
            match table {
                Some((table, one_of_many)) => {
                    let place = if name.is_empty() {
                        key.clone()
                    } else {
                        format!("{name}.{key}")
                    };
                    let place = if one_of_many {
                        format!("{place}.NAME")
                    } else {
                        place
                    };
                    below.push((place, table));
                    if !name.is_empty() {
                        self.page.entry(key, &text);
                    }
                }
                None => self.page.entry(key, &text),
            }
        }
        for (place, table) in below {
            self.table(&place, &table);
        }
    }

    /// What it is in words; the table that its value is or holds, and whether under names of the author's own.
    fn kind(&self, schema: &Value) -> (String, Option<(Value, bool)>) {
        let schema = self.resolved(schema);
        if schema["properties"].is_object() {
            return ("table".to_owned(), Some((schema, false)));
        }
        if schema["items"].is_object() {
            let (of, table) = self.kind(&schema["items"]);
            return (format!("list of {of}s"), table);
        }
        if schema["additionalProperties"].is_object() {
            let (of, table) = self.kind(&schema["additionalProperties"]);
            let table = table.map(|(table, _)| (table, true));
            return (format!("table of {of}s"), table);
        }
        let kind = match &schema["type"] {
            Value::Array(kinds) => kinds.iter().find(|kind| *kind != "null").cloned(),
            kind => Some(kind.clone()),
        };
        let kind = kind.as_ref().and_then(Value::as_str);
        let kind = kind.unwrap_or(if schema["oneOf"].is_array() {
            "one of"
        } else {
            "any"
        });
        (kind.to_owned(), None)
    }

    /// The words or keys that it is one of, each with its meaning.
    fn words(&self, schema: &Value) -> Vec<(String, String)> {
        let schema = self.resolved(schema);
        let choices = schema["oneOf"].as_array().into_iter().flatten();
        choices
            .filter_map(|choice| {
                let word = choice["const"].as_str().map(str::to_owned);
                let key = || Some(choice["properties"].as_object()?.keys().next()?.clone());
                Some((word.or_else(key)?, description(choice)))
            })
            .collect()
    }

    /// The type itself, where there is only its name, or it may be absent.
    fn resolved(&self, schema: &Value) -> Value {
        let name = schema["$ref"].as_str();
        let target = name.and_then(|name| self.root.pointer(name.trim_start_matches('#')));
        if let Some(target) = target {
            return target.clone();
        }
        let mut choices = schema["anyOf"].as_array().into_iter().flatten();
        match choices.find(|choice| choice["type"] != "null") {
            Some(choice) => self.resolved(choice),
            None => schema.clone(),
        }
    }
}

/// The description of a key or type; what is a link in it is a name here.
fn description(schema: &Value) -> String {
    let text = schema["description"].as_str().unwrap_or_default();
    text.replace("[`CONTRACT`]", &manifest::CONTRACT.to_string())
}

/// The default, unless it is nothing.
fn default(schema: &Value) -> Option<String> {
    let default = schema.get("default")?;
    match default {
        Value::Null | Value::Object(_) => None,
        Value::String(text) if text.is_empty() => None,
        Value::Array(items) if items.is_empty() => None,
        other => Some(other.to_string()),
    }
}
