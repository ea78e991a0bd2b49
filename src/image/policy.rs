//! The signature policy (containers-policy.json(5)) where skopeo does not apply it.
//!
//! Before skopeo 1.14 the image proxy opens images without asking the policy (containers/skopeo#2029); Debian 12 has
//! 1.9. There the policy's answer is worked out here, as far as it is "accept" or "reject"; one that asks for a
//! signature is refused, for nothing would check it.
//!
//! No skopeo is asked about an image that the store has: what the policy rejects is refused here in any case.
#![expect(
    clippy::disallowed_methods,
    reason = "the policy is the one of this host, as skopeo reads it, whatever --root says"
)]

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;

use crate::exec::Program;
use crate::hint::Hinted;
use crate::image::reference::{ImageRef, Transport};

/// The oldest release whose image proxy serves us.
const OLDEST: (u32, u32) = (1, 9);

/// The first release whose proxy applies the policy.
const ENFORCING: (u32, u32) = (1, 14);

/// The remedy for a missing policy.
pub(crate) const MISSING: &str = "install the package with the signature policy (Debian `golang-github-containers-common`, \
     elsewhere `containers-common`) or write /etc/containers/policy.json; this one refuses all but one registry: \
     {\"default\":[{\"type\":\"reject\"}],\"transports\":{\"docker\":{\"registry.example\":[{\"type\":\"insecureAcceptAnything\"}]}}}";

/// The remedy for a refusal.
pub(crate) const REFUSED: &str = "the signature policy in /etc/containers/policy.json does not allow this image: see containers-policy.json(5)";

/// The kind of a requirement that everything meets.
const ACCEPT: &str = "insecureAcceptAnything";

/// The kind of a requirement that nothing meets.
const REJECT: &str = "reject";

#[derive(Deserialize)]
struct Policy {
    default: Vec<Requirement>,
    #[serde(default)]
    transports: HashMap<String, HashMap<String, Vec<Requirement>>>,
}

#[derive(Deserialize)]
struct Requirement {
    #[serde(rename = "type")]
    kind: String,
}

/// Applies the host's policy: what it rejects is refused, whether or not skopeo would be asked for it, since an image
/// that the store has is not; the rest as far as the installed skopeo does not.
///
/// Which skopeo there is matters only where more is asked than yes or no: asking it costs as much as a request.
pub(crate) fn check(reference: &ImageRef) -> Result<()> {
    let mut rejected = false;
    let judged = read().and_then(|(path, policy)| {
        rejected = asks(reference, &policy).any(|kind| kind == REJECT);
        judge(reference, &policy)
            .with_context(|| format!("applying the signature policy `{}`", path.display()))
    });
    let Err(error) = judged else {
        return Ok(());
    };
    if !rejected && number(&version()?) >= ENFORCING {
        return Ok(());
    }
    Err(error)
}

/// The host's policy in a few words.
pub(crate) fn summary() -> Result<String> {
    let (path, policy) = read()?;
    let default: Vec<_> = policy.default.iter().map(|r| r.kind.as_str()).collect();
    let rest = if asks_for_signatures(&policy) && number(&version()?) < ENFORCING {
        "; this skopeo checks no signatures: images that need one are refused, 1.14 or newer would take them"
    } else {
        ""
    };
    let (path, default) = (path.display(), default.join(", "));
    Ok(format!("{path}, by default `{default}`{rest}"))
}

/// Whether there are images of which more is asked than yes or no.
fn asks_for_signatures(policy: &Policy) -> bool {
    let scopes = policy.transports.values().flat_map(HashMap::values);
    let mut asked = scopes.chain([&policy.default]).flatten();
    asked.any(|requirement| ![ACCEPT, REJECT].contains(&requirement.kind.as_str()))
}

/// What the installed skopeo calls itself; an error if it is too old for us.
pub(crate) fn skopeo() -> Result<String> {
    let version = version()?;
    if number(&version) < OLDEST {
        return Err(anyhow!("{} is too old", version.trim())).hint("install skopeo 1.9.3 or newer");
    }
    Ok(version.trim().to_owned())
}

fn version() -> Result<String> {
    let skopeo = Program::new("skopeo").arg("--version");
    skopeo.run().hint("apt-get install skopeo")
}

/// The policy that counts, and where it lies: the order of containers-policy.json(5).
fn read() -> Result<(PathBuf, Policy)> {
    let own = std::env::var_os("HOME")
        .map(|home| PathBuf::from(home).join(".config/containers/policy.json"));
    let host = PathBuf::from("/etc/containers/policy.json");
    let path = own.filter(|path| path.exists()).unwrap_or(host);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("reading the signature policy `{}`", path.display()))
        .hint(MISSING)?;
    let policy = serde_json::from_str(&text)
        .with_context(|| format!("applying the signature policy `{}`", path.display()))?;
    Ok((path, policy))
}

