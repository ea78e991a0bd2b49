//! Clashes with the host: units and directories that are there already and not the container's own.

use std::path::Path;

use anyhow::{Result, anyhow};

use crate::hint::Hinted;
use crate::ops::Host;
use crate::ops::deploy::{Coming, unit_path};
use crate::state::Record;

/// Refuses units and directories that are there already and belong to somebody else than the container, whose
/// record until now is among `going`.
pub(crate) fn refuse(host: &Host, coming: &[Coming], going: &[&Record]) -> Result<()> {
    for record in going {
        refuse_overridden(host, record)?;
    }
    for one in coming {
        refuse_units(host, one, going)?;
        refuse_directories(host, one)?;
    }
    Ok(())
}

/// Refuses where the operator has put a unit above ours, as `systemctl edit --full` does: it names the generation of
/// then, and would run that whatever is done here.
fn refuse_overridden(host: &Host, record: &Record) -> Result<()> {
    for unit in &record.units {
        let state = host.systemd.state(unit)?;
        let ours = unit_path(unit);
        let is_ours = state.fragment.is_empty() || Path::new(&state.fragment) == ours;
        if state.load == "loaded" && !is_ours {
            let (name, path) = (&record.name, &state.fragment);
            return Err(anyhow!(
                "`{name}` would stay as it is: the operator's `{path}` stands above bedplate's {unit}"
            ))
            .hint(format!(
                "`systemctl revert {unit}` removes it; what it changes can go into a drop-in: `systemctl edit {unit}`"
            ));
        }
    }
    Ok(())
}

/// Refuses a unit of the container's that the host has.
fn refuse_units(host: &Host, coming: &Coming, going: &[&Record]) -> Result<()> {
    let name = &coming.record.name;
    for (unit, _) in coming.units {
        if going.iter().any(|record| record.units.contains(unit)) {
            continue;
        }
        let state = host.systemd.state(unit)?;
        if state.load == "masked" {
            return Err(anyhow!("installing `{name}`: the unit {unit} is masked"))
                .hint(format!("`systemctl unmask {unit}` first"));
        }
        let path = unit_path(unit);
        let there = match (state.load.as_str(), host.root.kind(&path)?) {
            (_, Some(_)) => path.display().to_string(),
            ("not-found", None) => continue,
            // A generation's mount that a process has kept is known by its path alone.
            _ if unit.is_mount() && state.fragment.is_empty() => continue,
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

/// Refuses a directory of the manifest that belongs to another user: the launcher would give it to the payload, with
/// the data of whatever service it is.
fn refuse_directories(host: &Host, coming: &Coming) -> Result<()> {
    let name = &coming.record.name;
    let (payload, directories) = coming.gives;
    for path in directories {
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
