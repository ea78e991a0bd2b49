//! The rows of `docs/fidelity.md`: what a system container has in common with a service of the host's own, by which
//! checks it is shown, and what others give.
//!
//! A new row or check is a line here and a call of `fidelity::shown` in a story.

/// What a row is about.
#[derive(Debug)]
pub(crate) struct Row {
    /// A short name.
    pub(crate) id: &'static str,
    /// What holds.
    pub(crate) title: &'static str,
    /// What it is shown by: the name of a check within the row, and what it sees.
    pub(crate) checks: &'static [(&'static str, &'static str)],
    /// The same in a unit of Quadlet's, in a unit that runs `podman run`, in one that runs `runc run`: what the story in
    /// `peers.rs` has found, which looks at it again.
    pub(crate) peers: [&'static str; 3],
}

/// The other ways.
pub(crate) const PEERS: [&str; 3] = ["Quadlet", "`podman run`", "`runc run`"];

/// Where it is shown: what runs the container, the Debian release of the guest, and what the page calls both.
pub(crate) const PLACES: [(&str, &str, &str); 4] = [
    ("crun", "trixie", "crun, 257"),
    ("runc", "trixie", "runc, 257"),
    ("crun", "bookworm", "crun, 252"),
    ("runc", "bookworm", "runc, 252"),
];

/// All rows, in the order of the page.
pub(crate) const ROWS: &[Row] = &[
    Row {
        id: "main",
        title: "The main process is the container's init; nothing else is resident",
        checks: &[
            (
                "alone",
                "`MainPID` is the payload, and the unit's control group holds nothing else",
            ),
            (
                "resident",
                "no process of bedplate or of the runtime is there",
            ),
        ],
        peers: [
            "no: conmon is the main process and stays",
            "no: conmon is the main process and stays, podman too",
            "no: runc is the main process and stays",
        ],
    },
    Row {
        id: "notify",
        title: "sd_notify: READY, STATUS, RELOADING, STOPPING, EXTEND_TIMEOUT_USEC; `systemctl reload`",
        checks: &[
            (
                "ready",
                "it is active when the payload says so, and not before",
            ),
            (
                "status",
                "`StatusText` is what the payload says, as root until it is ready",
            ),
            (
                "extend",
                "a start that takes longer than its limit and says so is let finish; one that does not is ended",
            ),
            (
                "reload-signal",
                "`systemctl reload` sends the signal of the contract",
            ),
            (
                "reload-command",
                "`systemctl reload` runs the command of the contract in the container",
            ),
            (
                "reload-notify",
                "`Type=notify-reload`: `systemctl reload` ends when the payload says that it is done",
            ),
            (
                "stopping",
                "it is `deactivating` when the payload says STOPPING",
            ),
            (
                "foreign",
                "no payload without `notify = \"full\"` turns systemd against another process",
            ),
        ],
        peers: ["READY and STATUS", "READY and STATUS", "READY alone"],
    },
    Row {
        id: "watchdog",
        title: "A payload that hangs is killed and restarted (`WatchdogSec=`)",
        checks: &[
            ("pings", "one that says WATCHDOG=1 in time stays"),
            (
                "hang",
                "one that does not is killed within the limit, `Result=watchdog`, and started again",
            ),
        ],
        peers: [
            "WATCHDOG=1 arrives",
            "WATCHDOG=1 arrives",
            "no: WATCHDOG=1 is lost",
        ],
    },
    Row {
        id: "fdstore",
        title: "Descriptors survive a restart (FDSTORE)",
        checks: &[(
            "restart",
            "count, names and content after `systemctl restart`",
        )],
        peers: ["no: descriptors are lost"; 3],
    },
    Row {
        id: "sockets",
        title: "Socket activation, with several named sockets",
        checks: &[
            (
                "names",
                "the payload has each socket under its name (LISTEN_FDNAMES)",
            ),
            (
                "first",
                "the first connection starts the container, and the payload itself answers it",
            ),
            (
                "refused",
                "a container with the host's process ids that asks for sockets is refused at install",
            ),
        ],
        peers: ["yes", "yes", "yes, without the sockets' names"],
    },
    Row {
        id: "credentials",
        title: "Credentials: in the unit, by drop-in, encrypted; the contract's secrets",
        checks: &[
            (
                "load",
                "`LoadCredential=` and `SetCredential=`, in the unit and by drop-in, are readable by the payload's user",
            ),
            (
                "encrypted",
                "`LoadCredentialEncrypted=` is readable by the payload's user",
            ),
            (
                "secret",
                "a `secret` value is readable inside, and in clear nowhere else",
            ),
        ],
        peers: [
            "mounted by hand, for root alone; podman's `Secret=` reaches a user, in clear on disk",
            "mounted by hand, for root alone; podman's `--secret` reaches a user, in clear on disk",
            "mounted by hand, for root alone",
        ],
    },
    Row {
        id: "resources",
        title: "The unit's resource control holds for the payload",
        checks: &[
            (
                "memory",
                "`MemoryMax=` and `TasksMax=` by effect; an OOM kill is `Result=oom-kill`",
            ),
            (
                "weights",
                "`CPUQuota=` and `IOWeight=` by the control group's files",
            ),
            (
                "set-property",
                "`systemctl set-property` and a drop-in's `Slice=` reach the payload",
            ),
            (
                "oom-policy",
                "`OOMPolicy=` stop, kill and continue: what becomes of the service when the kernel kills a part of it",
            ),
        ],
        peers: [
            "the payload is in the unit's control group",
            "with `--cgroups=split`",
            "with `DelegateSubgroup=`",
        ],
    },
    Row {
        id: "exit",
        title: "Exit status and signal, `Restart=`, `StartLimit`, `SuccessExitStatus=`; a `Result=` that is true",
        checks: &[
            (
                "status",
                "the payload's exit status and signal are the unit's, also when it ends at once",
            ),
            (
                "result",
                "a table of ends: `Result`, `ExecMainCode`, `ExecMainStatus`",
            ),
            (
                "restart",
                "each kind of `Restart=` starts again what it should, and nothing else",
            ),
            ("limit", "`StartLimitBurst=` ends the restarts"),
            ("success", "a status in `SuccessExitStatus=` is success"),
        ],
        peers: ["the status; a signal is lost"; 3],
    },
    Row {
        id: "stop",
        title: "Stop: the image's signal, time to finish, then SIGKILL; `ExecStop=` of the image",
        checks: &[
            ("term", "SIGTERM reaches the payload, which is let finish"),
            (
                "kill",
                "one that does not end is killed after `TimeoutStopSec=`, `Result=timeout`",
            ),
            ("signal", "the image's `StopSignal` is what a stop sends"),
            (
                "command",
                "`ExecStop=` of the image's own unit runs before the signal",
            ),
        ],
        peers: ["yes", "yes", "yes; not the image's signal"],
    },
    Row {
        id: "journal",
        title: "The journal has what the payload writes, by unit, with priorities; no copying process",
        checks: &[
            (
                "streams",
                "stdout and stderr are lines of the unit, under the container's name, from the payload's own process",
            ),
            (
                "priorities",
                "a line that begins with `<3>` has that priority",
            ),
            (
                "native",
                "entries with fields by journald's own socket, where the contract mounts it, are the unit's",
            ),
            ("shown", "`systemctl status` shows the last lines"),
        ],
        peers: [
            "priorities with `LogDriver=passthrough`",
            "with priorities",
            "with priorities",
        ],
    },
    Row {
        id: "edit",
        title: "`systemctl` and `systemd-analyze` work as on any unit",
        checks: &[
            (
                "drop-in",
                "a drop-in's `Environment=` reaches the payload; `edit`, `edit --full` and `revert`",
            ),
            ("enable", "`enable`, `disable`, `mask`, presets, `cat`"),
            ("verify", "`systemd-analyze verify` has nothing to say"),
            ("privileges", "`bedplate show` lists the privileges"),
        ],
        peers: [
            "a drop-in's `Environment=` arrives with `EnvironmentHost=`",
            "a drop-in's `Environment=` arrives with `--env-host`",
            "a drop-in's `Environment=` does not arrive",
        ],
    },
    Row {
        id: "directories",
        title: "Runtime, state, logs and cache directories, with the right owner",
        checks: &[
            ("root", "each kind, of a payload that is root"),
            (
                "user",
                "each kind, of one that is not, also after restarts and reloads",
            ),
        ],
        peers: [
            "mounted by hand; with `:U` a user's, until `ExecReload=` gives them back to root",
            "mounted by hand; with `:U` a user's, until `ExecReload=` gives them back to root",
            "mounted by hand, for root alone",
        ],
    },
    Row {
        id: "users",
        title: "Users, groups and ambient capabilities",
        checks: &[
            (
                "user",
                "the contract's user and its groups, by name and by number",
            ),
            (
                "capabilities",
                "what the contract lists is effective for a payload that is not root",
            ),
            (
                "files",
                "files have the owner that is expected, inside and outside",
            ),
        ],
        peers: ["yes", "yes", "by number"],
    },
    Row {
        id: "timers",
        title: "Oneshot containers, timer units, path units",
        checks: &[
            (
                "oneshot",
                "it is done when the payload has ended, with its exit status, and others wait for it",
            ),
            ("timer", "a timer of the image's starts it"),
            ("path", "a path unit of the image's starts it"),
        ],
        peers: ["yes; timers and paths are the operator's to write"; 3],
    },
    Row {
        id: "cri",
        title: "A CRI daemon: its containers go on while it is restarted, killed and updated",
        checks: &[
            (
                "restart",
                "the container of a pod lives through restarts and the death of the daemon",
            ),
            (
                "update",
                "it lives through an update and a rollback of the daemon",
            ),
            (
                "leaks",
                "mounts do not multiply, and nothing is left at the end",
            ),
            (
                "limits",
                "a pod keeps the memory and the processor time that it was given, and the unit's own limits hold for what runs in it",
            ),
        ],
        peers: ["no: what it has started ends with it"; 3],
    },
    Row {
        id: "mounts",
        title: "Mount propagation, devices, read-only paths",
        checks: &[
            (
                "shared",
                "`shared`: mounts pass both ways, all on one file system",
            ),
            ("slave", "`slave`: mounts pass from the host, not to it"),
            ("private", "`private`: mounts do not pass"),
            ("devices", "a device that is listed works, another does not"),
            (
                "read-only",
                "the root file system and what is mounted read-only cannot be written",
            ),
        ],
        peers: [
            "yes",
            "yes",
            "yes; mounts pass where the source is another mount than the root file system's",
        ],
    },
    Row {
        id: "kill",
        title: "Never lost: `kill -9` of anything in the unit, `daemon-reexec`, `daemon-reload` under load",
        checks: &[
            ("payload", "a killed payload is started again"),
            (
                "launcher",
                "a launcher, or a runtime, that is killed while it starts is a failed start, which is repeated",
            ),
            ("reexec", "`systemctl daemon-reexec` leaves it as it is"),
            (
                "reload",
                "so does `daemon-reload`, many times, while it starts and stops",
            ),
        ],
        peers: [
            "started again; a killed conmon takes the payload with it",
            "started again; a killed conmon takes the payload with it",
            "started again; a killed runc takes the payload with it",
        ],
    },
    Row {
        id: "early",
        title: "Early boot: before `basic.target`, without network, store or bedplate",
        checks: &[
            (
                "order",
                "`stage = \"early\"` is ready before `basic.target`, by systemd's clock",
            ),
            (
                "bare",
                "with a read-only `/`, `/var` on a mount of its own and an empty `/etc/machine-id`",
            ),
            (
                "cycles",
                "an order that would be a cycle with units of the host is refused at install",
            ),
            (
                "many",
                "a boot with 50 containers reloads nothing and leaves no process of bedplate",
            ),
            (
                "check",
                "`bedplate check --boot` names what would reach the network",
            ),
        ],
        peers: [
            "with `DefaultDependencies=` off in two sections; needs podman and its store, and unless told waits for the network",
            "with `DefaultDependencies=no`; needs podman and its store",
            "with `DefaultDependencies=no`",
        ],
    },
];
