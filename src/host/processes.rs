//! Processes that use a directory: by their root, working directory, program, mapped files or mount table.
//!
//! A container's process shows its own paths, as it sees them. What tells is its mount table, in which the rootfs
//! stands with its path on the file system that it lies on, and the inode of its root directory. A generation whose
//! tree is mounted stands in the mount table of every process of the host: there, at its own place, it tells nothing.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use schemars::JsonSchema;
use serde::Serialize;

use crate::root::Root;

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// The name of its program.
    pub name: String,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

/// A directory by all that it may be known by.
struct Wanted {
    /// Its path on this host.
    path: Vec<u8>,
    /// The device as mount tables have it, and the path below that file system's root.
    on_device: Option<(Vec<u8>, Vec<u8>)>,
    /// Of the directory, and of the rootfs in it.
    inodes: Vec<(u64, u64)>,
}

/// For each directory of the root the processes that use it or what lies below it. One whose mount table cannot be
/// read counts as one that uses them all.
pub fn users(root: &Root, dirs: &[PathBuf]) -> Result<Vec<Vec<Process>>> {
    if dirs.is_empty() {
        return Ok(Vec::new());
    }
    let host = Root::open(Path::new("/"))?;
    let own = read(Path::new("/proc/self/mountinfo")).context("reading the mount table")?;
    let wanted: Vec<Wanted> = dirs
        .iter()
        .map(|dir| Wanted::new(root, dir, &own))
        .collect::<Result<_>>()?;
    let mut found: Vec<Vec<Process>> = dirs.iter().map(|_| Vec::new()).collect();
    for name in host.list("/proc")? {
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let proc = Path::new("/proc").join(&name);
        let traces = match Traces::of(&proc) {
            Ok(traces) => Some(traces),
            // It has ended, or ends.
            Err(Errno::NOENT | Errno::SRCH | Errno::INVAL) => continue,
            Err(error) => {
                tracing::debug!(pid, %error, "a process cannot be looked at");
                None
            }
        };
        for (wanted, found) in wanted.iter().zip(&mut found) {
            if traces.as_ref().is_none_or(|traces| traces.show(wanted)) {
                let name = read(&proc.join("comm")).unwrap_or_default();
                let name = String::from_utf8_lossy(&name).trim().to_owned();
                found.push(Process { pid, name });
            }
        }
    }
    Ok(found)
}

impl Wanted {
    fn new(root: &Root, dir: &Path, mounts: &[u8]) -> Result<Self> {
        let path = root.outside(root.real(dir)?);
        let path = path.as_os_str().as_bytes().to_owned();
        let inodes = [dir.to_owned(), dir.join("rootfs")]
            .iter()
            .filter_map(|dir| inode(&root.outside(dir)).ok())
            .collect();
        // The innermost mount that holds it, of those on one place the last.
        let mount = lines(mounts)
            .filter_map(Mount::parse)
            .filter(|mount| mount.point == b"/" || contains_path(&path, &mount.point, At::Start))
            .max_by_key(|mount| mount.point.len());
        let on_device = mount.map(|mount| {
            let below = path.strip_prefix(mount.point.as_slice()).unwrap_or(&path);
            let top = mount.root.strip_suffix(b"/").unwrap_or(&mount.root);
            let slash: &[u8] = if below.starts_with(b"/") { b"" } else { b"/" };
            (mount.device, [top, slash, below].concat())
        });
        Ok(Self {
            path,
            on_device,
            inodes,
        })
    }
}

/// Where a process shows what it uses.
struct Traces {
    links: Vec<Vec<u8>>,
    inodes: Vec<(u64, u64)>,
    maps: Vec<u8>,
    mounts: Vec<u8>,
}

