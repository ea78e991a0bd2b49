//! Whether what the container begins with is there: its command, where that runs, its environment.

use std::path::{Path, PathBuf};

use anyhow::Result;
use containers_image_proxy::oci_spec::runtime::{Mount, Process, Spec};

use crate::contract::finding::Finding;
use crate::ops::lint::opened::{COMMAND, Opened};
use crate::ops::lint::{Kind, Outcome};
use crate::root;

/// Looks at the process of the configuration.
pub(super) fn check(opened: &Opened, spec: &Spec, outcome: &mut Outcome) -> Result<()> {
    let Some(process) = spec.process() else {
        return Ok(());
    };
    let file = opened.config_file();
    let of_image = opened.image.config.config();
    let env = of_image.as_ref().and_then(|config| config.env().as_ref());
    for entry in env.into_iter().flatten() {
        if entry
            .split_once('=')
            .is_none_or(|(name, _)| name.is_empty())
        {
            let text = format!("Env: `{}` is no NAME=VALUE", entry.escape_debug());
            outcome.warnings.push(Finding::of(file, text));
        }
    }
    if !opened.has_files() {
        let what = "the image's own configuration and files: its command, its volumes";
        outcome
            .unchecked
            .push(format!("{what}; give the image when it is built"));
        return Ok(());
    }
    let command = process.args().iter().flatten().next();
    let command = command.filter(|command| *command != COMMAND);
    match command {
        Some(command) => {
            let text = program(opened, spec, process, command)?;
            let problem = text.map(|text| Finding::of(file, text));
            outcome.problems.extend(problem);
        }
        None if opened.kind == Kind::Rootfs => {
            let what = "the image's own configuration: its command, its volumes";
            outcome
                .unchecked
                .push(format!("{what}; give the image when it is built"));
        }
        None => {}
    }
    let cwd = process.cwd();
    if !covered(spec, cwd) && !matches!(opened.leads_to(cwd)?, Some((root::Kind::Dir, _))) {
        let text = format!("WorkingDir: the image has no directory `{}`", cwd.display());
        outcome.problems.push(Finding::of(file, text));
    }
    Ok(())
}

/// What is wrong with the program that the command names.
fn program(
    opened: &Opened,
    spec: &Spec,
    process: &Process,
    command: &str,
) -> Result<Option<String>> {
    let path = process.env().iter().flatten();
    let mut path = path.filter_map(|entry| entry.strip_prefix("PATH="));
    let path = path.next_back().unwrap_or_default();
    let candidates: Vec<PathBuf> = if command.contains('/') {
        vec![process.cwd().join(command)]
    } else {
        path.split(':')
            .map(|dir| Path::new(dir).join(command))
            .collect()
    };
    let mut not_executable = None;
    for candidate in &candidates {
        if covered(spec, candidate) {
            return Ok(None);
        }
        match opened.leads_to(candidate)? {
            Some((root::Kind::File, mode)) if mode & 0o111 != 0 => return Ok(None),
            Some((root::Kind::File, _)) => not_executable = Some(candidate),
            _ => {}
        }
    }
    Ok(Some(match not_executable {
        Some(path) => format!("its command `{}` is not executable", path.display()),
        None if command.contains('/') => format!("the image has no program `{command}`"),
        None => format!("the image has no program `{command}` in its PATH, `{path}`"),
    }))
}

/// Whether a mount of the host's lies there: then what the image has is not what counts.
fn covered(spec: &Spec, path: &Path) -> bool {
    let mounts = spec.mounts().iter().flatten();
    let mut targets = mounts.map(Mount::destination);
    targets.any(|target| path.starts_with(target))
}
