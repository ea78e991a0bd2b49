//! The unit of a container: bedplate's own, or the image's.
//!
//! The order against other services is no part of it: it changes with what is installed and stands in a drop-in.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use handlebars::Handlebars;
use serde::Serialize;

use crate::contract::manifest::{KillMode, Manifest, Restart, Stage};
use crate::launch::{Notify, ServiceType};
use crate::render::plan::{SUBGROUPS, Start};
use crate::render::resolve::Filled;
use crate::render::{Subject, directories, mount, oci, rootfs, signal, spec, syntax};

/// The number of the unit's shape: it grows when the template changes what a unit does, so that an update can tell
/// units of an older bedplate.
pub const SHAPE: u32 = 1;

/// What sends the signal of a reload.
pub const KILL: &str = "/bin/kill";

/// The launcher, as installed: `make libexecdir=…` names another place, to the build and to the installation.
pub const LAUNCHER: &str = match option_env!("BEDPLATE_LAUNCHER") {
    Some(path) => path,
    None => "/usr/libexec/bedplate/launch",
};

const TEMPLATE: &str = include_str!("../../unit-templates/container.service.hbs");

/// How long an early service may hold up the boot, unless its image says otherwise.
const EARLY_TIMEOUT: &str = "30s";

/// What the unit is made from.
pub(crate) struct Parts<'a> {
    pub(crate) manifest: &'a Manifest,
    pub(crate) filled: &'a Filled,
    pub(crate) made: &'a spec::Made,
    pub(crate) start: &'a Start,
    /// The sealed secrets, as `LoadCredentialEncrypted=` has them.
    pub(crate) secrets: Vec<String>,
    pub(crate) subject: &'a Subject<'a>,
}

/// The variables of the template, each ready to stand in a unit.
#[derive(Serialize)]
struct View {
    name: String,
    description: String,
    documentation: String,
    generation: u32,
    image: String,
    digest: String,
    shape: u32,
    mounts_for: String,
    early: bool,
    #[serde(rename = "type")]
    kind: &'static str,
    notify_access: Option<&'static str>,
    launch: String,
    reload: Option<String>,
    reload_signal: Option<String>,
    restarts: bool,
    restart: &'static str,
    start_timeout: Option<String>,
    stop_timeout: Option<String>,
    watchdog: Option<String>,
    kill_mode: &'static str,
    oom_policy: &'static str,
    stop_signal: Option<String>,
    subgroup: Option<&'static str>,
    runtime_directories: String,
    remove: Option<String>,
    state_directories: String,
    logs_directories: String,
    cache_directories: String,
    fdstore: Option<u32>,
    sockets: String,
    credentials: Vec<String>,
    secrets: Vec<String>,
    wanted_by: &'static str,
}

/// The command that starts the generation: what `ExecStart=` must be.
pub fn launch_command(generation_dir: &Path) -> String {
    format!("{LAUNCHER} {}", generation_dir.display())
}

