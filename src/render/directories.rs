//! The directories of `[service]` that have built-in variables of their own.

use std::path::PathBuf;

use anyhow::{Result, anyhow};

use crate::contract::builtins::BuiltIns;
use crate::contract::manifest::Directories;
use crate::contract::syntax;
use crate::contract::values::Values;
use crate::render::resolve::Made;
use crate::render::syntax::quote;
use crate::render::template::{Context, render_text};

/// Sets `state_dir`, `runtime_dir`, `logs_dir` and `cache_dir` to the first directory of each kind; where there is
/// none they keep what they are.
///
/// These are known before any value is, so the first directory of a kind may use the built-in variables alone.
pub fn name_directories(built_ins: &mut BuiltIns, directories: &Directories) -> Result<()> {
    let values: Values = built_ins
        .values()
        .filter(|(name, _)| !name.ends_with("_dir"))
        .collect();
    let first = |base: &str, key: &str, name: Option<&String>| -> Result<Option<PathBuf>> {
        name.map(|text| directory(key, text, &values).map(|name| PathBuf::from(base).join(name)))
            .transpose()
    };
    let runtime = directories.runtime.first().map(|found| &found.name);
    let state = first("/var/lib", "state", directories.state.first())?;
    let runtime = first("/run", "runtime", runtime)?;
    let logs = first("/var/log", "logs", directories.logs.first())?;
    let cache = first("/var/cache", "cache", directories.cache.first())?;
    for (built_in, found) in [
        (&mut built_ins.state_dir, state),
        (&mut built_ins.runtime_dir, runtime),
        (&mut built_ins.logs_dir, logs),
        (&mut built_ins.cache_dir, cache),
    ] {
        if let Some(found) = found {
            *built_in = found;
        }
    }
    Ok(())
}

/// Renders one name of `service.directories.KEY`, and checks what it became. Not escaped for a unit: it is a path.
pub fn directory(key: &str, text: &str, values: &Values) -> Result<String> {
    let what = format!("manifest.toml: service.directories.{key}");
    let name = render_text(&what, text, values, Context::Plain)?;
    syntax::directory(&name).map_err(|problem| anyhow!("rendering `{what}`: {problem}"))?;
    Ok(name)
}

/// Those below `/run` that the launcher makes and a stop must remove, as words of a command. One below another goes with
/// that: what lies in a directory of the payload's is no place to follow its links from.
pub(crate) fn removed(made: &Made) -> Result<Option<String>> {
    if made.shared || made.runtime.is_empty() {
        return Ok(None);
    }
    let mut all = made.runtime();
    all.sort();
    // A path comes after those that it lies below.
    all.dedup_by(|path, before| path.starts_with(before));
    let words: Vec<String> = all
        .iter()
        .map(|path| Ok(quote(path)?.replace('$', "$$")))
        .collect::<Result<_>>()?;
    Ok(Some(words.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::builtins;
    use crate::contract::manifest::RuntimeDirectory;

    fn named(state: &str) -> Result<BuiltIns> {
        let mut built_ins = builtins::sample();
        let directories = Directories {
            state: vec![state.to_owned(), "other".to_owned()],
            runtime: vec![RuntimeDirectory {
                name: "flannel".to_owned(),
                shared: true,
            }],
            ..Directories::default()
        };
        name_directories(&mut built_ins, &directories)?;
        Ok(built_ins)
    }

    #[test]
    fn the_first_directory_of_a_kind_counts() {
        let built_ins = named("{{name}}/data").unwrap();
        assert_eq!(built_ins.state_dir, PathBuf::from("/var/lib/etcd/data"));
        assert_eq!(built_ins.runtime_dir, PathBuf::from("/run/flannel"));
        assert_eq!(built_ins.logs_dir, PathBuf::from("/var/log/etcd"));
    }

    #[test]
    fn a_stop_removes_each_once() {
        let names = ["b/c/d", "a", "b", "a$x", "b", "b/c"];
        let mut made = Made {
            runtime: names.map(str::to_owned).to_vec(),
            ..Made::default()
        };
        assert_eq!(
            removed(&made).unwrap().unwrap(),
            "/run/a \"/run/a$$x\" /run/b"
        );
        made.shared = true;
        assert_eq!(removed(&made).unwrap(), None);
        assert_eq!(removed(&Made::default()).unwrap(), None);
    }

    #[test]
    fn what_it_becomes_is_checked() {
        let what = "rendering `manifest.toml: service.directories.state`";
        for (text, problem) in [
            ("{{nam}}", "unknown variable `nam`; did you mean `name`?"),
            ("{{state_dir}}", "unknown variable `state_dir`"),
            (
                "{{rootfs}}",
                "expected a relative path without `..`, found `/var/lib/bedplate/containers/etcd/1/rootfs`",
            ),
        ] {
            let error = named(text).unwrap_err();
            assert_eq!(format!("{error:#}"), format!("{what}: {problem}"));
        }
    }
}
