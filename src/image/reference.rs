//! Image references: a transport and what it opens, in the words of containers-transports(5).

use std::fmt;
use std::str::FromStr;

use containers_image_proxy::oci_spec::image::Digest;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Where an image is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A registry.
    Docker,
    /// A directory in OCI layout.
    Oci,
    /// The same as one tar file.
    OciArchive,
    /// What `docker save` writes.
    DockerArchive,
    /// A directory of blobs, as `skopeo copy … dir:` writes it.
    Dir,
    /// The local storage of podman, buildah and CRI-O.
    ContainersStorage,
    /// A running Docker daemon.
    DockerDaemon,
}

/// Each transport and its prefix.
const PREFIXES: &[(&str, Transport)] = &[
    ("docker://", Transport::Docker),
    ("oci:", Transport::Oci),
    ("oci-archive:", Transport::OciArchive),
    ("docker-archive:", Transport::DockerArchive),
    ("dir:", Transport::Dir),
    ("containers-storage:", Transport::ContainersStorage),
    ("docker-daemon:", Transport::DockerDaemon),
];

/// Why a text is no image reference.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("image `{text}`: {why}")]
pub struct ReferenceError {
    text: String,
    why: String,
}

/// A checked image reference. Displays with its transport; a text without one means `docker://`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageRef {
    transport: Transport,
    rest: String,
}

impl ImageRef {
    /// Where the image is read from.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// The last component of the repository, or of the path: what a container of this image would be called.
    pub fn suggested_name(&self) -> Option<String> {
        let rest = self.rest.as_str();
        let name = match self.transport {
            Transport::Docker | Transport::DockerDaemon | Transport::ContainersStorage => {
                // `[store]name` is how containers-storage names another store.
                let rest = rest.rsplit(']').next().unwrap_or(rest);
                last(Named::split(rest).repository)
            }
            Transport::Oci | Transport::OciArchive | Transport::DockerArchive => {
                let (path, tag) = rest.split_once(':').unwrap_or((rest, ""));
                Some(last(path).unwrap_or_else(|| Named::split(tag).repository))
            }
            Transport::Dir => last(rest),
        }?;
        let name = match self.transport {
            Transport::OciArchive | Transport::DockerArchive => name.split('.').next()?,
            _ => name,
        };
        (!name.is_empty()).then(|| name.to_owned())
    }

    /// The reference as skopeo takes it: it refuses a tag beside a digest, which says all.
    pub(crate) fn for_skopeo(&self) -> String {
        let named = Named::split(&self.rest);
        match (self.transport, named.tag, named.digest) {
            (Transport::Docker, Some(_), Some(digest)) => {
                format!("docker://{}@{digest}", named.repository)
            }
            _ => self.to_string(),
        }
    }

    /// The transport as containers-policy.json(5) calls it.
    pub(crate) fn transport_name(&self) -> &'static str {
        let prefix = PREFIXES.iter().find(|(_, t)| *t == self.transport);
        prefix.map_or("", |(p, _)| p.trim_end_matches("//").trim_end_matches(':'))
    }

    /// What a policy's scope is compared with: a registry's image has at least the tag `latest`.
    pub(crate) fn policy_name(&self) -> String {
        let named = Named::split(&self.rest);
        match (self.transport, named.tag, named.digest) {
            (Transport::Docker, None, None) => format!("{}:latest", self.rest),
            _ => self.rest.clone(),
        }
    }

    /// The same without tag or digest, if it has one.
    pub(crate) fn policy_bare_name(&self) -> Option<&str> {
        let bare = match self.transport {
            Transport::Oci | Transport::OciArchive | Transport::DockerArchive => {
                self.rest.split_once(':')?.0
            }
            Transport::Dir => return None,
            _ => Named::split(&self.rest).repository,
        };
        (bare != self.policy_name()).then_some(bare)
    }

    /// The repository or path alone, without tag or digest: what versions of an image have in common.
    pub(crate) fn repository(&self) -> &str {
        self.policy_bare_name().unwrap_or(&self.rest)
    }

    /// Another image of the same repository of a registry, by its digest.
    pub(crate) fn pinned(&self, digest: &Digest) -> Self {
        Self {
            transport: Transport::Docker,
            rest: format!("{}@{digest}", self.repository()),
        }
    }

    /// The registry, with its port, if the image comes from one.
    pub fn registry(&self) -> Option<&str> {
        let is_one = self.transport == Transport::Docker;
        is_one.then(|| self.rest.split('/').next().unwrap_or_default())
    }

    /// The digest by which a registry's image is named, if it is.
    pub fn digest(&self) -> Option<Digest> {
        let digest = Named::split(&self.rest).digest?;
        let named = (self.transport == Transport::Docker).then_some(digest)?;
        Digest::from_str(named).ok()
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = PREFIXES.iter().find(|(_, t)| *t == self.transport);
        write!(f, "{}{}", prefix.map_or("", |(p, _)| p), self.rest)
    }
}