impl Parts<'_> {
    /// bedplate's own unit.
    pub(crate) fn render(&self) -> Result<String> {
        let mut registry = Handlebars::new();
        registry.set_strict_mode(true);
        // Values are escaped for a unit, not for HTML.
        registry.register_escape_fn(handlebars::no_escape);
        registry
            .render_template(TEMPLATE, &self.view()?)
            .context("rendering `container.service.hbs`")
    }

    fn view(&self) -> Result<View> {
        let Self {
            manifest,
            filled,
            start,
            subject,
            ..
        } = self;
        let service = &manifest.service;
        let early = service.stage == Stage::Early;
        let (reload, reload_signal) = self.reload()?;
        Ok(View {
            name: subject.name.to_string(),
            description: syntax::escape(&self.description())?,
            documentation: self.documentation(),
            generation: subject.generation.into(),
            image: syntax::escape(&subject.reference)?,
            digest: syntax::escape(&subject.digest)?,
            shape: SHAPE,
            mounts_for: self.mounts_for()?,
            early,
            kind: type_word(start.launch.service_type),
            notify_access: notify_access(start.launch.service_type, start.launch.notify),
            launch: launch_command(&subject.generation_dir),
            reload,
            reload_signal,
            restarts: service.restart != Restart::No,
            restart: self.restart()?,
            start_timeout: filled
                .start_timeout
                .clone()
                .or_else(|| early.then(|| EARLY_TIMEOUT.to_owned())),
            stop_timeout: filled.stop_timeout.clone(),
            watchdog: start.watchdog.clone(),
            kill_mode: match start.kill_mode {
                KillMode::Mixed => "mixed",
                KillMode::Process => "process",
            },
            oom_policy: oom_policy(service.kill_mode),
            stop_signal: self.stop_signal()?,
            subgroup: (subject.systemd >= SUBGROUPS).then_some("supervisor"),
            runtime_directories: self.runtime_directories()?,
            remove: (!self.systemd_makes())
                .then(|| directories::removed(&filled.made))
                .transpose()?
                .flatten(),
            state_directories: self.kept_directories(&filled.made.state)?,
            logs_directories: self.kept_directories(&filled.made.logs)?,
            cache_directories: self.kept_directories(&filled.made.cache)?,
            fdstore: start.fdstore,
            sockets: self.sockets()?,
            credentials: service.credentials.clone(),
            secrets: self.secrets.clone(),
            wanted_by: if early {
                "basic.target"
            } else {
                "multi-user.target"
            },
        })
    }

    fn description(&self) -> String {
        let described = self.manifest.description.trim();
        if described.is_empty() {
            format!("System container {}", self.subject.name)
        } else {
            described.to_owned()
        }
    }

    /// Where people read on: what the image names, and what it runs as.
    fn documentation(&self) -> String {
        let labels = self.subject.image.labels_of_config();
        let url = ["documentation", "url"].into_iter().find_map(|key| {
            let url = labels?.get(&format!("org.opencontainers.image.{key}"))?;
            let plain =
                |c: char| c.is_ascii_graphic() && c != '%' && c != '"' && c != '\'' && c != '\\';
            let is_url = url.starts_with("https://") || url.starts_with("http://");
            (is_url && url.chars().all(plain)).then(|| format!("{url} "))
        });
        let config = self.subject.generation_dir.join("config.json");
        format!("{}file:{}", url.unwrap_or_default(), config.display())
    }

    /// The generation and what it binds: a start waits for the mounts below which they lie.
    fn mounts_for(&self) -> Result<String> {
        let mut paths = vec![syntax::quote(&rootfs::needed(self.subject))?];
        let mounts = self.made.spec.mounts().as_deref().unwrap_or_default();
        for mount in mounts.iter().filter(|mount| mount::is_bind(mount)) {
            let optional = self.made.optional.contains(mount.destination());
            if let Some(source) = mount.source().as_ref().filter(|_| !optional) {
                let path = syntax::quote(source)?;
                if !paths.contains(&path) {
                    paths.push(path);
                }
            }
        }
        Ok(paths.join(" "))
    }

    /// `ExecReload=` and `ReloadSignal=`: a signal of one word, or a command that runs in the container.
    fn reload(&self) -> Result<(Option<String>, Option<String>)> {
        let kind = self.start.launch.service_type;
        let reload = match self.manifest.service.reload.trim() {
            // What systemd sends by itself, where it is not left to it.
            "" if self.manifest.service.kind == ServiceType::NotifyReload
                && kind != ServiceType::NotifyReload =>
            {
                "SIGHUP"
            }
            reload => reload,
        };
        if reload.is_empty() {
            return Ok((None, None));
        }
        if let Some(signal) = signal::parse(reload) {
            if kind == ServiceType::NotifyReload {
                return Ok((None, Some(signal).filter(|signal| signal != "SIGHUP")));
            }
            let word = signal.trim_start_matches("SIG");
            return Ok((Some(format!("{KILL} -s {word} $MAINPID")), None));
        }
        if kind == ServiceType::NotifyReload {
            bail!(
                "manifest.toml: service.reload: `{reload}` is no signal, as type notify-reload needs it"
            );
        }
        let words = self.subject.runtime.exec_argv(self.subject.name).join(" ");
        // `$` would be the unit's environment, not the container's.
        let command = syntax::escape(reload)
            .context("manifest.toml: service.reload")?
            .replace('$', "$$");
        Ok((Some(format!("{words} {command}")), None))
    }

    fn restart(&self) -> Result<&'static str> {
        let restart = self.manifest.service.restart;
        let once = self.start.launch.service_type == ServiceType::Oneshot;
        if once && matches!(restart, Restart::Always | Restart::OnSuccess) {
            bail!(
                "manifest.toml: service.restart: `{}` never ends with type oneshot",
                restart_word(restart)
            );
        }
        Ok(restart_word(restart))
    }

    fn stop_signal(&self) -> Result<Option<String>> {
        let image = self.subject.image.config().as_ref();
        let (what, text) = match (
            self.manifest.service.stop_signal.as_deref(),
            image.and_then(|config| config.stop_signal().as_deref()),
        ) {
            (Some(text), _) => ("manifest.toml: service.stop_signal", text),
            (None, Some(text)) => ("the image's StopSignal", text),
            (None, None) => return Ok(None),
        };
        let signal = signal::parse(text).ok_or_else(|| anyhow!("{what}: `{text}` is no signal"))?;
        Ok(Some(signal).filter(|signal| signal != "SIGTERM"))
    }

    /// Socket units that are named as such; the container's own `NAME.socket` needs no word, and other names are
    /// those of the descriptors.
    fn sockets(&self) -> Result<String> {
        let sockets = self.manifest.service.sockets.iter();
        let units = sockets.filter(|name| name.ends_with(".socket"));
        let units = units.map(|name| name.parse::<crate::name::UnitName>());
        let units = units
            .collect::<Result<Vec<_>, _>>()
            .context("manifest.toml: service.sockets")?;
        let units: Vec<&str> = units.iter().map(crate::name::UnitName::as_str).collect();
        Ok(units.join(" "))
    }

    /// Whether systemd may make the directories of the image. Without `User=` it gives them, and all that is in them,
    /// back to root for each process of the unit: a payload of another user would lose its own files at its next start,
    /// and those below `/run` at a reload. The launcher makes such directories instead.
    fn systemd_makes(&self) -> bool {
        oci::uid(&self.made.spec) == 0
    }

    /// Directories that outlive a stop.
    fn kept_directories(&self, names: &[String]) -> Result<String> {
        if self.systemd_makes() {
            syntax::escape(&names.join(" "))
        } else {
            Ok(String::new())
        }
    }

    /// The launcher's own directory, and those of the image that systemd makes. It would keep all of them for one that
    /// is shared, the launcher's too: such a one the launcher makes.
    fn runtime_directories(&self) -> Result<String> {
        let mut all = vec![format!("bedplate/{}", self.subject.name)];
        if self.systemd_makes() && !self.filled.made.shared {
            all.extend(self.filled.made.runtime.iter().cloned());
        }
        syntax::escape(&all.join(" "))
    }
}

