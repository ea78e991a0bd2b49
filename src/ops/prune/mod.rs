//! `prune`: removes what no image kept, no generation and no running process needs.
//!
//! Generations first, then images and layers, then the objects that only they reached: cut short anywhere, what is
//! left is whole, and the rest goes next time. All of it under the writers' lock, from the survey on.

mod generations;

use anyhow::Result;
use schemars::JsonSchema;
use serde::Serialize;

use crate::deployment;
use crate::ops::Host;
use crate::ops::changes::Change;
use crate::root::{Gone, Kind, Root};
use crate::store::prune::{Count, GoneImage, GoneLayer, Unneeded};
use crate::store::survey::Survey;

use crate::ops::prune::generations::{Generations, Leftovers};
pub use crate::ops::prune::generations::{GoneGeneration, Held};

/// What is asked for.
#[derive(Debug)]
pub struct Request {
    /// Say what would go and how much that frees; remove nothing.
    pub dry_run: bool,
}

/// What went, and how much that freed: each thing's bytes are those that no other thing above it in this list
/// accounts for.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct Outcome {
    /// Nothing was removed: this is what would go.
    pub dry_run: bool,
    /// Generations.
    pub generations: Vec<GoneGeneration>,
    /// Images.
    pub images: Vec<GoneImage>,
    /// Layers.
    pub layers: Vec<GoneLayer>,
    /// Objects that no image and no layer needed.
    pub loose_objects: Count,
    /// What commands that were cut short left.
    pub temporary: Count,
    /// Bytes on disk, all together.
    pub freed: u64,
    /// Generations that would go, were they not in use.
    pub in_use: Vec<Held>,
}

/// Prunes.
pub fn run(host: &Host, request: &Request) -> Result<Outcome> {
    let Some(_lock) = host.lock_if_used("prune")? else {
        return Ok(Outcome {
            dry_run: request.dry_run,
            ..Outcome::default()
        });
    };
    host.report.step("looking for what nobody needs");
    let survey = Survey::take(host.root)?;
    let plan = Plan::new(host.root, &survey)?;
    if !request.dry_run {
        plan.remove(host, &survey)?;
    }
    let outcome = plan.outcome(request.dry_run);
    if outcome.freed > 0 && !request.dry_run {
        let freed = outcome.freed;
        host.changed("prune", &Change::Pruned { freed });
    }
    Ok(outcome)
}

/// What is to go.
pub(super) struct Plan {
    pub(super) gone: Gone,
    generations: Generations,
    unneeded: Unneeded,
    leftovers: Leftovers,
}

impl Plan {
    /// Decides; nothing is changed.
    pub(super) fn new(root: &Root, survey: &Survey) -> Result<Self> {
        let mut gone = Gone::default();
        let generations = Generations::find(root, &mut gone)?;
        let unneeded = survey.unneeded(&generations.images, &mut gone)?;
        let leftovers = generations.leftovers(root, &mut gone)?;
        Ok(Self {
            gone,
            generations,
            unneeded,
            leftovers,
        })
    }

    fn remove(&self, host: &Host, survey: &Survey) -> Result<()> {
        for gone in &self.generations.gone {
            let (name, generation) = (&gone.container, gone.generation);
            host.report
                .step(format!("removing generation {generation} of {name}"));
            deployment::remove(host.root, name, generation)?;
            host.changed("prune", &Change::GenerationRemoved { name, generation });
        }
        host.root.remove_tree(deployment::STAGING)?;
        if !self.unneeded.is_nothing() {
            host.report.step("removing from the store");
        }
        survey.remove(&self.unneeded)?;
        for GoneImage { image, digest, .. } in &self.unneeded.images {
            host.changed("prune", &Change::ImageRemoved { image, digest });
        }
        for (path, kind) in &self.leftovers.paths {
            match kind {
                Kind::Dir => host.root.remove_empty_dir(path)?,
                _ => host.root.remove_file(path)?,
            };
        }
        Ok(())
    }

    fn outcome(self, dry_run: bool) -> Outcome {
        let Self {
            generations,
            unneeded,
            leftovers,
            ..
        } = self;
        let mut outcome = Outcome {
            dry_run,
            generations: generations.gone,
            images: unneeded.images,
            layers: unneeded.layers,
            loose_objects: unneeded.loose,
            temporary: unneeded.temporary,
            freed: 0,
            in_use: generations.held,
        };
        outcome.temporary.count += leftovers.count.count;
        outcome.temporary.bytes += leftovers.count.bytes;
        outcome.freed = outcome.generations.iter().map(|g| g.bytes).sum::<u64>()
            + outcome.images.iter().map(|i| i.bytes).sum::<u64>()
            + outcome.layers.iter().map(|l| l.bytes).sum::<u64>()
            + outcome.loose_objects.bytes
            + outcome.temporary.bytes;
        outcome
    }
}
