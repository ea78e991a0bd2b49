//! Trying again what a network may have spoiled.
//!
//! | what failed | tried again |
//! |---|---|
//! | a connection that was reset, closed or timed out, a blob that broke off, a minute without data | yes |
//! | 5xx and 429 | yes |
//! | 401, 403, 404, the signature policy, a digest, a damaged layer | no |
//! | a connection that is refused, a host that is not found or reached | only once the registry has answered |
//! | anything that is not a registry's, when it is opened | no |
//!
//! Five attempts in all, with pauses of about 1, 2, 4 and 8 seconds, each by chance up to half longer or shorter: many
//! hosts that were cut off together do not come back together. `Retry-After` never reaches us: skopeo itself waits as
//! long as it says, up to a minute and four times, before it gives up on a request.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Error, Result};

use crate::image::proxy::Failure;
use crate::progress::Report;

/// How often something is tried.
pub(crate) const ATTEMPTS: u32 = 5;

/// The first pause; each one after is twice as long.
const PAUSE: Duration = Duration::from_secs(1);

/// What failures of the network and of an overloaded registry contain, as skopeo says them.
const PASSING: &[&str] = &[
    "connection reset by peer",
    "broken pipe",
    "EOF",
    "timeout",
    "timed out",
    "context deadline exceeded",
    "connection closed",
    "stream error",
    "server misbehaving",
    "Temporary failure in name resolution",
    "too many requests",
    "toomanyrequests",
    "StatusCode: 429",
    "HTTP status: 429",
    "from registry 5",
    "StatusCode: 5",
    "HTTP status: 5",
];

/// What may be a mistake of the operator, unless the registry has answered before.
const UNREACHABLE: &[&str] = &[
    "connection refused",
    "no route to host",
    "network is unreachable",
    "no such host",
];

/// Whether the source is a registry, and whether it has answered before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contact {
    /// It is no registry: what is wrong on this machine stays wrong.
    Local,
    First,
    Established,
}

/// Does something to an image whose registry has answered before, again if need be; `action` is told which attempt
/// it is, from 1. Whatever it did in a failed attempt is its own to undo.
pub(crate) fn with_retries<T>(
    report: &Report,
    what: &str,
    action: impl FnMut(u32) -> Result<T>,
) -> Result<T> {
    repeat(Contact::Established, report, what, action)
}

/// As [`with_retries`], after such contact.
pub(crate) fn repeat<T>(
    contact: Contact,
    report: &Report,
    what: &str,
    mut action: impl FnMut(u32) -> Result<T>,
) -> Result<T> {
    let mut attempt = 1;
    loop {
        let error = match action(attempt) {
            Ok(done) => return Ok(done),
            Err(error) if !is_passing(&error, contact) => return Err(error),
            Err(error) if attempt == ATTEMPTS => {
                return Err(error).with_context(|| format!("given up after {ATTEMPTS} attempts"));
            }
            Err(error) => error,
        };
        let pause = pause(attempt, RandomState::new().build_hasher().finish());
        attempt += 1;
        report.note(format!(
            "{what}: {error:#}; attempt {attempt} of {ATTEMPTS} in {:.1} s",
            pause.as_secs_f64()
        ));
        thread::sleep(pause);
    }
}

/// The pause after a failed attempt.
fn pause(attempt: u32, chance: u64) -> Duration {
    let whole = PAUSE * 2_u32.saturating_pow(attempt - 1);
    // From a half to one and a half.
    whole / 2 + whole.mul_f64(f64::from((chance % 1000) as u32) / 1000.0)
}

/// Whether trying again may help.
fn is_passing(error: &Error, contact: Contact) -> bool {
    let Some(failure) = error.chain().find_map(failure) else {
        return false;
    };
    let says = |texts: &[&str], said: &str| texts.iter().any(|text| said.contains(text));
    match failure {
        Failure::Silent(_) => true,
        // What it wrote before its end is a reason that stays.
        Failure::Ended(said) => said.is_empty(),
        Failure::Start(_) | Failure::Speech(_) => false,
        Failure::Said { .. } if contact == Contact::Local => false,
        Failure::Said { text, transient } => {
            *transient
                || says(PASSING, text)
                || contact == Contact::Established && says(UNREACHABLE, text)
        }
    }
}

