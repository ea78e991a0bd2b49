//! `hold`, `unhold`, `pin`, `unpin`: what the operator wants left as it is.

use anyhow::{Context, Result, anyhow};
use schemars::JsonSchema;
use serde::Serialize;

use crate::deployment;
use crate::hint::Hinted;
use crate::name::{ContainerName, Generation};
use crate::ops::Host;
use crate::state::{self, Lifecycle};

/// Containers that are held, or not any more.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Held {
    /// The containers.
    pub names: Vec<ContainerName>,
    /// No update touches them.
    pub held: bool,
    /// Those that it was so for already.
    pub unchanged: Vec<ContainerName>,
}

/// Lets no update touch the containers; without `reason` any may again.
pub fn hold(host: &Host, names: &[ContainerName], reason: Option<&str>) -> Result<Held> {
    let verb = if reason.is_some() { "hold" } else { "unhold" };
    let _lock = host.write_lock(verb)?;
    for name in names {
        state::require(host.root, name)?;
    }
    let mut unchanged = Vec::new();
    for name in names {
        let mut life = Lifecycle::read(host.root, name)?;
        if life.held.as_deref() == reason {
            unchanged.push(name.clone());
            continue;
        }
        life.held = reason.map(str::to_owned);
        life.write(host.root, name)
            .with_context(|| format!("changing whether `{name}` is held"))?;
    }
    Ok(Held {
        names: names.to_vec(),
        held: reason.is_some(),
        unchanged,
    })
}

/// A generation that is pinned, or not any more.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Pinned {
    /// The container.
    pub name: ContainerName,
    /// The generation.
    pub generation: Generation,
    /// `prune` leaves it.
    pub pinned: bool,
    /// It was so already.
    pub unchanged: bool,
}

/// Keeps a generation from being pruned, by default the live one, or no longer.
pub fn pin(
    host: &Host,
    name: &ContainerName,
    generation: Option<Generation>,
    pinned: bool,
) -> Result<Pinned> {
    let verb = if pinned { "pin" } else { "unpin" };
    let _lock = host.write_lock(verb)?;
    let record = state::require(host.root, name)?;
    let generation = generation.unwrap_or(record.generation);
    if !deployment::generations(host.root, name)?.contains(&generation) {
        return Err(anyhow!(
            "generation {generation} of `{name}` is not on disk"
        ))
        .hint(format!("`bedplate history {name}` shows which are"));
    }
    let unchanged = deployment::is_pinned(host.root, name, generation)? == pinned;
    if !unchanged {
        deployment::pin(host.root, name, generation, pinned)?;
    }
    Ok(Pinned {
        name: name.clone(),
        generation,
        pinned,
        unchanged,
    })
}
