//! Mirrors that are silent, left out of a pull.
//!
//! skopeo tries the mirrors of containers-registries.conf(5) in turn and waits a minute for each that does not answer
//! (two where plain HTTP is allowed), in each of its processes. So they are knocked at first, all at once, for three
//! seconds at most; if one has not answered by then, skopeo gets a registries.conf with one more entry, for this image's
//! repository alone and without that mirror. Every other setting of the host holds, drop-ins included, and the
//! registry itself is always tried last. A mirror that refuses or has no address costs no time and stays.
//!
//! Two remain in use, each with a note: a mirror behind a proxy is not knocked at, for there the proxy would answer; and
//! where a drop-in has an entry for exactly this repository that one would win over ours. skopeo cannot be told of
//! another directory of drop-ins, and looks entries up by the repository's name alone: none is closer than that.
#![expect(
    clippy::disallowed_methods,
    reason = "the settings are those of this host, as skopeo reads them, whatever --root says"
)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use tempfile::NamedTempFile;
use toml::{Table, Value};

use crate::image::knock::{PATIENCE, knock};
use crate::image::proxied::Proxies;
use crate::image::reference::{ImageRef, Transport};
use crate::progress::Report;

/// Where skopeo reads them, below `/etc` and below `~/.config`.
const CONF: &str = "containers/registries.conf";
const CONF_D: &str = "containers/registries.conf.d";

/// The registries.conf that skopeo is to use, if it is not the host's own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Registries(Option<Arc<NamedTempFile>>);

impl Registries {
    /// skopeo's options for it.
    pub(crate) fn args(&self) -> Vec<OsString> {
        self.0
            .iter()
            .flat_map(|file| [OsString::from("--registries-conf"), file.path().into()])
            .collect()
    }
}

/// The host's settings as far as they concern one repository.
struct Found {
    /// The main file, as it is.
    main: Table,
    /// The entry that counts, and its prefix.
    prefix: String,
    entry: Table,
    /// A drop-in has it.
    dropped_in: bool,
}

/// Looks which mirrors of the image's registry answer.
pub(crate) fn without_dead(reference: &ImageRef, report: &Report) -> Registries {
    if reference.transport() != Transport::Docker {
        return Registries::default();
    }
    let name = reference.repository();
    // What cannot be read is skopeo's to complain of.
    let Ok(Some(found)) = find(name) else {
        return Registries::default();
    };
    let pinned = reference.digest().is_some();
    let proxies = Proxies::of_environment();
    let (proxied, near): (Vec<_>, Vec<_>) = used(&found.entry, pinned)
        .into_iter()
        .partition(|(mirror, insecure)| proxies.serve(mirror, *insecure));
    if !proxied.is_empty() {
        report.note(format!(
            "whether {} answers is not known: connections to it go through a proxy",
            listed(proxied.iter().map(|(mirror, _)| mirror))
        ));
    }
    let dead: Vec<_> = knock(&near)
        .into_iter()
        .filter_map(|(mirror, answers)| (!answers).then_some(mirror))
        .collect();
    if dead.is_empty() {
        return Registries::default();
    }
    let listed = listed(&dead);
    let made = if found.dropped_in && found.prefix == name {
        None
    } else {
        write(found, name, &dead).ok()
    };
    let Some(file) = made else {
        report.note(format!(
            "no answer from {listed} within {} s; a drop-in for exactly `{name}` keeps it in use",
            PATIENCE.as_secs()
        ));
        return Registries::default();
    };
    report.note(format!(
        "no answer from {listed} within {} s: left out of this pull",
        PATIENCE.as_secs()
    ));
    Registries(Some(Arc::new(file)))
}

fn listed<'a>(mirrors: impl IntoIterator<Item = &'a String>) -> String {
    let quoted = mirrors.into_iter().map(|mirror| format!("`{mirror}`"));
    quoted.collect::<Vec<_>>().join(", ")
}

/// The entry for a repository; `None` if there is none, or nothing is mirrored at all.
fn find(name: &str) -> Result<Option<Found>> {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
    let own = home
        .as_ref()
        .map(|home| home.join(CONF))
        .filter(|path| path.exists());
    let system = Path::new("/etc");
    let mut dirs = Vec::new();
    // A user's own main file stands for everything of the system's.
    if own.is_none() {
        dirs.push(system.join(CONF_D));
    }
    dirs.extend(home.as_ref().map(|home| home.join(CONF_D)));
    let path = own.unwrap_or_else(|| system.join(CONF));
    let main: Table = match std::fs::read_to_string(&path) {
        Ok(text) => text
            .parse()
            .with_context(|| format!("reading `{}`", path.display()))?,
        Err(_) => Table::new(),
    };
    let mut entries = BTreeMap::new();
    merge(&main, false, &mut entries);
    for dir in dirs {
        for path in drop_ins(&dir) {
            let text = std::fs::read_to_string(&path)?;
            merge(&text.parse()?, true, &mut entries);
        }
    }
    // The longest prefix that fits.
    let fitting = entries
        .into_iter()
        .filter(|(prefix, _)| rest(name, prefix).is_some());
    let best = fitting.max_by_key(|(prefix, _)| prefix.len());
    Ok(best.map(|(prefix, (entry, dropped_in))| Found {
        main,
        prefix,
        entry,
        dropped_in,
    }))
}

fn drop_ins(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    let mut paths: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "conf"))
        .collect();
    paths.sort();
    paths
}

/// Adds a file's entries by prefix, over those of files before it.
fn merge(file: &Table, dropped_in: bool, entries: &mut BTreeMap<String, (Table, bool)>) {
    let registries = file.get("registry").and_then(Value::as_array);
    for entry in registries.into_iter().flatten().filter_map(Value::as_table) {
        let prefix = text(entry, "prefix").or_else(|| text(entry, "location"));
        if let Some(prefix) = prefix {
            entries.insert(prefix.to_owned(), (entry.clone(), dropped_in));
        }
    }
}

