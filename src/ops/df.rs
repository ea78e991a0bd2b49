//! `df`: what images and containers take, and what all of it takes on disk, as du(1) counts it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use anyhow::{Result, anyhow};
use schemars::JsonSchema;
use serde::Serialize;

use crate::deployment::{self, CONTAINERS, STAGING, TREE};
use crate::name::{ContainerName, Generation};
use crate::ops::Host;
use crate::ops::prune::Plan;
use crate::root::{Gone, Inode, Kind, Link, Root};
use crate::state::{self, DIR};
use crate::store::survey::Survey;
use crate::store::usage::ImageUsage;

/// What there is, and what it takes.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Outcome {
    /// The images in the store, by reference.
    pub images: Vec<ImageUsage>,
    /// The containers, by name.
    pub containers: Vec<ContainerUsage>,
    /// Bytes on disk.
    pub disk: Disk,
}

/// What a container takes.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct ContainerUsage {
    /// Its name.
    pub name: String,
    /// How many generations of it there are.
    pub generations: usize,
    /// Bytes of content of all its files, each name counted: what it would take without a store.
    pub logical: u64,
    /// Bytes on disk that other containers use as well.
    pub shared: u64,
    /// Bytes on disk that it alone uses.
    pub unique: u64,
}

/// Bytes on disk: each inode counts once, in the first of these that it belongs to.
#[derive(Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Disk {
    /// What nobody needs: `bedplate prune` frees it. What a command at work has not finished counts here as well.
    pub reclaimable: u64,
    /// Files and directories of images, which containers share.
    pub images: u64,
    /// What generations have beside that: directories, rendered files.
    pub containers: u64,
    /// The directories of the store, refs, records of transactions.
    pub overhead: u64,
    /// All of it: `du --summarize /var/lib/bedplate`.
    pub total: u64,
}

/// Measures. Everything is looked at once, the objects a second time, by another thread.
pub fn run(host: &Host) -> Result<Outcome> {
    let root = host.root;
    let (survey, found) = std::thread::scope(|scope| {
        let found = scope.spawn(|| Found::walk(root));
        let survey = Survey::take(root);
        (survey, found.join())
    });
    let (survey, found) = (
        survey?,
        found.map_err(|_| anyhow!("the thread that looks at the files ended early"))??,
    );
    let gone = match Plan::new(root, &survey) {
        Ok(plan) => plan.gone,
        Err(error) => {
            let unknown = "what could be reclaimed is not known";
            host.report.note(format!("{unknown}: {error:#}"));
            Gone::default()
        }
    };
    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in state::visible(root, &|text| host.report.note(text))? {
        let names = users.entry(record.manifest_digest).or_default();
        names.push(record.name.to_string());
    }
    Ok(Outcome {
        images: survey.images(&users),
        containers: found.containers(root, &survey)?,
        disk: found.disk(&survey, &gone),
    })
}

/// Every name below [`DIR`], and to whom it belongs.
#[derive(Default)]
struct Found {
    containers: Vec<String>,
    links: Vec<(Owner, Link)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// By its number.
    Container(usize),
    /// Being prepared, or left of that.
    Staging,
    Nobody,
}

impl Found {
    fn walk(root: &Root) -> Result<Self> {
        let containers = Path::new(CONTAINERS).strip_prefix(DIR)?;
        let staging = Path::new(STAGING).strip_prefix(DIR)?;
        let mut found = Self::default();
        root.walk(DIR, &mut |path, link| {
            let owner = match path.strip_prefix(containers).map(Path::iter) {
                Ok(mut below) => match below.next() {
                    Some(name) => found.container(&name.to_string_lossy()),
                    None => Owner::Nobody,
                },
                Err(_) if path.starts_with(staging) => Owner::Staging,
                Err(_) => Owner::Nobody,
            };
            found.links.push((owner, *link));
        })?;
        Ok(found)
    }

    fn container(&mut self, name: &str) -> Owner {
        // All names of one come together.
        if self.containers.last().is_none_or(|last| last != name) {
            self.containers.push(name.to_owned());
        }
        Owner::Container(self.containers.len() - 1)
    }

    /// What each container takes, by name.
    fn containers(&self, root: &Root, survey: &Survey) -> Result<Vec<ContainerUsage>> {
        let mut usages = Vec::new();
        let mut users: HashMap<Inode, (Vec<usize>, u64)> = HashMap::new();
        let mut uses = |number: usize, link: &Link| {
            let (users, _) = users.entry(link.inode).or_insert((Vec::new(), link.disk));
            if users.last() != Some(&number) {
                users.push(number);
            }
        };
        let mut links = self.links.iter().peekable();
        for (number, text) in self.containers.iter().enumerate() {
            let mut usage = ContainerUsage::default();
            text.clone_into(&mut usage.name);
            let of_it = |(owner, _): &&(Owner, Link)| *owner == Owner::Container(number);
            while links.peek().is_some_and(|link| !of_it(link)) {
                links.next();
            }
            while let Some((_, link)) = links.next_if(of_it) {
                if link.kind != Kind::Dir {
                    usage.logical += link.size;
                }
                uses(number, link);
            }
            if let Ok(name) = text.parse::<ContainerName>() {
                let generations = deployment::generations(root, &name)?;
                usage.generations = generations.len();
                for generation in generations {
                    let Some(digest) = tree_of(root, &name, generation)? else {
                        continue;
                    };
                    usage.logical += survey.size_of(&digest);
                    survey.files_of(&digest).for_each(|link| uses(number, link));
                }
            }
            usages.push(usage);
        }
        share(&mut usages, users.into_values());
        // What else lies there is no container, but counts in total.
        usages.retain(|usage| usage.name.parse::<ContainerName>().is_ok());
        usages.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(usages)
    }

    fn disk(&self, survey: &Survey, gone: &Gone) -> Disk {
        let objects: HashSet<Inode> = survey.links().map(|link| link.inode).collect();
        let leftovers: HashSet<Inode> = survey.leftovers().map(|link| link.inode).collect();
        let (mut disk, mut seen) = (Disk::default(), HashSet::new());
        for (owner, link) in &self.links {
            if !seen.insert(link.inode) {
                continue;
            }
            disk.total += link.disk;
            let part = if gone.frees(link) {
                &mut disk.reclaimable
            } else if objects.contains(&link.inode) {
                &mut disk.images
            } else if *owner == Owner::Staging || leftovers.contains(&link.inode) {
                &mut disk.reclaimable
            } else if let Owner::Container(_) = owner {
                &mut disk.containers
            } else {
                &mut disk.overhead
            };
            *part += link.disk;
        }
        disk
    }
}

/// The image that the generation's tree refers to, if that is no directory of links.
fn tree_of(root: &Root, name: &ContainerName, generation: Generation) -> Result<Option<String>> {
    if root
        .kind(deployment::dir(name, generation).join(TREE))?
        .is_none()
    {
        return Ok(None);
    }
    // A damaged record is told of elsewhere.
    let record = state::record(root, name, generation).ok();
    Ok(record.map(|record| record.manifest_digest))
}

/// Parts the bytes of each inode: its one user's, or shared by its users.
fn share(usages: &mut [ContainerUsage], inodes: impl Iterator<Item = (Vec<usize>, u64)>) {
    for (users, disk) in inodes {
        for user in &users {
            if let Some(usage) = usages.get_mut(*user) {
                *(if users.len() > 1 {
                    &mut usage.shared
                } else {
                    &mut usage.unique
                }) += disk;
            }
        }
    }
}