impl From<ImageRef> for String {
    fn from(reference: ImageRef) -> Self {
        reference.to_string()
    }
}

impl TryFrom<String> for ImageRef {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::checked(&text)
    }
}

/// As an operator writes it: a path begins where they are, and is kept as an absolute one, for whoever asks again.
impl FromStr for ImageRef {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::checked(text).map(Self::from_here)
    }
}

impl ImageRef {
    /// The same with its path, if it has one, from the root on.
    fn from_here(self) -> Self {
        let (path, tag) = match self.transport {
            Transport::Oci | Transport::OciArchive | Transport::DockerArchive => {
                let at = self.rest.find(':').unwrap_or(self.rest.len());
                self.rest.split_at(at)
            }
            Transport::Dir => (self.rest.as_str(), ""),
            _ => return self,
        };
        let absolute = std::path::absolute(path).ok();
        // A path without a name of its own stays one: the container is called by the tag.
        let end = if last(path).is_none() { "/." } else { "" };
        let rest = absolute.and_then(|path| Some(format!("{}{end}{tag}", path.to_str()?)));
        Self {
            rest: rest.unwrap_or_else(|| self.rest.clone()),
            ..self
        }
    }

    fn checked(text: &str) -> Result<Self, ReferenceError> {
        let found = PREFIXES
            .iter()
            .find_map(|(prefix, transport)| Some((*transport, text.strip_prefix(prefix)?)));
        let (transport, rest) = found.unwrap_or((Transport::Docker, text));
        let checked = match (transport, rest) {
            (_, "") => Err("is empty".to_owned()),
            (_, r) if r.chars().any(|c| c.is_control() || c.is_whitespace()) => {
                Err("has a blank or a control character".to_owned())
            }
            (Transport::Docker, r) => match r.split_once("://") {
                Some((scheme, _)) => Err(unknown_transport(scheme)),
                None if found.is_none() && r.starts_with(['/', '.']) => Err(format!(
                    "is a path; write an OCI layout as `oci:{r}:TAG`, an archive as `oci-archive:{r}`"
                )),
                None => Named::split(r).check(),
            },
            _ => Ok(()),
        };
        match checked {
            Ok(()) => Ok(Self {
                transport,
                rest: rest.to_owned(),
            }),
            Err(why) => Err(ReferenceError {
                text: text.to_owned(),
                why,
            }),
        }
    }
}

fn unknown_transport(scheme: &str) -> String {
    let known: Vec<_> = PREFIXES.iter().map(|(p, _)| format!("`{p}`")).collect();
    format!(
        "unknown transport `{scheme}://`; known are {}",
        known.join(", ")
    )
}

/// The last component of a path, if there is one.
fn last(path: &str) -> Option<&str> {
    path.trim_end_matches('/')
        .rsplit('/')
        .next()
        .filter(|name| !matches!(*name, "" | "." | ".."))
}

/// The three parts of a named reference: `repository[:tag][@digest]`.
struct Named<'a> {
    repository: &'a str,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

impl<'a> Named<'a> {
    fn split(text: &'a str) -> Self {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        // A colon before the last slash is the registry's port.
        let (repository, tag) = match name.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (name, None),
        };
        Self {
            repository,
            tag,
            digest,
        }
    }

    /// The grammar of distribution's references, with the registry written out.
    fn check(&self) -> Result<(), String> {
        let short = || {
            let example = format!("registry.example/{}", self.repository);
            format!("names no registry; write it out, such as `{example}`")
        };
        let (registry, path) = self.repository.split_once('/').ok_or_else(short)?;
        if registry != "localhost" && !registry.contains(['.', ':']) {
            return Err(short());
        }
        let host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
        if !registry.chars().all(host) {
            return Err(format!("`{registry}` is no registry"));
        }
        if let Some(bad) = path.split('/').find(|part| !is_path_component(part)) {
            return Err(format!(
                "`{bad}` is no part of a repository's name (lower-case letters, digits, and `.`, `_`, `-` between them)"
            ));
        }
        if let Some(tag) = self.tag.filter(|tag| !is_tag(tag)) {
            return Err(format!("`{tag}` is no tag"));
        }
        if let Some(digest) = self.digest {
            let hashed = digest.starts_with("sha256:") || digest.starts_with("sha512:");
            if !hashed || Digest::from_str(digest).is_err() {
                return Err(format!("`{digest}` is no digest"));
            }
        }
        Ok(())
    }
}

fn is_path_component(part: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    part.starts_with(inner)
        && part.ends_with(inner)
        && part
            .chars()
            .all(|c| inner(c) || matches!(c, '.' | '_' | '-'))
        && !["..", "._", "_.", ".-", "-.", "_-", "-_", "___"]
            .iter()
            .any(|bad| part.contains(bad))
}

