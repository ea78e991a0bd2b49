//! What a container may do beyond the safe default, in lines for people, read from what will really be run.
//!
//! Some privileges have no bound: who holds them is root on the host by another way. Those lines say so.

use std::path::Path;

use containers_image_proxy::oci_spec::runtime::{
    Capability, LinuxNamespaceType, Mount, Process, Spec,
};

use crate::contract::manifest::KillMode;
use crate::launch::{LaunchPlan, Notify};
use crate::render::files::RenderedFile;
use crate::render::{capability, mount, oci, plan, syntax};

/// File systems that show a container what its namespaces hold, or nothing.
const KERNELS: [&str; 7] = [
    "cgroup", "cgroup2", "devpts", "mqueue", "proc", "sysfs", "tmpfs",
];

/// Ends a line about a privilege without a bound.
const ROOT: &str = ": amounts to root on the host";

/// Capabilities with which a payload becomes root on the host, whatever else confines it.
const UNBOUNDED: [Capability; 5] = [
    Capability::SysAdmin,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysBoot,
    Capability::DacReadSearch,
];

/// Host directories by which root obeys whoever writes to them: the directory itself.
const RULING: [&str; 9] = [
    "/", "/dev", "/etc", "/home", "/run", "/sys", "/var", "/var/lib", "/var/log",
];

/// As [`RULING`], and so is everything below.
const RULING_BELOW: [&str; 20] = [
    "/bin",
    "/boot",
    "/etc/cron.d",
    "/etc/ld.so.preload",
    "/etc/pam.d",
    "/etc/profile.d",
    "/etc/sudoers.d",
    "/etc/systemd",
    "/etc/tmpfiles.d",
    "/etc/udev",
    "/lib",
    "/lib64",
    "/proc",
    "/root",
    "/run/systemd",
    "/run/udev",
    "/sbin",
    "/usr",
    "/var/lib/bedplate",
    "/var/spool/cron",
];

/// The lines for `spec`, started as `launch` says.
pub(crate) fn of_spec(spec: &Spec, launch: &LaunchPlan) -> Vec<String> {
    let uid = oci::uid(spec);
    let mut lines = Vec::new();
    if uid == 0 {
        lines.push("runs as root".to_owned());
    }
    lines.extend(capabilities(spec, uid));
    lines.extend(namespaces(spec));
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let overrides = uid == 0 || oci::capabilities(spec).contains(&Capability::DacOverride);
    for mount in mounts.iter().filter(|mount| mount::is_bind(mount)) {
        lines.extend(bind(mount, overrides));
    }
    lines.extend(file_systems(mounts));
    if spec.hooks().is_some() {
        lines.push(format!("hooks of its own run on the host{ROOT}"));
    }
    lines.extend(missing_walls(spec));
    if launch.notify == Notify::Socket && plan::could_misuse_socket(spec) {
        lines.push("full notify socket: can make systemd kill any process of the host".to_owned());
    }
    lines
}

fn capabilities(spec: &Spec, uid: u32) -> Vec<String> {
    let default = capability::default_for(uid);
    oci::capabilities(spec)
        .into_iter()
        .filter(|capability| !default.contains(capability))
        .map(|capability| {
            let name = capability::name(capability);
            let root = if UNBOUNDED.contains(&capability) {
                ROOT
            } else {
                ""
            };
            format!("capability {name}{root}")
        })
        .collect()
}

fn namespaces(spec: &Spec) -> Vec<String> {
    let mut lines: Vec<String> = [
        (LinuxNamespaceType::Pid, "host PID namespace"),
        (LinuxNamespaceType::Network, "host network"),
        (LinuxNamespaceType::Ipc, "host IPC namespace"),
        (LinuxNamespaceType::Cgroup, "host cgroup namespace"),
    ]
    .into_iter()
    .filter(|(kind, _)| !oci::has_namespace(spec, *kind))
    .map(|(_, line)| line.to_owned())
    .collect();
    let linux = spec.linux().as_ref();
    let all = linux.and_then(|linux| linux.namespaces().as_ref());
    for namespace in all.into_iter().flatten() {
        if let Some(path) = namespace.path() {
            lines.push(format!(
                "{} namespace of {}",
                namespace.typ(),
                path.display()
            ));
        }
    }
    lines
}

/// What a bind mount gives; `overrides`: the owner of a host file does not stop the payload.
fn bind(mount: &Mount, overrides: bool) -> Vec<String> {
    let Some(source) = mount.source().as_deref() else {
        return Vec::new();
    };
    if mount::is_host_network(mount) {
        return Vec::new();
    }
    let path = source.display();
    if source.starts_with("/dev") && source != Path::new("/dev") {
        return vec![format!("device {path}")];
    }
    let mut lines = Vec::new();
    if !mount::is_writable(mount) {
        lines.push(format!("reads {path}"));
    } else if overrides && rules(source) {
        lines.push(format!("host {path} writable{ROOT}"));
    } else {
        lines.push(format!("writes {path}"));
    }
    let options = mount.options().as_deref().unwrap_or_default();
    if options
        .iter()
        .any(|option| option == "rshared" || option == "shared")
    {
        lines.push(format!(
            "mounts made below {} appear on the host",
            mount.destination().display()
        ));
    }
    lines
}

