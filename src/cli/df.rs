//! `bedplate df`.

use anyhow::Result;

use crate::cli::output::Output;
use crate::cli::output::progress::bytes;
use crate::cli::output::table::{or_dash, short, table};
use crate::ops::Host;
use crate::ops::df::{self, ContainerUsage, Outcome};

pub(crate) fn run(host: &Host, output: &Output) -> Result<()> {
    output.show(&df::run(host)?, text)
}

fn text(outcome: &Outcome) -> String {
    let images: Vec<_> = outcome
        .images
        .iter()
        .map(|image| {
            let mut used_by = image.containers.clone();
            used_by.extend(image.kept.then(|| "(kept)".to_owned()));
            [
                or_dash(&image.image),
                short(&image.digest).to_owned(),
                bytes(image.logical),
                bytes(image.shared),
                bytes(image.unique),
                or_dash(&used_by.join(" ")),
            ]
        })
        .collect();
    let containers: Vec<_> = outcome.containers.iter().map(container).collect();
    let disk = &outcome.disk;
    let parts = [
        ("images", disk.images),
        ("containers", disk.containers),
        ("overhead", disk.overhead),
        ("reclaimable", disk.reclaimable),
        ("total", disk.total),
    ];
    let parts = parts.map(|(name, size)| [name.to_owned(), bytes(size)]);
    let mut text = Vec::new();
    if !images.is_empty() {
        let header = ["IMAGE", "DIGEST", "LOGICAL", "SHARED", "UNIQUE", "USED BY"];
        text.push(table(header, &images));
    }
    if !containers.is_empty() {
        let header = ["CONTAINER", "GENERATIONS", "LOGICAL", "SHARED", "UNIQUE"];
        text.push(table(header, &containers));
    }
    text.push(table(["ON DISK", "SIZE"], &parts));
    text.join("\n")
}

fn container(usage: &ContainerUsage) -> [String; 5] {
    [
        usage.name.clone(),
        usage.generations.to_string(),
        bytes(usage.logical),
        bytes(usage.shared),
        bytes(usage.unique),
    ]
}