/// A failure of skopeo's, also as the cause of a failed read.
fn failure<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a Failure> {
    cause.downcast_ref::<Failure>().or_else(|| {
        let inner = cause.downcast_ref::<io::Error>()?.get_ref()?;
        inner.downcast_ref::<Failure>()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use anyhow::anyhow;

    use super::*;
    use crate::progress::Event;

    fn said(text: &str) -> Failure {
        Failure::Said {
            text: text.to_owned(),
            transient: false,
        }
    }

    /// The words of skopeo 1.9.3, provoked by a server that behaves so; whether they pass at the first contact, and later.
    const WORDS: &[(&str, bool, bool)] = &[
        (
            "Get \"http://r/v2/big/manifests/latest\": read tcp 127.0.0.1:39106->127.0.0.1:15124: read: connection reset by peer",
            true,
            true,
        ),
        (
            "pinging container registry r: Get \"http://r/v2/\": EOF",
            true,
            true,
        ),
        ("unexpected EOF", true, true),
        (
            "pinging container registry r: invalid status code from registry 500 (Internal Server Error)",
            true,
            true,
        ),
        (
            "reading manifest latest in r/big: received unexpected HTTP status: 503 Whatever",
            true,
            true,
        ),
        (
            "Error fetching blob: invalid status code from registry 502 (Bad Gateway)",
            true,
            true,
        ),
        (
            "pinging container registry r: too many requests to registry",
            true,
            true,
        ),
        (
            "reading manifest latest in r/big: StatusCode: 429, oops",
            true,
            true,
        ),
        (
            "reading manifest latest in r/big: toomanyrequests: slow down",
            true,
            true,
        ),
        (
            "pinging container registry r: Get \"https://r/v2/\": net/http: TLS handshake timeout",
            true,
            true,
        ),
        (
            "pinging container registry r: Get \"https://r/v2/\": dial tcp 192.0.2.1:443: i/o timeout",
            true,
            true,
        ),
        (
            "pinging container registry r: Get \"https://r/v2/\": dial tcp 127.0.0.1:9: connect: connection refused",
            false,
            true,
        ),
        (
            "pinging container registry r: Get \"https://r/v2/\": dial tcp: lookup r: no such host",
            false,
            true,
        ),
        (
            "reading manifest latest in r/big: unauthorized: authentication required",
            false,
            false,
        ),
        (
            "pinging container registry r: invalid status code from registry 403 (Forbidden)",
            false,
            false,
        ),
        (
            "reading manifest latest in r/big: StatusCode: 404, oops",
            false,
            false,
        ),
        (
            "reading manifest 2 in r.example/x: manifest unknown: manifest unknown",
            false,
            false,
        ),
        (
            "Error fetching blob: invalid status code from registry 404 (Not Found)",
            false,
            false,
        ),
        ("corrupted blob, expecting sha256:5", false, false),
        ("Running image oci:/x is rejected by policy.", false, false),
    ];

    #[test]
    fn what_passes_is_told_from_what_stays() {
        for (text, first, established) in WORDS.iter().copied() {
            let error = Error::from(said(text)).context("layer x");
            assert_eq!(is_passing(&error, Contact::First), first, "{text}");
            assert_eq!(
                is_passing(&error, Contact::Established),
                established,
                "{text}"
            );
        }
        // As the cause of a read that failed, and beside what is no failure of skopeo's.
        let read = io::Error::other(said("unexpected EOF"));
        assert!(is_passing(&Error::from(read), Contact::First));
        assert!(!is_passing(&anyhow!("unexpected EOF"), Contact::First));
    }

    #[test]
    fn attempts_are_bounded_and_told() {
        let notes = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&notes);
        let report = Report::new(move |event| {
            if let Event::Note(text) = event {
                sink.lock().unwrap().push(text);
            }
        });
        let done = with_retries(&report, "layer x", |attempt| match attempt {
            1 => Err(said("unexpected EOF").into()),
            n => Ok(n),
        });
        assert_eq!(done.unwrap(), 2);
        let notes = notes.lock().unwrap();
        assert_eq!(notes.len(), 1);
        assert!(
            notes[0].starts_with("layer x: unexpected EOF; attempt 2 of 5 in "),
            "{notes:?}"
        );
        let mut count = 0;
        let failed: Result<()> = with_retries(&report, "layer x", |_| {
            count += 1;
            Err(said("corrupted blob, expecting x").into())
        });
        assert_eq!(
            (count, failed.unwrap_err().to_string()),
            (1, "corrupted blob, expecting x".to_owned())
        );
    }

    #[test]
    fn pauses_grow_and_vary() {
        for (attempt, chance, millis) in [
            (1, 0, 500),
            (1, 999, 1499),
            (2, 500, 2000),
            (4, 0, 4000),
            (4, 1999, 11_992),
        ] {
            assert_eq!(pause(attempt, chance), Duration::from_millis(millis));
        }
    }
}
