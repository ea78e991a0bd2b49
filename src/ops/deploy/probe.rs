//! A probe of `[health]`, asked once.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};

use crate::contract::manifest::Probe;
use crate::exec::Program;
use crate::name::ContainerName;
use crate::ops::Host;
use crate::ops::exec::{Call, Request};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How much of what a command says is repeated.
const SAID: usize = 200;

/// Asks once; whatever is no good answer is an error that says what was asked.
pub(crate) fn ask(host: &Host, name: &ContainerName, probe: &Probe) -> Result<()> {
    match probe {
        Probe::Http(url) => http(url).with_context(|| format!("asking {url}")),
        Probe::Tcp(address) => tcp(address).with_context(|| format!("connecting to {address}")),
        Probe::Exec(argv) => {
            exec(host, name, argv).with_context(|| format!("running `{}` in it", argv.join(" ")))
        }
    }
}

/// The host's certificates count, no proxy is asked.
fn http(url: &str) -> Result<()> {
    let tls = TlsConfig::builder()
        .provider(TlsProvider::NativeTls)
        .root_certs(RootCerts::PlatformVerifier)
        .build();
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .http_status_as_error(false)
        .proxy(None)
        .tls_config(tls)
        .user_agent(concat!("bedplate/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let status = agent.get(url).call()?.status();
    if status.is_success() {
        return Ok(());
    }
    bail!("it answers {status}")
}

fn tcp(address: &str) -> Result<()> {
    let mut last = anyhow!("the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(_) => return Ok(()),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

/// timeout(1) ends a command that hangs: the runtime passes SIGTERM on.
fn exec(host: &Host, name: &ContainerName, argv: &[String]) -> Result<()> {
    let request = Request {
        command: argv.to_vec(),
        ..Request::default()
    };
    let call = Call::of(host, name, &request)?;
    let output = Program::new("timeout")
        .arg("--kill-after=1")
        .arg(PATIENCE.as_secs().to_string())
        .args(&call.argv)
        .last_words()?;
    if output.success {
        return Ok(());
    }
    let said = [output.stderr.trim(), output.stdout.trim()];
    let said = said.into_iter().find(|text| !text.is_empty());
    let last = said.and_then(|text| text.lines().last());
    let said: String = last
        .unwrap_or_default()
        .chars()
        .filter(|c| !c.is_control())
        .take(SAID)
        .collect();
    if said.is_empty() {
        bail!("it fails");
    }
    bail!("it fails: {said}")
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    fn answering(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _asked = stream.read(&mut [0; 4096]).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        address.to_string()
    }

    #[test]
    fn only_two_hundreds_are_healthy() {
        let good = answering("HTTP/1.1 204 No Content\r\n\r\n");
        http(&format!("http://{good}/health")).unwrap();
        tcp(&good).unwrap();
        let bad = answering("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
        let error = http(&format!("http://{bad}/")).unwrap_err();
        assert_eq!(error.to_string(), "it answers 503 Service Unavailable");
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = nobody.local_addr().unwrap().to_string();
        drop(nobody);
        http(&format!("http://{address}/")).unwrap_err();
        tcp(&address).unwrap_err();
    }
}
