//! What a reference names, before anything of it is opened.

use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, Result};
use containers_image_proxy::oci_spec::image::{Digest, ImageIndex};
use openssl::sha::sha256;

use crate::exec::Program;
use crate::image::explain::explain;
use crate::image::mirrors::Registries;
use crate::image::proxy::Failure;
use crate::image::reference::{ImageRef, Transport};
use crate::image::retry::{Contact, repeat};
use crate::image::settings::Settings;
use crate::image::{hex, mirrors, policy};
use crate::progress::Report;

/// A reference that the signature policy allows, and what it names now.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// As it was asked for.
    pub reference: ImageRef,
    /// Of what it names: an index, or the manifest itself. Archives and local stores have none before they are opened.
    pub index_digest: Option<Digest>,
    /// What it names, where it was read.
    named: Option<String>,
    pub(crate) settings: Settings,
    pub(crate) registries: Registries,
}

/// Applies the signature policy as far as it does not depend on the image.
pub fn require_allowed(reference: &ImageRef) -> Result<()> {
    policy::check(reference).with_context(|| format!("opening `{reference}`"))
}

/// Resolves a reference: at most one request, to which the answer is an index or a manifest.
///
/// Errors name the reference and repeat what skopeo said, with a hint where there is a remedy.
pub fn resolve(reference: &ImageRef, settings: Settings, report: &Report) -> Result<Resolved> {
    unnamed(reference, settings, Contact::First, report)
        .map_err(explain)
        .with_context(|| format!("opening `{reference}`"))
}

fn unnamed(
    reference: &ImageRef,
    settings: Settings,
    contact: Contact,
    report: &Report,
) -> Result<Resolved> {
    policy::check(reference)?;
    let registries = mirrors::without_dead(reference, report);
    let resolved = |index_digest, named| Resolved {
        reference: reference.clone(),
        index_digest,
        named,
        settings,
        registries: registries.clone(),
    };
    match (reference.digest(), reference.transport()) {
        (Some(named), _) => return Ok(resolved(Some(named), None)),
        // They know no index.
        (
            None,
            Transport::DockerArchive | Transport::DockerDaemon | Transport::ContainersStorage,
        ) => return Ok(resolved(None, None)),
        (None, Transport::Docker | Transport::Oci | Transport::OciArchive | Transport::Dir) => {}
    }
    let what = format!("resolving `{reference}`");
    let named = repeat(contact, report, &what, |_| {
        Ok(inspect(reference, settings, &registries)?)
    })?;
    let digest = format!("sha256:{}", hex(&sha256(named.as_bytes())));
    let digest = Digest::from_str(&digest).context("parsing a digest")?;
    Ok(resolved(Some(digest), Some(named)))
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

    /// Whether resolving it has reached its source.
    pub(crate) fn contact(&self) -> Contact {
        match self.named {
            Some(_) => Contact::Established,
            None => Contact::First,
        }
    }

    /// The same reference, resolved again.
    pub(crate) fn again(&self, report: &Report) -> Result<Self> {
        unnamed(&self.reference, self.settings, Contact::Established, report)
    }
}

/// What the reference names, as it is.
fn inspect(
    reference: &ImageRef,
    settings: Settings,
    registries: &Registries,
) -> Result<String, Failure> {
    let limit = format!("{}s", settings.timeout.as_secs());
    let output = Program::new("skopeo")
        .args(["--command-timeout", &limit])
        .args(registries.args())
        .args(["inspect", "--raw"])
        .arg(reference.for_skopeo())
        .output();
    let output = output.map_err(|error| {
        let error = error.root_cause().to_string();
        Failure::Start(Arc::new(std::io::Error::other(error)))
    })?;
    if output.success {
        return Ok(output.stdout);
    }
    Err(Failure::Said {
        text: fatal(&output.stderr, reference),
        transient: false,
    })
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
