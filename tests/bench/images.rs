//! The images of the benchmark, made once from Debian's packages and kept in the cache of the example images.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use openssl::sha::sha256;

use crate::accounting;
use crate::derive::{self, Codec};
use crate::layout::{self, Layout};
use crate::place;
use crate::registry::Registry;
use crate::scenario::Part;

/// Those that the scenarios need.
#[derive(Debug)]
pub(crate) struct Images {
    made: Vec<(&'static str, Layout)>,
}

/// How each comes to be.
enum Recipe {
    /// A script of the project, with an argument.
    Built(&'static str, Option<&'static str>),
    /// From another one.
    Derived(&'static str, fn(&Layout, &Path) -> Result<()>),
}

use Recipe::{Built, Derived};

/// By tag. `etcd` is the Debian base and etcd on it; the others are what the scenarios install.
const IMAGES: &[(&str, Recipe)] = &[
    ("etcd", Built("examples/etcd/build", None)),
    (
        "etcd:gzip",
        Derived("etcd", |from, to| {
            derive::with_small_layer(from, to, "first")
        }),
    ),
    (
        "etcd:one-layer",
        Derived("etcd", |from, to| {
            derive::with_small_layer(from, to, "second")
        }),
    ),
    (
        "etcd:zstd",
        Derived("etcd:gzip", |from, to| {
            derive::recompressed(from, to, Codec::Zstd)
        }),
    ),
    ("etcd:rebuilt", Derived("etcd:gzip", derive::rebuilt)),
    (
        "small:latest",
        Built("tests/bench/images/build", Some("small")),
    ),
    ("big:latest", Built("tests/bench/images/build", Some("big"))),
];

/// What the layers of the image of big files have together, compressed, at the least.
const BIG: u64 = 400_000_000;

impl Images {
    /// Makes or finds what these scenarios install.
    pub(crate) fn make(parts: &[Part]) -> Result<Self> {
        let mut images = Self { made: Vec::new() };
        for part in parts {
            for tag in part.images() {
                images.need(tag)?;
            }
        }
        Ok(images)
    }

    /// Copies them into a registry.
    pub(crate) fn push(&self, registry: &Registry) -> Result<()> {
        for (tag, layout) in &self.made {
            let (_, layers) = layout.image()?;
            let size: u64 = layers.iter().map(|l| l.size).sum();
            ensure!(
                !tag.starts_with("big:") || size >= BIG,
                "the image {tag} has {size} bytes, and should have {BIG}"
            );
            eprintln!(
                "bench: image {tag}: {} layers, {} MB",
                layers.len(),
                size / 1_000_000
            );
            registry.push(layout, tag)?;
        }
        Ok(())
    }

    /// One that was made.
    pub(crate) fn get(&self, tag: &str) -> Result<&Layout> {
        let found = self.made.iter().find(|(name, _)| *name == tag);
        Ok(&found.with_context(|| format!("no image {tag}"))?.1)
    }

    fn need(&mut self, tag: &str) -> Result<()> {
        if self.get(tag).is_ok() {
            return Ok(());
        }
        let (name, recipe) = IMAGES
            .iter()
            .find(|(name, _)| *name == tag)
            .with_context(|| format!("no recipe of {tag}"))?;
        let layout = match recipe {
            Built(script, argument) => built(script, *argument, tag)?,
            Derived(source, make) => {
                self.need(source)?;
                derived(self.get(source)?, tag, *make)?
            }
        };
        self.made.push((name, layout));
        Ok(())
    }
}

fn built(script: &str, argument: Option<&str>, tag: &str) -> Result<Layout> {
    let output = place::dir().join("images").join(file_name(tag));
    let mut build = Command::new(place::project(script));
    build.args(argument).arg(&output);
    accounting::output(build.env("BEDPLATE_CACHE", place::cache()))?;
    Ok(Layout::at(&output))
}

/// Named by what it is made of and how, so that one that is there is the right one.
fn derived(source: &Layout, tag: &str, make: fn(&Layout, &Path) -> Result<()>) -> Result<Layout> {
    let inputs = format!("{tag} {} {}", source.digest()?, derive::RECIPE);
    let hash = layout::hex(&sha256(inputs.as_bytes())[..6]);
    let dir: PathBuf = place::cache()
        .join("bench-images")
        .join(format!("{}-{hash}", file_name(tag)));
    if !dir.exists() {
        eprintln!("bench: making the image {tag}");
        let new = dir.with_extension(format!("new-{}", std::process::id()));
        make(source, &new).with_context(|| format!("making the image {tag}"))?;
        fs::rename(&new, &dir)?;
    }
    Ok(Layout::at(&dir))
}

fn file_name(tag: &str) -> String {
    tag.replace(':', "-")
}