impl Traces {
    fn of(proc: &Path) -> Result<Self, Errno> {
        let (mut links, mut inodes) = (Vec::new(), Vec::new());
        for name in ["root", "cwd", "exe"] {
            let path = proc.join(name);
            match rustix::fs::readlinkat(CWD, &path, Vec::new()) {
                Ok(link) => links.push(link.into_bytes()),
                Err(error) => refused(&path, error)?,
            }
            match inode(&path) {
                Ok(found) => inodes.push(found),
                Err(error) => refused(&path, error)?,
            }
        }
        let maps = proc.join("maps");
        let maps = read(&maps).or_else(|error| refused(&maps, error).map(|()| Vec::new()))?;
        Ok(Self {
            links,
            inodes,
            maps,
            mounts: read(&proc.join("mountinfo"))?,
        })
    }

    fn show(&self, wanted: &Wanted) -> bool {
        let on_device = |mount: Mount| match &wanted.on_device {
            Some((device, path)) => {
                mount.device == *device && contains_path(&mount.root, path, At::Start)
            }
            None => false,
        };
        let shows = |text: &[u8]| contains_path(text, &wanted.path, At::Anywhere);
        self.links
            .iter()
            .any(|link| contains_path(link, &wanted.path, At::Start))
            || self
                .inodes
                .iter()
                .any(|inode| wanted.inodes.contains(inode))
            || shows(&unescape(&self.maps))
            || lines(&self.mounts).any(|line| {
                let mount = Mount::parse(line);
                let in_place = mount.as_ref().is_some_and(|mount| shows(&mount.point));
                !in_place && (shows(&unescape(line)) || mount.is_some_and(on_device))
            })
    }
}

/// A thread of the kernel has no program, what lay on a network may be gone, and some security modules hide a process
/// even from root: its mount table is what everybody may see, and where a container shows.
fn refused(path: &Path, error: Errno) -> Result<(), Errno> {
    match error {
        Errno::ACCESS | Errno::PERM | Errno::NOENT | Errno::STALE => {
            tracing::debug!(path = %path.display(), %error, "it cannot be looked at");
            Ok(())
        }
        other => Err(other),
    }
}

/// A line of mountinfo, see proc_pid_mountinfo(5).
struct Mount {
    device: Vec<u8>,
    root: Vec<u8>,
    point: Vec<u8>,
}

impl Mount {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ').skip(2);
        Some(Self {
            device: fields.next()?.to_owned(),
            root: unescape(fields.next()?),
            point: unescape(fields.next()?),
        })
    }
}

#[derive(Clone, Copy, PartialEq)]
enum At {
    Start,
    Anywhere,
}

/// Whether the text has the path, or one below it: not one that merely begins alike.
fn contains_path(text: &[u8], path: &[u8], at: At) -> bool {
    let ends = |rest: &[u8]| {
        let next = rest.first();
        next.is_none_or(|byte| !(byte.is_ascii_alphanumeric() || b"._-".contains(byte)))
    };
    if at == At::Start {
        return text.strip_prefix(path).is_some_and(ends);
    }
    let mut windows = text.windows(path.len()).enumerate();
    windows.any(|(start, window)| window == path && ends(&text[start + path.len()..]))
}

/// Undoes the octal escapes of the kernel's tables.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *byte == b'\\');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(escaped.unwrap_or(*byte));
        rest = &after[if escaped.is_some() { 3 } else { 0 }..];
    }
    plain
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
}

fn inode(path: &Path) -> Result<(u64, u64), Errno> {
    let found = rustix::fs::statat(CWD, path, AtFlags::empty())?;
    Ok((found.st_dev, found.st_ino))
}

