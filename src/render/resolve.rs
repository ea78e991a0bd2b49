//! The manifest with its templates filled in and its words checked: what the unit and config.json are made from.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};

use crate::contract::manifest::{
    Access, Directories, Health, Manifest, Mount, Probe, Propagation, Stage,
};
use crate::contract::problems::Problems;
use crate::contract::values::Values;
use crate::contract::{span, syntax};
use crate::name::ContainerName;
use crate::render::directories::directory;
use crate::render::template::{Context, render_text};

/// What the order graph needs to know of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Roles that it provides beside its own name.
    pub provides: Vec<String>,
    /// Roles or names that must be ready first.
    pub requires: Vec<String>,
    /// Roles or names that it starts after.
    pub after: Vec<String>,
    /// Roles or names that it starts before.
    pub before: Vec<String>,
    /// When in the boot it starts.
    pub stage: Stage,
}

/// How long an update waits for what `[health]` asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Between two probes.
    pub interval: Duration,
    /// Until the probe must have passed.
    pub timeout: Duration,
    /// For how long it must then hold without a restart.
    pub settle: Duration,
}

impl Patience {
    /// Reads the spans.
    pub fn of(health: &Health) -> Result<Self> {
        let span = |key: &str, text: &str| -> Result<Duration> {
            span::parse(text).with_context(|| format!("reading `manifest.toml: health.{key}`"))
        };
        Ok(Self {
            interval: span("interval", &health.interval)?,
            timeout: span("timeout", &health.timeout)?,
            settle: span("settle", &health.settle)?,
        })
    }
}

/// A bind mount as it will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bind {
    pub(crate) source: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) access: Access,
    pub(crate) propagation: Propagation,
    pub(crate) optional: bool,
}

/// Directories that systemd makes, each relative to its base.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) state: Vec<String>,
    pub(crate) runtime: Vec<String>,
    pub(crate) logs: Vec<String>,
    pub(crate) cache: Vec<String>,
    /// Whether one of `runtime` stays when the service stops.
    pub(crate) shared: bool,
}

impl Made {
    /// Their absolute paths.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let mut all = below("/var/lib", &self.state);
        all.extend(self.runtime());
        all.extend(below("/var/log", &self.logs));
        all.extend(below("/var/cache", &self.cache));
        all
    }

    /// The absolute paths of those below `/run`.
    pub(crate) fn runtime(&self) -> Vec<PathBuf> {
        below("/run", &self.runtime)
    }
}

fn below(base: &str, names: &[String]) -> Vec<PathBuf> {
    let names = names.iter();
    names.map(|name| Path::new(base).join(name)).collect()
}

/// The templates of `[container]`, `[service]` and `[health]`, filled in.
#[derive(Debug, Clone)]
pub(crate) struct Filled {
    /// Absent: the image's.
    pub(crate) user: Option<String>,
    pub(crate) env: Vec<(String, String)>,
    /// Absent: the image's.
    pub(crate) args: Option<Vec<String>>,
    pub(crate) binds: Vec<Bind>,
    pub(crate) made: Made,
    pub(crate) watchdog: Option<String>,
    pub(crate) stop_timeout: Option<String>,
    pub(crate) start_timeout: Option<String>,
    pub(crate) health: Option<Health>,
}

/// Fills in `manifest` with `values`.
pub(crate) fn fill(manifest: &Manifest, values: &Values) -> Result<Filled> {
    let container = &manifest.container;
    let service = &manifest.service;
    let user = container.user.as_deref();
    let args = container.args.as_deref();
    Ok(Filled {
        user: user
            .map(|text| text_of("container.user", text, values))
            .transpose()?,
        env: container
            .env
            .iter()
            .map(|(name, text)| {
                let what = format!("container.env.{name}");
                Ok((name.clone(), text_of(&what, text, values)?))
            })
            .collect::<Result<_>>()?,
        args: args.map(|args| words(args, values)).transpose()?,
        binds: binds(&container.mounts, values)?,
        made: made(&service.directories, values)?,
        watchdog: timeout("watchdog", Some(&service.watchdog), values)?,
        stop_timeout: timeout("stop_timeout", service.stop_timeout.as_deref(), values)?,
        start_timeout: timeout("start_timeout", service.start_timeout.as_deref(), values)?,
        health: manifest
            .health
            .as_ref()
            .map(|health| resolve_health(health, values))
            .transpose()?,
    })
}

/// The order words of the manifest; a service provides its own name without saying so.
pub(crate) fn order(manifest: &Manifest, name: &ContainerName) -> Resolved {
    let service = &manifest.service;
    let mut provides = service.provides.clone();
    provides.retain(|role| role != name.as_str());
    Resolved {
        provides,
        requires: service.requires.clone(),
        after: service.after.clone(),
        before: service.before.clone(),
        stage: service.stage,
    }
}

/// Fills in the text at `key` of the manifest.
fn text_of(key: &str, text: &str, values: &Values) -> Result<String> {
    let what = format!("manifest.toml: {key}");
    let rendered = render_text(&what, text, values, Context::Plain)?;
    if rendered.contains('\0') {
        bail!("rendering `{what}`: it holds a NUL byte");
    }
    Ok(rendered)
}

