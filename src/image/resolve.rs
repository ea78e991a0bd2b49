//! What a reference names, before anything of it is opened.

use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, Result};
use containers_image_proxy::oci_spec::image::{Digest, ImageIndex};

use crate::exec::Program;
use crate::hash::{hex, sha256};
use crate::image::access::Access;
use crate::image::explain::explain;
use crate::image::mirrors::Registries;
use crate::image::proxy::Failure;
use crate::image::reference::{ImageRef, Transport};
use crate::image::retry::{Contact, repeat};
use crate::image::{COLLECTOR, mirrors, nested, policy};
use crate::progress::Report;

/// A reference that the signature policy allows, and how it is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) reference: ImageRef,
    pub(crate) access: Access,
    pub(crate) registries: Registries,
}

/// The same, and what it names now.
#[derive(Debug, Clone)]
pub struct Resolved {
    pub(crate) source: Source,
    /// Of what it names: an index, or the manifest itself. Archives and local stores have none before they are opened.
    pub index_digest: Option<Digest>,
    /// What it names, where it was read.
    pub(crate) named: Option<String>,
}

/// Applies the signature policy as far as it does not depend on the image.
pub fn require_allowed(reference: &ImageRef) -> Result<()> {
    policy::check(reference).with_context(|| format!("opening `{reference}`"))
}

/// Resolves a reference: at most one request, to which the answer is an index or a manifest.
///
/// Errors name the reference and repeat what skopeo said, with a hint where there is a remedy.
pub fn resolve(reference: &ImageRef, access: &Access, report: &Report) -> Result<Resolved> {
    Source::find(reference, access, report)
        .and_then(|source| {
            let contact = source.contact();
            source.resolve(contact, report)
        })
        .map_err(explain)
        .with_context(|| format!("opening `{reference}`"))
}

impl Source {
    /// Applies the signature policy, and looks which mirrors answer.
    pub(crate) fn find(reference: &ImageRef, access: &Access, report: &Report) -> Result<Self> {
        policy::check(reference)?;
        Ok(Self {
            reference: reference.clone(),
            access: access.clone(),
            registries: mirrors::without_dead(reference, report),
        })
    }

    /// Asks what the reference names, unless it says that itself.
    pub(crate) fn resolve(self, contact: Contact, report: &Report) -> Result<Resolved> {
        if !self.must_be_asked() {
            return Ok(Resolved {
                index_digest: self.reference.digest(),
                named: None,
                source: self,
            });
        }
        let what = format!("resolving `{}`", self.reference);
        let named = repeat(contact, report, &what, |_| Ok(self.inspect()?))?;
        let digest = format!("sha256:{}", hex(&sha256(named.as_bytes())));
        let digest = Digest::from_str(&digest).context("parsing a digest")?;
        Ok(Resolved {
            source: self,
            index_digest: Some(digest),
            named: Some(named),
        })
    }

    /// What it is known to name: a manifest, and no index.
    pub(crate) fn direct(self) -> Resolved {
        Resolved {
            source: self,
            index_digest: None,
            named: None,
        }
    }

    /// Another image of the same repository.
    pub(crate) fn pinned(&self, digest: &Digest) -> Self {
        Self {
            reference: self.reference.pinned(digest),
            ..self.clone()
        }
    }

    /// Before it has answered.
    pub(crate) fn contact(&self) -> Contact {
        match self.reference.transport() {
            Transport::Docker => Contact::First,
            _ => Contact::Local,
        }
    }

    /// Whether what the reference names is to be asked for: it has no digest, and its transport knows indexes.
    pub(crate) fn must_be_asked(&self) -> bool {
        let knows_indexes = matches!(
            self.reference.transport(),
            Transport::Docker | Transport::Oci | Transport::OciArchive | Transport::Dir
        );
        knows_indexes && self.reference.digest().is_none()
    }

    /// What the reference names, as it is.
    pub(crate) fn inspect(&self) -> Result<String, Failure> {
        let limit = format!("{}s", self.access.network.timeout.as_secs());
        let output = Program::new("skopeo")
            .env(COLLECTOR.0, COLLECTOR.1)
            .args(["--command-timeout", &limit])
            .args(self.registries.args())
            .args(["inspect", "--raw"])
            .args(self.access.args(self.reference.transport()))
            .arg(self.reference.for_skopeo())
            .output();
        let output = output.map_err(|error| {
            let error = error.root_cause().to_string();
            Failure::Start(Arc::new(std::io::Error::other(error)))
        })?;
        if output.success {
            return Ok(output.stdout);
        }
        Err(Failure::Said {
            text: fatal(&output.stderr, &self.reference),
            transient: false,
        })
    }
}

impl Resolved {
    /// The digest of what the reference names, if it leads to this manifest.
    ///
    /// skopeo's proxy resolves an index by itself and does not say which it was.
    pub(crate) fn index_of(&self, manifest: &Digest) -> Option<Digest> {
        let Some(index) = &self.index_digest else {
            return Some(manifest.clone());
        };
        let Some(named) = &self.named else {
            // The reference has the digest, which skopeo has verified.
            return Some(index.clone());
        };
        let lists = |index: ImageIndex| index.manifests().iter().any(|m| m.digest() == manifest);
        let leads = index == manifest || serde_json::from_str(named).is_ok_and(lists);
        leads.then(|| index.clone())
    }

    /// The platforms that it lists, if it is known to be an index; BuildKit's `unknown/unknown` is none.
    pub fn platforms(&self) -> Option<Vec<String>> {
        nested::platforms(self.named.as_deref()?)
    }

    /// Whether resolving it has reached its source.
    pub(crate) fn contact(&self) -> Contact {
        match self.named {
            Some(_) if self.source.contact() != Contact::Local => Contact::Established,
            _ => self.source.contact(),
        }
    }

    /// The same reference, resolved again.
    pub(crate) fn again(&self, report: &Report) -> Result<Self> {
        let Source {
            reference, access, ..
        } = &self.source;
        Source::find(reference, access, report)?.resolve(self.contact(), report)
    }
}

/// The reason in what a failed skopeo wrote: `time="…" level=fatal msg="…"`, without the words that each error has.
fn fatal(stderr: &str, reference: &ImageRef) -> String {
    let stderr = stderr.trim();
    let quoted = stderr.lines().rev().find_map(|line| {
        let (_, message) = line.split_once("level=fatal msg=")?;
        serde_json::from_str::<String>(message).ok()
    });
    let said = quoted.unwrap_or_else(|| stderr.to_owned());
    let parsing = format!("Error parsing image name \"{}\": ", reference.for_skopeo());
    let reason = [parsing.as_str(), "Error retrieving manifest for image: "]
        .iter()
        .find_map(|words| said.strip_prefix(words));
    reason.unwrap_or(&said).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_taken_out_of_the_log_line() {
        let reference = "r.example/x".parse().unwrap();
        for (said, reason) in [
            (
                r#"time="2026-11-21T15:10:24Z" level=fatal msg="Error parsing image name \"docker://r.example/x\": Get \"https://r.example/v2/\": EOF""#,
                "Get \"https://r.example/v2/\": EOF",
            ),
            (
                "time=\"x\" level=warning msg=\"w\"\ntime=\"x\" level=fatal msg=\"Error retrieving manifest for image: a\\nb\"\n",
                "a\nb",
            ),
            (
                "time=\"x\" level=fatal msg=word",
                "time=\"x\" level=fatal msg=word",
            ),
            ("Segmentation fault\n", "Segmentation fault"),
        ] {
            assert_eq!(fatal(said, &reference), reason);
        }
    }
}
