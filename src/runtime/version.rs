//! Which version of a runtime there is, and whether it is new enough.

use anyhow::{Context, Result, anyhow};

use crate::exec::Program;
use crate::hint::Hinted;
use crate::runtime::{Runtime, RuntimeKind};

/// The oldest crun and runc that know the unified control groups and all that config.json asks for.
const OLDEST: (u32, u32) = (1, 0);

impl Runtime {
    /// The first line of what it says about its version; fails when it cannot be run, or is too old.
    pub fn version(&self) -> Result<String> {
        let path = self.path.display();
        let package = self.path.file_name().unwrap_or_default().display();
        let said = Program::new(&self.path)
            .arg("--version")
            .run()
            .with_context(|| format!("running `{path}`"))
            .hint(format!("install the package `{package}` again"))?;
        let said = said.lines().next().unwrap_or_default().to_owned();
        let old = number(&said).is_some_and(|number| number < OLDEST);
        if old && self.kind != RuntimeKind::Other {
            let (major, minor) = OLDEST;
            return Err(anyhow!(
                "the OCI runtime `{path}` is too old: it says `{said}`, bedplate needs {major}.{minor}"
            ))
            .hint(format!("install a newer `{package}`, or name another: `bedplate install --runtime PATH`"));
        }
        Ok(said)
    }
}

/// The numbers in `runc version 1.1.5+ds1`; a build without a number has none.
fn number(said: &str) -> Option<(u32, u32)> {
    let mut words = said.split([' ', '-', '+']);
    words.find_map(|word| {
        let mut parts = word.split('.');
        let major = parts.next()?.parse().ok()?;
        Some((major, parts.next()?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_first_number() {
        for (said, expected) in [
            ("crun version 1.8.1", Some((1, 8))),
            ("runc version 1.1.5+ds1", Some((1, 1))),
            ("crun 0.15", Some((0, 15))),
            ("runc version 1.0.0-rc92", Some((1, 0))),
            ("crun version UNKNOWN", None),
            ("", None),
        ] {
            assert_eq!(number(said), expected, "{said}");
        }
    }

    #[test]
    fn an_old_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = |name: &str, kind| {
            let path = dir.path().join(name);
            // Written by another process: while this one has it open, others that begin have it open too.
            let script =
                "printf '#!/bin/sh\necho it is version 0.9.1\n' >\"$0\" && chmod 0755 \"$0\"";
            let made = Program::new("sh").args(["-c", script]).arg(&path).output();
            assert!(made.unwrap().success);
            Runtime { path, kind }.version()
        };
        let error = runtime("runc", RuntimeKind::Runc).unwrap_err().to_string();
        assert!(error.ends_with("is too old: it says `it is version 0.9.1`, bedplate needs 1.0"));
        runtime("other", RuntimeKind::Other).unwrap();
    }
}