/// A command's words; one that renders to nothing is left out.
fn words(args: &[String], values: &Values) -> Result<Vec<String>> {
    let mut words = Vec::new();
    for (number, text) in args.iter().enumerate() {
        let what = format!("container.args, word {}", number + 1);
        let word = text_of(&what, text, values)?;
        if !word.is_empty() {
            words.push(word);
        }
    }
    Ok(words)
}

fn binds(mounts: &[Mount], values: &Values) -> Result<Vec<Bind>> {
    let mut binds: Vec<Bind> = Vec::new();
    let mut problems = Problems::default();
    for mount in mounts {
        let source = text_of("container.mounts.source", &mount.source, values)?;
        let target = text_of("container.mounts.target", &mount.target, values)?;
        problems.check("container.mounts.source", syntax::path(&source));
        problems.check("container.mounts.target", syntax::path(&target));
        let bind = Bind {
            source: normal(&source),
            target: normal(&target),
            access: mount.access,
            propagation: mount.propagation,
            optional: mount.optional,
        };
        if bind.target == Path::new("/") {
            problems.add("container.mounts.target: `/` would hide the image".to_owned());
        }
        if binds.iter().any(|other| other.target == bind.target) {
            problems.add(format!(
                "container.mounts.target: `{target}` is there twice"
            ));
        }
        binds.push(bind);
    }
    problems
        .into_result()
        .context("rendering `manifest.toml`")?;
    // A mount hides what was mounted below it before: the outer one comes first.
    binds.sort_by_key(|bind| bind.target.components().count());
    Ok(binds)
}

/// The path without doubled and trailing slashes.
fn normal(path: &str) -> PathBuf {
    Path::new(path).components().collect()
}

fn made(from: &Directories, values: &Values) -> Result<Made> {
    let names = |key: &str, texts: &mut dyn Iterator<Item = &String>| -> Result<Vec<String>> {
        texts.map(|text| directory(key, text, values)).collect()
    };
    let runtime = &from.runtime;
    Ok(Made {
        state: names("state", &mut from.state.iter())?,
        runtime: names("runtime", &mut runtime.iter().map(|entry| &entry.name))?,
        logs: names("logs", &mut from.logs.iter())?,
        cache: names("cache", &mut from.cache.iter())?,
        shared: runtime.iter().any(|entry| entry.shared),
    })
}

/// A time of `[service]`; empty is absent.
fn timeout(key: &str, text: Option<&str>, values: &Values) -> Result<Option<String>> {
    let Some(text) = text else {
        return Ok(None);
    };
    let key = format!("service.{key}");
    let text = text_of(&key, text, values)?;
    if text.is_empty() {
        return Ok(None);
    }
    syntax::span(&text)
        .map_err(|problem| anyhow!("rendering `manifest.toml: {key}`: {problem}"))?;
    Ok(Some(text))
}

fn resolve_health(health: &Health, values: &Values) -> Result<Health> {
    let text = |key: &str, text: &str| text_of(&format!("health.probe.{key}"), text, values);
    let probe = match &health.probe {
        None => None,
        Some(Probe::Http(url)) => Some(Probe::Http(text("http", url)?)),
        Some(Probe::Tcp(address)) => Some(Probe::Tcp(text("tcp", address)?)),
        Some(Probe::Exec(argv)) => {
            let argv = argv.iter().map(|word| text("exec", word));
            Some(Probe::Exec(argv.collect::<Result<_>>()?))
        }
    };
    Patience::of(health)?;
    Ok(Health {
        probe,
        ..health.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(manifest: &str) -> Result<Filled> {
        let manifest: Manifest = toml::from_str(manifest).unwrap();
        fill(&manifest, &Values::default())
    }

    #[test]
    fn the_outer_mount_comes_first() {
        let filled = filled(
            "contract = 1\n[container]\nmounts = [\n\
             { source = '/run/x', target = '/run/x/y/' },\n\
             { source = '/run', target = '/run', access = 'rw' },\n]",
        )
        .unwrap();
        let targets: Vec<_> = filled.binds.iter().map(|bind| &bind.target).collect();
        assert_eq!(targets, [Path::new("/run"), Path::new("/run/x/y")]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, message) in [
            (
                "[container]\nmounts = [{ source = 'x', target = '/a/../b' }, { source = '/', target = '/' }]",
                "rendering `manifest.toml`: 3 problems\n  \
                 container.mounts.source: expected an absolute path without `..`, found `x`\n  \
                 container.mounts.target: `/` would hide the image\n  \
                 container.mounts.target: expected an absolute path without `..`, found `/a/../b`",
            ),
            (
                "[service]\ndirectories = { state = ['../etc'] }",
                "rendering `manifest.toml: service.directories.state`: \
                 expected a relative path without `..`, found `../etc`",
            ),
            (
                "[service]\nwatchdog = 'soon'",
                "rendering `manifest.toml: service.watchdog`: expected a span of time such as `30s`, found `soon`",
            ),
            (
                "[health]\nprobe = { tcp = 'localhost:1' }\nsettle = 'infinity'",
                "reading `manifest.toml: health.settle`: `infinity` is no time span such as `10s` or `1min 30s`",
            ),
        ] {
            let error = filled(&format!("contract = 1\n{body}")).unwrap_err();
            assert_eq!(format!("{error:#}"), message);
        }
    }
}
