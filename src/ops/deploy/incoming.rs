//! What a container becomes: a generation that has just been prepared, or one that is kept on disk.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};

use crate::deployment;
use crate::hint::Hinted;
use crate::host::OwnedContent;
use crate::name::{ContainerName, Generation, UnitName};
use crate::ops::deploy::{Coming, Prepared};
use crate::render::files::RenderedFile;
use crate::root::{Kind, Root};
use crate::state::{self, Record};

/// A generation that is to be live.
pub(crate) enum Incoming {
    /// It is to be staged first.
    New(Box<Prepared>),
    /// It lies on disk.
    Kept(Box<Kept>),
}

/// A generation on disk.
pub(crate) struct Kept {
    record: Record,
    units: Vec<(UnitName, String)>,
    host_files: Vec<RenderedFile>,
    config_json: String,
}

const NO_DIRECTORIES: &[PathBuf] = &[];

impl Incoming {
    /// A generation that lies on disk, complete.
    pub(crate) fn kept(root: &Root, name: &ContainerName, generation: Generation) -> Result<Self> {
        let reading = || format!("reading generation {generation} of `{name}`");
        let dir = deployment::dir(name, generation);
        let record = state::record(root, name, generation).with_context(reading)?;
        let rootfs = dir.join("rootfs");
        if root.kind(&rootfs)? != Some(Kind::Dir) {
            return Err(anyhow!("its rootfs `{}` is gone", rootfs.display()))
                .with_context(reading)
                .hint(format!("`bedplate repair {name}` brings it back"));
        }
        let text = |file: &str| -> Result<String> {
            let text = root.read_text(dir.join(file))?;
            text.ok_or_else(|| anyhow!("its `{file}` is gone"))
                .with_context(reading)
                .hint(format!("`bedplate repair {name}` brings it back"))
        };
        let host_files = deployment::host_files(root, name, generation).with_context(reading)?;
        for file in record.files.iter().filter(|file| !file.aside) {
            let is_dir = matches!(file.content, OwnedContent::Dir(_));
            if !is_dir && !host_files.iter().any(|kept| kept.path == file.path) {
                return Err(anyhow!("its copy of `{}` is gone", file.path.display()))
                    .with_context(reading)
                    .hint(format!("`bedplate repair {name}` brings it back"));
            }
        }
        let units = record.units.iter();
        let units = units.map(|unit| Ok((unit.clone(), text(&format!("units/{unit}"))?)));
        Ok(Self::Kept(Box::new(Kept {
            units: units.collect::<Result<_>>()?,
            host_files,
            config_json: text("config.json")?,
            record,
        })))
    }

    /// It, as far as the host is concerned.
    pub(crate) fn coming(&self) -> Coming<'_> {
        match self {
            Self::New(prepared) => prepared.coming(),
            Self::Kept(kept) => Coming {
                record: &kept.record,
                units: &kept.units,
                host_files: &kept.host_files,
                // They were its own once.
                gives: (0, NO_DIRECTORIES),
                kept: true,
            },
        }
    }

    /// Its record.
    pub(crate) fn record(&self) -> &Record {
        self.coming().record
    }

    /// Its config.json.
    pub(crate) fn config_json(&self) -> Result<String> {
        match self {
            Self::New(prepared) => prepared.config_json(),
            Self::Kept(kept) => Ok(kept.config_json.clone()),
        }
    }

    /// What the operator should know.
    pub(crate) fn notes(&self) -> Vec<String> {
        match self {
            Self::New(prepared) => prepared.notes(),
            Self::Kept(_) => Vec::new(),
        }
    }
}
