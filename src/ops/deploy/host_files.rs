//! What becomes of the files on the host when containers come, go, or change: each is the property of the records
//! that name it. Two may bring the same one; what the operator has changed is theirs, and a new version of it is laid
//! beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use schemars::JsonSchema;
use serde::Serialize;

use crate::contract::values::Values;
use crate::contract::{Contract, HostContent};
use crate::exec::Program;
use crate::hint::Hinted;
use crate::host::{Found, OwnedContent, OwnedFile};
use crate::name::ContainerName;
use crate::ops::Host;
use crate::ops::deploy::Coming;
use crate::render::files::{self, RenderedFile};
use crate::root::{Kind, Root};
use crate::state::{Record, Transaction};

/// What a new version is called that lies beside a file which the operator has changed.
const ASIDE: &str = ".bedplate-new";

/// Everything that lands on the host beside units: the files of `hostfs/`, and the image's tmpfiles.d lines.
pub(crate) fn all(
    name: &ContainerName,
    contract: &Contract,
    values: &Values,
    tmpfiles: Option<&str>,
) -> Result<Vec<RenderedFile>> {
    let mut found = files::host_files(contract, values)?;
    if let Some(lines) = tmpfiles {
        found.push(RenderedFile {
            path: format!("/etc/tmpfiles.d/bedplate-{name}.conf").into(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            content: HostContent::File(lines.as_bytes().to_vec()),
        });
    }
    Ok(found)
}

/// The containers of a change.
pub(crate) struct Sides<'a> {
    /// Live now, and not any more.
    pub(crate) going: &'a [&'a Record],
    /// Live then.
    pub(crate) coming: &'a [Coming<'a>],
    /// Live now and then.
    pub(crate) staying: &'a [&'a Record],
}

/// What becomes of the host's files.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Taken away, in this order, directories only when they are empty.
    remove: Vec<OwnedFile>,
    /// Written, in this order.
    put: Vec<RenderedFile>,
    /// What each of those that come owns then, in their order.
    pub(crate) owned: Vec<Vec<OwnedFile>>,
    /// Kept, because the operator has changed it: the new version beside it, if there is one.
    pub(crate) kept: Vec<Kept>,
}

/// A file that the operator has changed and that stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Kept {
    /// The file.
    pub path: PathBuf,
    /// Where the new version is laid, if the image has one.
    pub new: Option<PathBuf>,
}

/// A host file that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FileChange {
    /// Its path.
    pub path: PathBuf,
    /// Whether it is removed; else it is written.
    pub removed: bool,
}

impl Plan {
    /// Plans; refuses what would take a file from somebody else.
    pub(crate) fn new(root: &Root, sides: &Sides) -> Result<Self> {
        let mut plan = Self::default();
        let mut brought: BTreeMap<&Path, (&ContainerName, &RenderedFile)> = BTreeMap::new();
        for coming in sides.coming {
            let name = &coming.record.name;
            let mut owned = Vec::new();
            for file in coming.host_files {
                plan.directories(root, sides, file, &mut owned)?;
                match brought.insert(&file.path, (name, file)) {
                    Some((other, known)) if *known != *file => {
                        return Err(clash_in_set(name, other, &file.path));
                    }
                    Some(_) => owned.extend(owned_as(file)),
                    None => plan.file(root, sides, (name, file), &mut owned)?,
                }
            }
            plan.owned.push(owned);
        }
        let all: Vec<_> = sides.coming.iter().flat_map(|c| c.host_files).collect();
        refuse_nested(&all, &brought)?;
        plan.leave(root, sides)?;
        Ok(plan)
    }

    /// The directories above a file, and it if it is one: those that are made for it, or were for another container.
    /// Any other that is there is the operator's.
    fn directories(
        &self,
        root: &Root,
        sides: &Sides,
        file: &RenderedFile,
        owned: &mut Vec<OwnedFile>,
    ) -> Result<()> {
        let is_dir = file.content == HostContent::Dir;
        let mut dirs: Vec<&Path> = file.path.ancestors().skip(usize::from(!is_dir)).collect();
        // The root itself is always there.
        dirs.pop();
        for dir in dirs.into_iter().rev() {
            let mine = |owned: &[OwnedFile]| owned.iter().any(|f| f.path == dir);
            let shared = || {
                sides
                    .owners(dir)
                    .any(|f| matches!(f.content, OwnedContent::Dir(_)))
            };
            let known = self.owned.iter().any(|owned| mine(owned)) || shared();
            if !mine(owned) && (known || root.kind(dir)?.is_none()) {
                let mode = if dir == file.path { file.mode } else { 0o755 };
                owned.push(OwnedFile {
                    path: dir.to_owned(),
                    content: OwnedContent::Dir(mode),
                    aside: false,
                });
            }
        }
        Ok(())
    }