/// A file of the kernel's; it has no size to go by.
fn read(path: &Path) -> Result<Vec<u8>, Errno> {
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut content = Vec::new();
    match File::from(fd).read_to_end(&mut content) {
        Ok(_) => Ok(content),
        Err(error) => Err(errno(&error)),
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Child, Command, Stdio};

    use super::*;

    #[test]
    fn a_path_is_not_one_that_begins_alike() {
        for (text, at, expected) in [
            ("/c/etcd/1", At::Start, true),
            ("/c/etcd/1/rootfs", At::Start, true),
            ("/c/etcd/1 (deleted)", At::Start, true),
            ("/c/etcd/10", At::Start, false),
            ("/c/etcd/1.x", At::Start, false),
            ("/x/c/etcd/1", At::Start, false),
            ("rw,lowerdir=/c/etcd/1/a:/b", At::Anywhere, true),
            ("/c/etcd/11 /c/etcd/1,x", At::Anywhere, true),
            ("/c/etcd/11", At::Anywhere, false),
        ] {
            let found = contains_path(text.as_bytes(), b"/c/etcd/1", at);
            assert_eq!(found, expected, "{text}");
        }
        assert_eq!(unescape(br"/a\040b\134\x\0"), br"/a b\\x\0");
    }

    struct Sleep(Child);

    impl Sleep {
        fn new(command: &mut Command) -> Self {
            let child = command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut sleep = Self(child.spawn().unwrap());
            sleep.says();
            sleep
        }

        fn says(&mut self) {
            let stdout = self.0.stdout.as_mut().unwrap();
            stdout.read_exact(&mut [0]).unwrap();
        }

        /// Lets it go on to where it says the next line.
        fn goes_on(&mut self) {
            self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
            self.says();
        }
    }

    impl Drop for Sleep {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// Says that it is there, and stays until its stdin is closed.
    const STAY: &str = "echo; read -r line";

    /// A service of the host with a mount namespace of its own sees the mounts of all containers, and is in none.
    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "the test starts a process of its own"
    )]
    fn who_sees_a_mount_is_no_user_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let generation = PathBuf::from("/c/x/1");
        for place in ["rootfs", "tree"] {
            root.create_dir_all(generation.join(place), 0o755).unwrap();
        }
        let place = dir.path().join("c/x/1");
        let place = place.display();
        let script =
            format!("mount --bind {place}/tree {place}/rootfs; {STAY}; cd {place}/rootfs; {STAY}");
        let mut service = Command::new("unshare");
        service.args(["--mount", "--propagation", "private", "sh", "-ec", &script]);
        let mut service = Sleep::new(&mut service);
        let dirs = [generation];
        assert_eq!(users(&root, &dirs).unwrap().concat(), []);
        service.goes_on();
        let found = users(&root, &dirs).unwrap().concat();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].pid, service.0.id());
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "the tests start processes of their own"
    )]
    fn who_uses_a_directory() {
        let dir = tempfile::Builder::new().prefix("a b").tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let dirs = ["/c/x/1", "/c/x/10", "/c/x/2", "/c/x/3"].map(PathBuf::from);
        for dir in &dirs {
            root.create_dir_all(dir.join("rootfs/bin"), 0o755).unwrap();
        }
        let pids = || -> Vec<Option<u32>> {
            let found = users(&root, &dirs).unwrap();
            found.iter().map(|all| Some(all.first()?.pid)).collect()
        };
        assert_eq!(pids(), [None; 4]);
        let mut in_it = Command::new("sh");
        in_it
            .args(["-c", STAY])
            .current_dir(dir.path().join("c/x/10/rootfs"));
        let in_it = Sleep::new(&mut in_it);
        // As a runtime does it: a mount namespace in which the rootfs is all there is.
        let script = format!(
            "mount --bind '{0}' '{0}'; cd '{0}'; pivot_root . .; cd /; {STAY}",
            dir.path().join("c/x/2/rootfs").display()
        );
        let mut container = Command::new("unshare");
        container.args(["--mount", "--propagation", "private", "sh", "-ec", &script]);
        let container = Sleep::new(&mut container);
        let program = dir.path().join("c/x/3/rootfs/bin/sh");
        std::fs::copy("/bin/sh", &program).unwrap();
        let program = Sleep::new(Command::new(program).args(["-c", STAY]));
        let expected = [None, Some(&in_it), Some(&container), Some(&program)];
        assert_eq!(pids(), expected.map(|process| Some(process?.0.id())));
    }
}
