//! The names in a compiled template, checked before anything is rendered.
//!
//! handlebars' strict mode sees a missing variable only where one is printed; `{{#if TYPO}}` would be false for
//! ever. So the whole tree is walked, branches that would not be taken included.

use std::collections::BTreeSet;

use handlebars::template::{
    BlockParam, DecoratorTemplate, HelperTemplate, Parameter, Template, TemplateElement,
};
use handlebars::{Path, PathSeg};

use crate::contract::problems::{Problems, did_you_mean};
use crate::contract::values::{Data, Values};

/// The helpers of the template language, sorted.
pub(crate) const HELPERS: [&str; 17] = [
    "and", "each", "eq", "gt", "gte", "if", "join", "len", "lookup", "lt", "lte", "ne", "not",
    "or", "raw", "unless", "with",
];

/// How deep blocks may nest.
const DEPTH_MAX: usize = 32;

/// What a template says of its names.
pub(crate) struct Names<'a> {
    values: &'a Values,
    /// The variables that it uses.
    pub(crate) used: BTreeSet<String>,
    /// What is wrong, each with its line.
    pub(crate) problems: Problems,
    /// The parameters of the blocks around the place that is being looked at, one entry per `each` or `with`.
    blocks: Vec<Vec<String>>,
    lines: Lines,
    depth: usize,
}

/// Where the walk is.
#[derive(Clone, Copy)]
pub(crate) enum Lines {
    /// In a file of several lines, at this one.
    At(usize),
    /// In a text of one line, whose number tells nothing.
    One,
}

impl<'a> Names<'a> {
    /// Walks the template. `lines` says how problems are placed.
    pub(crate) fn of(template: &Template, values: &'a Values, lines: Lines) -> Self {
        let mut names = Self {
            values,
            used: BTreeSet::new(),
            problems: Problems::default(),
            blocks: Vec::new(),
            lines,
            depth: 0,
        };
        names.template(template);
        names
    }

    fn problem(&mut self, problem: &str) {
        let problem = match self.lines {
            Lines::At(line) => format!("line {line}: {problem}"),
            Lines::One => problem.to_owned(),
        };
        self.problems.add(problem);
    }

    fn template(&mut self, template: &Template) {
        self.depth += 1;
        for (at, element) in template.elements.iter().enumerate() {
            if let (Lines::At(_), Some(mapping)) = (self.lines, template.mapping.get(at)) {
                self.lines = Lines::At(mapping.0);
            }
            self.element(element);
        }
        self.depth -= 1;
    }

    fn element(&mut self, element: &TemplateElement) {
        match element {
            TemplateElement::RawString(_) | TemplateElement::Comment(_) => {}
            TemplateElement::Expression(call) | TemplateElement::HtmlExpression(call) => {
                self.printed(call);
            }
            TemplateElement::HelperBlock(block) => self.block(block),
            TemplateElement::PartialExpression(partial)
            | TemplateElement::PartialBlock(partial) => {
                let name = decorator_name(partial);
                self.problem(&format!(
                    "`{{{{> {name}}}}}`: a template cannot include another"
                ));
            }
            TemplateElement::DecoratorExpression(decorator)
            | TemplateElement::DecoratorBlock(decorator) => {
                let name = decorator_name(decorator);
                self.problem(&format!(
                    "`{{{{* {name}}}}}`: a template cannot define another"
                ));
            }
            // The enum is open to growth; what is not known here is not let through.
            _ => self.problem("the template uses something that bedplate does not know"),
        }
    }

    /// `{{X}}`, `{{helper X}}` or one of them in parentheses.
    fn printed(&mut self, call: &HelperTemplate) {
        let (Parameter::Path(path), true) =
            (&call.name, call.params.is_empty() && call.hash.is_empty())
        else {
            return self.call(call);
        };
        let raw = raw(path);
        if HELPERS.contains(&raw) {
            return self.problem(&format!("the helper `{raw}` lacks what it works on"));
        }
        if let Some(name) = self.path(path)
            && let Some(Data::List(_)) = self.values.get(&name).map(|value| &value.data)
            && raw.ends_with(name.as_str())
        {
            self.problem(&format!(
                "`{name}` is a list: write `{{{{join {name} \",\"}}}}` or `{{{{#each {name}}}}}`"
            ));
        }
    }

    /// A helper with what it is given.
    fn call(&mut self, call: &HelperTemplate) {
        match &call.name {
            Parameter::Name(name) => self.helper(name),
            Parameter::Path(path) => self.helper(raw(path)),
            other => self.parameter(other),
        }
        for parameter in call.params.iter().chain(call.hash.values()) {
            self.parameter(parameter);
        }
    }