    /// One file of a container that comes.
    fn file(
        &mut self,
        root: &Root,
        sides: &Sides,
        (name, file): (&ContainerName, &RenderedFile),
        owned: &mut Vec<OwnedFile>,
    ) -> Result<()> {
        refuse_forbidden(root, name, file)?;
        let Some(new) = owned_as(file) else {
            if root.kind(&file.path)?.is_some() && root.leads_to_dir(&file.path)? != Some(true) {
                return Err(clash(name, &file.path));
            }
            self.put.push(file.clone());
            return Ok(());
        };
        for other in sides.staying {
            let theirs = other.files.iter().find(|f| f.path == file.path);
            if theirs.is_some_and(|theirs| theirs.content != new.content) {
                return Err(clash_with(name, &other.name, &file.path));
            }
        }
        let owners: Vec<_> = sides.owners(&file.path).collect();
        match new.look(root)? {
            Found::Absent => self.put.push(file.clone()),
            _ if owners.is_empty() => return Err(clash(name, &file.path)),
            Found::Unchanged => {
                if !same_attributes(root, file)? {
                    self.put.push(file.clone());
                }
            }
            Found::Changed => {
                let mut ours = false;
                for owner in &owners {
                    ours |= owner.look(root)? == Found::Unchanged;
                }
                if ours {
                    self.put.push(file.clone());
                } else {
                    self.aside(root, sides, (file, &new), owned)?;
                }
            }
        }
        owned.push(new);
        Ok(())
    }

    /// Keeps what the operator has changed, and lays a version beside it that they have not seen.
    fn aside(
        &mut self,
        root: &Root,
        sides: &Sides,
        (file, new): (&RenderedFile, &OwnedFile),
        owned: &mut Vec<OwnedFile>,
    ) -> Result<()> {
        let is_kept = |coming: &Coming| coming.kept && coming.host_files.contains(file);
        if sides.coming.iter().any(is_kept) {
            // Its record knows of nothing that is laid beside: what is there of the one that goes, goes.
            self.kept.push(Kept {
                path: file.path.clone(),
                new: None,
            });
            return Ok(());
        }
        let mut path = file.path.clone().into_os_string();
        path.push(ASIDE);
        let aside = RenderedFile {
            path: path.into(),
            ..file.clone()
        };
        let laid = OwnedFile {
            path: aside.path.clone(),
            content: new.content.clone(),
            aside: true,
        };
        let seen = sides.owners(&file.path).any(|f| f.content == new.content);
        let before: Vec<_> = sides.owners(&aside.path).collect();
        if seen {
            if before.iter().any(|f| f.content == laid.content) {
                owned.push(laid);
            }
            return Ok(());
        }
        let mut free = root.kind(&aside.path)?.is_none();
        for laid in &before {
            free |= laid.look(root)? == Found::Unchanged;
        }
        if free {
            self.put.push(aside.clone());
            owned.push(laid);
        }
        self.kept.push(Kept {
            path: file.path.clone(),
            new: free.then_some(aside.path),
        });
        Ok(())
    }

    /// What those that go leave and nobody else has.
    fn leave(&mut self, root: &Root, sides: &Sides) -> Result<()> {
        let mut staying: BTreeSet<&Path> = sides
            .staying
            .iter()
            .flat_map(|record| record.files.iter().map(|file| file.path.as_path()))
            .collect();
        staying.extend(self.owned.iter().flatten().map(|f| f.path.as_path()));
        let mut seen = BTreeSet::new();
        let (mut remove, mut kept): (Vec<OwnedFile>, Vec<Kept>) = (Vec::new(), Vec::new());
        for file in sides
            .going
            .iter()
            .flat_map(|record| record.files.iter().rev())
        {
            if staying.contains(file.path.as_path()) || !seen.insert(file.path.clone()) {
                continue;
            }
            match file.look(root)? {
                Found::Absent => {}
                Found::Changed => kept.push(Kept {
                    path: file.path.clone(),
                    new: None,
                }),
                Found::Unchanged => remove.push(file.clone()),
            }
        }
        // Directories last, the innermost first: others of the set may have had files in them.
        let (mut dirs, files): (Vec<OwnedFile>, _) = remove
            .into_iter()
            .partition(|file| matches!(file.content, OwnedContent::Dir(_)));
        dirs.sort_by(|a, b| b.path.cmp(&a.path));
        self.remove = files;
        self.remove.extend(dirs);
        self.kept.extend(kept);
        Ok(())
    }

    /// The files that change, for people; directories aside.
    pub(crate) fn changes(&self) -> Vec<FileChange> {
        let is_dir = |file: &OwnedFile| matches!(file.content, OwnedContent::Dir(_));
        let removed = self.remove.iter().filter(|file| !is_dir(file));
        let removed = removed.map(|file| (&file.path, true));
        let put = self.put.iter().filter(|f| f.content != HostContent::Dir);
        let put = put.map(|file| (&file.path, false));
        let change = |(path, removed): (&PathBuf, bool)| FileChange {
            path: path.clone(),
            removed,
        };
        removed.chain(put).map(change).collect()
    }

