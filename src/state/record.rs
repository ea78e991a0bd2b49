//! `record.toml`: what a generation is, as later commands need to know it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::manifest::Health;
use crate::contract::parse;
use crate::contract::values::Recorded;
use crate::hint::Hinted;
use crate::host::OwnedFile;
use crate::name::{ContainerName, Generation, UnitName};
use crate::store::composefs::Protection;

/// The record format that this build writes and the newest it reads.
pub const FORMAT: u32 = 1;

/// One generation of an installed container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// The platform it was asked for, such as `linux/amd64`; empty in records of a bedplate that did not write it.
    #[serde(default)]
    pub platform: String,
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
    /// How it is ordered.
    pub order: Order,
    /// The commit of its image in the store; empty in records of a bedplate that did not write it.
    #[serde(default)]
    pub commit: String,
    /// The SHA-256 of each file beside its rootfs, in hexadecimal, by its path in the generation.
    #[serde(default)]
    pub rendered: BTreeMap<String, String>,
    /// Values that somebody set, each with its origin; the others follow the image's defaults.
    #[serde(default)]
    pub values: Recorded,
    /// Files that it brought to the host.
    #[serde(default)]
    pub files: Vec<OwnedFile>,
    /// How an update to it is judged; absent: being ready and staying up is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

/// How a container is ordered: roles and names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
            platform: String::new(),
            runtime: PathBuf::new(),
            contract: 0,
            shape: 0,
            installed: 0,
            units,
            privileges: Vec::new(),
            order: Order::default(),
            commit: String::new(),
            rendered: BTreeMap::new(),
            values: Recorded::default(),
            integrity: Protection::None,
            files: Vec::new(),
            health: None,
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
            return Err(anyhow!(
                "reading `{at}`: it was written by a newer bedplate (format {}, this one knows {FORMAT})",
                format.unwrap_or_default()
            ))
            .hint("install that bedplate again, or a newer one: this one cannot know what is installed");
        }
        parse::document(text).with_context(reading).hint(
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
            platform: "linux/arm64".to_owned(),
            runtime: "/usr/bin/crun".into(),
            contract: 1,
            shape: 1,
            installed: 0,
            units: vec!["etcd.service".parse().unwrap()],
            privileges: vec![],
            order: Order::default(),
            commit: "00".to_owned(),
            rendered: BTreeMap::from([("config.json".to_owned(), "00".to_owned())]),
            values: Recorded::default(),
            integrity: Protection::Verity,
            files: vec![],
            health: None,
        };
        let text = record.to_text().unwrap();
        assert_eq!(Record::parse("x", &text).unwrap(), record);
        // As older ones are.
        let older = text.replace("commit = \"00\"\n", "");
        assert_eq!(Record::parse("x", &older).unwrap().commit, "");
        let newer = text.replace("record = 1", "record = 9");
        assert_eq!(
            Record::parse("x", &newer).unwrap_err().to_string(),
            "reading `x`: it was written by a newer bedplate (format 9, this one knows 1)"
        );
        assert!(Record::parse("x", "record = 1").is_err());
    }
}
