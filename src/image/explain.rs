//! Remedies for what skopeo says.

use anyhow::{Error, anyhow};

use crate::hint::{Hinted, hints};
use crate::image::policy;

/// What skopeo's errors contain, and the remedy.
const REMEDIES: &[(&str, &str)] = &[
    ("policy.json: no such file", policy::MISSING),
    ("rejected by policy", policy::REFUSED),
    (
        "unauthorized",
        "check user and password: `skopeo login REGISTRY` tries and keeps them, `--creds USER` asks for them; \
         or check the name: registries say the same of images that do not exist",
    ),
    (
        "manifest unknown",
        "check the name and the tag: `skopeo list-tags docker://REPOSITORY` shows which there are",
    ),
    (
        "no descriptor found for reference",
        "check the tag: the layout's index.json lists which there are",
    ),
    (
        "index.json: no such file",
        "no OCI layout is there: write it as `oci:DIRECTORY:TAG`",
    ),
    ("name unknown", "check the repository's name"),
    (
        "server gave HTTP response to HTTPS client",
        "a registry without TLS must be allowed: `insecure = true` in /etc/containers/registries.conf.d/, \
         or `--tls-verify=false` for once",
    ),
    (
        "certificate signed by unknown authority",
        "if the registry is meant to be trusted, put its CA as `ca.crt` into \
         /etc/containers/certs.d/REGISTRY/ or a directory given by `--cert-dir`; see containers-certs.d(5)",
    ),
    (
        "x509: certificate is ",
        "call the registry by a name that its certificate is for, or give it a certificate for this one",
    ),
    (
        "x509: cannot validate certificate for ",
        "call the registry by a name that its certificate is for, or give it a certificate for this one",
    ),
    (
        "x509: certificate has expired",
        "check this host's clock, and the registry's certificate",
    ),
    (
        "tls: certificate required",
        "the registry asks for a client's certificate: put NAME.cert and NAME.key into \
         /etc/containers/certs.d/REGISTRY/ or a directory given by `--cert-dir`; see containers-certs.d(5)",
    ),
    (
        "no image found in",
        "ask for another tag; for the root of another machine give `--root DIR` and `--arch ARCH`",
    ),
    (
        "unsupported legacy manifest MIME type",
        "its format is Docker's first: push it anew with a builder of today, or `skopeo copy --format v2s2`",
    ),
    (
        "it is no image but an artifact",
        "give the reference of an image; what a registry keeps beside images cannot be run",
    ),
    (
        "does not resolve to an image ID",
        "check the name: `podman images` shows which there are",
    ),
    (
        "Error response from daemon: reference does not exist",
        "check the name: `docker images` shows which there are",
    ),
    (
        "Cannot connect to the Docker daemon",
        "start Docker, or say where it listens with DOCKER_HOST=unix:///PATH in the environment",
    ),
    (
        "loading tar component manifest.json: unexpected EOF",
        "unpack the archive first if it is compressed: not every skopeo reads such ones",
    ),
    (
        "connection refused",
        "check that the registry runs and can be reached from here",
    ),
    (
        "no such host",
        "check the registry's name and this host's DNS",
    ),
    ("starting `skopeo`", "apt-get install skopeo"),
    (
        "unknown command \"experimental-image-proxy\"",
        "this skopeo is too old: 1.9.3 or newer is needed",
    ),
];

/// Adds the remedy to an error that has one.
pub(crate) fn explain(error: Error) -> Error {
    if !hints(&error).is_empty() {
        return error;
    }
    let text = format!("{error:#}");
    let remedy = REMEDIES.iter().find(|(needle, _)| text.contains(needle));
    let Some((_, remedy)) = remedy else {
        return error;
    };
    match Err::<(), _>(error).hint(*remedy) {
        Ok(()) => anyhow!("an error without an error"),
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remedies_fit_what_skopeo_says() {
        for (said, remedy) in [
            (
                "Error loading trust policy: open /etc/containers/policy.json: no such file or directory",
                policy::MISSING,
            ),
            (
                "Running image oci:/x is rejected by policy.",
                policy::REFUSED,
            ),
            (
                "reading manifest 2 in r.example/x: manifest unknown: manifest unknown",
                "check the name and the tag: `skopeo list-tags docker://REPOSITORY` shows which there are",
            ),
            (
                "no descriptor found for reference \"3\"",
                "check the tag: the layout's index.json lists which there are",
            ),
        ] {
            let error = explain(Error::msg(said));
            assert_eq!(error.to_string(), said);
            assert_eq!(hints(&error)[0].0, remedy);
        }
    }
}