/// File systems that come from a device, or from elsewhere: a disk of the host's has all of it.
fn file_systems(mounts: &[Mount]) -> Vec<String> {
    let others = mounts.iter().filter(|mount| !mount::is_bind(mount));
    others
        .filter_map(|mount| {
            let kind = mount.typ().as_deref().unwrap_or_default();
            let source = mount.source().as_deref().unwrap_or(Path::new("nothing"));
            let line = format!("mounts {} as {kind}{ROOT}", source.display());
            (!KERNELS.contains(&kind)).then_some(line)
        })
        .collect()
}

fn rules(source: &Path) -> bool {
    let runs_containers = |name: &std::ffi::OsStr| name.to_string_lossy().ends_with(".sock");
    let whole = RULING.iter().any(|path| source == Path::new(path));
    let below = RULING_BELOW.iter().any(|path| source.starts_with(path));
    whole || below || source.file_name().is_some_and(runs_containers)
}

/// Walls that are there by default and not here.
fn missing_walls(spec: &Spec) -> Vec<String> {
    let linux = spec.linux().as_ref();
    let rules = linux
        .and_then(|linux| linux.resources().as_ref())
        .and_then(|resources| resources.devices().as_ref());
    let every_device = rules
        .into_iter()
        .flatten()
        .any(|rule| rule.allow() && rule.major().is_none() && rule.minor().is_none());
    let masked = linux.and_then(|linux| linux.masked_paths().as_ref());
    let process = spec.process().as_ref();
    let confined = process.and_then(Process::no_new_privileges);
    [
        (every_device || rules.is_none(), "every device of the host"),
        (
            confined != Some(true),
            "setuid programs work in it (no no-new-privileges)",
        ),
        (
            linux.is_none_or(|linux| linux.seccomp().is_none()),
            "no seccomp filter",
        ),
        (
            masked.is_none_or(Vec::is_empty),
            "all of /proc and /sys, nothing hidden",
        ),
    ]
    .into_iter()
    .filter(|(missing, _)| *missing)
    .map(|(_, line)| line.to_owned())
    .collect()
}

/// The line for processes that a stop does not end.
pub(crate) fn of_kill_mode(mode: KillMode) -> Option<String> {
    (mode == KillMode::Process).then(|| "what it has started outlives its stop".to_owned())
}

/// Lines for commands that the image's own units run on the host, beside the launcher (`launch`).
pub(crate) fn of_unit(name: &str, text: &str, launch: &str) -> Vec<String> {
    syntax::commands(text)
        .into_iter()
        .filter(|command| command.trim_start_matches(['@', '-', ':', '+', '!']).trim() != launch)
        .map(|command| format!("{name} runs `{command}` on the host"))
        .collect()
}

/// Lines for what the image's own tmpfiles.d lines do.
pub(crate) fn of_tmpfiles(text: &str) -> Vec<String> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| format!("systemd-tmpfiles does `{line}` on the host"))
        .collect()
}

/// Lines for the files that the image puts on the host.
pub(crate) fn of_files(files: &[RenderedFile]) -> Vec<String> {
    files
        .iter()
        .map(|file| {
            let root = if rules(&file.path) { ROOT } else { "" };
            format!("puts {} on the host{root}", file.path.display())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rules_the_host() {
        for (path, expected) in [
            ("/run", true),
            ("/run/flannel", false),
            ("/run/docker.sock", true),
            ("/etc", true),
            ("/etc/cni/net.d", false),
            ("/etc/systemd/system", true),
            ("/usr/local/bin", true),
            ("/var/lib", true),
            ("/var/lib/etcd", false),
        ] {
            assert_eq!(rules(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn what_a_configuration_of_its_own_can_ask_for() {
        let mounts: Vec<Mount> = serde_json::from_str(
            r#"[{"destination":"/proc","type":"proc","source":"proc"},
                {"destination":"/d","type":"ext4","source":"/dev/vda1"},
                {"destination":"/h","type":"bind","source":"/"}]"#,
        )
        .unwrap();
        assert_eq!(
            file_systems(&mounts),
            ["mounts /dev/vda1 as ext4: amounts to root on the host"]
        );
        assert!(mount::is_bind(&mounts[2]));
        let text = r#"{"ociVersion":"1.0.2","hooks":{"poststart":[{"path":"/bin/sh"}]},
            "process":{"user":{"uid":0,"gid":0},"args":["x"],"cwd":"/"}}"#;
        let spec: Spec = serde_json::from_str(text).unwrap();
        let launch = LaunchPlan {
            format: 1,
            name: "a".to_owned(),
            runtime: "/usr/bin/crun".into(),
            service_type: crate::launch::ServiceType::Exec,
            notify: Notify::None,
            host_run: false,
            own: Vec::new(),
            optional_mounts: Vec::new(),
        };
        let line = "hooks of its own run on the host: amounts to root on the host".to_owned();
        assert!(of_spec(&spec, &launch).contains(&line));
    }

    #[test]
    fn commands_of_a_unit() {
        let unit = "[Service]\nExecStartPre=-/bin/rm \\\n  -rf /x\nExecStart=+L G\nExecStop=\n";
        assert_eq!(
            of_unit("a.service", unit, "L G"),
            ["a.service runs `-/bin/rm -rf /x` on the host"]
        );
    }
}
