//! What is measured: each tool in turn, each time with a fresh store in a fresh directory.
//!
//! Nothing is deleted on the way: on ext4 that would be paid for by the next run. All is synced before
//! each measured step, so that nobody pays for what another tool left dirty.

use anyhow::{Result, bail};

use crate::accounting;
use crate::downtime;
use crate::images::Images;
use crate::place;
use crate::registry::Registry;
use crate::report::Sample;
use crate::rows::Row;
use crate::tools::{Store, Tool, Wanted};

/// One comparison.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    tools: &'static [Tool],
    /// The image that is installed.
    image: &'static str,
    /// What is in the store before that, installed by the same tool and not measured.
    before: Option<&'static str>,
}

use Tool::{Bedplate, Containerd, Floor, Podman, Skopeo, Umoci};

const ALL: &[Tool] = &[Bedplate, Podman, Containerd, Umoci, Floor];
/// Debian 12's umoci knows no zstd.
const ZSTD: &[Tool] = &[Bedplate, Podman, Containerd, Floor];

/// Those that are not about installing.
const START: &str = "start";
const DOWNTIME: &str = "downtime";

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    /// How an image is installed.
    Install(Scenario),
    /// How a container starts.
    Start,
    /// How long one is away while it is updated.
    Downtime,
}

/// All of the first kind.
const SCENARIOS: &[Scenario] = &[
    scenario("cold-gzip", ALL, "etcd:gzip", None),
    scenario("cold-zstd", ZSTD, "etcd:zstd", None),
    scenario("update-rebuilt", ALL, "etcd:rebuilt", Some("etcd:gzip")),
    scenario("update-one-layer", ALL, "etcd:one-layer", Some("etcd:gzip")),
    scenario(
        "noop",
        &[Bedplate, Podman, Containerd, Skopeo],
        "etcd:gzip",
        Some("etcd:gzip"),
    ),
    scenario("cold-small", ALL, "small:latest", None),
    scenario("cold-big", ALL, "big:latest", None),
];

const fn scenario(
    name: &'static str,
    tools: &'static [Tool],
    image: &'static str,
    before: Option<&'static str>,
) -> Scenario {
    Scenario {
        name,
        tools,
        image,
        before,
    }
}

/// Those that a list with commas between them names; all without one.
pub(crate) fn wanted(list: Option<&str>) -> Result<Vec<Part>> {
    let all = SCENARIOS.iter().copied().map(Part::Install);
    let all: Vec<Part> = all.chain([Part::Start, Part::Downtime]).collect();
    let Some(list) = list.filter(|l| !l.is_empty()) else {
        return Ok(all);
    };
    let mut found = Vec::new();
    for name in list.split(',').map(str::trim) {
        let Some(part) = all.iter().find(|part| part.name() == name) else {
            let known: Vec<&str> = all.iter().map(Part::name).collect();
            bail!("no scenario `{name}`; there are {}", known.join(", "));
        };
        found.push(*part);
    }
    Ok(found)
}

impl Part {
    fn name(&self) -> &'static str {
        match self {
            Self::Install(scenario) => scenario.name,
            Self::Start => START,
            Self::Downtime => DOWNTIME,
        }
    }

    /// The images that it needs.
    pub(crate) fn images(&self) -> Vec<&'static str> {
        match self {
            Self::Install(scenario) => scenario.images().collect(),
            Self::Start => Vec::new(),
            Self::Downtime => downtime::IMAGES.into(),
        }
    }
}

impl Scenario {
    /// The images that it needs.
    pub(crate) fn images(&self) -> impl Iterator<Item = &'static str> {
        self.before.into_iter().chain([self.image])
    }

    /// Runs each tool so often, in turn; a row for each.
    pub(crate) fn run(
        &self,
        images: &Images,
        registry: &Registry,
        runs: usize,
    ) -> Result<Vec<Row>> {
        place::room(self.space(images, runs)?)?;
        let mut samples = vec![Vec::new(); self.tools.len()];
        // Whoever comes first finds programs and blobs in memory like the others.
        for &tool in self.tools {
            self.sample(tool, registry, &format!("{}-warm-up", tool.name()))?;
        }
        for round in 0..runs {
            for turn in 0..self.tools.len() {
                let index = (round + turn) % self.tools.len();
                let tool = self.tools[index];
                let sample = self.sample(tool, registry, &format!("{}-{round}", tool.name()))?;
                eprintln!("bench: {} {}: {sample}", self.name, tool.name());
                samples[index].push(sample);
            }
        }
        let rows = self.tools.iter().zip(&samples);
        Ok(rows
            .map(|(tool, samples)| Row::new(self.name, tool.name(), samples))
            .collect())
    }

    /// How much disk it may need: a tool keeps up to seven times what it fetches.
    fn space(&self, images: &Images, runs: usize) -> Result<u64> {
        let mut fetched = 0;
        for tag in self.images() {
            let (_, layers) = images.get(tag)?.image()?;
            fetched += layers.iter().map(|layer| layer.size).sum::<u64>();
        }
        let times = u64::try_from(self.tools.len() * (runs + 1))?;
        Ok(fetched * 7 * times)
    }

    fn sample(&self, tool: Tool, registry: &Registry, name: &str) -> Result<Sample> {
        let store = Store::new(tool, place::stores(self.name).join(name))?;
        let mut wanted = Wanted {
            name: registry.name(self.image),
            container: "first",
            known: None,
        };
        let mut disk = 0;
        if let Some(before) = self.before {
            if tool != Skopeo {
                store.install(&Wanted {
                    name: registry.name(before),
                    ..wanted.clone()
                })?;
            }
            if before != self.image {
                wanted.container = "second";
            }
            wanted.known = Some(registry.name(before));
            place::sync()?;
            disk = accounting::disk(store.dir())?;
        }
        place::sync()?;
        let blobs = registry.blobs()?;
        let cost = store.install(&wanted)?;
        let blobs = registry.blobs()? - blobs;
        place::sync()?;
        let disk = accounting::disk(store.dir())?.saturating_sub(disk);
        Ok(Sample { cost, disk, blobs })
    }
}