    /// Carries it out. Lines of tmpfiles.d take effect at once on a running host.
    pub(crate) fn apply(&self, host: &Host, transaction: &mut Transaction) -> Result<()> {
        for file in &self.remove {
            match file.content {
                // Only when nothing of the operator's lies in it.
                OwnedContent::Dir(_) => transaction.remove_dir(&file.path)?,
                _ => transaction.remove(&file.path)?,
            }
        }
        for file in &self.put {
            match &file.content {
                HostContent::File(content) => transaction.write(&file.path, content, file.mode)?,
                HostContent::Link(target) => transaction.link(&file.path, target)?,
                // One that is there keeps its owner and its mode.
                HostContent::Dir if host.root.kind(&file.path)?.is_some() => continue,
                HostContent::Dir => transaction.make_dir(&file.path, file.mode)?,
            }
            if file.uid != 0 || file.gid != 0 {
                transaction.own(&file.path, file.uid, file.gid)?;
            }
        }
        let lines = self.put.iter().map(|file| &file.path);
        for path in lines.filter(|path| path.starts_with("/etc/tmpfiles.d")) {
            if host.systemd.is_running() && path.extension().is_some_and(|kind| kind == "conf") {
                Program::new("systemd-tmpfiles")
                    .arg("--create")
                    .arg(path)
                    .run()?;
            }
        }
        Ok(())
    }
}

impl Sides<'_> {
    /// What the records that are live now have at a path.
    fn owners(&self, path: &Path) -> impl Iterator<Item = &OwnedFile> {
        let records = self.going.iter().chain(self.staying);
        let files = records.flat_map(|record| &record.files);
        files.filter(move |file| file.path == path)
    }
}

/// A file or link as the record keeps it.
fn owned_as(file: &RenderedFile) -> Option<OwnedFile> {
    let content = match &file.content {
        HostContent::File(content) => OwnedContent::of_file(content),
        HostContent::Link(target) => OwnedContent::Link(target.clone()),
        HostContent::Dir => return None,
    };
    Some(OwnedFile {
        path: file.path.clone(),
        content,
        aside: false,
    })
}

/// Whether a file that is there has the mode and the owner that it is to have.
fn same_attributes(root: &Root, file: &RenderedFile) -> Result<bool> {
    let mode = root.kind(&file.path)? == Some(Kind::Link) || root.mode(&file.path)? == file.mode;
    Ok(mode && root.owner(&file.path)? == (file.uid, file.gid))
}

fn clash(name: &ContainerName, path: &Path) -> anyhow::Error {
    let found: Result<()> = Err(anyhow!(
        "installing `{name}`: the host file `{}` exists already and is not its own",
        path.display()
    ));
    hinted(found, "move that file away first, if nothing else needs it")
}

fn clash_in_set(name: &ContainerName, other: &ContainerName, path: &Path) -> anyhow::Error {
    let found = Err(anyhow!(
        "installing `{name}`: `{other}` of the same set brings another host file `{}`",
        path.display()
    ));
    hinted(found, "leave one of them out")
}

fn clash_with(name: &ContainerName, other: &ContainerName, path: &Path) -> anyhow::Error {
    let found = Err(anyhow!(
        "installing `{name}`: `{other}` has brought another host file `{}`",
        path.display()
    ));
    let hint =
        "they share it: bring both to versions that agree in one command, or leave one of them out";
    hinted(found, hint)
}

fn hinted(found: Result<()>, hint: &str) -> anyhow::Error {
    match found.hint(hint) {
        Err(error) => error,
        Ok(()) => anyhow!("nothing clashes"),
    }
}

/// Refuses a host file that a link of the host leads where no image may put one.
fn refuse_forbidden(root: &Root, name: &ContainerName, file: &RenderedFile) -> Result<()> {
    let real = root.real(&file.path)?;
    let Some(base) = real.to_str().and_then(files::forbidden) else {
        return Ok(());
    };
    Err(anyhow!(
        "installing `{name}`: the host file `{}` would lie in `{base}`, where no image may put one",
        file.path.display()
    ))
    .hint(format!("on this host it leads to `{}`", real.display()))
}

/// Refuses a host file below one of another image of the set: through a link it would lie where nobody looked.
fn refuse_nested(
    all: &[&RenderedFile],
    brought: &BTreeMap<&Path, (&ContainerName, &RenderedFile)>,
) -> Result<()> {
    for outer in all.iter().filter(|file| file.content != HostContent::Dir) {
        let inner = brought
            .iter()
            .find(|(path, _)| **path != outer.path && path.starts_with(&outer.path));
        if let Some((path, (name, _))) = inner {
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
