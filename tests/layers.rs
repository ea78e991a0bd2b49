//! The modules may use each other only as written here.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "reads the source tree; a panic is a test failure"
)]
use std::{collections::BTreeMap, fs, path::Path};

/// Each module and the modules it may use; read top to bottom, it is the architecture.
#[rustfmt::skip]
const LAYERS: &[(&str, &[&str])] = &[
    ("cli",        &["ops", "state", "order", "contract", "image", "progress", "root", "hint", "name"]),
    ("ops",        &["config", "state", "deployment", "render", "host", "systemd", "order", "store", "contract", "runtime", "image", "progress", "exec", "root", "hint", "launch", "name"]),
    ("config",     &["order", "store", "contract", "image", "root", "hint", "name"]),
    ("state",      &["deployment", "host", "systemd", "order", "store", "contract", "progress", "root", "hint", "name"]),
    ("deployment", &["render", "store", "contract", "progress", "root", "hint", "name"]),
    ("render",     &["contract", "runtime", "root", "hint", "launch", "name"]),
    ("host",       &["exec", "root", "hash", "hint", "name"]),
    ("systemd",    &["exec", "root", "hint", "name"]),
    ("order",      &["name"]),
    ("store",      &["image", "progress", "exec", "root", "hash", "hint"]),
    ("contract",   &["root", "hint", "launch", "name"]),
    ("runtime",    &["exec", "root", "hint", "name"]),
    ("image",      &["progress", "exec", "hash", "hint"]),
    ("progress",   &["hint"]),
    ("exec",       &["hint"]),
    ("root",       &["hint"]),
    ("launch",     &["hint", "name"]),
    ("hash",       &[]),
    ("hint",       &[]),
    ("name",       &[]),
];

#[test]
fn modules_use_only_the_layers_below() {
    let allowed: BTreeMap<_, _> = LAYERS.iter().copied().collect();
    for (module, used) in uses(Path::new("src")) {
        let permitted = allowed
            .get(module.as_str())
            .unwrap_or_else(|| panic!("{module} is missing from LAYERS"));
        assert!(
            module == used || permitted.contains(&used.as_str()),
            "`{module}` must not use `{used}`"
        );
    }
}

#[test]
fn layers_point_downwards() {
    let order: Vec<_> = LAYERS.iter().map(|(m, _)| *m).collect();
    for (i, (module, used)) in LAYERS.iter().enumerate() {
        for u in *used {
            assert!(
                order.iter().position(|m| m == u).unwrap() > i,
                "{module} -> {u} points up"
            );
        }
    }
}

/// The page for those who read before they change: its table has each module once, in this order.
#[test]
fn the_document_has_these_modules() {
    let text = fs::read_to_string("docs/architecture.md").unwrap();
    let (_, rest) = text.split_once("| module | what it is |").unwrap();
    let (table, _) = rest.split_once("\n\n").unwrap();
    let rows = table.lines().filter_map(|line| line.split('`').nth(1));
    assert!(rows.eq(LAYERS.iter().map(|(module, _)| *module)));
}

/// Every `crate::module` mentioned in each top-level module, tests and comments aside.
fn uses(src: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(src).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let module = path.file_stem().unwrap().to_str().unwrap().to_owned();
        // The crate's roots; the launcher is a program of its own and shares no code.
        if ["lib", "main", "bin"].contains(&module.as_str()) || path == src.join("launch") {
            continue;
        }
        let files = if path.is_dir() {
            walk(&path)
        } else {
            vec![path]
        };
        // Data that the code includes, as a seccomp profile, lies beside it.
        for file in files
            .iter()
            .filter(|f| f.extension().is_some_and(|e| e == "rs"))
        {
            let text = fs::read_to_string(file).unwrap();
            assert!(
                text.starts_with("//!"),
                "`{module}`: every file opens by saying what it holds"
            );
            let text = text.split("#[cfg(test)]").next().unwrap();
            let code: String = text
                .lines()
                .filter(|l| !l.trim_start().starts_with("//"))
                .collect::<Vec<_>>()
                .join("\n");
            assert!(
                !code.contains("super::"),
                "`{module}`: write crate:: paths outside tests"
            );
            for rest in code.split("crate::").skip(1) {
                found.extend(heads(rest).into_iter().map(|used| (module.clone(), used)));
            }
        }
    }
    found
}

/// `a::b` names `a`; `{a::{x, y}, b}` names `a` and `b`.
fn heads(path: &str) -> Vec<String> {
    let Some(group) = path.strip_prefix('{') else {
        return vec![word(path)];
    };
    let (mut depth, mut heads, mut item) = (0, Vec::new(), String::new());
    for c in group.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => heads.push(word(std::mem::take(&mut item).trim())),
            '{' => {
                depth += 1;
                item.push(c);
            }
            '}' => {
                depth -= 1;
                item.push(c);
            }
            _ => item.push(c),
        }
    }
    heads.push(word(item.trim()));
    heads.retain(|h| !h.is_empty());
    heads
}

fn word(s: &str) -> String {
    s.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

fn walk(dir: &Path) -> Vec<std::path::PathBuf> {
    fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .flat_map(|p| if p.is_dir() { walk(&p) } else { vec![p] })
        .collect()
}
