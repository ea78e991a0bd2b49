//! config.json: made from the image's configuration and `[container]`, or the image's own, made safe to launch.
//!
//! The launcher adds what one start knows: the cgroup path, the notify socket, handed-in files, the environment of
//! the unit. The file follows version 1.0.2 of the OCI runtime specification, which every runtime in use reads.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use containers_image_proxy::oci_spec::image::Config;
use containers_image_proxy::oci_spec::runtime::{
    Capability, Linux, LinuxBuilder, LinuxDeviceCgroup, LinuxNamespace, LinuxNamespaceBuilder,
    LinuxNamespaceType, LinuxResources, LinuxResourcesBuilder, RootBuilder, Spec, SpecBuilder,
    get_default_maskedpaths, get_default_readonly_paths,
};

use crate::contract::Template;
use crate::contract::manifest::{Container, Namespace};
use crate::contract::values::Values;
use crate::render::mount::{Plan, View};
use crate::render::oci::{build, has_namespace};
use crate::render::resolve::Filled;
use crate::render::template::{Context, render};
use crate::render::{Subject, capability, mount, process, seccomp};

const VERSION: &str = "1.0.2";

/// A configuration, and what is to be said about it.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) spec: Spec,
    /// Destinations of mounts whose source may be missing.
    pub(crate) optional: Vec<PathBuf>,
    pub(crate) notes: Vec<String>,
}

/// The configuration of `container` for `subject`.
pub(crate) fn from_manifest(
    container: &Container,
    filled: &Filled,
    subject: &Subject<'_>,
) -> Result<Made> {
    let image = subject.image.config().clone().unwrap_or_default();
    let identity = process::identity(filled, &image, subject)?;
    let host = subject.bounding.as_ref();
    let grant = capability::grant(&container.capabilities, identity.uid, host)
        .context("manifest.toml: container.capabilities")?;
    let granted = &grant.granted;
    let plan = Plan {
        binds: &filled.binds,
        devices: &container.devices,
        network: view(container.network),
        cgroups: mount::cgroups(&filled.binds),
    };
    let mut notes = refused(&grant.refused);
    notes.extend(unwritable_volumes(&image, filled));
    let resources = resources(container, filled, subject, &mut notes)?;
    let linux = linux(container, &plan, granted, resources)?;
    let process = process::process(filled, &image, &identity, granted)?;
    let mut spec = build(
        SpecBuilder::default()
            .version(VERSION)
            .root(root(subject)?)
            .mounts(plan.mounts())
            .process(process)
            .linux(linux)
            .build(),
    )?;
    let named = plan.network == View::Own;
    spec.set_annotations(None)
        .set_hostname(named.then(|| subject.name.to_string()));
    Ok(Made {
        spec,
        optional: plan.optional(),
        notes,
    })
}

/// The image's own configuration, filled in, with the generation's rootfs and no more than the host can grant.
pub(crate) fn from_template(
    template: &Template,
    values: &Values,
    subject: &Subject<'_>,
) -> Result<Made> {
    let text = render(template, values, Context::Json)?;
    let what = || {
        format!(
            "reading `{}` as an OCI runtime configuration",
            template.name
        )
    };
    let mut spec: Spec = serde_json::from_str(&text).with_context(what)?;
    let wrong = if spec.version().is_empty() {
        Some("it has no `ociVersion`")
    } else if spec
        .process()
        .as_ref()
        .is_none_or(|process| process.args().as_ref().is_none_or(Vec::is_empty))
    {
        Some("it has no `process.args`")
    } else if !has_namespace(&spec, LinuxNamespaceType::Mount) {
        Some("it has no mount namespace in `linux.namespaces`")
    } else if spec
        .root()
        .as_ref()
        .is_some_and(|root| root.readonly() == Some(false))
    {
        Some(
            "`root.readonly` is false: the root of a system container is read-only; \
             what it writes to is a mount, or a directory of `[service]`",
        )
    } else {
        None
    };
    if let Some(wrong) = wrong {
        return Err(anyhow!(wrong)).with_context(what);
    }
    spec.set_root(Some(root(subject)?));
    let notes = match (&subject.bounding, spec.process_mut()) {
        (Some(host), Some(process)) => refused(&process::limit(process, host)),
        _ => Vec::new(),
    };
    Ok(Made {
        spec,
        optional: Vec::new(),
        notes,
    })
}