fn is_tag(tag: &str) -> bool {
    let first = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.len() <= 128
        && tag.starts_with(first)
        && tag.chars().all(|c| first(c) || matches!(c, '.' | '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_round_trip_and_suggest_names() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let pinned = format!("docker://r.example/a/etcd:3.5@{digest}");
        for (text, shown, name) in [
            (
                "quay.io/coreos/etcd:v3.5",
                "docker://quay.io/coreos/etcd:v3.5",
                "etcd",
            ),
            (
                "docker://localhost:5000/etcd",
                "docker://localhost:5000/etcd",
                "etcd",
            ),
            ("localhost/flannel", "docker://localhost/flannel", "flannel"),
            (&pinned, &pinned, "etcd"),
            ("oci:/x/etcd:latest", "oci:/x/etcd:latest", "etcd"),
            ("oci:/x/etcd/", "oci:/x/etcd/", "etcd"),
            (
                "oci-archive:/x/etcd.tar:v1",
                "oci-archive:/x/etcd.tar:v1",
                "etcd",
            ),
            (
                "docker-archive:/x/etcd.tar.gz",
                "docker-archive:/x/etcd.tar.gz",
                "etcd",
            ),
            ("dir:/x/etcd", "dir:/x/etcd", "etcd"),
            (
                "containers-storage:[overlay@/s]localhost/etcd:1",
                "containers-storage:[overlay@/s]localhost/etcd:1",
                "etcd",
            ),
            (
                "docker-daemon:etcd:latest",
                "docker-daemon:etcd:latest",
                "etcd",
            ),
        ] {
            let reference: ImageRef = text.parse().unwrap();
            assert_eq!(reference.to_string(), shown);
            assert_eq!(shown.parse::<ImageRef>().unwrap(), reference);
            assert_eq!(reference.suggested_name().as_deref(), Some(name), "{text}");
        }
    }

    #[test]
    fn a_path_begins_where_the_operator_is() {
        let here = std::env::current_dir().unwrap();
        let here = here.display();
        for (text, shown, name) in [
            (
                "oci:images/etcd:1",
                format!("oci:{here}/images/etcd:1"),
                "etcd",
            ),
            ("oci:.:etcd", format!("oci:{here}/.:etcd"), "etcd"),
            ("dir:etcd", format!("dir:{here}/etcd"), "etcd"),
            (
                "oci-archive:etcd.tar",
                format!("oci-archive:{here}/etcd.tar"),
                "etcd",
            ),
        ] {
            let reference: ImageRef = text.parse().unwrap();
            assert_eq!(reference.to_string(), shown);
            assert_eq!(reference.suggested_name().as_deref(), Some(name), "{text}");
        }
    }

    #[test]
    fn what_is_no_reference_says_why() {
        for (text, error) in [
            (
                "etcd",
                "image `etcd`: names no registry; write it out, such as `registry.example/etcd`",
            ),
            (
                "coreos/etcd:3",
                "image `coreos/etcd:3`: names no registry; write it out, such as `registry.example/coreos/etcd`",
            ),
            (
                "docker://etcd",
                "image `docker://etcd`: names no registry; write it out, such as `registry.example/etcd`",
            ),
            ("oci:", "image `oci:`: is empty"),
            (
                "/srv/etcd",
                "image `/srv/etcd`: is a path; write an OCI layout as `oci:/srv/etcd:TAG`, an archive as `oci-archive:/srv/etcd`",
            ),
            (
                "r.example/a b",
                "image `r.example/a b`: has a blank or a control character",
            ),
            (
                "r.example/Etcd",
                "image `r.example/Etcd`: `Etcd` is no part of a repository's name (lower-case letters, digits, and `.`, `_`, `-` between them)",
            ),
            (
                "r.example/a//b",
                "image `r.example/a//b`: `` is no part of a repository's name (lower-case letters, digits, and `.`, `_`, `-` between them)",
            ),
            (
                "r.example/a:b+c",
                "image `r.example/a:b+c`: `b+c` is no tag",
            ),
            (
                "r.example/a@sha256:12",
                "image `r.example/a@sha256:12`: `sha256:12` is no digest",
            ),
            (
                "https://r.example/a",
                "image `https://r.example/a`: unknown transport `https://`; known are `docker://`, `oci:`, `oci-archive:`, `docker-archive:`, `dir:`, `containers-storage:`, `docker-daemon:`",
            ),
        ] {
            assert_eq!(text.parse::<ImageRef>().unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn skopeo_gets_the_digest_alone() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let reference: ImageRef = format!("r.example:5000/etcd:3@{digest}").parse().unwrap();
        assert_eq!(
            reference.for_skopeo(),
            format!("docker://r.example:5000/etcd@{digest}")
        );
        let json = serde_json::to_string(&reference).unwrap();
        assert_eq!(serde_json::from_str::<ImageRef>(&json).unwrap(), reference);
    }
}