/// The first two parts of a version.
fn number(version: &str) -> (u32, u32) {
    let number = version.split_whitespace().last().unwrap_or_default();
    let mut parts = number.split('.').map_while(|part| part.parse::<u32>().ok());
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// The kinds of what the policy asks of the reference.
fn asks<'a>(reference: &ImageRef, policy: &'a Policy) -> impl Iterator<Item = &'a str> {
    let transport = reference.transport_name();
    let section = policy.transports.get(transport);
    let found = section.and_then(|section| scopes(reference).iter().find_map(|s| section.get(s)));
    let applied = found.unwrap_or(&policy.default);
    applied.iter().map(|requirement| requirement.kind.as_str())
}

fn judge(reference: &ImageRef, policy: &Policy) -> Result<()> {
    let mut asked = asks(reference, policy).peekable();
    if asked.peek().is_none() {
        bail!("it has a rule without requirements");
    }
    for kind in asked {
        match kind {
            ACCEPT => {}
            REJECT => {
                return Err(anyhow::anyhow!("`{reference}` is rejected by policy")).hint(REFUSED);
            }
            kind => {
                let error =
                    anyhow::anyhow!("it asks for `{kind}`, which this skopeo does not check");
                return Err(error).hint("install skopeo 1.14 or newer");
            }
        }
    }
    Ok(())
}

/// The scopes that a reference falls into, most specific first; the last is the transport's own default.
fn scopes(reference: &ImageRef) -> Vec<String> {
    let name = reference.policy_name();
    let mut scopes = vec![name.clone()];
    let mut rest = name.as_str();
    // A tag or digest, then one component after the other.
    if let Some(bare) = reference.policy_bare_name() {
        scopes.push(bare.to_owned());
        rest = bare;
    }
    while let Some((outer, _)) = rest.rsplit_once('/') {
        scopes.push(outer.to_owned());
        rest = outer;
    }
    if reference.transport() == Transport::Docker {
        while let Some((_, domain)) = rest.split_once('.') {
            scopes.push(format!("*.{domain}"));
            rest = domain;
        }
    }
    scopes.retain(|scope| !scope.is_empty());
    scopes.push(String::new());
    scopes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hint::hints;

    const POLICY: &str = r#"{"default": [{"type": "reject"}], "transports": {
        "docker": {
            "good.example": [{"type": "insecureAcceptAnything"}],
            "good.example/bad": [{"type": "reject"}],
            "good.example/bad/one:1": [{"type": "insecureAcceptAnything"}],
            "good.example/old:latest": [{"type": "reject"}],
            "*.wild.example": [{"type": "insecureAcceptAnything"}],
            "signed.example": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"}]},
        "oci": {"/srv/images": [{"type": "insecureAcceptAnything"}]},
        "docker-daemon": {"": [{"type": "insecureAcceptAnything"}]}}}"#;

    #[test]
    fn the_most_specific_scope_decides() {
        let rejected = |text: &str| Some(format!("`{text}` is rejected by policy"));
        let policy = serde_json::from_str(POLICY).unwrap();
        for (text, error) in [
            ("docker://good.example/a/b:1", None),
            (
                "docker://good.example/bad/two",
                rejected("docker://good.example/bad/two"),
            ),
            ("docker://good.example/bad/one:1", None),
            (
                "docker://good.example/bad/one:2",
                rejected("docker://good.example/bad/one:2"),
            ),
            (
                "docker://good.example/old",
                rejected("docker://good.example/old"),
            ),
            ("docker://a.wild.example/x", None),
            (
                "docker://wild.example/x",
                rejected("docker://wild.example/x"),
            ),
            (
                "docker://other.example/x",
                rejected("docker://other.example/x"),
            ),
            (
                "docker://signed.example/x",
                Some("it asks for `signedBy`, which this skopeo does not check".to_owned()),
            ),
            ("oci:/srv/images/etcd:1", None),
            ("oci:/srv/image:1", rejected("oci:/srv/image:1")),
            ("docker-daemon:etcd:1", None),
            ("dir:/srv/images", rejected("dir:/srv/images")),
        ] {
            let found = judge(&text.parse().unwrap(), &policy).err();
            assert_eq!(found.map(|error| error.to_string()), error);
        }
        assert!(asks_for_signatures(&policy));
        let plain = r#"{"default": [{"type": "reject"}], "transports": {"dir": {"": [{"type": "insecureAcceptAnything"}]}}}"#;
        assert!(!asks_for_signatures(&serde_json::from_str(plain).unwrap()));
        let error = judge(&"dir:/x".parse().unwrap(), &policy).unwrap_err();
        assert_eq!(hints(&error)[0].0, REFUSED);
    }

    #[test]
    fn releases_are_told_apart() {
        for (version, expected) in [
            ("skopeo version 1.9.3\n", false),
            ("skopeo version 1.13.9", false),
            ("skopeo version 1.14.0-dev", true),
            ("skopeo version 1.18.0", true),
            ("skopeo version 2.0", true),
            ("", false),
        ] {
            assert_eq!(number(version) >= ENFORCING, expected, "{version}");
        }
    }
}
