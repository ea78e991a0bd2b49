//! Values of the declared types, from the words of `--set` and from TOML.

use std::fmt;

use crate::contract::manifest::{Declaration, ValueType};
use crate::contract::syntax;
use crate::contract::values::Data;

/// The value of what is neither given nor has a default.
pub(crate) fn empty(kind: ValueType) -> Data {
    match kind {
        ValueType::String | ValueType::Path | ValueType::Url | ValueType::Secret => {
            Data::Text(String::new())
        }
        ValueType::Integer => Data::Integer(0),
        ValueType::Boolean => Data::Boolean(false),
        ValueType::List => Data::List(Vec::new()),
    }
}

/// The value in the words of `--set`: a list separated by commas.
pub(crate) fn from_text(kind: ValueType, text: &str) -> Result<Data, String> {
    let expected = |what| format!("expected {what}, found `{}`", text.escape_debug());
    let data = match kind {
        ValueType::String | ValueType::Path | ValueType::Url | ValueType::Secret => {
            Data::Text(text.to_owned())
        }
        ValueType::Integer => Data::Integer(text.parse().map_err(|_| expected("an integer"))?),
        ValueType::Boolean => Data::Boolean(
            text.parse()
                .map_err(|_| expected("a boolean, `true` or `false`"))?,
        ),
        ValueType::List if text.is_empty() => Data::List(Vec::new()),
        ValueType::List => Data::List(text.split(',').map(|t| t.trim().to_owned()).collect()),
    };
    checked(kind, data)
}

/// The value as TOML of the declared type.
pub(crate) fn from_toml(kind: ValueType, value: &toml::Value) -> Result<Data, String> {
    let data = match value {
        toml::Value::String(text) => Data::Text(text.clone()),
        toml::Value::Integer(number) => Data::Integer(*number),
        toml::Value::Boolean(truth) => Data::Boolean(*truth),
        toml::Value::Array(items) => {
            let texts = items.iter().map(|item| item.as_str().map(str::to_owned));
            let texts: Option<Vec<_>> = texts.collect();
            Data::List(texts.ok_or("expected a list of strings, found other items in it")?)
        }
        toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Table(_) => {
            return Err(format!("expected {kind}, found a {}", value.type_str()));
        }
    };
    checked(kind, data)
}

/// The value, if it is one of its type. Empty text stands for a path or URL that is not given.
pub(crate) fn checked(kind: ValueType, data: Data) -> Result<Data, String> {
    match (kind, &data) {
        (ValueType::Secret, _) => {
            return Err("it is a secret: a secret is given by --secret".to_owned());
        }
        (ValueType::Path | ValueType::Url, Data::Text(text)) if text.is_empty() => {}
        (ValueType::String, Data::Text(text)) => syntax::line(text)?,
        (ValueType::Path, Data::Text(text)) => syntax::path(text)?,
        (ValueType::Url, Data::Text(text)) => syntax::url(text)?,
        (ValueType::Integer, Data::Integer(_)) | (ValueType::Boolean, Data::Boolean(_)) => {}
        (ValueType::List, Data::List(texts)) => texts.iter().try_for_each(|t| syntax::line(t))?,
        (_, found) => {
            let found = match found {
                Data::Text(_) => "a string",
                Data::Integer(_) => "an integer",
                Data::Boolean(_) => "a boolean",
                Data::List(_) => "a list",
            };
            return Err(format!("expected {kind}, found {found}"));
        }
    }
    Ok(data)
}

impl Declaration {
    /// Its value when nobody sets it; `None` when somebody must, or when it is a secret.
    pub fn default_data(&self) -> Option<Data> {
        if self.required || self.kind == ValueType::Secret {
            return None;
        }
        match &self.default {
            Some(value) => from_toml(self.kind, value).ok(),
            None => Some(empty(self.kind)),
        }
    }
}

impl ValueType {
    /// As a manifest names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::Path => "path",
            Self::Url => "url",
            Self::List => "list",
            Self::Secret => "secret",
        }
    }
}

/// As errors and help name it.
impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::String => "a string",
            Self::Integer => "an integer",
            Self::Boolean => "a boolean",
            Self::Path => "a path",
            Self::Url => "a URL",
            Self::List => "a list",
            Self::Secret => "a secret",
        })
    }
}
