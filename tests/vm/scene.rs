//! A guest and a runtime, and containers of images that a story makes for itself.

use anyhow::{Context, Result, ensure};

use crate::guest::{Guest, Suite};
use crate::product::{self, UP};
use crate::story::Story;
use crate::{fidelity, images};

/// What the manifest of each image begins with; what follows is in `[service]`.
pub(crate) const MANIFEST: &str = r#"contract = 1
description = "Payload of a story"

[values.SCRIPT]
type = "string"
default = "tell READY=1; wait"
help = "What it does, step by step"

[values.USER]
type = "string"
default = "user"
help = "Whom it runs as"

[container]
user = "{{USER}}"
env = { SCRIPT = "{{SCRIPT}}" }
mounts = [{ source = "{{state_dir}}", target = "/data", access = "rw" }]

[service]
directories = { state = ["{{name}}"] }
"#;

/// An image: its name, what its `[service]` says, and files that it has beside the payload.
pub(crate) type Image = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

/// A guest, and the runtime whose turn it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) guest: &'a Guest,
    pub(crate) suite: Suite,
    pub(crate) runtime: &'a str,
}

/// Makes the images for the guest of a suite; guests of both see one directory.
pub(crate) fn make(suite: Suite, all: &[Image]) -> Result<()> {
    for (name, service, files) in all {
        images::add(&of(suite, name), &format!("{MANIFEST}{service}\n"), files)?;
    }
    Ok(())
}

/// A guest, and images made for it.
pub(crate) fn boot(story: &Story, suite: Suite, images: &[Image]) -> Result<Guest> {
    let guest = product::boot(story, suite)?;
    make(suite, images)?;
    Ok(guest)
}

/// Tells the same with each runtime that works in the guest.
pub(crate) fn with_each_runtime(
    guest: &Guest,
    suite: Suite,
    told_by: impl Fn(Scene<'_>) -> Result<()>,
) -> Result<()> {
    for runtime in product::runtimes(suite)? {
        let scene = Scene {
            guest,
            suite,
            runtime,
        };
        told_by(scene).with_context(|| format!("with {runtime}"))?;
    }
    Ok(())
}

/// What an image is called for the guest of a suite.
pub(crate) fn of(suite: Suite, image: &str) -> String {
    format!("{image}-{}", suite.name())
}

fn unit(name: &str) -> String {
    format!("{name}.service")
}

impl Scene<'_> {
    /// Installs an image under its name; it is not started.
    pub(crate) fn install(&self, name: &str, more: &[&str]) -> Result<()> {
        let image = product::image(&of(self.suite, name));
        let begin = ["install", "--name", name, "--runtime", self.runtime];
        product::does(self.guest, &[&begin[..], more, &[&image]].concat())?;
        Ok(())
    }

    /// Takes it away with its drop-ins and its data.
    pub(crate) fn uninstall(&self, name: &str) -> Result<()> {
        let unit = unit(name);
        self.guest.ok(&["systemctl", "revert", "--quiet", &unit])?;
        product::does(self.guest, &["uninstall", name])?;
        // A failed unit is known until this is said.
        self.guest.run(&["systemctl", "reset-failed", &unit])?;
        self.guest.ok(&["rm", "-rf", &format!("/var/lib/{name}")])?;
        product::is_gone(self.guest, &[name])
    }

    /// Lets a drop-in say what the payload does, with more lines for the unit. The steps are in a file of their own:
    /// systemd reads that at each start, and its units only when they have changed.
    pub(crate) fn edit(&self, name: &str, script: &str, lines: &str) -> Result<()> {
        let (file, drop_in) = (
            format!("/run/scene/{name}"),
            format!("/etc/systemd/system/{name}.service.d/override.conf"),
        );
        let text = format!("[Service]\nEnvironmentFile={file}\n{lines}");
        self.guest.write(&file, format!("SCRIPT=\"{script}\"\n"))?;
        let there = self.guest.run(&["cat", &drop_in])?;
        if there.stdout == text {
            return Ok(());
        }
        product::edit(self.guest, &unit(name), &text)
    }

    /// Starts it anew and waits until it is up.
    pub(crate) fn restart(&self, name: &str) -> Result<()> {
        self.guest.ok(&["systemctl", "restart", &unit(name)])?;
        self.guest.wait_active(&unit(name), UP)
    }

    /// What has been said since the last start.
    pub(crate) fn said(&self, name: &str) -> Result<String> {
        let id = self.guest.property(&unit(name), "InvocationID")?;
        self.guest
            .messages(&[&format!("_SYSTEMD_INVOCATION_ID={id}")])
    }

    /// The unit has these values.
    pub(crate) fn has(&self, name: &str, wanted: &[(&str, &str)]) -> Result<()> {
        let names: Vec<&str> = wanted.iter().map(|(property, _)| *property).collect();
        let names = format!("--property={}", names.join(","));
        let shown = self.guest.ok(&["systemctl", "show", &names, &unit(name)])?;
        for (property, value) in wanted {
            let line = format!("{property}={value}");
            ensure!(
                shown.lines().any(|other| other == line),
                "{name}.service has not {line} but {shown}: {}",
                self.guest.journal(&unit(name))?
            );
        }
        Ok(())
    }

    /// Waits until the unit has a value.
    pub(crate) fn wait(&self, name: &str, property: &str, value: &str) -> Result<()> {
        self.guest.wait_property(&unit(name), property, value, UP)
    }

    /// These checks have passed.
    pub(crate) fn shown(&self, checks: &[&str]) -> Result<()> {
        fidelity::shown(self.suite, self.runtime, checks)
    }
}
