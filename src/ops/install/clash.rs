//! Clashes with the host, and within the set: what is there already and not the container's own.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, anyhow};

use crate::contract::HostContent;
use crate::hint::Hinted;
use crate::name::ContainerName;
use crate::ops::Host;
use crate::ops::install::plan::unit_path;
use crate::ops::install::prepare::Prepared;
use crate::render::files::{self, RenderedFile};

/// Refuses units, host files and directories that are there already and not the container's own, and what two images
/// of the set both bring.
pub(super) fn refuse(host: &Host, news: &[&Prepared]) -> Result<()> {
    let mut brought: BTreeMap<&Path, &ContainerName> = BTreeMap::new();
    for prepared in news {
        refuse_units(host, prepared)?;
        refuse_directories(host, prepared)?;
        let name = &prepared.record.name;
        for file in &prepared.host_files {
            refuse_file(host, name, file)?;
            let dir = file.content == HostContent::Dir;
            if let Some(other) = brought.insert(&file.path, name).filter(|_| !dir) {
                return Err(anyhow!(
                    "installing `{name}`: `{other}` of the same set brings the host file `{}` too",
                    file.path.display()
                ))
                .hint("leave one of them out");
            }
        }
    }
    refuse_nested(news, &brought)
}

/// Refuses a unit of the container's that the host has.
fn refuse_units(host: &Host, prepared: &Prepared) -> Result<()> {
    let name = &prepared.record.name;
    for (unit, _) in prepared.units() {
        let state = host.systemd.state(unit)?;
        if state.load == "masked" {
            return Err(anyhow!("installing `{name}`: the unit {unit} is masked"))
                .hint(format!("`systemctl unmask {unit}` first"));
        }
        let path = unit_path(unit);
        let there = match (state.load.as_str(), host.root.kind(&path)?) {
            (_, Some(_)) => path.display().to_string(),
            ("not-found", None) => continue,
            _ => state.fragment,
        };
        let there = if there.is_empty() {
            "this host".to_owned()
        } else {
            format!("`{there}`")
        };
        return Err(anyhow!(
            "installing `{name}`: the unit {unit} exists already ({there}) and is not bedplate's"
        ))
        .hint("choose another `--name`, or remove that unit first");
    }
    Ok(())
}

/// Refuses a host file that is there already, or that a link of the host leads where no image may put one.
fn refuse_file(host: &Host, name: &ContainerName, file: &RenderedFile) -> Result<()> {
    let path = file.path.display();
    let real = host.root.real(&file.path)?;
    if let Some(base) = real.to_str().and_then(files::forbidden) {
        return Err(anyhow!(
            "installing `{name}`: the host file `{path}` would lie in `{base}`, where no image may put one"
        ))
        .hint(format!("on this host it leads to `{}`", real.display()));
    }
    let clash = if file.content == HostContent::Dir {
        host.root.kind(&file.path)?.is_some() && host.root.leads_to_dir(&file.path)? != Some(true)
    } else {
        host.root.kind(&file.path)?.is_some()
    };
    if clash {
        return Err(anyhow!(
            "installing `{name}`: the host file `{path}` exists already and is not its own"
        ))
        .hint("move that file away first, if nothing else needs it");
    }
    Ok(())
}

/// Refuses a host file below one of another image of the set: through a link it would lie where nobody looked.
fn refuse_nested(news: &[&Prepared], brought: &BTreeMap<&Path, &ContainerName>) -> Result<()> {
    let all = news.iter().flat_map(|prepared| &prepared.host_files);
    for outer in all.filter(|file| file.content != HostContent::Dir) {
        let inner = brought
            .iter()
            .find(|(path, _)| **path != outer.path && path.starts_with(&outer.path));
        if let Some((path, name)) = inner {
            return Err(anyhow!(
                "installing `{name}`: the host file `{}` lies in `{}`, which the same set brings and is no directory",
                path.display(),
                outer.path.display()
            ))
            .hint("leave one of them out");
        }
    }
    Ok(())
}

/// Refuses a directory of the manifest that belongs to another user: the launcher would give it to the payload, with
/// the data of whatever service it is.
fn refuse_directories(host: &Host, prepared: &Prepared) -> Result<()> {
    let name = &prepared.record.name;
    let payload = prepared.uid();
    for path in &prepared.rendered.launch.own {
        if host.root.kind(path)?.is_none() {
            continue;
        }
        let (owner, _) = host.root.owner(path)?;
        if owner != payload && !host.root.list(path)?.is_empty() {
            let path = path.display();
            return Err(anyhow!(
                "installing `{name}`: the directory `{path}` holds files of user {owner}, and the payload is user {payload}"
            ))
            .hint(format!(
                "if they are its own: `chown --recursive {payload} {path}`; if not, another `--name` or value may \
                 lead elsewhere"
            ));
        }
    }
    Ok(())
}
