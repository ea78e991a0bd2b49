//! Which generations go: all but the current one, the one before it, those that are pinned or that a unit names, and
//! those that a process still uses.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use schemars::JsonSchema;
use serde::Serialize;

use crate::deployment::{self, CONTAINERS};
use crate::host::processes::{self, Process};
use crate::name::{ContainerName, Generation};
use crate::ops::ordering::UNIT_DIR;
use crate::root::{Gone, Kind, Root};
use crate::state::{self, Lifecycle};
use crate::store::prune::Count;
use crate::systemd::links::LINKS;

/// Where units of ours lie, or what the operator made of them with `systemctl edit --full`.
const UNIT_DIRS: [&str; 3] = [UNIT_DIR, LINKS, "/run/systemd/system"];

/// A generation that goes.
#[derive(Debug, Serialize, JsonSchema)]
pub struct GoneGeneration {
    /// The container.
    pub container: ContainerName,
    /// Its generation.
    pub generation: Generation,
    /// Bytes on disk that this frees.
    pub bytes: u64,
}

/// A generation that stays because it is in use.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Held {
    /// The container.
    pub container: ContainerName,
    /// Its generation.
    pub generation: Generation,
    /// The first process found that uses it.
    pub process: Process,
}

/// The generations on disk, parted.
pub(super) struct Generations {
    /// Manifest digests of the images that those which stay were made from.
    pub(super) images: BTreeSet<String>,
    pub(super) gone: Vec<GoneGeneration>,
    pub(super) held: Vec<Held>,
}

type Id = (ContainerName, Generation);

impl Generations {
    pub(super) fn find(root: &Root, gone: &mut Gone) -> Result<Self> {
        let units = unit_texts(root)?;
        let (mut stay, mut doubtful): (Vec<Id>, Vec<Id>) = (Vec::new(), Vec::new());
        for name in deployment::containers(root)? {
            let all = deployment::generations(root, &name)?;
            let current = deployment::current(root, &name)?;
            let previous = previous(root, &name, &all)?;
            for generation in all {
                let wanted = [current, previous].contains(&Some(generation))
                    || deployment::is_pinned(root, &name, generation)?
                    || is_named(&units, &deployment::dir(&name, generation));
                let list = if wanted { &mut stay } else { &mut doubtful };
                list.push((name.clone(), generation));
            }
        }
        let dirs: Vec<PathBuf> = doubtful.iter().map(dir).collect();
        let users = processes::users(root, &dirs).context("looking for who uses a generation")?;
        let mut found = Self {
            images: BTreeSet::new(),
            gone: Vec::new(),
            held: Vec::new(),
        };
        for (id, users) in doubtful.into_iter().zip(users) {
            let (container, generation) = id.clone();
            if let Some(process) = users.into_iter().next() {
                stay.push(id);
                found.held.push(Held {
                    container,
                    generation,
                    process,
                });
            } else {
                let mut bytes = 0;
                root.walk(dir(&id), &mut |_, link| bytes += gone.add(link))?;
                found.gone.push(GoneGeneration {
                    container,
                    generation,
                    bytes,
                });
            }
        }
        for name in deployment::containers(root)? {
            // What was downloaded waits for its update.
            found
                .images
                .extend(Lifecycle::read(root, &name)?.downloaded);
        }
        for (name, generation) in &stay {
            let record = state::record(root, name, *generation)?;
            found.images.insert(record.manifest_digest);
        }
        Ok(found)
    }
}

fn dir((name, generation): &Id) -> PathBuf {
    deployment::dir(name, *generation)
}

/// The generation to go back to: the one before the current one, or after a rollback the one after it.
fn previous(root: &Root, name: &ContainerName, all: &[Generation]) -> Result<Option<Generation>> {
    let Some(live) = deployment::current(root, name)? else {
        return Ok(None);
    };
    let older = Lifecycle::read(root, name)?.previous(root, (name, live))?;
    let newer = all.iter().find(|generation| **generation > live);
    Ok(older.or(newer.copied()))
}

