//! What was rendered for a container, compared with its record: the generation's files, the live units, the host files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::deployment;
use crate::host::{self, Found, OwnedFile};
use crate::name::{ContainerName, UnitName};
use crate::ops::Host;
use crate::ops::ordering::{self, UNIT_DIR};
use crate::ops::verify::subject::Subject;
use crate::ops::verify::{Fault, Thing};
use crate::root::Kind;
use crate::state::Record;
use crate::store::object::Meta;
use crate::store::verify::defect::{self, Defect, Finding};
use crate::systemd::links::LINKS;

/// A rendered file that is not as it was written.
#[derive(Debug)]
pub(crate) struct BadFile {
    /// The subject that it belongs to, by number.
    pub(crate) subject: usize,
    /// Where it lies.
    pub(crate) path: PathBuf,
    pub(crate) finding: Finding,
    pub(crate) which: Which,
}

/// What kind of file it is.
#[derive(Debug, Clone)]
pub(crate) enum Which {
    /// A generation's, by its path in it.
    Generation(String),
    /// A live unit.
    Unit(UnitName),
    /// A host file of the record.
    Host(OwnedFile),
}

impl Which {
    /// The permission bits of it, which is root's; `None` where the image's word decides, or the operator's.
    pub(crate) fn mode(&self) -> Option<u32> {
        match self {
            Self::Generation(file) => deployment::mode(file),
            Self::Unit(_) => Some(0o644),
            Self::Host(_) => None,
        }
    }
}

impl BadFile {
    /// Whether its content is as it was written.
    pub(crate) fn is_itself(&self) -> bool {
        let mut defects = self.finding.defects.iter();
        defects.all(|defect| matches!(defect, Defect::Owner | Defect::Mode))
    }

    pub(crate) fn fault(&self, subject: &Subject) -> Fault {
        let thing = match self.which {
            Which::Generation(_) => Thing::Generation,
            Which::Unit(_) => Thing::Unit,
            Which::Host(_) => Thing::HostFile,
        };
        let name = self.path.display().to_string();
        Fault::new(thing, name, &self.finding, vec![subject.place("")])
    }
}

/// Compares all of a generation's files; `notes` hears of the operator's changes.
pub(crate) fn check(
    host: &Host,
    (at, subject): (usize, &Subject),
    notes: &mut Vec<String>,
) -> Result<Vec<BadFile>> {
    let mut found = Vec::new();
    let record = &subject.record;
    let mut bad = |path: PathBuf, finding, which| {
        found.push(BadFile {
            subject: at,
            path,
            finding,
            which,
        });
    };
    let dir = deployment::dir(&record.name, record.generation);
    for (file, sum) in expected(record) {
        let path = dir.join(&file);
        let which = Which::Generation(file);
        if let Some(finding) = compare(host, &path, sum.as_deref(), &which)? {
            bad(path, finding, which);
        }
    }
    if !subject.live {
        return Ok(found);
    }
    for unit in &record.units {
        let path = Path::new(UNIT_DIR).join(unit.as_str());
        let sum = unit_sum(host, record, unit)?;
        let which = Which::Unit(unit.clone());
        if let Some(finding) = compare(host, &path, sum.as_deref(), &which)? {
            bad(path, finding, which);
        }
        notes.extend(overridden(host, unit)?);
    }
    for file in &record.files {
        match file.look(host.root)? {
            Found::Unchanged => {}
            Found::Changed => notes.push(format!(
                "{}, a host file of `{}`, was changed by the operator",
                file.path.display(),
                record.name
            )),
            // The operator has looked at it.
            Found::Absent if file.aside => {}
            Found::Absent => {
                let finding = Finding::new(Defect::Missing, "");
                bad(file.path.clone(), finding, Which::Host(file.clone()));
            }
        }
    }
    Ok(found)
}

/// The files of a generation with their checksums; an older record knows only which there are.
fn expected(record: &Record) -> BTreeMap<String, Option<String>> {
    if record.rendered.is_empty() {
        let units = record.units.iter().map(|unit| format!("units/{unit}"));
        let files = ["config.json", "launch.json"]
            .map(str::to_owned)
            .into_iter();
        return files.chain(units).map(|file| (file, None)).collect();
    }
    let known = record.rendered.iter();
    known.map(|(f, s)| (f.clone(), Some(s.clone()))).collect()
}

/// What a live unit must be: what the record says, or an older record's generation has.
fn unit_sum(host: &Host, record: &Record, unit: &UnitName) -> Result<Option<String>> {
    let file = format!("units/{unit}");
    if let Some(sum) = record.rendered.get(&file) {
        return Ok(Some(sum.clone()));
    }
    let path = deployment::dir(&record.name, record.generation).join(file);
    let text = host.root.read(path)?;
    Ok(text.map(|text| host::checksum(&text)))
}

fn compare(host: &Host, path: &Path, sum: Option<&str>, which: &Which) -> Result<Option<Finding>> {
    let root = host.root;
    let content = match root.kind(path)? {
        None => return Ok(Some(Finding::new(Defect::Missing, ""))),
        Some(Kind::File) => root.read(path)?.unwrap_or_default(),
        Some(_) => return Ok(Some(Finding::new(Defect::Type, "no file"))),
    };
    let mut finding = Finding::default();
    if let Some(mode) = which.mode() {
        let (Ok((uid, gid)), Ok(found)) = (root.owner(path), root.mode(path)) else {
            // It has gone meanwhile.
            return Ok(Some(Finding::new(Defect::Missing, "")));
        };
        let found = Meta::plain(uid, gid, found);
        finding = defect::compare(&found, &Meta::plain(0, 0, mode));
    }
    if sum.is_some_and(|sum| host::checksum(&content) != sum) {
        match content.len() {
            0 => finding.add(Defect::Truncated, "it is empty"),
            _ => finding.add(Defect::Content, "it is not what was installed"),
        }
    }
    Ok((!finding.defects.is_empty()).then_some(finding))
}

/// What `systemctl edit --full` and `systemctl mask` make stands above our unit.
fn overridden(host: &Host, unit: &UnitName) -> Result<Option<String>> {
    let path = Path::new(LINKS).join(unit.as_str());
    Ok(match host.root.kind(&path)? {
        Some(Kind::File) => Some(format!(
            "{unit} is the operator's: {} stands above it",
            path.display()
        )),
        Some(Kind::Link)
            if host.root.link_target(&path)?.as_deref() == Some("/dev/null".as_ref()) =>
        {
            Some(format!("{unit} is masked by the operator"))
        }
        _ => None,
    })
}

/// The order drop-ins that are not what the installed set asks for.
pub(crate) type Order = BTreeMap<PathBuf, Option<String>>;

/// Compares the drop-ins with the graph; only those of the named containers' units, if there are names.
pub(crate) fn order(host: &Host, records: &[Record], names: &[ContainerName]) -> Result<Order> {
    let graph = ordering::installed(host, records)?;
    let mut changes = ordering::changes(host, &graph)?;
    changes.retain(|path, _| names.is_empty() || owner(path).is_some_and(|n| names.contains(&n)));
    Ok(changes)
}

/// The container whose unit a drop-in is for.
pub(crate) fn owner(drop_in: &Path) -> Option<ContainerName> {
    let dir = drop_in.parent()?.file_name()?.to_str()?;
    dir.strip_suffix(".service.d")?.parse().ok()
}
