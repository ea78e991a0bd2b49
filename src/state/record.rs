//! `record.toml`: what a generation is, as later commands need to know it.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::contract::values::Recorded;
use crate::hint::Hinted;
use crate::host::OwnedFile;
use crate::name::{ContainerName, Generation, UnitName};
use crate::store::composefs::Protection;

/// The record format that this build writes and the newest it reads.
pub const FORMAT: u32 = 1;

/// One generation of an installed container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The format of this file, [`FORMAT`].
    pub record: u32,
    /// The container.
    pub name: ContainerName,
    /// Its generation.
    pub generation: Generation,
    /// `Description=` of its unit.
    pub description: String,
    /// The reference it was installed by.
    pub image: String,
    /// Digest of what the reference named: an index, or the manifest itself.
    pub index_digest: String,
    /// Digest of the manifest of this host's platform.
    pub manifest_digest: String,
    /// The OCI runtime, an absolute path.
    pub runtime: PathBuf,
    /// The image's contract version; 0 for an image without one.
    pub contract: u32,
    /// The number of the unit's shape.
    pub shape: u32,
    /// When it was installed: seconds since 1970-01-01 00:00 UTC.
    pub installed: i64,
    /// Its units, the service first.
    pub units: Vec<UnitName>,
    /// What it asks for beyond the safe default, for people.
    pub privileges: Vec<String>,
    /// What keeps its files from changing.
    #[serde(default)]
    pub integrity: Protection,
    /// The SHA-256 of `tree.erofs`, for a generation that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree_sha256: Option<String>,
    /// How it is ordered.
    pub order: Order,
    /// Values that somebody set, each with its origin; the others follow the image's defaults.
    #[serde(default)]
    pub values: Recorded,
    /// Files that it brought to the host.
    #[serde(default)]
    pub files: Vec<OwnedFile>,
}

/// How a container is ordered: roles and names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Roles it provides beside its name.
    pub provides: Vec<String>,
    /// What must be ready first, and is pulled in.
    pub requires: Vec<String>,
    /// What it starts after.
    pub after: Vec<String>,
    /// What it starts before.
    pub before: Vec<String>,
    /// Starts before basic.target.
    pub early: bool,
}

impl Record {
    /// Its units in the order in which they are stopped: nothing is unmounted that a service still uses.
    pub fn units_to_stop(&self) -> impl Iterator<Item = &UnitName> {
        let reversed = self.units.iter().rev();
        let others = reversed.clone().filter(|unit| !unit.is_mount());
        others.chain(reversed.filter(|unit| unit.is_mount()))
    }

    /// The units that mount its rootfs, in the order in which they are started.
    pub fn mounts(&self) -> impl Iterator<Item = &UnitName> {
        self.units.iter().filter(|unit| unit.is_mount())
    }

    /// The record as text.
    pub fn to_text(&self) -> Result<String> {
        toml::to_string(self).with_context(|| format!("writing the record of `{}`", self.name))
    }

    /// What can be known of a container whose record cannot be read: enough to take its units away.
    pub(crate) fn salvaged(
        name: ContainerName,
        generation: Generation,
        units: Vec<UnitName>,
    ) -> Self {
        Self {
            record: FORMAT,
            name,
            generation,
            description: String::new(),
            image: String::new(),
            index_digest: String::new(),
            manifest_digest: String::new(),
            runtime: PathBuf::new(),
            contract: 0,
            shape: 0,
            installed: 0,
            units,
            privileges: Vec::new(),
            order: Order::default(),
            values: Recorded::default(),
            integrity: Protection::None,
            tree_sha256: None,
            files: Vec::new(),
        }
    }

    /// Whether the text says that it is of a format newer than this build's.
    pub(crate) fn is_newer(text: &str) -> bool {
        let table = text.parse::<toml::Table>().ok();
        let format = table.and_then(|table| table.get("record")?.as_integer());
        format.is_some_and(|found| found > i64::from(FORMAT))
    }

    /// Reads a record; `at` names it in errors.
    pub fn parse(at: &str, text: &str) -> Result<Self> {
        let reading = || format!("reading `{at}`");
        let table: toml::Table = text.parse().with_context(reading)?;
        let format = table.get("record").and_then(toml::Value::as_integer);
        if format.is_some_and(|found| found > i64::from(FORMAT)) {
            bail!(
                "reading `{at}`: it was written by a newer bedplate (format {}, this one knows {FORMAT})",
                format.unwrap_or_default()
            );
        }
        toml::from_str(text).with_context(reading).hint(
            "the record is damaged: uninstall the container and install it again; \
                 its data is not touched by that",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_the_disk() {
        let record = Record {
            record: FORMAT,
            name: "etcd".parse().unwrap(),
            generation: Generation::FIRST,
            description: "Store".to_owned(),
            image: "oci:/x:latest".to_owned(),
            index_digest: "sha256:1".to_owned(),
            manifest_digest: "sha256:1".to_owned(),
            runtime: "/usr/bin/crun".into(),
            contract: 1,
            shape: 1,
            installed: 0,
            units: vec!["etcd.service".parse().unwrap()],
            privileges: vec![],
            order: Order::default(),
            values: Recorded::default(),
            integrity: Protection::Verity,
            tree_sha256: Some("00".to_owned()),
            files: vec![],
        };
        let text = record.to_text().unwrap();
        assert_eq!(Record::parse("x", &text).unwrap(), record);
        let newer = text.replace("record = 1", "record = 9");
        assert_eq!(
            Record::parse("x", &newer).unwrap_err().to_string(),
            "reading `x`: it was written by a newer bedplate (format 9, this one knows 1)"
        );
        assert!(Record::parse("x", "record = 1").is_err());
    }
}
