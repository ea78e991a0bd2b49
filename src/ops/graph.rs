//! `graph`: the order of the installed set and of the host units it touches.

use anyhow::Result;

use crate::ops::{Host, ordering};
use crate::order::Graph;
use crate::state;

/// The graph over what is installed.
pub fn run(host: &Host) -> Result<Graph> {
    ordering::installed(
        host,
        &state::visible(host.root, &|text| host.report.note(text))?,
    )
}
