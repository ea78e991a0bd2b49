//! The system calls that a program of ours may make: those that change a path, and those that do not. One that is in
//! neither list is for a person to judge: the tests that count changes fail at it.

use nix::libc;

/// How a system call names what it changes, by the numbers of its arguments.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Names {
    /// A path.
    Path(usize),
    /// A path below an open directory.
    At(usize, usize),
    /// Two of these.
    TwoAt([usize; 4]),
    /// Two paths.
    Two(usize, usize),
    /// An open file.
    File(usize),
    /// A path below an open directory, made or emptied if the flags in the third say so.
    Open(usize, usize, usize),
    /// As `Open`, the flags in memory.
    OpenHow(usize, usize, usize),
    /// An open file that is mapped to be written to.
    Mapped,
    /// An open file, for some requests.
    Control,
}

/// The directory that a path without one is relative to.
pub(crate) const HERE: usize = usize::MAX;

/// What changes names, contents, modes, owners or attributes.
const CHANGING: &[(i64, &str, Names)] = &[
    (libc::SYS_openat, "openat", Names::Open(0, 1, 2)),
    (libc::SYS_openat2, "openat2", Names::OpenHow(0, 1, 2)),
    (libc::SYS_mkdirat, "mkdirat", Names::At(0, 1)),
    (libc::SYS_mknodat, "mknodat", Names::At(0, 1)),
    (libc::SYS_unlinkat, "unlinkat", Names::At(0, 1)),
    (libc::SYS_symlinkat, "symlinkat", Names::At(1, 2)),
    (libc::SYS_linkat, "linkat", Names::At(2, 3)),
    (libc::SYS_renameat2, "renameat2", Names::TwoAt([0, 1, 2, 3])),
    (libc::SYS_fchmodat, "fchmodat", Names::At(0, 1)),
    (libc::SYS_fchmodat2, "fchmodat2", Names::At(0, 1)),
    (libc::SYS_fchownat, "fchownat", Names::At(0, 1)),
    (libc::SYS_utimensat, "utimensat", Names::At(0, 1)),
    (libc::SYS_truncate, "truncate", Names::Path(0)),
    (libc::SYS_setxattr, "setxattr", Names::Path(0)),
    (libc::SYS_lsetxattr, "lsetxattr", Names::Path(0)),
    (libc::SYS_removexattr, "removexattr", Names::Path(0)),
    (libc::SYS_lremovexattr, "lremovexattr", Names::Path(0)),
    (libc::SYS_mount, "mount", Names::Path(1)),
    (libc::SYS_umount2, "umount2", Names::Path(0)),
    (libc::SYS_move_mount, "move_mount", Names::At(2, 3)),
    (libc::SYS_write, "write", Names::File(0)),
    (libc::SYS_pwrite64, "pwrite64", Names::File(0)),
    (libc::SYS_writev, "writev", Names::File(0)),
    (libc::SYS_pwritev, "pwritev", Names::File(0)),
    (libc::SYS_pwritev2, "pwritev2", Names::File(0)),
    (libc::SYS_copy_file_range, "copy_file_range", Names::File(2)),
    (libc::SYS_sendfile, "sendfile", Names::File(0)),
    (libc::SYS_splice, "splice", Names::File(2)),
    (libc::SYS_ftruncate, "ftruncate", Names::File(0)),
    (libc::SYS_fallocate, "fallocate", Names::File(0)),
    (libc::SYS_fchmod, "fchmod", Names::File(0)),
    (libc::SYS_fchown, "fchown", Names::File(0)),
    (libc::SYS_fsetxattr, "fsetxattr", Names::File(0)),
    (libc::SYS_fremovexattr, "fremovexattr", Names::File(0)),
    (libc::SYS_ioctl, "ioctl", Names::Control),
    (libc::SYS_mmap, "mmap", Names::Mapped),
];

