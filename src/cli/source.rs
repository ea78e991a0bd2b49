//! Options of every verb that opens images at their source.

use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::hint::Hinted;
use crate::image::access::{Access, Credentials, Login};
use crate::image::platform::Platform;
use crate::image::reference::ImageRef;

/// Where images come from and for which machine, in podman's words.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options of the images' source")]
#[group(id = "source")]
pub(crate) struct Args {
    /// Take the image for this architecture; another than the host's with --root
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,
    /// Take the image for this operating system
    #[arg(long, value_name = "OS")]
    os: Option<String>,
    /// Take the image for this variant of the architecture, such as v7
    #[arg(long, value_name = "VARIANT")]
    variant: Option<String>,
    /// The registry's user; the password is asked for if it is left out
    #[arg(long, value_name = "USER[:PASSWORD]", conflicts_with = "authfile")]
    creds: Option<String>,
    #[command(flatten)]
    registries: Registries,
}

/// How registries are entered, whichever images come from them.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options of the images' source")]
#[group(id = "registries")]
pub(crate) struct Registries {
    /// The file with the registry's password, as `skopeo login` writes it
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// A directory with the registry's CA (*.crt) and a client's *.cert and *.key
    #[arg(long, value_name = "DIR")]
    cert_dir: Option<PathBuf>,
    /// Whether the registry's certificate must be valid; false allows plain HTTP
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tls_verify: Option<bool>,
}

impl Args {
    /// What they say, for these images. May ask for a password.
    pub(crate) fn access<'a>(
        &self,
        images: impl IntoIterator<Item = &'a ImageRef>,
    ) -> Result<Access> {
        let access = self.registries.access()?;
        let given = self.creds.as_ref().map(|creds| credentials(creds, images));
        let login = given.transpose()?.map(Login::Given).or(access.login);
        let (os, variant) = (self.os.as_deref(), self.variant.as_deref());
        Ok(Access {
            platform: Platform::given(os, self.arch.as_deref(), variant)?,
            login,
            ..access
        })
    }
}

impl Registries {
    /// What they say.
    pub(crate) fn access(&self) -> Result<Access> {
        if let Some(file) = self.authfile.as_ref().filter(|file| !file.is_file()) {
            bail!("`--authfile {}`: there is no such file", file.display());
        }
        if let Some(dir) = self.cert_dir.as_ref().filter(|dir| !dir.is_dir()) {
            bail!("`--cert-dir {}`: there is no such directory", dir.display());
        }
        Ok(Access {
            login: self.authfile.clone().map(Login::File),
            cert_dir: self.cert_dir.clone(),
            tls_verify: self.tls_verify,
            ..Access::default()
        })
    }
}

/// The credentials for the one registry of these images: a password goes to no other.
fn credentials<'a>(
    text: &str,
    images: impl IntoIterator<Item = &'a ImageRef>,
) -> Result<Credentials> {
    let mut registries: Vec<_> = images.into_iter().filter_map(ImageRef::registry).collect();
    registries.sort_unstable();
    registries.dedup();
    let registry = match registries[..] {
        [registry] => registry,
        [] => bail!("`--creds` is for registries, and none of the images comes from one"),
        _ => {
            return Err(anyhow::anyhow!(
                "`--creds` is for one registry; the images come from {}",
                registries.len()
            ))
            .hint("log in to each with `skopeo login REGISTRY`, or give them one by one");
        }
    };
    let (user, password) = match text.split_once(':') {
        Some((user, password)) => (user, password.to_owned()),
        None => (text, ask(&format!("Password of {text} at {registry}: "))?),
    };
    if user.is_empty() {
        bail!("`--creds`: give it as USER or USER:PASSWORD");
    }
    Credentials::new(registry, user, &password)
}

/// Asks on the terminal, which does not show what is typed.
fn ask(prompt: &str) -> Result<String> {
    let terminal = rustix::fs::open(
        "/dev/tty",
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    );
    let terminal = terminal
        .context("`--creds` without a password asks for it, and there is no terminal")
        .hint("give a file with `--authfile FILE`: `skopeo login --authfile FILE REGISTRY` writes one")?;
    let asking = || "asking for the password";
    let before = tcgetattr(&terminal).with_context(asking)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    silent.local_modes.insert(LocalModes::ECHONL);
    tcsetattr(&terminal, OptionalActions::Flush, &silent).with_context(asking)?;
    let typed = read_line(terminal.try_clone().map(std::fs::File::from), prompt);
    tcsetattr(&terminal, OptionalActions::Flush, &before).with_context(asking)?;
    typed.with_context(asking)
}

fn read_line(terminal: io::Result<std::fs::File>, prompt: &str) -> io::Result<String> {
    let mut terminal = terminal?;
    terminal.write_all(prompt.as_bytes())?;
    let mut line = String::new();
    BufReader::new(terminal).read_line(&mut line)?;
    if line.pop() != Some('\n') {
        return Err(io::Error::other("the terminal was closed"));
    }
    Ok(line)
}
