//! A program and all that it starts under ptrace(2): each system call that changed a path is shown to the test, which
//! may end them all right after it, as a crash would.
//!
//! Only this thread's own children are waited for: other tests run beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::calls::{HERE, Judged, Names, judge};
use crate::host::{BEDPLATE, Host};
use crate::process::{DEADLINE, Run};

/// A system call that has changed something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// Its name.
    pub(crate) call: &'static str,
    /// What it changed, as the machine's root has it.
    pub(crate) paths: Vec<PathBuf>,
}

/// Stops itself until it is being traced.
const HELD: &str = "kill -STOP $$; exec \"$@\"";

/// Runs the program on the host; `stop` sees each change and says whether all ends right after it. `None`: it did.
#[expect(
    clippy::zombie_processes,
    reason = "it is waited for as what is traced"
)]
pub(crate) fn run(
    host: &Host,
    args: &[&str],
    stop: &mut dyn FnMut(&Change) -> bool,
) -> Option<Run> {
    let (mut stdout, mut stderr) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    let held = [&["-c", HELD, "sh", BEDPLATE], args].concat();
    let child = host
        .command_as("sh".as_ref(), &held)
        .stdin(Stdio::null())
        .stdout(stdout.try_clone().unwrap())
        .stderr(stderr.try_clone().unwrap())
        .spawn()
        .unwrap();
    let first = Pid::from_raw(child.id().try_into().unwrap());
    let stopped = wait_for(first, WaitPidFlag::WUNTRACED);
    assert!(
        matches!(stopped, Ok(WaitStatus::Stopped(_, Signal::SIGSTOP))),
        "{stopped:?}"
    );
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    ptrace::seize(first, options).unwrap();
    kill(first, Signal::SIGCONT).unwrap();
    let (done, alarm) = mpsc::channel::<()>();
    let watch = thread::spawn(move || {
        let late = alarm.recv_timeout(DEADLINE) == Err(mpsc::RecvTimeoutError::Timeout);
        if late {
            let _gone = kill(first, Signal::SIGKILL);
        }
        late
    });
    let mut traced = Traced {
        first,
        alive: BTreeSet::from([first]),
        under_way: BTreeMap::new(),
        stop,
        stopped: false,
        status: None,
    };
    traced.until_all_ended();
    drop(done);
    let [stdout, stderr] = [&mut stdout, &mut stderr].map(text);
    assert!(!watch.join().unwrap(), "it did not end: {stderr}");
    if traced.stopped {
        return None;
    }
    Some(Run {
        status: traced.status.unwrap_or(-1),
        stdout,
        stderr,
    })
}

