//! The template engine: handlebars, strict, with escaping by what is being written.

use std::io;

use anyhow::{Context as _, Result, anyhow};
use handlebars::{
    Handlebars, Helper, HelperDef, JsonRender, RenderContext, RenderError, RenderErrorReason,
    ScopedJson, TemplateErrorReason,
};
use serde_json::{Map, Value as Json};

use crate::contract::Template;
use crate::contract::problems::Problems;
use crate::contract::values::{Data, Value, Values};
use crate::render::names::{Lines, Names};

/// The most that one template may become: loops over long lists multiply.
const OUTPUT_MAX: usize = 16 * 1024 * 1024;

/// What is being written, and so how a value is escaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// A unit, systemd.syntax(7): `%` is doubled; control characters, and a backslash at the end, are refused also
    /// where `{{{X}}}` asks for the raw value: they would add a line or swallow the next.
    Unit,
    /// JSON: a text is escaped as the inside of a JSON string.
    Json,
    /// Anything else: as it is.
    Plain,
}

/// Renders a template file.
///
/// Every name in it must be known, in branches that are not taken too; all problems are one error, each with its
/// line: ``rendering `service.hbs`: line 4: unknown variable `ETCD_NAEM`; did you mean `ETCD_NAME`?``.
pub fn render(template: &Template, values: &Values, context: Context) -> Result<String> {
    rendered(&template.text, values, context, Lines::At(1))
        .with_context(|| format!("rendering `{}`", template.name))
}

/// Renders a text of one line, such as a field of the manifest; `what` names it in errors. In a unit the result must
/// be one line as well.
pub fn render_text(what: &str, text: &str, values: &Values, context: Context) -> Result<String> {
    let rendering = || format!("rendering `{what}`");
    let result = rendered(text, values, context, Lines::One).with_context(rendering)?;
    if context == Context::Unit && result.chars().any(char::is_control) {
        return Err(anyhow!("it must be one line without control characters"))
            .with_context(rendering);
    }
    Ok(result)
}

fn rendered(text: &str, values: &Values, context: Context, lines: Lines) -> Result<String> {
    // Most fields of a manifest: nothing in it is handlebars'.
    if !text.contains("{{") {
        return Ok(text.to_owned());
    }
    let compiled =
        handlebars::Template::compile(text).map_err(|error| syntax_error(&error, lines))?;
    let names = Names::of(&compiled, values, lines);
    names.problems.into_result()?;
    let mut data = Map::new();
    let mut refused = Problems::default();
    for name in &names.used {
        if let Some(Value { data: value, .. }) = values.get(name) {
            if context == Context::Unit {
                refused.check(&format!("the value of `{name}`"), fits_unit(value));
            }
            data.insert(name.clone(), json(value));
        }
    }
    refused.into_result()?;
    let mut output = Bounded(Vec::new());
    let mut engine = engine(context);
    engine.register_template("", compiled);
    engine
        .render_to_write("", &Json::Object(data), &mut output)
        .map_err(|error| render_error(&error, lines))?;
    String::from_utf8(output.0).context("reading the rendered text")
}

fn engine(context: Context) -> Handlebars<'static> {
    let mut engine = Handlebars::new();
    engine.set_strict_mode(true);
    engine.set_recursive_lookup(true);
    engine.register_helper("join", Box::new(Join));
    match context {
        Context::Unit => engine.register_escape_fn(|text| text.replace('%', "%%")),
        Context::Json => engine.register_escape_fn(|text| {
            let quoted = Json::from(text).to_string();
            let inside = quoted.strip_prefix('"').and_then(|q| q.strip_suffix('"'));
            inside.unwrap_or_default().to_owned()
        }),
        Context::Plain => engine.register_escape_fn(str::to_owned),
    }
    engine
}

/// Refuses what would change the line structure of a unit, escaped or not.
fn fits_unit(value: &Data) -> Result<(), &'static str> {
    let texts = match value {
        Data::Text(text) => std::slice::from_ref(text),
        Data::List(texts) => texts.as_slice(),
        Data::Integer(_) | Data::Boolean(_) => &[],
    };
    if texts.iter().any(|text| text.chars().any(char::is_control)) {
        return Err("a control character may not stand in a unit");
    }
    if texts.iter().any(|text| text.trim_end().ends_with('\\')) {
        return Err("a backslash at its end would join two lines of a unit");
    }
    Ok(())
}

