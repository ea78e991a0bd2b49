//! What a start of a unit brings along, by the unit files of a root.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use crate::name::UnitName;
use crate::root::{Kind, Root};
use crate::systemd::offline::UNIT_DIRS;
use crate::systemd::wiring::{AFTER, Wiring, assignments};

/// Unit types that need `sysinit.target` unless they say otherwise.
const NEED_SYSINIT: [&str; 4] = ["service", "socket", "timer", "path"];

/// Reads the unit's file and its drop-ins, and the links by which it wants others.
pub(super) fn wiring(root: &Root, unit: &UnitName) -> Result<Wiring> {
    let texts = texts(root, unit)?;
    let mut wiring = Wiring::parse(texts.iter().map(String::as_str));
    for (suffix, directive) in [
        ("wants", "Wants"),
        ("requires", "Requires"),
        ("upholds", "Upholds"),
    ] {
        for dir in UNIT_DIRS {
            let names = root.list(format!("{dir}/{unit}.{suffix}"))?;
            let names = names.iter().filter_map(|name| name.to_str()?.parse().ok());
            wiring.units.extend(names.map(|name| (directive, name)));
        }
    }
    let said: Vec<(String, String)> = texts.iter().flat_map(|text| assignments(text)).collect();
    let default = said.iter().rfind(|(key, _)| key == "DefaultDependencies");
    let default =
        default.is_none_or(|(_, value)| !matches!(value.as_str(), "no" | "false" | "off" | "0"));
    let kind = unit.as_str().rsplit_once('.').map(|(_, kind)| kind);
    if default && !texts.is_empty() && kind.is_some_and(|kind| NEED_SYSINIT.contains(&kind)) {
        requires(&mut wiring, "sysinit.target".parse()?);
    }
    let mounts = said.iter().filter(|(key, _)| key == "RequiresMountsFor");
    for path in mounts.flat_map(|(_, paths)| paths.split_whitespace()) {
        for above in Path::new(path.trim_matches('"')).ancestors() {
            let mount = UnitName::mount(above);
            if let Ok(mount) = mount
                && !texts_of(root, mount.as_str())?.is_empty()
            {
                requires(&mut wiring, mount);
            }
        }
    }
    Ok(wiring)
}

fn requires(wiring: &mut Wiring, unit: UnitName) {
    wiring.units.insert((AFTER, unit.clone()));
    wiring.units.insert(("Requires", unit));
}

/// The unit's file, or its template's, and its drop-ins, in the order in which systemd reads them.
fn texts(root: &Root, unit: &UnitName) -> Result<Vec<String>> {
    let mut names = vec![unit.as_str().to_owned()];
    if let Some((stem, kind)) = unit.as_str().rsplit_once('.') {
        if let Some((template, _)) = stem.split_once('@') {
            names.push(format!("{template}@.{kind}"));
        }
        names.push(kind.to_owned());
    }
    let mut texts = Vec::new();
    for name in &names {
        texts = texts_of(root, name)?;
        if !texts.is_empty() {
            break;
        }
    }
    // Of drop-ins with the same name the strongest directory's counts.
    let mut drop_ins = BTreeMap::new();
    for name in names.iter().rev() {
        for dir in UNIT_DIRS.iter().rev() {
            let dir = format!("{dir}/{name}.d");
            for file in root.list(&dir)? {
                let conf = Path::new(&file)
                    .extension()
                    .is_some_and(|kind| kind == "conf");
                if let Some(text) = root.read(Path::new(&dir).join(&file))?.filter(|_| conf) {
                    drop_ins.insert(file, String::from_utf8_lossy(&text).into_owned());
                }
            }
        }
    }
    texts.extend(drop_ins.into_values());
    Ok(texts)
}

/// The unit file of this name; none of one that is masked.
fn texts_of(root: &Root, name: &str) -> Result<Vec<String>> {
    for dir in UNIT_DIRS {
        let path = format!("{dir}/{name}");
        match root.kind(&path)? {
            None | Some(Kind::Dir | Kind::Other) => {}
            Some(_) => {
                // An empty one masks, as a link to /dev/null does.
                let text = root.read(&path)?.filter(|text| !text.is_empty());
                let text = text.map(|text| String::from_utf8_lossy(&text).into_owned());
                return Ok(text.into_iter().collect());
            }
        }
    }
    Ok(Vec::new())
}
