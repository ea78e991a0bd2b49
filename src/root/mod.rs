//! The host root: `/`, or the directory of `--root`, as a handle through which every host file is reached.
//!
//! Paths are resolved by openat2(2) with `RESOLVE_IN_ROOT`: an absolute link inside an image build's root leads
//! to a file of that root, never to one of the machine that builds it. (cap-std resolves with `RESOLVE_BENEATH`,
//! which refuses absolute links; a host may well have `/var/lib/bedplate` as one.)

mod descent;
mod metadata;
mod remove;
mod walk;
mod write;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::root::descent::names;
pub use crate::root::metadata::{Attributes, Metadata};
pub use crate::root::walk::{Gone, Inode, Link};

/// A host root as a directory handle.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
    path: PathBuf,
}

/// What lies at a path, the last component not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Link,
    /// A device, FIFO or socket.
    Other,
}

impl Kind {
    fn of(found: FileType) -> Self {
        match found {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Dir,
            FileType::Symlink => Self::Link,
            _ => Self::Other,
        }
    }
}

impl Root {
    /// Opens the directory `path` as a root.
    pub fn open(path: &Path) -> Result<Self> {
        let opening = || format!("opening the root `{}`", path.display());
        let path = path.canonicalize().with_context(opening)?;
        let dir = rustix::fs::openat(CWD, &path, DIR_FLAGS, Mode::empty()).with_context(opening)?;
        Ok(Self { dir, path })
    }

    /// The root of a process, with all that is mounted there for it.
    pub fn of_process(pid: u32) -> Result<Self> {
        let path = PathBuf::from(format!("/proc/{pid}/root"));
        let opening = || format!("opening the root `{}`", path.display());
        let dir = rustix::fs::openat(CWD, &path, DIR_FLAGS, Mode::empty()).with_context(opening)?;
        Ok(Self { dir, path })
    }

    /// Whether this is the running host's own root.
    pub fn is_host(&self) -> bool {
        self.path == Path::new("/")
    }

    /// `path` of this root as this process sees it, for programs and libraries that want a path.
    pub fn outside(&self, path: impl AsRef<Path>) -> PathBuf {
        self.path.join(relative(path.as_ref()))
    }