/// The texts of the live units. `current` is for people: what a unit names is live, whatever became of that link.
fn unit_texts(root: &Root) -> Result<Vec<Vec<u8>>> {
    let mut texts = Vec::new();
    for dir in UNIT_DIRS {
        for name in root.list(dir)? {
            let path = Path::new(dir).join(name);
            if root.kind(&path)? == Some(Kind::File) {
                texts.extend(root.read(&path)?);
            }
        }
    }
    Ok(texts)
}

fn is_named(units: &[Vec<u8>], dir: &Path) -> bool {
    let dir = dir.as_os_str().as_encoded_bytes();
    let names = |text: &Vec<u8>| {
        let mut windows = text.windows(dir.len()).enumerate();
        // Generation 1 is not 10.
        windows.any(|(at, window)| {
            window == dir && !text.get(at + dir.len()).is_some_and(u8::is_ascii_digit)
        })
    };
    units.iter().any(names)
}

/// What commands that were cut short left where the containers lie.
#[derive(Default)]
pub(super) struct Leftovers {
    pub(super) paths: Vec<(PathBuf, Kind)>,
    pub(super) count: Count,
}

impl Generations {
    /// Links being pointed, and the directories of containers in which nothing stays.
    pub(super) fn leftovers(&self, root: &Root, gone: &mut Gone) -> Result<Leftovers> {
        let mut found = Leftovers::default();
        for container in deployment::containers(root)? {
            let dir = Path::new(CONTAINERS).join(container.as_str());
            if root.kind(&dir)? != Some(Kind::Dir) {
                continue;
            }
            let mut empty = true;
            for name in root.list(&dir)? {
                let name = name.to_string_lossy();
                if name.starts_with('.') && name.ends_with(".bedplate-tmp") {
                    add(root, dir.join(&*name), gone, &mut found)?;
                } else {
                    let goes = |gone: &GoneGeneration| {
                        gone.container == container && gone.generation.to_string() == name
                    };
                    empty &= self.gone.iter().any(goes);
                }
            }
            if empty {
                add(root, dir, gone, &mut found)?;
            }
        }
        Ok(found)
    }
}

fn add(root: &Root, path: PathBuf, gone: &mut Gone, found: &mut Leftovers) -> Result<()> {
    if let Some(link) = root.link_at(&path)? {
        found.count.add(gone.add(&link));
        found.paths.push((path, link.kind));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generation_to_go_back_to() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let name: ContainerName = "etcd".parse().unwrap();
        let number = |number: u32| Generation::try_from(number).unwrap();
        for (all, current, expected) in [
            (vec![1, 2, 3], Some(3), Some(2)),
            (vec![1, 3], Some(3), Some(1)),
            (vec![1, 2, 3], Some(1), Some(2)),
            (vec![1], Some(1), None),
            (vec![1, 2], None::<u32>, None),
        ] {
            let all: Vec<_> = all.into_iter().map(number).collect();
            let container = deployment::container_dir(&name);
            root.remove_tree(&container).unwrap();
            for generation in &all {
                let dir = deployment::dir(&name, *generation);
                root.create_dir_all(dir, 0o755).unwrap();
            }
            if let Some(current) = current {
                let target = current.to_string();
                root.point(container.join("current"), Path::new(&target))
                    .unwrap();
            }
            let found = previous(&root, &name, &all).unwrap();
            assert_eq!(found, expected.map(number), "{all:?} {current:?}");
        }
    }

    #[test]
    fn a_unit_names_its_generation() {
        let unit = b"ExecStart=/x /var/lib/bedplate/containers/a/12\n".to_vec();
        let dir = |number: &str| Path::new("/var/lib/bedplate/containers/a").join(number);
        let named =
            ["1", "12", "2"].map(|number| is_named(std::slice::from_ref(&unit), &dir(number)));
        assert_eq!(named, [false, true, false]);
    }
}
