//! What the manifest's types cannot say: names, paths, capabilities, spans of time, files that exist.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::Result;

use crate::contract::builtins::is_built_in;
use crate::contract::manifest::{
    Container, Declaration, Files, Health, KillMode, Manifest, Namespace, Probe, Service, ValueType,
};
use crate::contract::problems::{Problems, did_you_mean};
use crate::contract::syntax::{self, Checked};
use crate::contract::typed;
use crate::launch::ServiceType;
use crate::name::ContainerName;
use crate::root::Kind;

/// The words of the template language, which no value may be called.
pub const RESERVED: [&str; 25] = [
    "and", "as", "each", "else", "eq", "false", "gt", "gte", "if", "join", "len", "log", "lookup",
    "lt", "lte", "ne", "not", "null", "or", "raw", "root", "this", "true", "unless", "with",
];

/// The longest `description` and `help`, in characters.
const HELP_MAX: usize = 256;

/// Checks the whole manifest; `hostfs` is what lies in `hostfs/`, by path. All problems are one error, each with
/// its key.
pub fn manifest(manifest: &Manifest, hostfs: &BTreeMap<String, Kind>) -> Result<()> {
    let mut problems = Problems::default();
    problems.check("description", help(&manifest.description));
    for (name, declared) in &manifest.values {
        let key = format!("values.{}", name.escape_debug());
        problems.check(&key, declaration(name, declared));
    }
    container(&manifest.container, &mut problems);
    service(&manifest.service, &mut problems);
    for name in &manifest.service.credentials {
        let declared = manifest.values.get(name);
        if declared.is_some_and(|declared| declared.kind == ValueType::Secret) {
            let problem = "a secret is handed in by itself, under this name";
            problems.add(format!("service.credentials: `{name}`: {problem}"));
        }
    }
    problems.check("service.kill_mode", kill_mode(manifest));
    directories(&manifest.service, &mut problems);
    if let Some(checks) = &manifest.health {
        health(checks, &mut problems);
    }
    files(&manifest.files, hostfs, &mut problems);
    problems.into_result()
}

fn help(text: &str) -> Checked {
    syntax::line(text)?;
    if text.chars().count() > HELP_MAX {
        return Err(format!("must not be longer than {HELP_MAX} characters"));
    }
    Ok(())
}

fn declaration(name: &str, declared: &Declaration) -> Checked {
    syntax::value_name(name)?;
    if is_built_in(name) {
        return Err("the name is a built-in variable's".to_owned());
    }
    if RESERVED.contains(&name) {
        return Err("the name is a word of the template language".to_owned());
    }
    help(&declared.help).map_err(|problem| format!("help {problem}"))?;
    let Some(default) = &declared.default else {
        return Ok(());
    };
    if declared.required {
        return Err("what is required has no default".to_owned());
    }
    if declared.kind == ValueType::Secret {
        return Err("a secret has no default".to_owned());
    }
    typed::from_toml(declared.kind, default)
        .map(drop)
        .map_err(|problem| format!("default: {problem}"))
}

fn container(container: &Container, problems: &mut Problems) {
    if let Some(user) = &container.user {
        problems.check("container.user", template(user, syntax::line));
    }
    for name in &container.capabilities {
        problems.check("container.capabilities", syntax::capability(name));
    }
    for path in &container.devices {
        problems.check("container.devices", syntax::device(path));
    }
    for name in container.env.keys() {
        let key = format!("container.env.{}", name.escape_debug());
        problems.check(&key, syntax::variable(name));
    }
    for mount in &container.mounts {
        problems.check(
            "container.mounts.source",
            template(&mount.source, syntax::path),
        );
        problems.check(
            "container.mounts.target",
            template(&mount.target, syntax::path),
        );
    }
}

/// Checks a text that is a template only where it names no variable; what it becomes is checked when rendered.
fn template(text: &str, check: fn(&str) -> Checked) -> Checked {
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    if syntax::is_template(text) {
        return syntax::line(text);
    }
    check(text)
}

fn role(text: &str) -> Checked {
    ContainerName::from_str(text)
        .map(drop)
        .map_err(|error| error.to_string().replacen("container name", "role", 1))
}

fn service(service: &Service, problems: &mut Problems) {
    for (key, roles) in [
        ("service.provides", &service.provides),
        ("service.requires", &service.requires),
        ("service.after", &service.after),
        ("service.before", &service.before),
    ] {
        for name in roles {
            problems.check(key, role(name));
        }
    }
    for (key, names) in [
        ("service.sockets", &service.sockets),
        ("service.credentials", &service.credentials),
    ] {
        for name in names {
            problems.check(key, syntax::word(name));
        }
    }
    for (key, text) in [
        ("service.watchdog", Some(&service.watchdog)),
        ("service.stop_timeout", service.stop_timeout.as_ref()),
        ("service.start_timeout", service.start_timeout.as_ref()),
    ] {
        if let Some(text) = text.filter(|text| key != "service.watchdog" || !text.is_empty()) {
            problems.check(key, template(text, syntax::span));
        }
    }
    if let Some(signal) = &service.stop_signal {
        problems.check("service.stop_signal", syntax::signal(signal));
    }
    problems.check("service.reload", reload(&service.reload));
}