/// The same on machines that have the older forms as well.
#[cfg(target_arch = "x86_64")]
const OLDER: &[(i64, &str, Names)] = &[
    (libc::SYS_open, "open", Names::Open(HERE, 0, 1)),
    (libc::SYS_creat, "creat", Names::Path(0)),
    (libc::SYS_mkdir, "mkdir", Names::Path(0)),
    (libc::SYS_rmdir, "rmdir", Names::Path(0)),
    (libc::SYS_mknod, "mknod", Names::Path(0)),
    (libc::SYS_unlink, "unlink", Names::Path(0)),
    (libc::SYS_symlink, "symlink", Names::Path(1)),
    (libc::SYS_link, "link", Names::Path(1)),
    (libc::SYS_rename, "rename", Names::Two(0, 1)),
    (libc::SYS_renameat, "renameat", Names::TwoAt([0, 1, 2, 3])),
    (libc::SYS_chmod, "chmod", Names::Path(0)),
    (libc::SYS_chown, "chown", Names::Path(0)),
    (libc::SYS_lchown, "lchown", Names::Path(0)),
    (libc::SYS_utime, "utime", Names::Path(0)),
    (libc::SYS_utimes, "utimes", Names::Path(0)),
    (libc::SYS_futimesat, "futimesat", Names::At(0, 1)),
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[(i64, &str, Names)] = &[];

/// What only looks, waits, talks, or changes the process itself.
const HARMLESS: &[i64] = &[
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_brk,
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_chdir,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_connect,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_execve,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fadvise64,
    libc::SYS_fchdir,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_fgetxattr,
    libc::SYS_flistxattr,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_futex,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getgroups,
    libc::SYS_getpeername,
    libc::SYS_getpgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getpriority,
    libc::SYS_getrandom,
    libc::SYS_getresgid,
    libc::SYS_getresuid,
    libc::SYS_getrlimit,
    libc::SYS_getrusage,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_getxattr,
    libc::SYS_kill,
    libc::SYS_lgetxattr,
    libc::SYS_listen,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    // A file that has no name.
    libc::SYS_memfd_create,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_newfstatat,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_prctl,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_prlimit64,
    libc::SYS_pselect6,
    libc::SYS_read,
    libc::SYS_readahead,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_setpriority,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_setpgid,
    libc::SYS_setsid,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_sigaltstack,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_sync_file_range,
    libc::SYS_syncfs,
    libc::SYS_sysinfo,
    libc::SYS_tgkill,
    libc::SYS_timer_create,
    libc::SYS_timer_delete,
    libc::SYS_timer_settime,
    libc::SYS_umask,
    libc::SYS_uname,
    libc::SYS_wait4,
    libc::SYS_waitid,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_arch_prctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_dup2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_getpgrp,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_pipe,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
];

/// Requests of ioctl(2) that only look or concern terminals and pipes, and one by which all else is told apart: what a
/// file gets from another, its flags, its seal.
const CONTROL_CHANGING: &[u64] = &[
    0x4004_9409, // FICLONE
    0x4020_940d, // FICLONERANGE
    0x4008_6602, // FS_IOC_SETFLAGS
    0x4080_6685, // FS_IOC_ENABLE_VERITY
];
const CONTROL_HARMLESS: &[u64] = &[
    0x5401,      // TCGETS
    0x5413,      // TIOCGWINSZ
    0x5421,      // FIONBIO
    0x541b,      // FIONREAD
    0x5450,      // FIONCLEX
    0x5451,      // FIOCLEX
    0x8008_6601, // FS_IOC_GETFLAGS
    0xc004_6686, // FS_IOC_MEASURE_VERITY
];

/// What a system call does.
pub(crate) enum Judged {
    /// It changes what its arguments name.
    Changes(&'static str, Names),
    /// It changes no path.
    Harmless,
    /// Nobody has said.
    Unknown,
}

/// Judges a system call by its number, and where that says too little by its arguments.
pub(crate) fn judge(number: i64, arguments: &[u64; 6]) -> Judged {
    if let Some((_, name, names)) = CHANGING.iter().chain(OLDER).find(|(n, ..)| *n == number) {
        return match names {
            Names::Control if CONTROL_HARMLESS.contains(&arguments[1]) => Judged::Harmless,
            Names::Control if !CONTROL_CHANGING.contains(&arguments[1]) => Judged::Unknown,
            _ => Judged::Changes(name, *names),
        };
    }
    if HARMLESS.contains(&number) {
        Judged::Harmless
    } else {
        Judged::Unknown
    }
}
