//! The contract read as far as it can be: every error in it, and what of it is of use all the same.

use std::path::Path;

use anyhow::{Context, Error, Result, anyhow};

use crate::contract::exports::{Exports, HostTree};
use crate::contract::manifest::Manifest;
use crate::contract::{Contract, HostContent, check, lenient, target};
use crate::root::Root;

/// The manifest's path in the image.
pub const MANIFEST: &str = "exports/manifest.toml";

/// What was found in `/exports`.
#[derive(Debug, Default)]
pub struct Survey {
    /// The image has an `/exports`.
    pub is_there: bool,
    /// What could be read.
    pub contract: Contract,
    /// Whether the manifest could be read, but for keys that were passed over; its values are known then.
    pub manifest_known: bool,
    /// The text of the manifest.
    pub manifest: String,
    /// What is wrong, each with the file in which.
    pub errors: Vec<(String, Error)>,
}

/// Looks at the image whose root file system lies at `rootfs`. Only `/exports` being no directory is an error.
pub fn take(rootfs: &Path) -> Result<Survey> {
    let root = Root::open(rootfs)?;
    let mut survey = Survey {
        manifest_known: true,
        ..Survey::default()
    };
    let Some(exports) = Exports::open(&root)? else {
        return Ok(survey);
    };
    survey.is_there = true;
    for error in exports.strangers()? {
        survey.add("exports", error);
    }
    let tree = exports.hostfs().unwrap_or_else(|error| {
        survey.add("exports/hostfs", error);
        HostTree::default()
    });
    survey.manifest(&exports, &tree);
    survey.host_files(tree);
    let (templates, errors) = exports.templates();
    survey.contract.templates = templates;
    survey.errors.extend(errors);
    Ok(survey)
}

impl Survey {
    fn add(&mut self, file: &str, error: Error) {
        self.errors.push((file.to_owned(), error));
    }

    fn manifest(&mut self, exports: &Exports<'_>, tree: &HostTree) {
        let reading = "reading `/exports/manifest.toml`";
        let text = match exports.manifest() {
            Ok(Some(text)) => text,
            Ok(None) => return,
            Err(error) => {
                self.manifest_known = false;
                return self.add(MANIFEST, error);
            }
        };
        let (manifest, errors) = lenient::manifest(&text);
        for error in errors {
            self.add(MANIFEST, error.context(reading));
        }
        self.manifest = text;
        self.manifest_known = manifest.is_some();
        let manifest: Manifest = manifest.unwrap_or_default();
        if let Err(error) = check::manifest(&manifest, &tree.kinds) {
            self.add(MANIFEST, error.context(reading));
        }
        self.contract.manifest = manifest;
    }

    fn host_files(&mut self, tree: HostTree) {
        let files = &self.contract.manifest.files;
        let mut host_files = tree.files;
        for file in &mut host_files {
            file.target = target(files, &file.path);
            file.template = files.template.contains(&file.path);
            if let (true, HostContent::File(bytes)) = (file.template, &file.content)
                && std::str::from_utf8(bytes).is_err()
            {
                let path = format!("exports/hostfs{}", file.path);
                let error: Result<()> = Err(anyhow!("it is no UTF-8"));
                let error = error.with_context(|| format!("reading `/{path}`"));
                self.errors.extend(error.err().map(|error| (path, error)));
            }
        }
        self.contract.host_files = host_files;
    }
}
