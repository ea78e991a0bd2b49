//! A host in a directory: what `--root` needs to be there, the images beside it, and the program run on it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::layout::{Image, Layout};
use crate::pieces::digest;
use crate::process::{self, Run};
use crate::schema;

/// The program under test.
pub(crate) const BEDPLATE: &str = env!("CARGO_BIN_EXE_bedplate");

/// A host root with systemd 257 and crun, and a directory beside it.
pub(crate) struct Host {
    dir: tempfile::TempDir,
}

/// What lies below a root: each path with its type, mode, owner, and content or target.
pub(crate) type Listing = BTreeMap<PathBuf, String>;

impl Host {
    pub(crate) fn new() -> Self {
        let host = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        for dir in [
            "etc/systemd/system",
            "usr/bin",
            "usr/lib/systemd",
            "var/lib",
            "run",
        ] {
            fs::create_dir_all(host.root().join(dir)).unwrap();
        }
        fs::create_dir(host.beside("home")).unwrap();
        host.put("usr/lib/systemd/libsystemd-shared-257.so", "");
        host.put("usr/bin/crun", "#!/bin/sh\n");
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(host.at("usr/bin/crun"), executable).unwrap();
        host
    }

    /// The root.
    pub(crate) fn root(&self) -> PathBuf {
        self.beside("root")
    }

    /// A path in the root.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    /// A path beside the root.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file of the root.
    pub(crate) fn put(&self, path: &str, content: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// The text of a file of the root.
    pub(crate) fn text(&self, path: &str) -> String {
        let path = self.at(path);
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// Writes an image beside the root; the container will be called `name`.
    pub(crate) fn image(&self, name: &str, image: &Image) -> Layout {
        image.write(&self.beside(name))
    }

    /// An image with this manifest.
    pub(crate) fn image_of(&self, name: &str, manifest: &str) -> Layout {
        self.image(name, &Image::new(manifest))
    }

    /// The program with `--root` and these arguments.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.command_as(BEDPLATE.as_ref(), args)
    }

    /// The same through another program that runs it.
    pub(crate) fn command_as(&self, program: &std::ffi::OsStr, args: &[&str]) -> Command {
        let mut root = OsString::from("--root=");
        root.push(self.root());
        let mut command = Command::new(program);
        command.args(args).arg(root);
        self.environment(&mut command);
        command
    }

    /// Runs the program as one who is not root, from where anybody may.
    pub(crate) fn as_nobody(&self, args: &[&str]) -> Run {
        let program = self.beside("bedplate");
        // Not by this process: whatever another thread begins meanwhile would have the copy open for writing, and
        // what is open so cannot be executed.
        process::tool("cp", &[BEDPLATE, program.to_str().unwrap()]);
        for dir in [self.beside(""), self.root()] {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "--"];
        let args = [&nobody[..], &[program.to_str().unwrap()], args].concat();
        process::run(&mut self.command_as("setpriv".as_ref(), &args))
    }

    /// What every command finds: nothing of the operator's own configuration.
    pub(crate) fn environment(&self, command: &mut Command) {
        command
            .env("HOME", self.beside("home"))
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_RUNTIME_DIR")
            .env_remove("DBUS_SYSTEM_BUS_ADDRESS")
            .env_remove("RUST_LOG");
    }

    /// Runs the program to its end; what it prints as JSON must be as its schema says.
    pub(crate) fn run(&self, args: &[&str]) -> Run {
        let run = process::run(&mut self.command(args));
        if args.contains(&"--json") && !run.stdout.is_empty() {
            schema::check(args, &run.stdout);
        }
        if args.contains(&"--json") && run.status > 0 && !args.contains(&"exec") {
            schema::check_error(&run.stderr);
        }
        run
    }

    /// Runs the program, which must succeed; its stdout.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        self.run(args).ok()
    }

    /// Runs the program, which must fail with status 1 and exactly this on stderr from `error:` on, and change nothing.
    pub(crate) fn refused(&self, args: &[&str], error: &str) {
        assert_eq!(self.fails(args), error);
    }

    /// Runs the program, which must fail with status 1 and change nothing; what it says from `error:` on.
    pub(crate) fn fails(&self, args: &[&str]) -> String {
        let mut said = String::new();
        self.unchanged(|| self.run(args).failed(1).clone_into(&mut said));
        said
    }

    /// Calls `action`, after which everything but the store must be as it was before.
    pub(crate) fn unchanged(&self, action: impl FnOnce()) {
        let before = self.listing();
        action();
        assert_same(&before, &self.listing());
    }

    /// Everything below the root but the store, the lock, and empty directories of bedplate's own.
    pub(crate) fn listing(&self) -> Listing {
        let own = Path::new("var/lib/bedplate");
        let mut found = walk(&self.root(), lasting);
        found.remove(Path::new(""));
        found.retain(|path, _| !path.starts_with(own.join("repo")) && path != &own.join("lock"));
        for dir in [own.join("containers"), own.join("staging"), own.to_owned()] {
            if !found.keys().any(|p| p.starts_with(&dir) && *p != dir) {
                found.remove(&dir);
            }
        }
        found
    }
}

/// Fails with the paths that differ.
pub(crate) fn assert_same(before: &Listing, after: &Listing) {
    let mut differences = Vec::new();
    for path in before.keys().chain(after.keys()) {
        let (old, new) = (before.get(path), after.get(path));
        if old != new {
            differences.push(format!("{}: {old:?} became {new:?}", path.display()));
        }
    }
    differences.sort();
    differences.dedup();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// A directory and what lies below it, each file with its content's digest.
pub(crate) fn listing(root: &Path) -> Listing {
    walk(root, |bytes| digest(&bytes))
}

/// A file's text without what differs from one install to the next.
fn lasting(bytes: Vec<u8>) -> String {
    let text = String::from_utf8(bytes).unwrap_or_else(|e| digest(e.as_bytes()));
    let lines = text
        .lines()
        .filter(|line| !line.starts_with("installed = ") && !line.starts_with("when = "));
    lines.collect::<Vec<_>>().join("\n")
}

/// The extended attributes of a name, links not followed; sorted.
fn attributes(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut names, mut value) = (vec![0; 1 << 12], vec![0; 1 << 16]);
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let names = names[..length].split(|byte| *byte == 0);
    let names = names.filter(|name| !name.is_empty());
    names
        .map(|name| {
            let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            let name = String::from_utf8(name.to_owned()).unwrap();
            (name, value[..length].to_owned())
        })
        .collect()
}

fn walk(root: &Path, read: fn(Vec<u8>) -> String) -> Listing {
    let (mut found, mut left) = (Listing::new(), vec![root.to_owned()]);
    while let Some(path) = left.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
            "directory".to_owned()
        } else if meta.is_symlink() {
            format!("-> {}", fs::read_link(&path).unwrap().display())
        } else if meta.is_file() {
            read(fs::read(&path).unwrap())
        } else {
            format!("special {}", meta.file_type().is_socket())
        };
        let mut line = format!("{:o} {}:{} {content}", meta.mode(), meta.uid(), meta.gid());
        for (attribute, value) in attributes(&path) {
            write!(line, " {attribute}={value:?}").unwrap();
        }
        found.insert(path.strip_prefix(root).unwrap().to_owned(), line);
    }
    found
}
