//! A runtime configuration for people: what fits on a line stands on one, and long tables are counted.

use serde_json::Value;

/// How wide a line may be.
const WIDTH: usize = 110;

/// The text for people of a JSON document; `None` for any other text. The system call filter, which alone is
/// longer than all the rest, is given by its number of rules.
pub(crate) fn brief(text: &str) -> Option<String> {
    let mut document: Value = serde_json::from_str(text).ok()?;
    if let Some(rules) = document.pointer_mut("/linux/seccomp/syscalls") {
        let count = rules.as_array().map_or(0, Vec::len);
        *rules = Value::from(format!("{count} rules; --json shows them"));
    }
    Some(block(&document, 0))
}

fn block(value: &Value, depth: usize) -> String {
    let short = line(value);
    if depth > 0 && short.chars().count() + 2 * depth <= WIDTH {
        return short;
    }
    let (open, items, close) = match value {
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| block(item, depth + 1)).collect();
            ('[', items, ']')
        }
        Value::Object(members) => {
            let member = |(name, member)| format!("\"{name}\": {}", block(member, depth + 1));
            ('{', members.iter().map(member).collect(), '}')
        }
        _ => return short,
    };
    let (inner, outer) = ("  ".repeat(depth + 1), "  ".repeat(depth));
    let items = items.join(&format!(",\n{inner}"));
    format!("{open}\n{inner}{items}\n{outer}{close}")
}

fn line(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(line).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(members) if !members.is_empty() => {
            let member = |(name, value)| format!("\"{name}\": {}", line(value));
            let members: Vec<_> = members.iter().map(member).collect();
            format!("{{ {} }}", members.join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_stands_on_one_line() {
        let long = "x".repeat(100);
        let text = format!(
            r#"{{"a":["b",{{"c":1}}],"linux":{{"seccomp":{{"syscalls":[1,2]}}}},"list":["{long}","y"]}}"#
        );
        let expected = format!(
            r#"{{
  "a": ["b", {{ "c": 1 }}],
  "linux": {{ "seccomp": {{ "syscalls": "2 rules; --json shows them" }} }},
  "list": [
    "{long}",
    "y"
  ]
}}"#
        );
        assert_eq!(brief(&text).unwrap(), expected);
        assert_eq!(brief("[Unit]\n"), None);
    }
}