/// A word that begins like a signal is one; anything else is a command.
fn reload(text: &str) -> Checked {
    if text.starts_with("SIG") && !text.contains(char::is_whitespace) {
        return syntax::signal(text);
    }
    syntax::line(text)
}

/// With the first process of a PID namespace the kernel ends all others, pid_namespaces(7).
fn kill_mode(manifest: &Manifest) -> Checked {
    let private = manifest.container.pid == Namespace::Private;
    match (manifest.service.kill_mode, manifest.service.kind) {
        (KillMode::Process, _) if private => Err(
            "nothing outlives a PID namespace: `process` needs container.pid = \"host\"".to_owned(),
        ),
        (KillMode::Process, ServiceType::Oneshot) => {
            Err("`process` would end the runtime alone: type oneshot has `mixed`".to_owned())
        }
        _ => Ok(()),
    }
}

fn directories(service: &Service, problems: &mut Problems) {
    let of = &service.directories;
    let runtime: Vec<_> = of.runtime.iter().map(|dir| dir.name.clone()).collect();
    for (key, names) in [
        ("service.directories.state", &of.state),
        ("service.directories.runtime", &runtime),
        ("service.directories.logs", &of.logs),
        ("service.directories.cache", &of.cache),
    ] {
        for name in names {
            problems.check(key, template(name, syntax::directory));
        }
    }
}

fn health(health: &Health, problems: &mut Problems) {
    for (key, text) in [
        ("health.interval", &health.interval),
        ("health.timeout", &health.timeout),
        ("health.settle", &health.settle),
    ] {
        problems.check(key, finite(text));
    }
    let probe = match &health.probe {
        Some(Probe::Http(url)) => template(url, syntax::url),
        Some(Probe::Tcp(address)) => template(address, address_of),
        Some(Probe::Exec(command)) if command.is_empty() => Err("must not be empty".to_owned()),
        Some(Probe::Exec(_)) | None => Ok(()),
    };
    problems.check("health.probe", probe);
}

/// A span of time that ends: an update waits for it.
fn finite(text: &str) -> Checked {
    if text.trim() == "infinity" {
        return Err("an update cannot wait for ever".to_owned());
    }
    syntax::span(text)
}

fn address_of(text: &str) -> Checked {
    let port = text.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    if matches!(port, Some(Ok(1..))) {
        return syntax::line(text);
    }
    Err(format!("expected `HOST:PORT`, found `{text}`"))
}

