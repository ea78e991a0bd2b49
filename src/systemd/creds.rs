//! systemd-creds(1): secrets sealed with the keys of the running host.

use anyhow::{Context, Result};

use crate::exec::Program;
use crate::hint::Hinted;

const PROGRAM: &str = "systemd-creds";

/// Seals a secret as the credential `name`: only this host's systemd reads it, and only under that name.
pub fn encrypt(name: &str, content: &[u8]) -> Result<Vec<u8>> {
    call("encrypt", name)
        .filter(content)
        .with_context(|| format!("sealing the secret `{name}`"))
        .hint(
            "a host that seals secrets has systemd-creds(1) and a key: \
             `systemd-creds setup` makes one and tells what is wrong",
        )
}

/// The secret that was sealed as the credential `name`.
pub fn decrypt(name: &str, sealed: &[u8]) -> Result<Vec<u8>> {
    call("decrypt", name)
        .filter(sealed)
        .with_context(|| format!("reading the secret `{name}`"))
}

/// Neither a secret nor a file of it is ever an argument: others see those.
fn call(verb: &str, name: &str) -> Program {
    Program::new(PROGRAM).args([verb, &format!("--name={name}"), "-", "-"])
}
