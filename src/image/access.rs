//! How the sources of images are reached: what a command says of it, and what skopeo is told.

use std::ffi::OsString;
use std::fmt;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustix::fs::MemfdFlags;
use serde_json::json;

use crate::image::platform::Platform;
use crate::image::reference::Transport;
use crate::image::settings::Settings;

/// What holds for every image of a command.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// `[network]`.
    pub network: Settings,
    /// For which machine, where a source has images for several.
    pub platform: Platform,
    /// Who asks; else whom containers-auth.json(5) finds.
    pub login: Option<Login>,
    /// A directory with a registry's CA and the client's certificate, beside those of containers-certs.d(5).
    pub cert_dir: Option<PathBuf>,
    /// Whether registries must have a valid certificate; else what containers-registries.conf(5) says.
    pub tls_verify: Option<bool>,
}

/// Where a registry's user name and password stand.
#[derive(Debug, Clone)]
pub enum Login {
    /// A file as `skopeo login` writes it.
    File(PathBuf),
    /// Memory of this process.
    Given(Credentials),
}

/// A user name and a password in a file that has no name, gone with this process. No program gets them as arguments.
#[derive(Clone)]
pub struct Credentials(Arc<OwnedFd>);

impl Credentials {
    /// Those for one registry.
    pub fn new(registry: &str, user: &str, password: &str) -> Result<Self> {
        let auth = openssl::base64::encode_block(format!("{user}:{password}").as_bytes());
        let text = json!({ "auths": { registry: { "auth": auth } } }).to_string();
        let keeping = || format!("keeping the password for `{registry}` in memory");
        let fd =
            rustix::fs::memfd_create("bedplate-auth", MemfdFlags::CLOEXEC).with_context(keeping)?;
        let mut file = std::fs::File::from(fd);
        file.write_all(text.as_bytes()).with_context(keeping)?;
        Ok(Self(Arc::new(file.into())))
    }

    /// What children of the same user open.
    fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

impl Access {
    /// The same with these settings.
    #[must_use]
    pub fn with_network(&self, network: Settings) -> Self {
        Self {
            network,
            ..self.clone()
        }
    }

    /// The same for another machine.
    #[must_use]
    pub fn with_platform(&self, platform: Platform) -> Self {
        Self {
            platform,
            ..self.clone()
        }
    }

    /// skopeo's options, for any of its commands that opens an image.
    pub(crate) fn args(&self, transport: Transport) -> Vec<OsString> {
        let mut args: Vec<OsString> = self.platform.args().into_iter().map(Into::into).collect();
        let login = self.login.as_ref().map(|login| match login {
            Login::File(path) => path.clone(),
            Login::Given(credentials) => credentials.path(),
        });
        for (option, path) in [("--authfile", &login), ("--cert-dir", &self.cert_dir)] {
            if let Some(path) = path {
                args.extend([option.into(), path.into()]);
            }
        }
        // Where docker itself finds it; skopeo does not look.
        if let (Transport::DockerDaemon, Some(daemon)) =
            (transport, std::env::var_os("DOCKER_HOST"))
        {
            args.extend(["--daemon-host".into(), daemon]);
        }
        args.extend(
            self.tls_verify
                .map(|verify| format!("--tls-verify={verify}").into()),
        );
        args
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests look as skopeo would")]
mod tests {
    use super::*;

    #[test]
    fn skopeo_is_told_what_was_said() {
        assert!(Access::default().args(Transport::Docker).is_empty());
        let access = Access {
            platform: "linux/arm/v7".parse().unwrap(),
            login: Some(Login::File("/a".into())),
            cert_dir: Some("/c".into()),
            tls_verify: Some(false),
            ..Access::default()
        };
        assert_eq!(
            access.args(Transport::Docker),
            [
                "--override-os=linux",
                "--override-arch=arm",
                "--override-variant=v7",
                "--authfile",
                "/a",
                "--cert-dir",
                "/c",
                "--tls-verify=false"
            ]
        );
    }

    #[test]
    fn a_password_is_in_no_argument() {
        let credentials = Credentials::new("r.example:5000", "me", "sesame").unwrap();
        let access = Access {
            login: Some(Login::Given(credentials)),
            ..Access::default()
        };
        let args = access.args(Transport::Docker);
        assert!(!format!("{access:?}{args:?}").contains("sesame"));
        let text = std::fs::read_to_string(&args[1]).unwrap();
        assert_eq!(
            text,
            r#"{"auths":{"r.example:5000":{"auth":"bWU6c2VzYW1l"}}}"#
        );
    }
}