    /// What lies at `path`; nothing is `None`.
    pub fn kind(&self, path: impl AsRef<Path>) -> Result<Option<Kind>> {
        let path = path.as_ref();
        if path.file_name().is_none() {
            return Ok(Some(Kind::Dir));
        }
        let found = self
            .parent(path)
            .and_then(|(dir, name)| rustix::fs::statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW));
        match found {
            Ok(stat) => Ok(Some(Kind::of(FileType::from_raw_mode(stat.st_mode)))),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(e) => Err(e).with_context(|| format!("looking at `{}`", path.display())),
        }
    }

    /// The file's content, links followed inside the root; a file that is not there is `None`.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Option<Vec<u8>>> {
        self.read_at_most(path, u64::MAX)
    }

    /// As [`Root::read`]; one of more than `most` bytes is an error.
    pub fn read_at_most(&self, path: impl AsRef<Path>, most: u64) -> Result<Option<Vec<u8>>> {
        let path = path.as_ref();
        let reading = || format!("reading `{}`", path.display());
        let fd = match self.open_at(path, OFlags::RDONLY | OFlags::CLOEXEC) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(e) => return Err(e).with_context(reading),
        };
        let mut content = Vec::new();
        File::from(fd)
            .take(most.saturating_add(1))
            .read_to_end(&mut content)
            .with_context(reading)?;
        if content.len() as u64 > most {
            return Err(anyhow!("it has more than {most} bytes")).with_context(reading);
        }
        Ok(Some(content))
    }

    /// As [`Root::read`], as text; bytes that are no UTF-8 are an error.
    pub fn read_text(&self, path: impl AsRef<Path>) -> Result<Option<String>> {
        let path = path.as_ref();
        self.read(path)?
            .map(String::from_utf8)
            .transpose()
            .with_context(|| format!("reading `{}`", path.display()))
    }

    /// The names in the directory, sorted; a directory that is not there is empty.
    pub fn list(&self, path: impl AsRef<Path>) -> Result<Vec<OsString>> {
        let path = path.as_ref();
        let listing = || format!("listing `{}`", path.display());
        let fd = match self.open_at(path, DIR_FLAGS) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
            Err(e) => return Err(e).with_context(listing),
        };
        let found = names(&fd).with_context(listing)?;
        let mut names: Vec<_> = found.into_iter().map(|(name, _)| name).collect();
        names.sort();
        Ok(names)
    }

    /// The permission bits of what lies at `path`, setuid, setgid and sticky included.
    pub fn mode(&self, path: impl AsRef<Path>) -> Result<u32> {
        let path = path.as_ref();
        let looking = || format!("looking at `{}`", path.display());
        let (dir, name) = self.parent(path).with_context(looking)?;
        let stat =
            rustix::fs::statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW).with_context(looking)?;
        Ok(stat.st_mode & 0o7777)
    }

    /// The user and the group that what lies at `path` belongs to.
    pub fn owner(&self, path: impl AsRef<Path>) -> Result<(u32, u32)> {
        let path = path.as_ref();
        let looking = || format!("looking at `{}`", path.display());
        let (dir, name) = self.parent(path).with_context(looking)?;
        let stat =
            rustix::fs::statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW).with_context(looking)?;
        Ok((stat.st_uid, stat.st_gid))
    }

    /// Whether a directory lies at `path`, links followed inside the root; nothing there is `None`.
    pub fn leads_to_dir(&self, path: impl AsRef<Path>) -> Result<Option<bool>> {
        let found = self.leads_to(path)?;
        Ok(found.map(|(kind, _)| kind == Kind::Dir))
    }

    /// What lies at `path` and its permission bits, links followed inside the root; nothing there is `None`.
    pub fn leads_to(&self, path: impl AsRef<Path>) -> Result<Option<(Kind, u32)>> {
        let path = path.as_ref();
        let looking = || format!("looking at `{}`", path.display());
        match self.open_at(path, OFlags::PATH | OFlags::CLOEXEC) {
            Ok(fd) => {
                let stat = rustix::fs::fstat(&fd).with_context(looking)?;
                let kind = Kind::of(FileType::from_raw_mode(stat.st_mode));
                Ok(Some((kind, stat.st_mode & 0o7777)))
            }
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(e) => Err(e).with_context(looking),
        }
    }

    /// Where a file written at `path` really lies: the links above its last component followed inside the root.
    pub fn real(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        let path = path.as_ref();
        let looking = || format!("looking at `{}`", path.display());
        for dir in path.ancestors().skip(1) {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let fd = match self.open_at(dir, flags) {
                Ok(fd) => fd,
                Err(Errno::NOENT | Errno::NOTDIR) => continue,
                Err(e) => return Err(e).with_context(looking),
            };
            let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
            let real = rustix::fs::readlinkat(CWD, link, Vec::new()).with_context(looking)?;
            let real = Path::new(OsStr::from_bytes(real.to_bytes()));
            let inside = relative(real.strip_prefix(&self.path).unwrap_or(real));
            let rest = path.strip_prefix(dir).unwrap_or(path);
            return Ok(Path::new("/").join(inside).join(rest));
        }
        Ok(path.to_owned())
    }

    /// Where the symbolic link points; anything that is no link is `None`.
    pub fn link_target(&self, path: impl AsRef<Path>) -> Result<Option<PathBuf>> {
        let path = path.as_ref();
        let found = self
            .parent(path)
            .and_then(|(dir, name)| rustix::fs::readlinkat(&dir, &name, Vec::new()));
        match found {
            Ok(target) => Ok(Some(OsStr::from_bytes(target.to_bytes()).into())),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::INVAL) => Ok(None),
            Err(e) => Err(e).with_context(|| format!("reading the link `{}`", path.display())),
        }
    }

    /// Opens a file or directory of the root, links followed inside it.
    fn open_at(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = relative(path);
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        rustix::fs::openat2(&self.dir, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)
    }

    /// The opened directory that holds `path`, and its last component.
    fn parent(&self, path: &Path) -> Result<(OwnedFd, OsString), Errno> {
        match path.components().next_back() {
            Some(Component::Normal(name)) => {
                let dir = path.parent().unwrap_or(Path::new("/"));
                Ok((self.open_at(dir, DIR_FLAGS)?, name.to_owned()))
            }
            _ => Err(Errno::INVAL),
        }
    }
}

