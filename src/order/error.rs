//! Why a set has no order, and what can be done about it.

use thiserror::Error;

use crate::name::ContainerName;

/// A set that cannot be ordered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OrderError {
    /// Texts in manifests that are neither name nor role: each with the container and the key.
    #[error("{}", .0.join("; "))]
    Names(Vec<String>),
    /// Requirements that nothing provides, all of them.
    #[error("{}", missing(.0))]
    Missing(Vec<Missing>),
    /// Early containers that would wait for normal ones, a sentence for each.
    #[error("{}", .0.join("; "))]
    Stage(Vec<String>),
    /// Units that wait for each other: in starting order and once around, with the reason for each arrow.
    #[error("ordering cycle: {} ({})", around(.units), .reasons.join("; "))]
    Cycle {
        /// The units, each once, beginning with the first by name.
        units: Vec<String>,
        /// Why each comes before the next, and the last before the first.
        reasons: Vec<String>,
    },
}

/// A requirement that nothing provides.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Missing {
    /// Who requires it.
    pub container: ContainerName,
    /// The role or name that it asks for.
    pub asked: String,
}

impl OrderError {
    /// What the operator can do.
    pub fn hint(&self) -> String {
        match self {
            Self::Names(_) => {
                "names and roles are letters, digits, `.`, `_` and `-`: a fault of the image's manifest".to_owned()
            }
            Self::Missing(missing) => {
                let mut asked: Vec<_> = missing.iter().map(|m| quoted(&m.asked)).collect();
                asked.sort();
                asked.dedup();
                format!(
                    "install an image that provides {} in the same call, or name the host's unit under `[roles]` in bedplate.toml",
                    asked.join(", ")
                )
            }
            Self::Stage(_) => "everything that an early container waits for must be early too".to_owned(),
            Self::Cycle { .. } => {
                "one of these must give way: leave one container out, or change `[service]` in its image's manifest"
                    .to_owned()
            }
        }
    }
}

/// A name in backticks.
pub(crate) fn quoted(name: &str) -> String {
    format!("`{name}`")
}

fn missing(all: &[Missing]) -> String {
    let sentences: Vec<_> = all
        .iter()
        .map(|Missing { container, asked }| {
            format!(
                "`{container}` requires `{asked}`, which no installed container and no unit of this host provides"
            )
        })
        .collect();
    sentences.join("; ")
}

fn around(units: &[String]) -> String {
    let circle: Vec<_> = units
        .iter()
        .chain(units.first())
        .map(|unit| quoted(unit))
        .collect();
    circle.join(" → ")
}
