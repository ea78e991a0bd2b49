//! The files of `hostfs/` as they will lie on the host.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::contract::problems::Problems;
use crate::contract::syntax;
use crate::contract::values::Values;
use crate::contract::{Contract, HostContent, HostFile, Template};
use crate::render::template::{Context, render, render_text};
use crate::render::unit::LAUNCHER;

/// A file for the host, rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedFile {
    /// Its path on the host, absolute and without `.` or `..`.
    pub path: PathBuf,
    /// Its permissions; neither setuid nor setgid.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// What it is.
    pub content: HostContent,
}

/// Where no image may put a file: what the kernel owns and what bedplate itself keeps.
const FORBIDDEN: [&str; 8] = [
    "/dev",
    "/etc/bedplate",
    "/etc/systemd/system.attached",
    "/proc",
    "/run/bedplate",
    "/sys",
    "/usr/libexec/bedplate",
    "/var/lib/bedplate",
];

/// Every file for the host, by path. Fails on a template error, on a path where no image may put a file, and on two
/// files for one path or one inside another; the last two kinds are all reported at once.
pub fn host_files(contract: &Contract, values: &Values) -> Result<Vec<RenderedFile>> {
    let mut problems = Problems::default();
    let mut files = BTreeMap::new();
    for file in &contract.host_files {
        let what = format!("the host path of hostfs{}", file.path);
        let path = render_text(&what, &file.target, values, Context::Plain)?;
        let key = format!("hostfs{}", file.path);
        problems.check(&key, host_path(&path));
        let rendered = rendered(file, &path, values)?;
        if files.insert(path.clone(), rendered).is_some() {
            problems.add(format!("{key}: another file goes to `{path}` too"));
        }
    }
    for (path, file) in &files {
        let inside = files.keys().find(|other| below(other, path));
        if let (Some(inside), false) = (inside, file.content == HostContent::Dir) {
            problems.add(format!(
                "`{path}` is no directory, yet `{inside}` lies in it"
            ));
        }
    }
    problems
        .into_result()
        .context("placing the files of `hostfs/`")?;
    Ok(files.into_values().collect())
}

fn rendered(file: &HostFile, path: &str, values: &Values) -> Result<RenderedFile> {
    let content = match &file.content {
        HostContent::File(bytes) if file.template => {
            let name = format!("hostfs{}", file.path);
            let Ok(text) = String::from_utf8(bytes.clone()) else {
                bail!("rendering `{name}`: it is no UTF-8");
            };
            let text = render(&Template { name, text }, values, Context::Plain)?;
            HostContent::File(text.into_bytes())
        }
        other => other.clone(),
    };
    Ok(RenderedFile {
        path: path.into(),
        mode: file.mode,
        uid: file.uid,
        gid: file.gid,
        content,
    })
}

/// Refuses a path that is not plain, or lies where no image may put a file.
fn host_path(path: &str) -> Result<(), String> {
    syntax::path(path)?;
    let mut parts = path.split('/').skip(1);
    if parts.any(|part| matches!(part, "" | ".")) {
        return Err(format!("expected a plain path, found `{path}`"));
    }
    if let Some(base) = forbidden(path) {
        return Err(format!("no image may put a file into `{base}`: `{path}`"));
    }
    Ok(())
}

/// The directory in which `path` lies and where no image may put a file.
pub fn forbidden(path: &str) -> Option<&'static str> {
    let at = |base: &&str| path == *base || below(path, base);
    // With the usual `libexecdir` the launcher's directory is in the table already.
    let launcher = LAUNCHER.rsplit_once('/').map(|(directory, _)| directory);
    FORBIDDEN.into_iter().chain(launcher).find(at)
}

/// Whether `path` lies below the directory `base`.
fn below(path: &str, base: &str) -> bool {
    path.strip_prefix(base)
        .is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::builtins;

    fn file(path: &str, target: &str, text: &str) -> HostFile {
        HostFile {
            path: path.to_owned(),
            target: target.to_owned(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            content: HostContent::File(text.as_bytes().to_vec()),
            template: true,
        }
    }

    fn placed(host_files: Vec<HostFile>) -> Result<Vec<RenderedFile>> {
        let contract = Contract {
            host_files,
            ..Contract::default()
        };
        super::host_files(&contract, &builtins::sample().values().collect())
    }

    #[test]
    fn paths_and_contents_are_rendered() {
        let mut plain = file("/b", "/b", "{{name}}");
        plain.template = false;
        let files = placed(vec![
            file(
                "/etc/etcd.conf",
                "/etc/{{name}}/etcd.conf",
                "name={{name}}\n",
            ),
            plain,
        ])
        .unwrap();
        let shown: Vec<_> = files
            .iter()
            .map(|f| match &f.content {
                HostContent::File(bytes) => {
                    (f.path.to_str().unwrap(), str::from_utf8(bytes).unwrap())
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            shown,
            [("/b", "{{name}}"), ("/etc/etcd/etcd.conf", "name=etcd\n")]
        );
    }

    #[test]
    fn no_file_leaves_its_bounds() {
        let placing = "placing the files of `hostfs/`: ";
        for (targets, problem) in [
            (vec!["/etc/../x"], "placing the files of `hostfs/`: hostfs/0: expected an absolute path without `..`, found `/etc/../x`".to_owned()),
            (vec!["{{name}}"], format!("{placing}hostfs/0: expected an absolute path without `..`, found `etcd`")),
            (vec!["/"], format!("{placing}hostfs/0: expected a plain path, found `/`")),
            (vec!["/etc//x"], format!("{placing}hostfs/0: expected a plain path, found `/etc//x`")),
            (vec!["{{rootfs}}/x"], format!("{placing}hostfs/0: no image may put a file into `/var/lib/bedplate`: `/var/lib/bedplate/containers/etcd/1/rootfs/x`")),
            (vec!["/proc"], format!("{placing}hostfs/0: no image may put a file into `/proc`: `/proc`")),
            (vec!["/etc/{{name}}", "/etc/etcd"], format!("{placing}hostfs/1: another file goes to `/etc/etcd` too")),
            (vec!["/etc/x", "/etc/x/y"], format!("{placing}`/etc/x` is no directory, yet `/etc/x/y` lies in it")),
            (vec!["/{{nam}}"], "rendering `the host path of hostfs/0`: unknown variable `nam`; did you mean `name`?".to_owned()),
        ] {
            let files = targets.iter().enumerate();
            let files = files.map(|(n, target)| file(&format!("/{n}"), target, "")).collect();
            assert_eq!(format!("{:#}", placed(files).unwrap_err()), problem);
        }
    }

    #[test]
    fn a_template_error_names_file_and_line() {
        let error = placed(vec![file("/etc/x", "/etc/x", "\n{{nam}}")]).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "rendering `hostfs/etc/x`: line 2: unknown variable `nam`; did you mean `name`?"
        );
    }
}