fn text(file: &mut File) -> String {
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

fn wait_for(pid: Pid, flags: WaitPidFlag) -> nix::Result<WaitStatus> {
    loop {
        match waitpid(
            pid,
            Some(flags | WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD),
        ) {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

struct Traced<'a> {
    first: Pid,
    alive: BTreeSet<Pid>,
    /// System calls that have begun, and what they change if they succeed.
    under_way: BTreeMap<Pid, Change>,
    stop: &'a mut dyn FnMut(&Change) -> bool,
    stopped: bool,
    status: Option<i32>,
}

impl Traced<'_> {
    fn until_all_ended(&mut self) {
        loop {
            match wait_for(Pid::from_raw(-1), WaitPidFlag::empty()) {
                Err(Errno::ECHILD) => return,
                Err(error) => panic!("{error}"),
                Ok(WaitStatus::Exited(pid, status)) => {
                    self.alive.remove(&pid);
                    if pid == self.first {
                        self.status = Some(status);
                    }
                }
                Ok(WaitStatus::Signaled(pid, ..)) => {
                    self.alive.remove(&pid);
                }
                Ok(WaitStatus::PtraceSyscall(pid)) => {
                    self.at_call(pid);
                    go_on(pid, None);
                }
                Ok(WaitStatus::PtraceEvent(pid, ..)) => {
                    self.met(pid);
                    go_on(pid, None);
                }
                Ok(WaitStatus::Stopped(pid, signal)) => {
                    self.met(pid);
                    go_on(pid, Some(signal));
                }
                Ok(other) => panic!("{other:?}"),
            }
        }
    }

    /// A process or thread; one that began when all were ended ends as well.
    fn met(&mut self, pid: Pid) {
        self.alive.insert(pid);
        if self.stopped {
            let _gone = kill(pid, Signal::SIGKILL);
        }
    }

    fn at_call(&mut self, pid: Pid) {
        // One that was killed meanwhile has no registers.
        let (Ok(info), Ok(registers)) = (ptrace::syscall_info(pid), ptrace::getregs(pid)) else {
            return;
        };
        if info.op == libc::PTRACE_SYSCALL_INFO_ENTRY {
            let (number, arguments) = call(&registers);
            match judge(number, &arguments) {
                Judged::Harmless => {}
                Judged::Changes(call, names) => {
                    let paths = Tracee(pid).paths(names, &arguments);
                    if !paths.is_empty() {
                        self.under_way.insert(pid, Change { call, paths });
                    }
                }
                Judged::Unknown => {
                    self.end();
                    panic!(
                        "nobody has said whether system call {number} {arguments:x?} changes a path"
                    );
                }
            }
        } else if let Some(change) = self.under_way.remove(&pid)
            && result(&registers) >= 0
            && !self.stopped
            && (self.stop)(&change)
        {
            self.stopped = true;
            self.end();
        }
    }

    fn end(&self) {
        for pid in &self.alive {
            let _gone = kill(*pid, Signal::SIGKILL);
        }
    }
}

fn go_on(pid: Pid, signal: Option<Signal>) {
    match ptrace::syscall(pid, signal) {
        // It was killed.
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => panic!("{error}"),
    }
}

#[cfg(target_arch = "x86_64")]
fn call(registers: &libc::user_regs_struct) -> (i64, [u64; 6]) {
    let r = registers;
    (
        r.orig_rax.cast_signed(),
        [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9],
    )
}

#[cfg(target_arch = "x86_64")]
fn result(registers: &libc::user_regs_struct) -> i64 {
    registers.rax.cast_signed()
}

#[cfg(target_arch = "aarch64")]
fn call(registers: &libc::user_regs_struct) -> (i64, [u64; 6]) {
    let r = &registers.regs;
    (r[8].cast_signed(), [r[0], r[1], r[2], r[3], r[4], r[5]])
}

#[cfg(target_arch = "aarch64")]
fn result(registers: &libc::user_regs_struct) -> i64 {
    registers.regs[0].cast_signed()
}

/// A process that stands at a system call.
struct Tracee(Pid);

impl Tracee {
    /// What the call would change; nothing when that has no path.
    fn paths(&self, names: Names, a: &[u64; 6]) -> Vec<PathBuf> {
        let found = match names {
            Names::Path(path) => vec![self.below(None, a[path])],
            Names::Two(from, to) => vec![self.below(None, a[from]), self.below(None, a[to])],
            Names::At(dir, path) => vec![self.below(Some(a[dir]), a[path])],
            Names::TwoAt([first, from, second, to]) => vec![
                self.below(Some(a[first]), a[from]),
                self.below(Some(a[second]), a[to]),
            ],
            Names::File(file) => vec![self.file(a[file])],
            Names::Open(dir, path, flags) => {
                let dir = (dir != HERE).then(|| a[dir]);
                vec![self.opened(dir, a[path], a[flags])]
            }
            Names::OpenHow(dir, path, how) => {
                let flags = self.read::<8>(a[how]);
                vec![self.opened(Some(a[dir]), a[path], u64::from_ne_bytes(flags))]
            }
            Names::Mapped => {
                let written = a[2] & 2 != 0 && a[3] & 1 != 0 && a[3] & 0x20 == 0;
                vec![if written { self.file(a[4]) } else { None }]
            }
            Names::Control => vec![self.file(a[0])],
        };
        found.into_iter().flatten().collect()
    }

    /// The path, if opening it makes a file or empties one.
    fn opened(&self, dir: Option<u64>, path: u64, flags: u64) -> Option<PathBuf> {
        let has = |flag: i32| flags & u64::from(flag.unsigned_abs()) != 0;
        if !has(libc::O_CREAT) && !has(libc::O_TRUNC) {
            return None;
        }
        let path = self.below(dir, path)?;
        let is_made = fs::symlink_metadata(&path).is_err();
        (is_made || has(libc::O_TRUNC)).then_some(path)
    }

    fn proc(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.0))
    }

    /// An open file's path; pipes, sockets and devices have none that matters.
    fn file(&self, number: u64) -> Option<PathBuf> {
        #[expect(clippy::cast_possible_truncation, reason = "the kernel takes an int")]
        let number = number as u32;
        let path = fs::read_link(self.proc(&format!("fd/{number}"))).ok()?;
        of_disk(path)
    }

    fn below(&self, dir: Option<u64>, path: u64) -> Option<PathBuf> {
        let path = self.text(path);
        #[expect(clippy::cast_possible_truncation, reason = "the kernel takes an int")]
        let dir = dir.map(|dir| (dir as u32).cast_signed());
        let base = match dir {
            _ if path.starts_with("/") => PathBuf::from("/"),
            None | Some(libc::AT_FDCWD) => fs::read_link(self.proc("cwd")).unwrap(),
            Some(dir) => fs::read_link(self.proc(&format!("fd/{dir}"))).ok()?,
        };
        if path.as_os_str().is_empty() {
            return of_disk(base);
        }
        let path = ["/proc/self", "/proc/thread-self"]
            .iter()
            .find_map(|own| path.strip_prefix(own).ok())
            .map_or_else(|| base.join(&path), |rest| self.proc("").join(rest));
        // An open file by the name that proc(5) has for it.
        if path.starts_with("/proc") {
            return of_disk(fs::read_link(&path).unwrap_or(path));
        }
        let name = path.file_name();
        let real = path.parent().and_then(|dir| dir.canonicalize().ok());
        of_disk(match (real, name) {
            (Some(dir), Some(name)) => dir.join(name),
            _ => path,
        })
    }

    fn read<const N: usize>(&self, address: u64) -> [u8; N] {
        let mut bytes = [0; N];
        let memory = File::open(self.proc("mem")).unwrap();
        memory.read_exact_at(&mut bytes, address).unwrap();
        bytes
    }

    /// A text in its memory; none at the null pointer.
    fn text(&self, address: u64) -> PathBuf {
        const PAGE: u64 = 4096;
        if address == 0 {
            return PathBuf::new();
        }
        let memory = File::open(self.proc("mem")).unwrap();
        let (mut at, mut text) = (address, Vec::new());
        loop {
            let mut piece = vec![0; usize::try_from(PAGE - at % PAGE).unwrap()];
            memory.read_exact_at(&mut piece, at).unwrap();
            at += piece.len() as u64;
            if let Some(end) = piece.iter().position(|byte| *byte == 0) {
                text.extend_from_slice(&piece[..end]);
                return String::from_utf8(text).unwrap().into();
            }
            text.extend(piece);
        }
    }
}

/// A path, unless it is of what holds no files: pipes, sockets, devices, what proc(5) and sysfs(5) show.
fn of_disk(path: PathBuf) -> Option<PathBuf> {
    let is_file = path.is_absolute()
        && (!["/proc", "/dev", "/sys"]
            .iter()
            .any(|dir| path.starts_with(dir))
            || path.starts_with("/dev/shm"))
        && !path.to_string_lossy().starts_with("/memfd:");
    is_file.then_some(path)
}