    fn helper(&mut self, name: &str) {
        if !HELPERS.contains(&name) {
            let meant = did_you_mean(name, HELPERS);
            let name = name.escape_debug();
            self.problem(&format!("unknown helper `{name}`{meant}"));
        }
    }

    fn block(&mut self, block: &HelperTemplate) {
        if self.depth > DEPTH_MAX {
            return self.problem("blocks are nested too deeply");
        }
        self.call(block);
        let scoped =
            matches!(&block.name, Parameter::Name(name) if name == "each" || name == "with");
        if scoped {
            self.blocks.push(block_parameters(block));
        }
        if let Some(inner) = &block.template {
            self.template(inner);
        }
        if scoped {
            self.blocks.pop();
        }
        if let Some(inverse) = &block.inverse {
            self.template(inverse);
        }
    }

    fn parameter(&mut self, parameter: &Parameter) {
        match parameter {
            Parameter::Path(path) => {
                self.path(path);
            }
            Parameter::Subexpression(inner) => {
                self.depth += 1;
                match inner.as_element() {
                    _ if self.depth > DEPTH_MAX => self.problem("blocks are nested too deeply"),
                    TemplateElement::Expression(call) => self.printed_inside(call),
                    _ => self.problem("the template uses something that bedplate does not know"),
                }
                self.depth -= 1;
            }
            Parameter::Name(_) | Parameter::Literal(_) => {}
            _ => self.problem("the template uses something that bedplate does not know"),
        }
    }

    /// `(X)` or `(helper X)`: as printed, but a list is welcome.
    fn printed_inside(&mut self, call: &HelperTemplate) {
        match &call.name {
            Parameter::Path(path) if call.params.is_empty() && call.hash.is_empty() => {
                self.path(path);
            }
            _ => self.call(call),
        }
    }

    /// Checks a path, and returns the variable that it leads to.
    fn path(&mut self, path: &Path) -> Option<String> {
        let Path::Relative((segments, raw)) = path else {
            self.local(path);
            return None;
        };
        let from_root = raw.starts_with("@root");
        let ruled = |segment: &&PathSeg| matches!(segment, PathSeg::Ruled(_));
        let ups = segments.iter().filter(ruled).count() - usize::from(from_root);
        let names = segments.iter().filter_map(|segment| match segment {
            PathSeg::Named(name) => Some(name.as_str()),
            _ => None,
        });
        let named: Vec<_> = names.collect();
        let inside = if from_root {
            0
        } else {
            self.blocks.len().saturating_sub(ups)
        };
        let Some(first) = named.first() else {
            if inside == 0 {
                self.problem(&format!("`{raw}` stands for no value here"));
            }
            return None;
        };
        let parameter = |block: &Vec<String>| block.iter().any(|p| p == first);
        if ups == 0 && !from_root && self.blocks.iter().any(parameter) {
            return None;
        }
        let Some(value) = self.values.get(first) else {
            let known = self.values.iter().map(|(name, _)| name);
            let meant = did_you_mean(first, known);
            let first = first.escape_debug();
            self.problem(&format!("unknown variable `{first}`{meant}"));
            return None;
        };
        self.used.insert((*first).to_owned());
        let index = named.get(1).is_some_and(|i| i.parse::<usize>().is_ok());
        if named.len() > 2 || (named.len() == 2 && !(index && matches!(value.data, Data::List(_))))
        {
            let raw = raw.escape_debug();
            self.problem(&format!("`{raw}`: `{first}` has no such part"));
        }
        Some((*first).to_owned())
    }

    /// `@index` and its like, which `each` sets.
    fn local(&mut self, path: &Path) {
        if let Path::Local((_, name, raw)) = path
            && (self.blocks.is_empty() || !["index", "first", "last"].contains(&name.as_str()))
        {
            let raw = raw.escape_debug();
            self.problem(&format!("`{raw}` stands for no value here"));
        }
    }
}

fn raw(path: &Path) -> &str {
    match path {
        Path::Relative((_, raw)) | Path::Local((_, _, raw)) => raw,
    }
}

fn decorator_name(decorator: &DecoratorTemplate) -> String {
    match &decorator.name {
        Parameter::Name(name) => name.escape_debug().to_string(),
        Parameter::Path(path) => raw(path).escape_debug().to_string(),
        _ => String::from("…"),
    }
}

/// The names after `as |…|`.
fn block_parameters(block: &HelperTemplate) -> Vec<String> {
    let name = |parameter: &Parameter| match parameter {
        Parameter::Name(name) => Some(name.clone()),
        Parameter::Path(path) => Some(raw(path).to_owned()),
        _ => None,
    };
    match &block.block_param {
        Some(BlockParam::Single(only)) => name(only).into_iter().collect(),
        Some(BlockParam::Pair((one, two))) => name(one).into_iter().chain(name(two)).collect(),
        _ => Vec::new(),
    }
}
