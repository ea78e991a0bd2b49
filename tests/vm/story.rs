//! A story: one test on guests of its own, with a directory that is kept when it fails.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use libtest_mimic::{Failed, Trial};

use crate::host;

/// How a story reads in a list: its name, and what it does.
pub(crate) type Told = (&'static str, fn(&Story) -> Result<()>);

/// A story under way.
#[derive(Debug)]
pub(crate) struct Story {
    name: &'static str,
    dir: PathBuf,
}

/// The tests of all lists.
pub(crate) fn stories(lists: &[&[Told]]) -> Vec<Trial> {
    lists
        .iter()
        .flat_map(|list| list.iter())
        .map(|&(name, tell)| {
            // What only measures is told on request.
            Trial::test(name, move || run(name, tell))
                .with_ignored_flag(name.starts_with("measure-"))
        })
        .collect()
}

impl Story {
    /// Its name; guests are named after it.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// A directory of its own on the host, empty at the start, gone after success.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

fn run(name: &'static str, tell: fn(&Story) -> Result<()>) -> Result<(), Failed> {
    let story = begin(name).map_err(|error| Failed::from(format!("{error:#}")))?;
    let began = Instant::now();
    let told = catch_unwind(AssertUnwindSafe(|| tell(&story)));
    host::say(&format!("{name}: {:.0} s", began.elapsed().as_secs_f64()));
    if matches!(told, Ok(Ok(()))) {
        if !host::keeps_guests() {
            let _gone = fs::remove_dir_all(&story.dir);
        }
        return Ok(());
    }
    let left = left_behind(&story.dir);
    match told {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Failed::from(format!("{error:#}\n{left}"))),
        Err(panic) => {
            host::say(&format!("{name}: {left}"));
            resume_unwind(panic)
        }
    }
}

fn begin(name: &'static str) -> Result<Story> {
    let dir = host::target().join("vm").join(name);
    if dir.exists() {
        fs::remove_dir_all(&dir)
            .with_context(|| format!("clearing `{}` of its last run", dir.display()))?;
    }
    fs::create_dir_all(&dir).with_context(|| format!("making `{}`", dir.display()))?;
    Ok(Story { name, dir })
}

/// Where to look after a failure; the journals of its guests are written out beside their consoles.
fn left_behind(dir: &Path) -> String {
    for guest in fs::read_dir(dir).into_iter().flatten().flatten() {
        let journal = guest.path().join("upper/var/log/journal");
        if journal.is_dir()
            && let Ok(text) = host::output(
                "journalctl",
                &["--no-pager", "--output=short-monotonic", "--directory"],
                Some(&journal),
            )
        {
            let _best_effort = fs::write(guest.path().join("journal"), text);
        }
    }
    format!("kept: {}/*/{{console,journal,upper}}", dir.display())
}
