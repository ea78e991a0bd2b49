//! `doctor`: whether the host is fit for system containers, and whether all is as bedplate left it. Nothing is
//! changed, and nothing large is read: files are `verify`'s.

mod containers;
mod host;
mod store;

use anyhow::Result;
use schemars::JsonSchema;
use serde::Serialize;

use crate::hint::hints;
use crate::ops::verify::Fault;
use crate::ops::{Host, chain, preflight};

/// What was found.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Outcome {
    /// What was looked at, in this order.
    pub checks: Vec<Check>,
    /// What is not as the records say.
    pub drift: Vec<Fault>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Check {
    /// What it belongs to.
    pub area: Area,
    /// What it is: `skopeo`, or a container's name.
    pub subject: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub remedies: Vec<String>,
}

/// What a check belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Area {
    /// The kernel, systemd and the programs that containers need.
    Host,
    /// What images need on their way here.
    Images,
    /// What bedplate keeps.
    Store,
    /// An installed container.
    Containers,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing is broken by it.
    Note,
    /// Something does not work, or will not.
    Broken,
}

impl Outcome {
    /// How many things are broken.
    pub fn broken(&self) -> usize {
        let broken = self.checks.iter();
        broken.filter(|c| c.verdict == Verdict::Broken).count() + self.drift.len()
    }
}

impl Check {
    fn ok(area: Area, subject: &str, found: impl Into<String>) -> Self {
        Self {
            area,
            subject: subject.to_owned(),
            verdict: Verdict::Ok,
            found: found.into(),
            remedies: Vec::new(),
        }
    }

    fn note(area: Area, subject: &str, found: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Note,
            ..Self::ok(area, subject, found)
        }
    }

    fn broken(area: Area, subject: &str, found: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Broken,
            ..Self::ok(area, subject, found)
        }
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedies.push(remedy.into());
        self
    }

    /// What another verb would fail with is what is broken.
    fn of(area: Area, subject: &str, found: Result<String>) -> Self {
        match found {
            Ok(found) => Self::ok(area, subject, found),
            Err(error) => Self {
                remedies: hints(&error).into_iter().map(|hint| hint.0).collect(),
                ..Self::broken(area, subject, chain(&error))
            },
        }
    }
}

/// Looks at everything.
pub fn run(host: &Host) -> Result<Outcome> {
    // The store is root's alone: what others cannot see is not missing.
    preflight::require_root_user()?;
    let mut checks = host::checks(host);
    checks.extend(store::checks(host));
    let (containers, drift) = containers::checks(host)?;
    checks.extend(containers);
    Ok(Outcome { checks, drift })
}
