//! What each image takes: as its files are, and on disk, alone and together with other images.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::root::Link;
use crate::store::object::Kind;
use crate::store::reach::Reached;
use crate::store::survey::{Image, Survey};

/// What an image takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ImageUsage {
    /// As it was last asked for.
    pub image: String,
    /// Of the manifest.
    pub digest: String,
    /// Whether it was pulled to be kept.
    pub kept: bool,
    /// The containers that were installed from it.
    pub containers: Vec<String>,
    /// Bytes of content of its files, each name counted: what it would take without a store.
    pub logical: u64,
    /// Bytes on disk that other images need as well.
    pub shared: u64,
    /// Bytes on disk that it alone needs, its layers included.
    pub unique: u64,
}

impl Survey<'_> {
    /// What each image takes, by reference. `containers` are those that were installed from a manifest digest.
    pub fn images(&self, containers: &BTreeMap<String, Vec<String>>) -> Vec<ImageUsage> {
        let layers = self.layers.iter();
        let layers: BTreeMap<&str, &Reached> =
            layers.map(|l| (l.diff_id.as_str(), &l.reached)).collect();
        let needs: Vec<Vec<bool>> = self
            .images
            .iter()
            .map(|image| self.needs(image, &layers))
            .collect();
        let mut users = vec![0_u32; self.objects.all().len()];
        for needs in &needs {
            for (users, needed) in users.iter_mut().zip(needs) {
                *users += u32::from(*needed);
            }
        }
        let mut usages: Vec<ImageUsage> = Vec::new();
        for (image, needs) in self.images.iter().zip(&needs) {
            let mut usage = ImageUsage {
                image: image.reference.clone(),
                digest: image.digest.clone(),
                kept: image.kept,
                containers: containers.get(&image.digest).cloned().unwrap_or_default(),
                logical: image.reached.size,
                shared: 0,
                unique: 0,
            };
            for (((_, link), users), _) in self
                .objects
                .all()
                .iter()
                .zip(&users)
                .zip(needs)
                .filter(|(_, needed)| **needed)
            {
                *(if *users > 1 {
                    &mut usage.shared
                } else {
                    &mut usage.unique
                }) += link.disk;
            }
            usages.push(usage);
        }
        usages.sort_by(|a, b| (&a.image, &a.digest).cmp(&(&b.image, &b.digest)));
        usages
    }

    /// Bytes of content of an image's files, each name counted.
    pub fn size_of(&self, digest: &str) -> u64 {
        let image = self.images.iter().find(|image| image.digest == digest);
        image.map_or(0, |image| image.reached.size)
    }

    /// The files of an image's tree.
    pub fn files_of(&self, digest: &str) -> impl Iterator<Item = &Link> {
        let image = self.images.iter().find(|image| image.digest == digest);
        let marks = image.into_iter().flat_map(|image| &image.reached.marks);
        let objects = self.objects.all().iter().zip(marks);
        objects
            .filter_map(|((name, link), mark)| (*mark && name.kind == Kind::File).then_some(link))
    }

    /// The objects of an image and of its layers.
    fn needs(&self, image: &Image, layers: &BTreeMap<&str, &Reached>) -> Vec<bool> {
        let mut needs = vec![false; self.objects.all().len()];
        let own = image.layers.iter().flatten();
        let own = own.filter_map(|diff_id| layers.get(diff_id.as_str()));
        for reached in own.chain([&&image.reached]) {
            for (needed, mark) in needs.iter_mut().zip(&reached.marks) {
                *needed |= mark;
            }
        }
        needs
    }
}
