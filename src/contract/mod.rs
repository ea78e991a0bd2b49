//! The contract: what an image ships in `/exports`, read and checked as a whole.
//!
//! ```text
//! /exports/manifest.toml        description, values, privileges, service, health, files
//!          service.hbs          the unit; absent: rendered from the manifest alone
//!          socket.hbs timer.hbs path.hbs tmpfiles.hbs config.json.hbs
//!          hostfs/              files for the host
//! ```
//!
//! An image without `/exports` has [`Contract::default`]. Nothing here renders: a [`Template`] is text.
//! `docs/contract.md` is the reference for those who write images.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::contract::manifest::{Files, Manifest};

pub use crate::contract::exports::FILES;

pub mod builtins;
pub mod check;
mod exports;
pub mod finding;
mod lenient;
pub mod manifest;
pub mod parse;
pub mod problems;
mod resolve;
pub mod secret;
pub mod span;
pub mod survey;
pub mod syntax;
mod typed;
pub mod values;

/// All that an image says about itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Contract {
    /// `manifest.toml`, or its defaults.
    pub manifest: Manifest,
    /// The templates that the image ships.
    pub templates: Templates,
    /// The files of `hostfs/`, parents first.
    pub host_files: Vec<HostFile>,
}

/// The templates that an image ships; each absent one has its default elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Templates {
    /// `service.hbs`.
    pub service: Option<Template>,
    /// `socket.hbs`.
    pub socket: Option<Template>,
    /// `timer.hbs`.
    pub timer: Option<Template>,
    /// `path.hbs`.
    pub path: Option<Template>,
    /// `tmpfiles.hbs`.
    pub tmpfiles: Option<Template>,
    /// `config.json.hbs`.
    pub config: Option<Template>,
}

impl Templates {
    /// Those that the image ships.
    pub fn iter(&self) -> impl Iterator<Item = &Template> {
        let all = [
            &self.service,
            &self.socket,
            &self.timer,
            &self.path,
            &self.tmpfiles,
            &self.config,
        ];
        all.into_iter().flatten()
    }
}

/// A template that has not been compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Its name for errors: `service.hbs`.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// A file for the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFile {
    /// Its path in `hostfs/`, beginning with `/`.
    pub path: String,
    /// Its path on the host, `[files] rename` applied: a template.
    pub target: String,
    /// Its permissions; neither setuid nor setgid.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// What it is.
    pub content: HostContent,
    /// Its content is a template, and UTF-8.
    pub template: bool,
}

/// What a file for the host is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostContent {
    /// A regular file.
    File(Vec<u8>),
    /// A symbolic link; its target is taken as it is.
    Link(PathBuf),
    /// An empty directory.
    Dir,
}

/// Reads the contract of the image whose root file system lies at `rootfs`.
///
/// Fails on anything that is not of the contract: an unknown file or key, a name or path that is none, a link or
/// device where a file is due, a file that is too large.
pub fn load(rootfs: &Path) -> Result<Contract> {
    let survey = survey::take(rootfs)?;
    match survey.errors.into_iter().next() {
        Some((_, error)) => Err(error),
        None => Ok(survey.contract),
    }
}