/// Who may speak: the payload that holds the real socket, else the launcher, which is not the main process.
fn notify_access(kind: ServiceType, notify: Notify) -> Option<&'static str> {
    match (kind, notify) {
        (ServiceType::Oneshot, _) => None,
        (_, Notify::Socket) => Some("main"),
        (_, Notify::Proxy | Notify::None) => Some("all"),
    }
}

/// `OOMPolicy=`, which systemd would take to be `continue` for its `Delegate=`: a service of which the kernel has killed
/// a part ends and starts again, as any other does by default. What a daemon is meant to leave running at a stop outlives
/// that too, also where systemd is too old for the first.
fn oom_policy(kill_mode: KillMode) -> &'static str {
    match kill_mode {
        KillMode::Mixed => "stop",
        KillMode::Process => "continue",
    }
}

/// `Type=`. The launcher itself says that the program of an `exec` payload runs.
fn type_word(kind: ServiceType) -> &'static str {
    match kind {
        ServiceType::Notify | ServiceType::Exec => "notify",
        ServiceType::NotifyReload => "notify-reload",
        ServiceType::Oneshot => "oneshot",
    }
}

fn restart_word(restart: Restart) -> &'static str {
    match restart {
        Restart::No => "no",
        Restart::Always => "always",
        Restart::OnSuccess => "on-success",
        Restart::OnFailure => "on-failure",
        Restart::OnAbnormal => "on-abnormal",
        Restart::OnAbort => "on-abort",
        Restart::OnWatchdog => "on-watchdog",
    }
}
