//! The built-in seccomp profile, in OCI's form with two words more: `with` and `without` a capability.
//!
//! It allows what programs do (`io_uring` apart), answers EPERM to what is known and refused and ENOSYS to all
//! else, so that libraries fall back to what they used before. Only the native architecture is let in.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use containers_image_proxy::oci_spec::runtime::{
    Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSyscall,
};
use serde::Deserialize;

const PROFILE: &str = include_str!("seccomp.json");

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: LinuxSeccompAction,
    default_errno_ret: u32,
    syscalls: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    with: Option<Capability>,
    without: Option<Capability>,
    #[serde(flatten)]
    syscall: LinuxSyscall,
}

/// The profile for a payload that holds `granted`.
pub(crate) fn profile(granted: &[Capability]) -> Result<LinuxSeccomp> {
    let profile: Profile =
        serde_json::from_str(PROFILE).context("reading the built-in seccomp profile")?;
    let mut allowed = BTreeSet::new();
    let mut rules = Vec::new();
    for rule in profile.syscalls {
        let with = rule.with.is_none_or(|with| granted.contains(&with));
        let without = rule
            .without
            .is_none_or(|without| !granted.contains(&without));
        if !with || !without {
            continue;
        }
        let mut syscall = rule.syscall;
        // A call must stand in one rule only where the rules have no arguments: libseccomp would take the first
        // it is given, in the order of its own.
        let names = syscall
            .names()
            .iter()
            .filter(|name| !allowed.contains(*name));
        let names: Vec<String> = names.cloned().collect();
        if syscall.args().is_none() {
            allowed.extend(names.iter().cloned());
        }
        if !names.is_empty() {
            syscall.set_names(names);
            rules.push(syscall);
        }
    }
    let mut seccomp = LinuxSeccomp::default();
    seccomp
        .set_default_action(profile.default_action)
        .set_default_errno_ret(Some(profile.default_errno_ret))
        .set_syscalls(Some(rules));
    Ok(seccomp)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the profile answers to a call without looking at its arguments.
    fn answers(granted: &[Capability], call: &str) -> Vec<LinuxSeccompAction> {
        let profile = profile(granted).unwrap();
        let rules = profile.syscalls().as_ref().unwrap().iter();
        rules
            .filter(|rule| rule.names().iter().any(|name| name == call))
            .map(LinuxSyscall::action)
            .collect()
    }

    #[test]
    fn a_capability_brings_its_calls() {
        use LinuxSeccompAction::{ScmpActAllow, ScmpActErrno};
        for (granted, call, expected) in [
            (&[][..], "read", &[ScmpActAllow][..]),
            (&[], "openat2", &[ScmpActAllow]),
            (&[], "mount", &[ScmpActErrno]),
            (&[], "clone3", &[ScmpActErrno]),
            (&[], "io_uring_setup", &[ScmpActErrno]),
            (&[Capability::SysAdmin], "mount", &[ScmpActAllow]),
            (&[Capability::SysAdmin], "clone", &[ScmpActAllow]),
            (&[Capability::SysAdmin], "clone3", &[ScmpActAllow]),
            (&[Capability::SysAdmin], "io_uring_setup", &[ScmpActErrno]),
            (&[Capability::SysTime], "clock_settime", &[ScmpActAllow]),
            (
                &[Capability::Bpf, Capability::SysAdmin],
                "bpf",
                &[ScmpActAllow],
            ),
        ] {
            assert_eq!(answers(granted, call), expected, "{call} with {granted:?}");
        }
    }

    #[test]
    fn no_call_has_two_rules_without_arguments() {
        let profile = profile(&[Capability::SysAdmin, Capability::Syslog]).unwrap();
        let mut seen = BTreeSet::new();
        for rule in profile.syscalls().as_ref().unwrap() {
            for name in rule.names() {
                assert!(
                    rule.args().is_some() || seen.insert(name.clone()),
                    "{name} is there twice"
                );
            }
        }
    }
}