/// Where a path of `hostfs/` goes: the longest renamed path that is it or holds it decides.
fn target(files: &Files, path: &str) -> String {
    let renamed = files.rename.iter().filter_map(|(from, to)| {
        let rest = path.strip_prefix(from.as_str())?;
        (rest.is_empty() || rest.starts_with('/')).then(|| (from.len(), format!("{to}{rest}")))
    });
    renamed.max().map_or_else(|| path.to_owned(), |(_, to)| to)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests make the image")]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// An image of these files.
    fn image(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        dir
    }

    fn error(dir: &tempfile::TempDir) -> String {
        format!("{:#}", load(dir.path()).unwrap_err())
    }

    #[test]
    fn an_image_without_exports_has_the_defaults() {
        let contract = load(image(&[]).path()).unwrap();
        assert_eq!(contract, Contract::default());
        assert_eq!(contract.manifest, parse::manifest("contract = 1").unwrap());
    }

    #[test]
    fn every_file_of_the_contract_is_read() {
        let manifest = b"contract = 1\nfiles.template = ['/etc/d/f']\n\
                         files.rename = { '/etc/d' = '/usr/{{name}}', '/etc/d/g' = '/g' }";
        let dir = image(&[
            ("exports/manifest.toml", manifest),
            ("exports/README.md", b"x"),
            ("exports/service.hbs", b"[Unit]\n"),
            ("exports/config.json.hbs", b"{}"),
            ("exports/hostfs/etc/d/f", b"{{name}}"),
            ("exports/hostfs/etc/d/g", b"\xff"),
        ]);
        let hostfs = dir.path().join("exports/hostfs");
        symlink("/nowhere", hostfs.join("etc/link")).unwrap();
        fs::create_dir(hostfs.join("var")).unwrap();
        fs::set_permissions(hostfs.join("etc/d/f"), PermissionsExt::from_mode(0o640)).unwrap();
        let contract = load(dir.path()).unwrap();
        let service = contract.templates.service.unwrap();
        assert_eq!(
            (&*service.name, &*service.text),
            ("service.hbs", "[Unit]\n")
        );
        assert_eq!(contract.templates.config.unwrap().text, "{}");
        assert_eq!(contract.templates.socket, None);
        let files: Vec<_> = contract
            .host_files
            .iter()
            .map(|f| (&*f.path, &*f.target, f.template, f.content.clone()))
            .collect();
        let file = |bytes: &[u8]| HostContent::File(bytes.to_vec());
        assert_eq!(
            files,
            [
                ("/etc/d/f", "/usr/{{name}}/f", true, file(b"{{name}}")),
                ("/etc/d/g", "/g", false, file(b"\xff")),
                (
                    "/etc/link",
                    "/etc/link",
                    false,
                    HostContent::Link("/nowhere".into())
                ),
                ("/var", "/var", false, HostContent::Dir),
            ]
        );
        assert_eq!(contract.host_files[0].mode, 0o640);
    }

    #[test]
    fn a_file_that_is_not_of_the_contract_is_named() {
        let large = vec![b'x'; 1024 * 1024 + 1];
        let cases: [(&str, &[u8], &str); 7] = [
            (
                "exports/servce.hbs",
                b"",
                "reading `/exports`: `servce.hbs` is no file of the contract; did you mean `service.hbs`?",
            ),
            (
                "exports/install.sh",
                b"",
                "reading `/exports`: `install.sh` is no file of the contract",
            ),
            (
                "exports/service.hbs/x",
                b"",
                "reading `/exports/service.hbs`: it is no regular file",
            ),
            (
                "exports/service.hbs",
                b"a\n\xff",
                "reading `/exports/service.hbs`: line 2: it is no UTF-8",
            ),
            (
                "exports/timer.hbs",
                &large,
                "reading `/exports/timer.hbs`: it is larger than 1 MiB",
            ),
            ("exports", b"", "reading `/exports`: it is no directory"),
            (
                "exports/manifest.toml",
                b"contract = 1\n\n\n\n\n\ndescripton = ''",
                "reading `/exports/manifest.toml`: line 7: unknown key `descripton`; did you mean `description`?",
            ),
        ];
        for (path, content, expected) in cases {
            assert_eq!(error(&image(&[(path, content)])), expected);
        }
    }

    #[test]
    fn a_template_of_hostfs_is_text() {
        let dir = image(&[
            (
                "exports/manifest.toml",
                b"contract = 1\nfiles.template = ['/f']",
            ),
            ("exports/hostfs/f", b"\xff"),
        ]);
        assert_eq!(error(&dir), "reading `/exports/hostfs/f`: it is no UTF-8");
    }

    #[test]
    fn a_hostile_image_stays_inside() {
        let dir = image(&[("etc/passwd", b"x")]);
        symlink("/etc", dir.path().join("exports")).unwrap();
        assert_eq!(error(&dir), "reading `/exports`: it is no directory");

        let dir = image(&[("exports/README", b"")]);
        symlink("/etc/passwd", dir.path().join("exports/service.hbs")).unwrap();
        assert_eq!(
            error(&dir),
            "reading `/exports/service.hbs`: it is no regular file"
        );

        let dir = image(&[("exports/README", b"")]);
        symlink("/etc", dir.path().join("exports/hostfs")).unwrap();
        assert_eq!(error(&dir), "reading `/exports/hostfs`: it is no directory");

        let dir = image(&[("exports/hostfs/x", b"")]);
        let mode = PermissionsExt::from_mode(0o4755);
        fs::set_permissions(dir.path().join("exports/hostfs/x"), mode).unwrap();
        let expected =
            "reading `/exports/hostfs/x`: a file for the host may not be setuid or setgid";
        assert_eq!(error(&dir), expected);

        let dir = image(&[("exports/hostfs/x", b"")]);
        let _socket =
            std::os::unix::net::UnixListener::bind(dir.path().join("exports/hostfs/s")).unwrap();
        let expected = "reading `/exports/hostfs/s`: it is no file, directory or symbolic link";
        assert_eq!(error(&dir), expected);

        let dir = image(&[("exports/hostfs/x", b"")]);
        let sparse = fs::File::options()
            .write(true)
            .open(dir.path().join("exports/hostfs/x"))
            .unwrap();
        sparse.set_len(1 << 40).unwrap();
        assert_eq!(
            error(&dir),
            "reading `/exports/hostfs`: its files are larger than 64 MiB"
        );
    }

    #[test]
    fn the_example_of_the_document_is_a_contract() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/contract.md");
        let document = fs::read_to_string(path).unwrap();
        let (_, rest) = document.split_once("```toml\n").unwrap();
        let (manifest, rest) = rest.split_once("```").unwrap();
        let (_, rest) = rest.split_once("```sh\n").unwrap();
        let (script, _) = rest.split_once("```").unwrap();
        let dir = image(&[
            ("exports/manifest.toml", manifest.as_bytes()),
            ("exports/hostfs/etc/profile.d/etcd.sh", script.as_bytes()),
        ]);
        let contract = load(dir.path()).unwrap();
        assert_eq!(contract.host_files[0].target, "/etc/profile.d/{{name}}.sh");
        assert_eq!(contract.manifest.service.provides, ["etcd"]);
    }
}
