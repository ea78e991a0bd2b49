//! The process of config.json: whom it runs as, what it runs, and what it may hold.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use containers_image_proxy::oci_spec::image::Config;
use containers_image_proxy::oci_spec::runtime::{Capability, Process, ProcessBuilder, UserBuilder};

use crate::render::oci::build;
use crate::render::resolve::Filled;
use crate::render::users::Identity;
use crate::render::{Subject, capability};

/// What a command finds programs by when the image does not say.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Whom the payload runs as.
pub(crate) fn identity(filled: &Filled, image: &Config, subject: &Subject<'_>) -> Result<Identity> {
    let (what, user) = match (&filled.user, image.user()) {
        (Some(user), _) => ("manifest.toml: container.user", user.as_str()),
        (None, Some(user)) => ("the image's User", user.as_str()),
        (None, None) => ("", ""),
    };
    subject.users.identity(user).with_context(|| what)
}

/// The process that the payload begins as.
pub(crate) fn process(
    filled: &Filled,
    image: &Config,
    identity: &Identity,
    granted: &[Capability],
) -> Result<Process> {
    let mut user = UserBuilder::default().uid(identity.uid).gid(identity.gid);
    if !identity.groups.is_empty() {
        user = user.additional_gids(identity.groups.clone());
    }
    let mut process = build(
        ProcessBuilder::default()
            .user(build(user.build())?)
            .args(command(filled, image)?)
            .env(environment(filled, image))
            .cwd(working_directory(image))
            .capabilities(capability::sets(granted, identity.uid)?)
            // It would take from setuid programs what CAP_SYS_ADMIN gives back; and runtimes that such a payload runs
            // need setuid programs to work in their containers.
            .no_new_privileges(!granted.contains(&Capability::SysAdmin))
            .build(),
    )?;
    // Limits are the unit's: drop-ins set them.
    process
        .set_rlimits(None)
        .set_apparmor_profile(None)
        .set_selinux_label(None);
    Ok(process)
}

fn command(filled: &Filled, image: &Config) -> Result<Vec<String>> {
    let mut command = image.entrypoint().clone().unwrap_or_default();
    match &filled.args {
        Some(args) => command.extend(args.iter().cloned()),
        None => command.extend(image.cmd().clone().unwrap_or_default()),
    }
    if command.is_empty() {
        bail!("the image has neither Entrypoint nor Cmd, and `container.args` gives no command");
    }
    Ok(command)
}

/// The image's environment in its order, what the manifest sets in place or after it.
fn environment(filled: &Filled, image: &Config) -> Vec<String> {
    let mut environment = image.env().clone().unwrap_or_default();
    if !environment.iter().any(|entry| entry.starts_with("PATH=")) {
        environment.insert(0, PATH.to_owned());
    }
    for (name, value) in &filled.env {
        let entry = format!("{name}={value}");
        let same = |other: &&mut String| {
            other
                .split_once('=')
                .map_or(other.as_str(), |(name, _)| name)
                == name
        };
        match environment.iter_mut().find(same) {
            Some(place) => *place = entry,
            None => environment.push(entry),
        }
    }
    environment
}

fn working_directory(image: &Config) -> PathBuf {
    let directory = image.working_dir().as_deref().unwrap_or_default();
    Path::new("/").join(directory)
}

/// Takes from the process what the host cannot grant, and says what that was.
pub(crate) fn limit(process: &mut Process, host: &HashSet<Capability>) -> Vec<Capability> {
    let Some(mut sets) = process.capabilities().clone() else {
        return Vec::new();
    };
    let mut gone = BTreeMap::new();
    let mut keep = |set: &Option<HashSet<Capability>>| {
        let set = set.as_ref()?;
        for capability in set.difference(host) {
            gone.insert(capability::number(*capability), *capability);
        }
        Some(set.intersection(host).copied().collect())
    };
    let bounding = keep(sets.bounding());
    let effective = keep(sets.effective());
    let permitted = keep(sets.permitted());
    let inheritable = keep(sets.inheritable());
    let ambient = keep(sets.ambient());
    sets.set_bounding(bounding)
        .set_effective(effective)
        .set_permitted(permitted)
        .set_inheritable(inheritable)
        .set_ambient(ambient);
    process.set_capabilities(Some(sets));
    gone.into_values().collect()
}