const DIR_FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// The path without its leading `/`.
fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// The name under which the next content of `name` is prepared. Writers hold the lock: one name is enough, and
/// what a crash leaves can be found again.
fn temporary(name: &OsStr) -> OsString {
    let mut temp = OsString::from(".");
    temp.push(name);
    temp.push(".bedplate-tmp");
    temp
}

/// Removes what a crash left of a file's next content.
fn unlink_temporary(dir: &OwnedFd, temp: &OsStr) -> Result<(), Errno> {
    match rustix::fs::unlinkat(dir, temp, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests look from outside")]
mod tests {
    use super::*;

    fn root() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        (dir, root)
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let (dir, root) = root();
        assert_eq!(root.create_dir_all("/etc/x", 0o755).unwrap().len(), 2);
        root.replace("/etc/x/f", b"one", 0o640).unwrap();
        root.replace("/etc/x/f", b"two", 0o644).unwrap();
        assert_eq!(root.read("etc/x/f").unwrap().unwrap(), b"two");
        assert_eq!(root.list("/etc/x").unwrap(), ["f"]);
        let meta = std::fs::metadata(dir.path().join("etc/x/f")).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&meta) & 0o777, 0o644);
    }

    #[test]
    fn a_file_that_is_there_is_never_written_to() {
        let (dir, root) = root();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("object"), "shared").unwrap();
        std::fs::hard_link(path("object"), path(".f.bedplate-tmp")).unwrap();
        root.replace("/f", b"new", 0o600).unwrap();
        assert_eq!(std::fs::read(path("object")).unwrap(), b"shared");
        assert_eq!(root.read("/f").unwrap().unwrap(), b"new");
        assert_eq!(root.list("/").unwrap(), ["f", "object"]);
    }

    #[test]
    fn absolute_links_stay_in_the_root() {
        let (dir, root) = root();
        root.create_dir_all("/srv/data", 0o755).unwrap();
        std::os::unix::fs::symlink("/srv/data", dir.path().join("link")).unwrap();
        root.replace("/link/f", b"x", 0o644).unwrap();
        assert!(dir.path().join("srv/data/f").exists());
        std::os::unix::fs::symlink("../../../..", dir.path().join("up")).unwrap();
        assert_eq!(root.list("/up").unwrap(), root.list("/").unwrap());
    }

    #[test]
    fn a_real_path_has_no_links_above_it() {
        let (_dir, root) = root();
        root.create_dir_all("/run/x", 0o755).unwrap();
        root.create_dir_all("/var", 0o755).unwrap();
        root.point("/var/run", Path::new("/run")).unwrap();
        root.point("/var/gone", Path::new("/nowhere")).unwrap();
        for (path, real) in [
            ("/var/run/x/f", "/run/x/f"),
            ("/var/run/y/f", "/run/y/f"),
            ("/var/run", "/var/run"),
            ("/var/gone/f", "/var/gone/f"),
            ("/f", "/f"),
        ] {
            assert_eq!(root.real(path).unwrap(), Path::new(real), "{path}");
        }
    }

    #[test]
    fn a_directory_has_the_mode_asked_for() {
        let (_dir, root) = root();
        // More than any umask leaves.
        root.create_dir_all("/a/b", 0o2777).unwrap();
        assert_eq!(root.mode("/a").unwrap(), 0o2777);
        assert_eq!(root.mode("/a/b").unwrap(), 0o2777);
    }

    #[test]
    fn what_is_not_there_is_none() {
        let (_dir, root) = root();
        assert_eq!(root.kind("/").unwrap(), Some(Kind::Dir));
        assert_eq!(root.kind("/a/b").unwrap(), None);
        assert_eq!(root.read("/a/b").unwrap(), None);
        assert!(root.list("/a").unwrap().is_empty());
        assert!(!root.remove_file("/a/b").unwrap());
        root.remove_tree("/a").unwrap();
    }

    #[test]
    fn links_are_pointed_and_trees_removed() {
        let (_dir, root) = root();
        root.create_dir_all("/c/1", 0o700).unwrap();
        root.point("/c/current", Path::new("1")).unwrap();
        root.point("/c/current", Path::new("2")).unwrap();
        assert_eq!(
            root.link_target("/c/current").unwrap().unwrap(),
            Path::new("2")
        );
        assert!(!root.remove_empty_dir("/c").unwrap());
        root.remove_tree("/c").unwrap();
        assert_eq!(root.kind("/c").unwrap(), None);
    }
}
