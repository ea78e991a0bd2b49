//! Remedies: what the operator can do about an error, carried beside it.

use std::fmt;

/// A line that tells the operator what to do next; printed below the error as `hint: …`.
#[derive(Debug, Clone)]
pub struct Hint(pub String);

/// An error with its remedy. Displays as the error alone: the hint is taken out by [`hints`].
#[derive(Debug)]
struct WithHint {
    hint: Hint,
    error: anyhow::Error,
}

impl fmt::Display for WithHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)
    }
}

impl std::error::Error for WithHint {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The error itself is what this displays as; its source is the next link of the chain.
        self.error.source()
    }
}

/// Attaches a remedy to a failing result.
pub trait Hinted<T> {
    /// Adds `hint` to the error, if there is one.
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> Hinted<T> for Result<T, E> {
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|error| {
            anyhow::Error::new(WithHint {
                hint: Hint(hint.into()),
                error: error.into(),
            })
        })
    }
}

/// Every remedy in an error's chain, outermost first.
pub fn hints(error: &anyhow::Error) -> Vec<Hint> {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<WithHint>())
        .flat_map(|found| std::iter::once(found.hint.clone()).chain(hints(&found.error)))
        .collect()
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn a_hint_is_beside_the_chain_not_in_it() {
        let result: anyhow::Result<()> = Err(anyhow!("cause")).context("opening `x`");
        let error = result
            .hint("install `y`")
            .context("installing `z`")
            .unwrap_err();
        assert_eq!(format!("{error:#}"), "installing `z`: opening `x`: cause");
        let hints: Vec<_> = hints(&error).into_iter().map(|h| h.0).collect();
        assert_eq!(hints, ["install `y`"]);
    }
}
