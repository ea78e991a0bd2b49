//! TOML texts into our types, with errors in our words: line, key, and what was probably meant.

use anyhow::{Result, anyhow, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::contract::manifest::{CONTRACT, Manifest};
use crate::contract::problems::did_you_mean;
use crate::hint::Hinted;

/// The features that `needs` may name. None yet: everything in contract 1 is known to every bedplate.
const FEATURES: [&str; 0] = [];

/// The part of a manifest that every contract has, read before any key can be unknown.
#[derive(Deserialize)]
struct Head {
    contract: u32,
    #[serde(default)]
    needs: Vec<String>,
}

/// Reads `manifest.toml`. What serde cannot see is left to [`crate::contract::check`].
pub fn manifest(text: &str) -> Result<Manifest> {
    let head: Head = document(text)?;
    if head.contract == 0 {
        bail!("contract 0 does not exist: they count from 1");
    }
    if head.contract > CONTRACT {
        let error = anyhow!(
            "the image follows contract {}; bedplate {} knows contracts up to {CONTRACT}",
            head.contract,
            env!("CARGO_PKG_VERSION"),
        );
        return Err(error).hint("install a newer bedplate");
    }
    let unknown: Vec<_> = head
        .needs
        .iter()
        .filter(|feature| !FEATURES.contains(&feature.as_str()))
        .map(|feature| format!("`{}`", feature.escape_debug()))
        .collect();
    if !unknown.is_empty() {
        let error = anyhow!(
            "the image needs {}, which bedplate {} does not know",
            unknown.join(", "),
            env!("CARGO_PKG_VERSION"),
        );
        return Err(error).hint("install a newer bedplate");
    }
    document(text)
}

/// Reads any TOML document.
pub fn document<T: DeserializeOwned>(text: &str) -> Result<T> {
    toml::from_str(text).map_err(|error| {
        let what = reworded(error.message());
        match error.span() {
            Some(span) => anyhow!("line {}: {what}", line_of(text, span.start)),
            None => anyhow!(what),
        }
    })
}

/// The line of a byte, counted from 1.
fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

/// serde's message in the words of TOML: a field is a key there, a variant a value.
fn reworded(message: &str) -> String {
    let message = message.lines().next().unwrap_or_default();
    let quoted: Vec<_> = message.split('`').skip(1).step_by(2).collect();
    if let ([name, known @ ..], true) = (quoted.as_slice(), message.starts_with("unknown field")) {
        let meant = did_you_mean(name, known.iter().copied());
        return format!("unknown key `{name}`{meant}");
    }
    if let ([name, known @ ..], true) = (quoted.as_slice(), message.starts_with("unknown variant"))
    {
        let known: Vec<_> = known.iter().map(|k| format!("`{k}`")).collect();
        return format!("expected {}, found `{name}`", known.join(" or "));
    }
    if let Some(key) = message.strip_prefix("missing field ") {
        return format!("missing key {key}");
    }
    if let Some((found, expected)) = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))
        .and_then(|rest| rest.split_once(", expected "))
    {
        return format!("expected {expected}, found {found}");
    }
    message.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_line_and_key() {
        for (text, error) in [
            (
                "contract = 1\n\n[container]\ndescripton = 'x'",
                "line 4: unknown key `descripton`",
            ),
            (
                "contract = 1\n\n\n\n\n\ndescripton = 'x'",
                "line 7: unknown key `descripton`; did you mean `description`?",
            ),
            (
                "contract = 1\n[values.X]\ntype = 'string'\ndefault = ''\nrequire = true\nhelp = ''",
                "line 5: unknown key `require`; did you mean `required`?",
            ),
            (
                "contract = 1\n[values.X]\ntype = 'text'\nhelp = ''",
                "line 3: expected `string` or `integer` or `boolean` or `path` or `url` or `list` or `secret`, \
                 found `text`",
            ),
            (
                "contract = 1\n[values.X]\ntype = 'path'",
                "line 2: missing key `help`",
            ),
            ("description = 'x'", "line 1: missing key `contract`"),
            (
                "contract = 1\ndescription = 3",
                "line 2: expected a string, found integer `3`",
            ),
            (
                "contract = 1\n[service]\ntype = 'forking'",
                "line 3: expected `notify` or `notify-reload` or `exec` or `oneshot`, found `forking`",
            ),
            ("contract = 1\ncontract = 1", "line 2: duplicate key"),
            (
                "contract = 1\nx = \n",
                "line 2: string values must be quoted, expected literal string",
            ),
            (
                "contract = 0",
                "contract 0 does not exist: they count from 1",
            ),
            (
                "contract = 2\nnew_key = 1",
                "the image follows contract 2; bedplate 0.1.0 knows contracts up to 1",
            ),
            (
                "contract = 1\nneeds = ['gpu', 'x']\nnew_key = 1",
                "the image needs `gpu`, `x`, which bedplate 0.1.0 does not know",
            ),
        ] {
            assert_eq!(
                format!("{:#}", manifest(text).unwrap_err()),
                error,
                "{text}"
            );
        }
    }

    #[test]
    fn a_newer_contract_comes_with_a_remedy() {
        let error = manifest("contract = 2").unwrap_err();
        assert_eq!(crate::hint::hints(&error)[0].0, "install a newer bedplate");
    }
}
