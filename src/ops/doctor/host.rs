//! What must be on a host: the kernel's part, systemd, the launcher, a runtime, and what opens images.

use std::collections::BTreeSet;

use anyhow::{Result, anyhow};

use crate::hint::Hinted;
use crate::image::policy;
use crate::image::reference::ImageRef;
use crate::ops::doctor::{Area, Check};
use crate::ops::{Host, preflight};
use crate::render::unit::KILL;
use crate::root::Root;
use crate::runtime::{self, Runtime};
use crate::state;
use crate::systemd::{Bus, OLDEST};

pub(super) fn checks(host: &Host) -> Vec<Check> {
    let root = host.root;
    let mut checks = Vec::new();
    if root.is_host() {
        let cgroups = preflight::require_unified_cgroups(root);
        let launcher = preflight::require_launcher(root);
        let kernel = root.read_text("/proc/sys/kernel/osrelease");
        let kernel = kernel.map(|text| text.unwrap_or_default().trim().to_owned());
        checks.extend([
            Check::of(Area::Host, "kernel", kernel),
            Check::of(
                Area::Host,
                "control groups",
                cgroups.map(|()| "unified (v2)".to_owned()),
            ),
            Check::of(
                Area::Host,
                "launcher",
                launcher.map(|()| "installed".to_owned()),
            ),
            Check::of(Area::Host, "kill", kill(root)),
        ]);
    }
    checks.push(Check::of(Area::Host, "systemd", systemd(host)));
    checks.extend(runtimes(host));
    // What images are opened with is this host's, whatever root they are installed in.
    checks.push(Check::of(Area::Images, "skopeo", policy::skopeo()));
    checks.extend(signatures(root));
    checks
}

/// The signature policy, and the installed images that it would not let in again: their updates will fail.
fn signatures(root: &Root) -> Vec<Check> {
    let of = |found| Check::of(Area::Images, "signature policy", found);
    let policy = policy::summary();
    if policy.is_err() {
        return vec![of(policy)];
    }
    // A damaged record is said with its container.
    let records = state::visible(root, &|_| ()).unwrap_or_default();
    let images: BTreeSet<String> = records.into_iter().map(|record| record.image).collect();
    let references = images.iter().filter_map(|image| image.parse().ok());
    let refused = references.filter_map(|reference: ImageRef| {
        let error = policy::check(&reference).err()?;
        Some(of(Err(
            error.context(format!("opening `{reference}` again"))
        )))
    });
    [of(policy)].into_iter().chain(refused).collect()
}

/// What sends a payload the signal of its reload; small Debian systems come without it.
fn kill(root: &Root) -> Result<String> {
    if root.leads_to(KILL)?.is_some() {
        return Ok(KILL.to_owned());
    }
    let missing: Result<_> = Err(anyhow!(
        "there is no `{KILL}`: `systemctl reload` cannot send a signal"
    ));
    missing.hint("apt-get install procps")
}

fn systemd(host: &Host) -> Result<String> {
    let version = host.systemd.version();
    if version < OLDEST {
        return Err(anyhow!("version {version}: bedplate needs {OLDEST}"));
    }
    if host.root.is_host() && !host.systemd.is_running() {
        Bus::connect()?;
    }
    let running = if host.systemd.is_running() {
        "running"
    } else {
        "not running, as the root is not this host's"
    };
    Ok(format!("{version}, {running}"))
}

/// Every runtime that is known, or that there is none.
fn runtimes(host: &Host) -> Vec<Check> {
    let mut found = Vec::new();
    for name in Runtime::KNOWN {
        if !matches!(runtime::look_up(name, host.root), Ok(Some(_))) {
            continue;
        }
        let said = Runtime::choose(Some(name), host.root).and_then(|runtime| {
            let path = runtime.path.display().to_string();
            if !host.root.is_host() {
                return Ok(path);
            }
            Ok(format!("{path}: {}", runtime.version()?))
        });
        found.push(Check::of(Area::Host, name, said));
    }
    if found.is_empty() {
        let none = Runtime::choose(None, host.root).map(|_| String::new());
        found.push(Check::of(Area::Host, "runtime", none));
    }
    found
}
