//! The built-in variables: one documented table, read by the templates, by `bedplate values` and by the documents.

use std::path::PathBuf;

use crate::contract::values::{Data, Origin, Value};
use crate::name::{ContainerName, Generation};

/// A built-in variable.
#[derive(Debug, Clone, Copy)]
pub struct BuiltIn {
    /// Its name in templates, lower case: declared values are upper case by custom.
    pub name: &'static str,
    /// One line of help.
    pub doc: &'static str,
    value: fn(&BuiltIns) -> String,
}

/// Every built-in variable, by name. All are texts.
pub const BUILT_INS: [BuiltIn; 12] = [
    BuiltIn {
        name: "arch",
        doc: "The machine's architecture in OCI's words, such as `amd64`",
        value: |b| b.arch.clone(),
    },
    BuiltIn {
        name: "cache_dir",
        doc: "Below `/var/cache`: the first of `directories.cache`, or the container's name",
        value: |b| b.cache_dir.display().to_string(),
    },
    BuiltIn {
        name: "digest",
        doc: "The digest of the image's manifest, such as `sha256:…`",
        value: |b| b.digest.clone(),
    },
    BuiltIn {
        name: "generation",
        doc: "The number of this deployment of the container, counted from 1",
        value: |b| b.generation.to_string(),
    },
    BuiltIn {
        name: "image",
        doc: "The image's reference as it was asked for",
        value: |b| b.image.clone(),
    },
    BuiltIn {
        name: "launch",
        doc: "The command that starts this generation: what `ExecStart=` needs",
        value: |b| b.launch.clone(),
    },
    BuiltIn {
        name: "logs_dir",
        doc: "Below `/var/log`: the first of `directories.logs`, or the container's name",
        value: |b| b.logs_dir.display().to_string(),
    },
    BuiltIn {
        name: "name",
        doc: "The container's name",
        value: |b| b.name.to_string(),
    },
    BuiltIn {
        name: "rootfs",
        doc: "The image's root file system on the host, read-only",
        value: |b| b.rootfs.display().to_string(),
    },
    BuiltIn {
        name: "runtime",
        doc: "The OCI runtime, an absolute path",
        value: |b| b.runtime.display().to_string(),
    },
    BuiltIn {
        name: "runtime_dir",
        doc: "Below `/run`: the first of `directories.runtime`, or the container's name",
        value: |b| b.runtime_dir.display().to_string(),
    },
    BuiltIn {
        name: "state_dir",
        doc: "Below `/var/lib`: the first of `directories.state`, or the container's name",
        value: |b| b.state_dir.display().to_string(),
    },
];

/// What the built-in variables are for one generation.
#[derive(Debug, Clone)]
pub struct BuiltIns {
    /// The container.
    pub name: ContainerName,
    /// The generation that is being made.
    pub generation: Generation,
    /// The image's reference as it was asked for.
    pub image: String,
    /// The digest of the image's manifest.
    pub digest: String,
    /// The host path of the generation's rootfs.
    pub rootfs: PathBuf,
    /// The OCI runtime.
    pub runtime: PathBuf,
    /// `ExecStart=`: the launcher and the generation's directory.
    pub launch: String,
    /// The architecture in OCI's words.
    pub arch: String,
    /// The first state directory, absolute.
    pub state_dir: PathBuf,
    /// The first runtime directory, absolute.
    pub runtime_dir: PathBuf,
    /// The first log directory, absolute.
    pub logs_dir: PathBuf,
    /// The first cache directory, absolute.
    pub cache_dir: PathBuf,
}

impl BuiltIns {
    /// Each variable with its value.
    pub fn values(&self) -> impl Iterator<Item = (String, Value)> {
        BUILT_INS.iter().map(|built_in| {
            let value = Value {
                data: Data::Text((built_in.value)(self)),
                origin: Origin::BuiltIn,
            };
            (built_in.name.to_owned(), value)
        })
    }
}

/// Whether `name` is a built-in variable.
pub fn is_built_in(name: &str) -> bool {
    BUILT_INS.iter().any(|built_in| built_in.name == name)
}

/// What tests of other modules call a container.
#[cfg(test)]
pub(crate) fn sample() -> BuiltIns {
    BuiltIns {
        name: "etcd".parse().unwrap(),
        generation: Generation::FIRST,
        image: "docker://registry.example/etcd:3.5".to_owned(),
        digest: format!("sha256:{}", "0".repeat(64)),
        rootfs: "/var/lib/bedplate/containers/etcd/1/rootfs".into(),
        runtime: "/usr/bin/crun".into(),
        launch: "/usr/libexec/bedplate/launch /var/lib/bedplate/containers/etcd/1".to_owned(),
        arch: "amd64".to_owned(),
        state_dir: "/var/lib/etcd".into(),
        runtime_dir: "/run/etcd".into(),
        logs_dir: "/var/log/etcd".into(),
        cache_dir: "/var/cache/etcd".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_unique_and_documented() {
        assert!(BUILT_INS.is_sorted_by(|a, b| a.name < b.name));
        for built_in in BUILT_INS {
            assert!(!built_in.doc.is_empty() && !built_in.doc.ends_with('.'));
            assert!(
                built_in
                    .name
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c == '_')
            );
        }
    }

    #[test]
    fn every_variable_has_its_value() {
        let values: Vec<_> = sample()
            .values()
            .map(|(name, value)| format!("{name}={}", value.data))
            .collect();
        assert_eq!(
            values.join("\n"),
            "arch=amd64\n\
             cache_dir=/var/cache/etcd\n\
             digest=sha256:0000000000000000000000000000000000000000000000000000000000000000\n\
             generation=1\n\
             image=docker://registry.example/etcd:3.5\n\
             launch=/usr/libexec/bedplate/launch /var/lib/bedplate/containers/etcd/1\n\
             logs_dir=/var/log/etcd\n\
             name=etcd\n\
             rootfs=/var/lib/bedplate/containers/etcd/1/rootfs\n\
             runtime=/usr/bin/crun\n\
             runtime_dir=/run/etcd\n\
             state_dir=/var/lib/etcd"
        );
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a file of the source tree")]
    fn the_document_names_every_variable() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/contract.md");
        let document = std::fs::read_to_string(path).unwrap();
        for built_in in BUILT_INS {
            let row = format!("| `{}` | {} |", built_in.name, built_in.doc);
            assert!(document.contains(&row), "docs/contract.md lacks: {row}");
        }
    }
}