fn files(files: &Files, hostfs: &BTreeMap<String, Kind>, problems: &mut Problems) {
    let known = || hostfs.keys().map(String::as_str);
    for (from, to) in &files.rename {
        let key = format!("files.rename.`{}`", from.escape_debug());
        if !hostfs.contains_key(from) {
            let meant = did_you_mean(from, known());
            problems.add(format!("{key}: `hostfs/` holds no such path{meant}"));
        }
        problems.check(&key, template(to, syntax::path));
    }
    for path in &files.template {
        let shown = path.escape_debug();
        match hostfs.get(path) {
            Some(Kind::File) => {}
            Some(_) => problems.add(format!("files.template: `{shown}` is no regular file")),
            None => {
                let meant = did_you_mean(path, known());
                let problem = format!("files.template: `hostfs/` holds no `{shown}`{meant}");
                problems.add(problem);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::parse;

    fn checked(text: &str) -> Result<()> {
        let hostfs = [
            ("/etc".to_owned(), Kind::Dir),
            ("/etc/etcd.conf".to_owned(), Kind::File),
        ];
        let text = format!("contract = 1\n{text}");
        manifest(&parse::manifest(&text).unwrap(), &hostfs.into())
    }

    const WRONG: [(&str, &str); 34] = [
        (
            "description = \"a\\nb\"",
            "description: must be one line without control characters",
        ),
        (
            "values.a-b = { type = 'path', help = 'x' }",
            "values.a-b: the name may hold only letters, digits and `_`, and may not begin with a digit",
        ),
        (
            "values.state_dir = { type = 'path', help = 'x' }",
            "values.state_dir: the name is a built-in variable's",
        ),
        (
            "values.len = { type = 'path', help = 'x' }",
            "values.len: the name is a word of the template language",
        ),
        (
            "values.X = { type = 'integer', default = '1', help = 'x' }",
            "values.X: default: expected an integer, found a string",
        ),
        (
            "values.X = { type = 'string', default = 1.5, help = 'x' }",
            "values.X: default: expected a string, found a float",
        ),
        (
            "values.X = { type = 'list', default = [1], help = 'x' }",
            "values.X: default: expected a list of strings, found other items in it",
        ),
        (
            "values.X = { type = 'path', default = 'x', help = 'x' }",
            "values.X: default: expected an absolute path without `..`, found `x`",
        ),
        (
            "values.X = { type = 'path', default = '/x', required = true, help = 'x' }",
            "values.X: what is required has no default",
        ),
        (
            "values.X = { type = 'secret', default = 'x', help = 'x' }",
            "values.X: a secret has no default",
        ),
        (
            "container.capabilities = ['NET_ADMIN']",
            "container.capabilities: unknown capability `NET_ADMIN`; did you mean `CAP_NET_ADMIN`?",
        ),
        (
            "container.devices = ['/etc/shadow']",
            "container.devices: expected a path below `/dev`, found `/etc/shadow`",
        ),
        (
            "container.env = { 'a=b' = 'x' }",
            "container.env.a=b: is no name for an environment variable",
        ),
        (
            "container.mounts = [{ source = 'x', target = '{{X}}' }]",
            "container.mounts.source: expected an absolute path without `..`, found `x`",
        ),
        (
            "service.requires = ['a b']",
            "service.requires: role `a b` may hold only letters, digits, `.`, `_` and `-`",
        ),
        (
            "service.before = ['cri.service']",
            "service.before: role `cri.service` ends like a unit; leave the unit type out",
        ),
        (
            "service.watchdog = 'soon'",
            "service.watchdog: expected a span of time such as `30s`, found `soon`",
        ),
        (
            "service.stop_timeout = ''",
            "service.stop_timeout: must not be empty",
        ),
        (
            "service.start_timeout = \"{{X}}\\nUser=0\"",
            "service.start_timeout: must be one line without control characters",
        ),
        (
            "service.stop_signal = 'TERM'",
            "service.stop_signal: unknown signal `TERM`",
        ),
        (
            "service.kill_mode = 'process'",
            "service.kill_mode: nothing outlives a PID namespace: `process` needs container.pid = \"host\"",
        ),
        (
            "service = { kill_mode = 'process', type = 'oneshot' }\ncontainer.pid = 'host'",
            "service.kill_mode: `process` would end the runtime alone: type oneshot has `mixed`",
        ),
        (
            "service.reload = 'SIGHPU'",
            "service.reload: unknown signal `SIGHPU`; did you mean `SIGHUP`?",
        ),
        (
            "service.credentials = ['a/b']",
            "service.credentials: expected a name of letters, digits, `.`, `_` and `-`, found `a/b`",
        ),
        (
            "service.directories.state = ['../etc']",
            "service.directories.state: expected a relative path without `..`, found `../etc`",
        ),
        (
            "service.directories.runtime = [{ name = 'bedplate/x' }]",
            "service.directories.runtime: `bedplate` is bedplate's own directory",
        ),
        (
            "health = { probe = { tcp = 'localhost' } }",
            "health.probe: expected `HOST:PORT`, found `localhost`",
        ),
        (
            "health = { probe = { exec = [] } }",
            "health.probe: must not be empty",
        ),
        (
            "health = { probe = { tcp = '[::1]:80' }, settle = 'x' }",
            "health.settle: expected a span of time such as `30s`, found `x`",
        ),
        (
            "health = { probe = { tcp = 'a:1' }, timeout = 'infinity' }",
            "health.timeout: an update cannot wait for ever",
        ),
        (
            "files.rename = { '/etc/etcd.cnf' = '/etc/x' }",
            "files.rename.`/etc/etcd.cnf`: `hostfs/` holds no such path; did you mean `/etc/etcd.conf`?",
        ),
        (
            "files.rename = { '/etc/etcd.conf' = 'etc/x' }",
            "files.rename.`/etc/etcd.conf`: expected an absolute path without `..`, found `etc/x`",
        ),
        (
            "files.template = ['/etc']",
            "files.template: `/etc` is no regular file",
        ),
        (
            "files.template = ['/x']",
            "files.template: `hostfs/` holds no `/x`",
        ),
    ];

    #[test]
    fn each_problem_names_its_key() {
        for (text, problem) in WRONG {
            assert_eq!(checked(text).unwrap_err().to_string(), problem);
        }
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let text = "service.stop_signal = 'x'\ncontainer.devices = ['x']\n";
        assert_eq!(
            checked(text).unwrap_err().to_string(),
            "2 problems\n  \
             container.devices: expected an absolute path without `..`, found `x`\n  \
             service.stop_signal: unknown signal `x`"
        );
    }

    #[test]
    fn a_sound_manifest_passes() {
        let text = "service.directories = { state = ['etcd'], runtime = [{ name = '{{name}}', shared = true }] }\n\
                    service.requires = ['etcd']\n\
                    service.stop_signal = 'SIGRTMIN+3'\n\
                    service.kill_mode = 'process'\n\
                    container.pid = 'host'\n\
                    container.env = { A = \"x\\ny\" }\n\
                    files = { rename = { '/etc' = '/usr/lib/{{name}}' }, template = ['/etc/etcd.conf'] }\n";
        checked(text).unwrap();
        assert!(RESERVED.is_sorted());
    }
}