fn json(value: &Data) -> Json {
    match value {
        Data::Text(text) => Json::from(text.as_str()),
        Data::Integer(number) => Json::from(*number),
        Data::Boolean(truth) => Json::from(*truth),
        Data::List(texts) => Json::from(texts.as_slice()),
    }
}

/// `{{join LIST ","}}`: the items with the separator between them, escaped as one text.
struct Join;

impl HelperDef for Join {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc handlebars::Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        let other = |what: &str| RenderErrorReason::Other(what.to_owned());
        let list = helper.param(0).map(handlebars::PathAndJson::value);
        let Some(Json::Array(items)) = list else {
            return Err(other("`join` joins a list").into());
        };
        let separator = helper.param(1).map(|parameter| parameter.value().render());
        let Some(separator) = separator else {
            return Err(other("`join` lacks what stands between the items").into());
        };
        let items: Vec<_> = items.iter().map(JsonRender::render).collect();
        Ok(ScopedJson::Derived(Json::from(items.join(&separator))))
    }
}

/// What is rendered, up to [`OUTPUT_MAX`].
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > OUTPUT_MAX {
            return Err(io::Error::other("the result is larger than 16 MiB"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The problem with its place, as far as it is known.
fn placed(lines: Lines, line: Option<usize>, what: &str) -> anyhow::Error {
    match (lines, line) {
        (Lines::At(_), Some(line)) => anyhow!("line {line}: {what}"),
        _ => anyhow!("{what}"),
    }
}

fn syntax_error(error: &handlebars::TemplateError, lines: Lines) -> anyhow::Error {
    let what = match error.reason() {
        TemplateErrorReason::MismatchingClosedHelper(open, close) => {
            format!("`{{{{#{open}}}}}` is closed by `{{{{/{close}}}}}`")
        }
        _ => "something is not closed before here, or is no handlebars".to_owned(),
    };
    placed(lines, error.pos().map(|(line, _)| line), &what)
}

fn render_error(error: &RenderError, lines: Lines) -> anyhow::Error {
    let what = match error.reason() {
        RenderErrorReason::ParamNotFoundForIndex(helper, _) => {
            format!("the helper `{helper}` lacks what it works on")
        }
        RenderErrorReason::MissingVariable(Some(name)) => format!("`{name}` has no value here"),
        RenderErrorReason::MissingVariable(None) => "`lookup` finds nothing".to_owned(),
        RenderErrorReason::IOError(error) => error.to_string(),
        other => other.to_string(),
    };
    placed(lines, error.line_no, &what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::builtins;
    use crate::contract::values::Origin;

    fn values() -> Values {
        let list = |items: &[&str]| Data::List(items.iter().map(|i| (*i).to_owned()).collect());
        let text = |text: &str| Data::Text(text.to_owned());
        let mine = [
            ("ETCD_NAME", text("100% \"a\"")),
            ("ETCD_PORT", Data::Integer(2379)),
            ("TLS", Data::Boolean(false)),
            ("PEERS", list(&["a%", "b"])),
            ("NONE", list(&[])),
            ("LINES", text("a\nUser=0")),
            ("SLASH", text("a\\ ")),
            ("ITEMS", list(&["a", "b\u{0}"])),
        ];
        let mine = mine.into_iter().map(|(name, data)| {
            let origin = Origin::Set;
            (name.to_owned(), Value { data, origin })
        });
        builtins::sample().values().chain(mine).collect()
    }

    fn rendered(text: &str, context: Context) -> Result<String> {
        let template = Template {
            name: "service.hbs".to_owned(),
            text: text.to_owned(),
        };
        render(&template, &values(), context)
    }

    #[test]
    fn values_are_escaped_by_context() {
        for (context, text, result) in [
            (Context::Unit, "{{ETCD_NAME}}", "100%% \"a\""),
            (Context::Unit, "{{{ETCD_NAME}}}", "100% \"a\""),
            (Context::Unit, "{{&ETCD_NAME}}", "100% \"a\""),
            (Context::Json, "\"{{ETCD_NAME}}\"", "\"100% \\\"a\\\"\""),
            (Context::Json, "\"{{LINES}}\"", "\"a\\nUser=0\""),
            (
                Context::Json,
                "{{ETCD_PORT}} {{TLS}} {{{SLASH}}}",
                "2379 false a\\ ",
            ),
            (
                Context::Plain,
                "{{ETCD_NAME}} {{LINES}}",
                "100% \"a\" a\nUser=0",
            ),
            (Context::Unit, "{{join PEERS \",\"}}", "a%%,b"),
            (Context::Unit, "{{{join PEERS \" \"}}}", "a% b"),
            (Context::Unit, "{{#each PEERS}}{{this}};{{/each}}", "a%%;b;"),
            (Context::Unit, "{{lookup PEERS 0}}{{PEERS.[1]}}", "a%%b"),
        ] {
            assert_eq!(rendered(text, context).unwrap(), result, "{text}");
        }
    }

    #[test]
    fn blocks_see_the_values_around_them() {
        for (text, result) in [
            ("{{#if TLS}}s{{else if PEERS}}p{{else}}n{{/if}}", "p"),
            ("{{#unless TLS}}n{{/unless}}", "n"),
            (
                "{{#each PEERS}}{{name}} {{../ETCD_PORT}} {{@index}} {{/each}}",
                "etcd 2379 0 etcd 2379 1 ",
            ),
            ("{{#each PEERS as |p i|}}{{p}}{{i}}{{/each}}", "a%0b1"),
            ("{{#each NONE}}x{{else}}none{{/each}}", "none"),
            ("{{#each NONE}}x{{/each}}", ""),
            ("{{#with name}}{{this}}{{/with}}", "etcd"),
            ("{{#if (eq name \"etcd\")}}yes{{/if}}", "yes"),
            ("{{#if (gt (len PEERS) 1)}}many{{/if}}", "many"),
            ("{{@root.name}}{{! a comment }}\\{{name}}", "etcd{{name}}"),
            ("a\n{{#if PEERS}}\nb\n{{/if}}\nc\n", "a\nb\nc\n"),
        ] {
            assert_eq!(rendered(text, Context::Plain).unwrap(), result, "{text}");
        }
    }

    const UNKNOWN: [(&str, &str); 34] = [
        (
            "\n\n\n{{ETCD_NAEM}}",
            "line 4: unknown variable `ETCD_NAEM`; did you mean `ETCD_NAME`?",
        ),
        (
            "\n{{#if TSL}}x{{/if}}",
            "line 2: unknown variable `TSL`; did you mean `TLS`?",
        ),
        (
            "{{#if TLS}}\n\n{{X}}\n{{/if}}",
            "line 3: unknown variable `X`",
        ),
        (
            "{{#if TLS}}\n{{else if X}}\n{{/if}}",
            "line 2: unknown variable `X`",
        ),
        (
            "{{#if TLS}}{{else}}\n{{{X}}}{{/if}}",
            "line 2: unknown variable `X`",
        ),
        (
            "{{#each PERS}}x{{/each}}",
            "line 1: unknown variable `PERS`; did you mean `PEERS`?",
        ),
        (
            "{{#each PEERS}}\n{{@key}}{{/each}}",
            "line 2: `@key` stands for no value here",
        ),
        (
            "{{#each PEERS as |p|}}{{q}}{{/each}}",
            "line 1: unknown variable `q`",
        ),
        (
            "{{#each PEERS as |p|}}{{/each}}{{p}}",
            "line 1: unknown variable `p`",
        ),
        (
            "{{join PERS \",\"}}",
            "line 1: unknown variable `PERS`; did you mean `PEERS`?",
        ),
        ("{{#if (eq X 1)}}{{/if}}", "line 1: unknown variable `X`"),
        (
            "{{#if TLS includeZero=X}}{{/if}}",
            "line 1: unknown variable `X`",
        ),
        ("{{@root.X}}", "line 1: unknown variable `X`"),
        ("{{name.X}}", "line 1: `name.X`: `name` has no such part"),
        ("{{this}}", "line 1: `this` stands for no value here"),
        (
            "{{lookup this \"name\"}}",
            "line 1: `this` stands for no value here",
        ),
        (
            "{{lookup @root \"name\"}}",
            "line 1: `@root` stands for no value here",
        ),
        ("{{@index}}", "line 1: `@index` stands for no value here"),
        (
            "{{PEERS}}",
            "line 1: `PEERS` is a list: write `{{join PEERS \",\"}}` or `{{#each PEERS}}`",
        ),
        (
            "{{> other}}",
            "line 1: `{{> other}}`: a template cannot include another",
        ),
        (
            "{{#> other}}{{/other}}",
            "line 1: `{{> other}}`: a template cannot include another",
        ),
        (
            "{{#*inline \"x\"}}{{/inline}}",
            "line 1: `{{* inline}}`: a template cannot define another",
        ),
        (
            "{{jion PEERS \",\"}}",
            "line 1: unknown helper `jion`; did you mean `join`?",
        ),
        ("{{log name}}", "line 1: unknown helper `log`"),
        ("{{#TLS}}x{{/TLS}}", "line 1: unknown helper `TLS`"),
        ("{{len}}", "line 1: the helper `len` lacks what it works on"),
        (
            "\n{{join PEERS}}",
            "line 2: `join` lacks what stands between the items",
        ),
        ("{{join name \",\"}}", "line 1: `join` joins a list"),
        (
            "{{#if}}x{{/if}}",
            "line 1: the helper `if` lacks what it works on",
        ),
        ("{{lookup PEERS 7}}", "line 1: `lookup` finds nothing"),
        ("{{PEERS.[7]}}", "line 1: `PEERS.[7]` has no value here"),
        (
            "\n{{#if TLS}}\n{{/unless}}",
            "line 3: `{{#if}}` is closed by `{{/unless}}`",
        ),
        (
            "\n\n{{name",
            "line 3: something is not closed before here, or is no handlebars",
        ),
        (
            "{{A}}\n{{B}}",
            "2 problems\n  line 1: unknown variable `A`\n  line 2: unknown variable `B`",
        ),
    ];

    #[test]
    fn every_name_must_be_known() {
        for (text, problem) in UNKNOWN {
            let error = rendered(text, Context::Plain).unwrap_err();
            assert_eq!(
                format!("{error:#}"),
                format!("rendering `service.hbs`: {problem}"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_value_adds_no_line_to_a_unit() {
        let control = "a control character may not stand in a unit";
        let slash = "a backslash at its end would join two lines of a unit";
        for (text, name, problem) in [
            ("{{LINES}}", "LINES", control),
            ("{{{LINES}}}", "LINES", control),
            ("{{#if TLS}}{{LINES}}{{/if}}", "LINES", control),
            ("{{lookup ITEMS 0}}", "ITEMS", control),
            ("{{SLASH}}", "SLASH", slash),
        ] {
            let error = rendered(text, Context::Unit).unwrap_err();
            let expected = format!("rendering `service.hbs`: the value of `{name}`: {problem}");
            assert_eq!(format!("{error:#}"), expected);
        }
    }

    #[test]
    fn what_is_rendered_is_bounded() {
        let inner = "x".repeat(1024);
        let text = format!("{}{inner}{}", "{{#each PEERS}}", "{{/each}}");
        assert_eq!(rendered(&text, Context::Plain).unwrap().len(), 2048);
        let deep = format!("{}{}", "{{#if TLS}}".repeat(40), "{{/if}}".repeat(40));
        let error = format!("{:#}", rendered(&deep, Context::Plain).unwrap_err());
        assert_eq!(
            error,
            "rendering `service.hbs`: line 1: blocks are nested too deeply"
        );
        let wide = "{{#each PEERS as |a|}}{{#each @root.PEERS}}".repeat(10);
        let text = format!("{wide}{inner}{}", "{{/each}}".repeat(20));
        let error = format!("{:#}", rendered(&text, Context::Plain).unwrap_err());
        assert!(
            error.contains("the result is larger than 16 MiB"),
            "{error}"
        );
    }

    #[test]
    fn a_field_of_the_manifest_is_one_line() {
        let what = "manifest.toml: container.env.A";
        for (text, context, problem) in [
            (
                "{{nam}}",
                Context::Plain,
                "unknown variable `nam`; did you mean `name`?",
            ),
            (
                "{{",
                Context::Plain,
                "something is not closed before here, or is no handlebars",
            ),
            (
                "a\nb",
                Context::Unit,
                "it must be one line without control characters",
            ),
        ] {
            let error = render_text(what, text, &values(), context).unwrap_err();
            assert_eq!(
                format!("{error:#}"),
                format!("rendering `{what}`: {problem}")
            );
        }
        let text = render_text(what, "{{name}}%h", &values(), Context::Unit).unwrap();
        assert_eq!(text, "etcd%h");
    }
}
