//! Reading and building OCI configurations with the types of oci-spec.

use anyhow::{Result, anyhow};
use containers_image_proxy::oci_spec::runtime::{Capability, LinuxNamespaceType, Spec};

use crate::render::capability;

/// Whether the container has a namespace of its own of this type.
pub(crate) fn has_namespace(spec: &Spec, wanted: LinuxNamespaceType) -> bool {
    let linux = spec.linux().as_ref();
    let namespaces = linux.and_then(|linux| linux.namespaces().as_ref());
    namespaces.is_some_and(|all| all.iter().any(|namespace| namespace.typ() == wanted))
}

/// The capabilities that the payload can ever hold, by number.
pub(crate) fn capabilities(spec: &Spec) -> Vec<Capability> {
    let process = spec.process().as_ref();
    let sets = process.and_then(|process| process.capabilities().as_ref());
    let bounding = sets.and_then(|sets| sets.bounding().as_ref());
    let mut all: Vec<Capability> = bounding.into_iter().flatten().copied().collect();
    all.sort_by_key(|capability| capability::number(*capability));
    all
}

/// The payload's user id.
pub(crate) fn uid(spec: &Spec) -> u32 {
    spec.process()
        .as_ref()
        .map_or(0, |process| process.user().uid())
}

/// The result of one of oci-spec's builders.
pub(crate) fn build<T, E: std::fmt::Display>(built: Result<T, E>) -> Result<T> {
    built.map_err(|error| anyhow!("building config.json: {error}"))
}
