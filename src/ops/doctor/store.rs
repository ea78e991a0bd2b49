//! What bedplate keeps: its settings, its store, and what a command that was cut short left.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};

use crate::config;
use crate::deployment;
use crate::hint::Hinted;
use crate::ops::Host;
use crate::ops::doctor::{Area, Check};
use crate::root::Root;
use crate::state::{self, Unfinished};
use crate::store::composefs::Findings;
use crate::store::settings::{Integrity, Settings};
use crate::store::{self, Store};

pub(super) fn checks(host: &Host) -> Vec<Check> {
    let root = host.root;
    let config = config::load(root);
    let settings = config.as_ref().map(|config| config.store);
    let settings = settings.unwrap_or_default();
    let read = config.map(|_| "read".to_owned());
    let mut checks = vec![
        Check::of(Area::Store, "configuration", read),
        unfinished(root),
        Check::of(Area::Store, "repository", repository(root, settings)),
    ];
    checks.extend(file_systems(root));
    checks.extend(protection(root, settings));
    checks
}

fn unfinished(root: &Root) -> Check {
    let subject = "transaction";
    match Unfinished::find(root) {
        Ok(None) => Check::ok(Area::Store, subject, "none is unfinished"),
        Ok(Some(found)) => {
            let what = format!("an interrupted {} is not finished", found.verb);
            Check::broken(Area::Store, subject, what)
                .remedy("`bedplate recover` finishes or undoes it, as does the next command")
        }
        Err(error) => Check::of(Area::Store, subject, Err(error)),
    }
}

fn repository(root: &Root, settings: Settings) -> Result<String> {
    let Some(store) = Store::existing(root, settings)? else {
        if state::installed(root)?.is_empty() {
            return Ok("none yet".to_owned());
        }
        return Err(anyhow!("there is no store, but there are containers"))
            .hint("`bedplate repair` brings it back");
    };
    let images = store
        .images()
        .hint("`bedplate repair` brings back what can be brought back")?;
    Ok(match images.len() {
        1 => "1 image".to_owned(),
        count => format!("{count} images"),
    })
}

/// Whether the parts that are linked to one another lie together, and whether there is room.
fn file_systems(root: &Root) -> Vec<Check> {
    let dir = |path: &str| root.kind(path).ok().flatten().map(|_| root.outside(path));
    let (Some(repo), Some(parent)) = (dir(store::REPO), dir(state::DIR)) else {
        return Vec::new();
    };
    let mut checks = Vec::new();
    if let Some(containers) = dir(deployment::CONTAINERS) {
        checks.push(Check::of(
            Area::Store,
            "file system",
            together(&repo, &containers),
        ));
    }
    let room = store::space::free_percent(&parent).map(|percent| {
        let found = format!("{percent} % are free");
        if percent >= LITTLE {
            return Check::ok(Area::Store, "free space", found);
        }
        Check::note(Area::Store, "free space", found).remedy(
            "`bedplate prune` removes what nobody needs; `bedplate df` shows who needs what",
        )
    });
    checks.push(room.unwrap_or_else(|error| Check::of(Area::Store, "free space", Err(error))));
    checks
}

/// Percent of the file system: with less an update may not fit.
const LITTLE: u64 = 10;

fn together(repo: &PathBuf, containers: &PathBuf) -> Result<String> {
    let device = |path: &PathBuf| {
        let found = rustix::fs::stat(path);
        found
            .map(|stat| stat.st_dev)
            .with_context(|| format!("looking at `{}`", path.display()))
    };
    if device(repo)? == device(containers)? {
        return Ok("the store and the containers share one".to_owned());
    }
    Err(anyhow!(
        "`{}` and `{}` lie on different file systems: files cannot be shared",
        repo.display(),
        containers.display()
    ))
    .hint("mount one file system at /var/lib/bedplate instead")
}

/// How well files can be protected here, and whether that is as well as asked for.
fn protection(root: &Root, settings: Settings) -> Option<Check> {
    if !root.is_host() {
        return None;
    }
    let parent = [state::DIR, "/var/lib"];
    let parent = parent
        .into_iter()
        .find(|p| root.kind(p).ok().flatten().is_some())?;
    let found = Findings::of(root, &root.outside(parent));
    let found = found.and_then(|findings| protected(&findings, settings.integrity));
    Some(Check::of(Area::Store, "integrity", found))
}

/// What the setting comes to, what would work, and why not more.
fn protected(findings: &Findings, wanted: Integrity) -> Result<String> {
    let chosen = findings.choose(wanted)?;
    let mut found = format!("`{chosen}` is used, `{}` works here", findings.strongest);
    for why_not in findings.lines() {
        found = format!("{found}; {why_not}");
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::composefs::{Protection, Reason};

    fn findings(strongest: Protection, reason: Option<(Protection, &str)>) -> Findings {
        let reason = reason.map(|(protection, reason)| Reason {
            protection,
            reason: reason.to_owned(),
            remedy: Some("a newer kernel".to_owned()),
        });
        Findings {
            tried: true,
            strongest,
            reasons: reason.into_iter().collect(),
        }
    }

    #[test]
    fn what_protects_and_why_not_more() {
        let none = findings(
            Protection::None,
            Some((Protection::Composefs, "no erofs in this kernel")),
        );
        let composefs = findings(
            Protection::Composefs,
            Some((Protection::Verity, "the disk has no fs-verity")),
        );
        let verity = findings(Protection::Verity, None);
        for (host, wanted, expected) in [
            (
                &none,
                Integrity::Auto,
                "`none` is used, `none` works here; no composefs: no erofs in this kernel",
            ),
            (
                &composefs,
                Integrity::Auto,
                "`composefs` is used, `composefs` works here; no verity: the disk has no fs-verity",
            ),
            (
                &composefs,
                Integrity::None,
                "`none` is used, `composefs` works here; no verity: the disk has no fs-verity",
            ),
            (
                &verity,
                Integrity::Auto,
                "`verity` is used, `verity` works here",
            ),
            (
                &verity,
                Integrity::Composefs,
                "`composefs` is used, `verity` works here",
            ),
        ] {
            assert_eq!(protected(host, wanted).unwrap(), expected, "{wanted}");
        }
    }

    #[test]
    fn what_was_asked_for_and_does_not_work_is_broken() {
        let host = findings(
            Protection::Composefs,
            Some((Protection::Verity, "the disk has no fs-verity")),
        );
        let check = Check::of(
            Area::Store,
            "integrity",
            protected(&host, Integrity::Verity),
        );
        let expected = Check::broken(
            Area::Store,
            "integrity",
            "`integrity = \"verity\"` does not work on this host: the disk has no fs-verity",
        );
        let remedy = "a newer kernel; or set `integrity = \"auto\"` in `[store]` of bedplate.toml, which takes what works";
        assert_eq!(check, expected.remedy(remedy));
    }
}