fn text<'a>(table: &'a Table, key: &str) -> Option<&'a str> {
    table.get(key)?.as_str().filter(|text| !text.is_empty())
}

fn is_set(table: &Table, key: &str) -> bool {
    table.get(key).and_then(Value::as_bool) == Some(true)
}

/// What follows the prefix in the name of a repository to which it applies.
fn rest<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = match prefix.strip_prefix('*') {
        Some(domain) => {
            let host = name.split('/').next()?;
            &name[host.find(domain)? + domain.len()..]
        }
        None => name.strip_prefix(prefix)?,
    };
    (rest.is_empty() || rest.starts_with(['/', ':'])).then_some(rest)
}

/// The mirrors that would be tried for a tag or a digest: location, and whether plain HTTP is allowed.
fn used(entry: &Table, pinned: bool) -> Vec<(String, bool)> {
    let mirrors = entry.get("mirror").and_then(Value::as_array);
    let mirrors = mirrors.into_iter().flatten().filter_map(Value::as_table);
    mirrors
        .filter(|mirror| {
            let only_digests = is_set(entry, "mirror-by-digest-only");
            match text(mirror, "pull-from-mirror") {
                Some("digest-only") => pinned,
                Some("tag-only") => !pinned,
                _ => pinned || !only_digests,
            }
        })
        .filter_map(|mirror| {
            Some((
                text(mirror, "location")?.to_owned(),
                is_set(mirror, "insecure"),
            ))
        })
        .collect()
}

/// The host's main file with an entry for this repository that lacks the dead mirrors.
fn write(found: Found, name: &str, dead: &[String]) -> Result<NamedTempFile> {
    let Found {
        mut main,
        prefix,
        mut entry,
        ..
    } = found;
    let rest = rest(name, &prefix).unwrap_or_default();
    let location = match text(&entry, "location") {
        Some(location) => format!("{location}{rest}"),
        None => name.to_owned(),
    };
    entry.insert("prefix".to_owned(), Value::from(name));
    entry.insert("location".to_owned(), Value::from(location));
    if let Some(Value::Array(mirrors)) = entry.get_mut("mirror") {
        for mirror in mirrors.iter_mut().filter_map(Value::as_table_mut) {
            let is_dead = text(mirror, "location").is_some_and(|l| dead.iter().any(|d| d == l));
            match text(mirror, "location").map(|location| format!("{location}{rest}")) {
                Some(location) if !is_dead => {
                    mirror.insert("location".to_owned(), Value::from(location))
                }
                _ => mirror.remove("location"),
            };
        }
        mirrors.retain(|mirror| mirror.get("location").is_some());
    }
    let registries = main
        .entry("registry")
        .or_insert_with(|| Value::Array(Vec::new()));
    let registries = registries.as_array_mut().context("`registry` is no list")?;
    registries.retain(|other| {
        other
            .as_table()
            .and_then(|t| text(t, "prefix").or_else(|| text(t, "location")))
            != Some(name)
    });
    registries.push(Value::Table(entry));
    let mut file = tempfile::Builder::new()
        .prefix("bedplate-registries-")
        .suffix(".conf")
        .tempfile()?;
    file.write_all(toml::to_string(&main)?.as_bytes())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_of_a_repository_loses_its_dead_mirrors() {
        let main: Table = r#"
            unqualified-search-registries = ["x.example"]
            [[registry]]
            location = "r.example"
            [[registry]]
            prefix = "r.example/group"
            location = "other.example/g"
            insecure = true
            [[registry.mirror]]
            location = "dead.example"
            [[registry.mirror]]
            location = "live.example/cache"
            pull-from-mirror = "tag-only""#
            .parse()
            .unwrap();
        let mut entries = BTreeMap::new();
        merge(&main, false, &mut entries);
        let (entry, _) = entries.remove("r.example/group").unwrap();
        let locations = |pinned| {
            let used = used(&entry, pinned).into_iter();
            used.map(|(location, _)| location).collect::<Vec<_>>()
        };
        assert_eq!(locations(false), ["dead.example", "live.example/cache"]);
        assert_eq!(locations(true), ["dead.example"]);
        let prefix = "r.example/group".to_owned();
        let found = Found {
            main,
            prefix,
            entry: entry.clone(),
            dropped_in: false,
        };
        let file = write(found, "r.example/group/etcd", &["dead.example".to_owned()]).unwrap();
        let made: Table = std::fs::read_to_string(file.path())
            .unwrap()
            .parse()
            .unwrap();
        assert_eq!(
            made["unqualified-search-registries"][0].as_str(),
            Some("x.example")
        );
        let expected: Table = r#"
            prefix = "r.example/group/etcd"
            location = "other.example/g/etcd"
            insecure = true
            [[mirror]]
            location = "live.example/cache/etcd"
            pull-from-mirror = "tag-only""#
            .parse()
            .unwrap();
        assert_eq!(made["registry"].as_array().unwrap().len(), 3);
        assert_eq!(made["registry"][2].as_table(), Some(&expected));
    }

    #[test]
    fn prefixes_fit_as_containers_image_says() {
        for (prefix, left) in [
            ("r.example", Some("/a/b")),
            ("r.example/a", Some("/b")),
            ("r.example/a/b", Some("")),
            ("r.exam", None),
            ("*.example", Some("/a/b")),
            ("*.other", None),
        ] {
            assert_eq!(rest("r.example/a/b", prefix), left, "{prefix}");
        }
    }
}
