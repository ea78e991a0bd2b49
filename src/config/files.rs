//! Which files of settings count.
//!
//! The main file is the first of `/etc/bedplate/bedplate.toml`, `/run/…`, `/usr/lib/…`; over it come the drop-ins
//! `bedplate.conf.d/*.conf` of all three, by file name; of equal names the first directory's counts. One that is
//! empty, or a link to `/dev/null`, masks the others.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Result;
use schemars::JsonSchema;
use serde::Serialize;

use crate::root::{Kind, Root};

/// Where settings lie, strongest first.
const DIRS: [&str; 3] = ["/etc/bedplate", "/run/bedplate", "/usr/lib/bedplate"];
const FILE: &str = "bedplate.toml";
const DROP_INS: &str = "bedplate.conf.d";

/// The files of a host root.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// Those that count, weakest first.
    pub(crate) counting: Vec<PathBuf>,
    /// Those that another one hides.
    pub(crate) passed: Vec<Passed>,
}

/// A file that does not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Passed {
    /// The file.
    pub path: PathBuf,
    /// The file that hides it.
    pub by: PathBuf,
}

/// Looks for them.
pub(crate) fn find(root: &Root) -> Result<Files> {
    let mut files = Files::default();
    let mut main = None;
    let mut drop_ins: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for dir in DIRS.map(Path::new) {
        let path = dir.join(FILE);
        // In `/run/bedplate` a container may have that name: a directory is no file.
        if root.kind(&path)?.is_some_and(|kind| kind != Kind::Dir) {
            files.first(&mut main, path);
        }
        for name in root.list(dir.join(DROP_INS))? {
            if Path::new(&name).extension().is_some_and(|e| e == "conf") {
                let path = dir.join(DROP_INS).join(&name);
                let mut first = drop_ins.remove(&name);
                files.first(&mut first, path);
                drop_ins.extend(first.map(|first| (name, first)));
            }
        }
    }
    for path in main.into_iter().chain(drop_ins.into_values()) {
        if root.link_target(&path)?.as_deref() != Some(Path::new("/dev/null")) {
            files.counting.push(path);
        }
    }
    Ok(files)
}

impl Files {
    /// The first that is found counts, the others are passed over.
    fn first(&mut self, first: &mut Option<PathBuf>, path: PathBuf) {
        match first {
            Some(by) => self.passed.push(Passed {
                path,
                by: by.clone(),
            }),
            None => *first = Some(path),
        }
    }
}
