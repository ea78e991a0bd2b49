//! Capabilities: the default set, what is granted beyond it, and what the host can grant, capabilities(7).
//!
//! A root payload keeps eight: those that daemons need to prepare their files, bind a port and change to their
//! user. Of podman's list SETPCAP, SETFCAP and SYS_CHROOT are left out, which a service needs only to make further
//! sandboxes. A payload of another user keeps none.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow, bail};
use containers_image_proxy::oci_spec::runtime::{
    Capabilities, Capability, LinuxCapabilities, LinuxCapabilitiesBuilder,
};

/// What a root payload has without asking.
const ROOT_DEFAULT: [Capability; 8] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::NetBindService,
];

/// All capabilities in the order of linux/capability.h: the index is the number.
const NUMBERED: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

/// The capability's name, as `CAP_NET_ADMIN`.
pub(crate) fn name(capability: Capability) -> String {
    format!("CAP_{capability}")
}

/// The capability's number in linux/capability.h.
pub(crate) fn number(capability: Capability) -> usize {
    NUMBERED
        .iter()
        .position(|other| *other == capability)
        .unwrap_or(NUMBERED.len())
}

/// What a payload of `uid` has without asking.
pub(crate) fn default_for(uid: u32) -> &'static [Capability] {
    if uid == 0 { &ROOT_DEFAULT } else { &[] }
}

/// The bounding set that `/proc/PID/status` shows, proc(5): the most that a container of this process can have.
///
/// Content without a readable `CapBnd:` line is `None`.
pub fn bounding(status: &str) -> Option<Capabilities> {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))?;
    let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
    let held = |(number, _): &(usize, &Capability)| mask >> number & 1 == 1;
    let all = NUMBERED.iter().enumerate();
    Some(
        all.filter(held)
            .map(|(_, capability)| *capability)
            .collect(),
    )
}

/// What a container gets, by number, and what it asked for in vain.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) granted: Vec<Capability>,
    pub(crate) refused: Vec<Capability>,
}

/// The default set of `uid` and the `declared` names, less what the host's bounding set lacks: runtimes fail on
/// such a capability rather than start without it.
pub(crate) fn grant(declared: &[String], uid: u32, host: Option<&Capabilities>) -> Result<Grant> {
    let mut wanted: BTreeMap<usize, Capability> = default_for(uid)
        .iter()
        .map(|capability| (number(*capability), *capability))
        .collect();
    let mut unknown = Vec::new();
    for text in declared {
        match NUMBERED
            .iter()
            .find(|capability| name(**capability) == *text)
        {
            Some(capability) => {
                wanted.insert(number(*capability), *capability);
            }
            None => unknown.push(format!("`{text}`")),
        }
    }
    if !unknown.is_empty() {
        bail!("no such capability: {}", unknown.join(", "));
    }
    let (granted, refused) = wanted
        .into_values()
        .partition(|capability| host.is_none_or(|host| host.contains(capability)));
    Ok(Grant { granted, refused })
}

/// The sets of a process that is to hold `granted` as `uid`: ambient too for a user who is not root, because
/// execve(2) would take them away otherwise.
pub(crate) fn sets(granted: &[Capability], uid: u32) -> Result<LinuxCapabilities> {
    let all: Capabilities = granted.iter().copied().collect();
    let handed_down = if uid == 0 {
        Capabilities::new()
    } else {
        all.clone()
    };
    LinuxCapabilitiesBuilder::default()
        .bounding(all.clone())
        .effective(all.clone())
        .permitted(all)
        .inheritable(handed_down.clone())
        .ambient(handed_down)
        .build()
        .map_err(|error| anyhow!(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounding_set_is_read_from_status() {
        let set = bounding("Name:\tx\nCapBnd:\t0000000000001001\nSeccomp:\t0\n").unwrap();
        let expected = [Capability::Chown, Capability::NetAdmin];
        assert_eq!(set, expected.into_iter().collect());
        assert_eq!(bounding("CapBnd:\t000001ffffffffff\n").unwrap().len(), 41);
        assert_eq!(bounding("Name:\tx\n"), None);
    }

    #[test]
    fn what_the_host_lacks_is_refused() {
        let host: Capabilities = [Capability::NetAdmin].into_iter().collect();
        let declared = ["CAP_SYS_RESOURCE".to_owned(), "CAP_NET_ADMIN".to_owned()];
        let grant = grant(&declared, 5, Some(&host)).unwrap();
        assert_eq!(grant.granted, [Capability::NetAdmin]);
        assert_eq!(grant.refused, [Capability::SysResource]);
    }

    #[test]
    fn unknown_names_are_told_together() {
        let declared = ["NET_ADMIN".to_owned(), "CAP_FLY".to_owned()];
        assert_eq!(
            grant(&declared, 0, None).unwrap_err().to_string(),
            "no such capability: `NET_ADMIN`, `CAP_FLY`"
        );
    }
}
