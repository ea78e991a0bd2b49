//! Secrets of a generation: sealed for this host, kept in it, handed to the payload as credentials.
//!
//! A later generation takes over what is not given anew, as it was sealed; going back to one finds its own.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, bail};

use crate::contract::secret::Secret;
use crate::contract::values::{Given, Recorded};
use crate::deployment;
use crate::hint::Hinted;
use crate::host;
use crate::ops::Host;
use crate::state::Record;
use crate::systemd::creds;

/// What systemd takes for all credentials of a unit, names included, bytes.
const TOGETHER: usize = 1024 * 1024;

/// Sealed secrets, by name.
pub(crate) type Sealed = BTreeMap<String, Vec<u8>>;

/// Whether what is given is other than what the generation has. What cannot be read any more, as after the loss of the
/// host's key, is other.
pub(crate) fn differ(host: &Host, record: &Record, given: &Given) -> bool {
    let same = |name: &str, secret: &Secret| {
        let sealed = kept(host, record, name).ok()?;
        let content = creds::decrypt(name, &sealed).ok()?;
        Some(content == secret.content())
    };
    let mut last = given.last_secrets().into_iter();
    last.any(|(name, secret)| same(name, secret) != Some(true))
}

/// Refuses what can be known to fail before anything is sealed.
pub(crate) fn check(host: &Host, given: &Given) -> Result<()> {
    if !given.secrets.is_empty() && !host.root.is_host() {
        return Err(anyhow!(
            "a secret is sealed with the key of the host that runs, and `--root` is another"
        ))
        .hint("install it on that host, once it runs; a secret that is not required can be given then: `bedplate update NAME --secret KEY=FILE`");
    }
    Ok(())
}

/// The secrets of a new generation: those given, sealed, and those that the generation `before` has.
pub(crate) fn seal(
    host: &Host,
    values: &Recorded,
    given: &Given,
    before: Option<&Record>,
) -> Result<Sealed> {
    let mut sealed = Sealed::new();
    let given = given.last_secrets();
    let mut together = 0;
    for name in values.secrets() {
        let content = match (given.get(name), before) {
            (Some(secret), _) => creds::encrypt(name, secret.content())?,
            (None, Some(record)) => kept(host, record, name)?,
            (None, None) => bail!("the secret `{name}` is not given"),
        };
        // In base64 four bytes stand for three.
        let size = given
            .get(name)
            .map_or(content.len() / 4 * 3, |secret| secret.content().len());
        together += name.len() + size;
        // What was handed in until now will be again.
        if together > TOGETHER && !given.is_empty() {
            bail!(
                "the secrets are larger than 1 MiB together, the most that systemd hands to a service: {}",
                values.secrets().collect::<Vec<_>>().join(", ")
            );
        }
        sealed.insert(name.to_owned(), content);
    }
    Ok(sealed)
}

/// What the generation has, sealed.
fn kept(host: &Host, record: &Record, name: &str) -> Result<Vec<u8>> {
    let path = deployment::dir(&record.name, record.generation).join(deployment::secret(name));
    let content = host
        .root
        .read(&path)
        .with_context(|| format!("reading `{}`", path.display()))?;
    let sum = record
        .rendered
        .get(&deployment::secret(name).display().to_string());
    let wrong = match &content {
        None => Some("lost"),
        Some(content) => sum
            .is_some_and(|sum| host::checksum(content) != *sum)
            .then_some("damaged"),
    };
    match (content, wrong) {
        (Some(content), None) => Ok(content),
        (_, wrong) => Err(anyhow!(
            "the secret `{name}` of generation {} is {}",
            record.generation,
            wrong.unwrap_or("lost")
        ))
        .hint(format!(
            "give it again: `bedplate update {} --secret {name}=FILE`",
            record.name
        )),
    }
}