fn root(subject: &Subject<'_>) -> Result<containers_image_proxy::oci_spec::runtime::Root> {
    build(
        RootBuilder::default()
            .path(subject.generation_dir.join("rootfs"))
            .readonly(true)
            .build(),
    )
}

fn linux(
    container: &Container,
    plan: &Plan<'_>,
    granted: &[Capability],
    resources: LinuxResources,
) -> Result<Linux> {
    // Who administers the machine's processes with CAP_SYS_ADMIN could unmount what hides /proc from it.
    let hidden = container.pid == Namespace::Private || !granted.contains(&Capability::SysAdmin);
    let (masked, readonly) = if hidden {
        let mut masked = get_default_maskedpaths();
        // Power counters tell what other processes compute.
        masked.push("/sys/devices/virtual/powercap".to_owned());
        (masked, get_default_readonly_paths())
    } else {
        (Vec::new(), Vec::new())
    };
    build(
        LinuxBuilder::default()
            .namespaces(namespaces(container, plan)?)
            .resources(resources)
            .seccomp(seccomp::profile(granted)?)
            .rootfs_propagation(mount::rootfs_propagation(plan.binds))
            .masked_paths(masked)
            .readonly_paths(readonly)
            .build(),
    )
}

fn namespaces(container: &Container, plan: &Plan<'_>) -> Result<Vec<LinuxNamespace>> {
    let own_network = container.network == Namespace::Private;
    [
        (LinuxNamespaceType::Mount, true),
        (LinuxNamespaceType::Ipc, true),
        (LinuxNamespaceType::Pid, container.pid == Namespace::Private),
        (LinuxNamespaceType::Network, own_network),
        // A name of its own would only confuse on the host's network.
        (LinuxNamespaceType::Uts, own_network),
        (LinuxNamespaceType::Cgroup, plan.cgroups == View::Own),
    ]
    .into_iter()
    .filter(|(_, own)| *own)
    .map(|(kind, _)| build(LinuxNamespaceBuilder::default().typ(kind).build()))
    .collect()
}

/// The device cgroup: nothing but what runtimes always allow (null, zero, full, random, urandom, tty, ptmx, pts),
/// and the declared devices by number. Who sees all of the host's `/dev` may use all of it.
fn resources(
    container: &Container,
    filled: &Filled,
    subject: &Subject<'_>,
    notes: &mut Vec<String>,
) -> Result<LinuxResources> {
    let rule = |allow: bool| {
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(allow).set_access(Some("rwm".to_owned()));
        rule
    };
    let mut rules = vec![rule(false)];
    if filled
        .binds
        .iter()
        .any(|bind| bind.source == Path::new("/dev"))
    {
        rules = vec![rule(true)];
    }
    for path in &container.devices {
        if let Some(node) = subject.devices.node(Path::new(path)) {
            let mut allow = rule(true);
            allow
                .set_typ(Some(node.kind))
                .set_major(Some(node.major.into()))
                .set_minor(Some(node.minor.into()));
            rules.push(allow);
        } else {
            notes.push(format!(
                "device `{path}` is not on the host: access to it is not allowed"
            ));
        }
    }
    build(LinuxResourcesBuilder::default().devices(rules).build())
}

fn refused(capabilities: &[Capability]) -> Vec<String> {
    capabilities
        .iter()
        .map(|capability| {
            let name = capability::name(*capability);
            format!("capability {name} is left out: this host's bounding set lacks it")
        })
        .collect()
}

/// What every container can write to.
const WRITABLE: [&str; 3] = ["/dev", "/run", "/tmp"];

/// Volumes of the image that no mount makes writable: engines would make them so without being asked.
fn unwritable_volumes(image: &Config, filled: &Filled) -> Vec<String> {
    let mut volumes = image.volumes().clone().unwrap_or_default();
    volumes.sort();
    volumes.retain(|volume| {
        let volume = Path::new(volume);
        let declared = filled
            .binds
            .iter()
            .any(|bind| volume.starts_with(&bind.target));
        !declared && !WRITABLE.iter().any(|path| volume.starts_with(path))
    });
    volumes
        .iter()
        .map(|volume| format!("the image's volume `{volume}` is read-only: no mount covers it"))
        .collect()
}

fn view(namespace: Namespace) -> View {
    match namespace {
        Namespace::Host => View::Host,
        Namespace::Private => View::Own,
    }
}
