//! When containers are updated by themselves: `[update]`, and `[schedules]` and `[windows]` for those that have their
//! own.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::contract::span;
use crate::name::ContainerName;

/// The settings of all three.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// When containers are updated that have no schedule of their own.
    pub schedule: Schedule,
    /// The registries' passwords, as `skopeo login` writes them.
    pub authfile: PathBuf,
    /// Calendar expressions, by container.
    pub schedules: BTreeMap<ContainerName, String>,
    /// Windows, by container.
    pub windows: BTreeMap<ContainerName, Option<Window>>,
}

/// When a container is updated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// A calendar expression of systemd.time(7).
    pub calendar: String,
    /// Only then; absent: at any time.
    pub window: Option<Window>,
}

/// A span of time that comes again: `Sat 02:00 + 4h`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Window {
    /// When it opens: a calendar expression of systemd.time(7).
    pub opens: String,
    /// For how long it is open.
    pub length: Duration,
    text: String,
}

/// `[update]` as one file has it: what is absent leaves the weaker files' word.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Section {
    schedule: Option<String>,
    window: Option<Setting>,
    authfile: Option<PathBuf>,
}

/// A window, or the empty text for none.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Setting(Option<Window>);

impl Default for Update {
    fn default() -> Self {
        Self {
            schedule: Schedule {
                calendar: "daily".to_owned(),
                window: None,
            },
            authfile: "/etc/bedplate/auth.json".into(),
            schedules: BTreeMap::new(),
            windows: BTreeMap::new(),
        }
    }
}

impl TryFrom<String> for Window {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no window such as `Sat 02:00 + 4h`: when it opens, and for how long"
            )
        };
        let (opens, length) = text.rsplit_once('+').ok_or_else(wrong)?;
        let length = span::parse(length).map_err(|_| wrong())?;
        if opens.trim().is_empty() || length.is_zero() {
            return Err(wrong());
        }
        Ok(Self {
            opens: opens.trim().to_owned(),
            length,
            text,
        })
    }
}

impl TryFrom<String> for Setting {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        Window::try_from(text).map(|window| Self(Some(window)))
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Update {
    /// When the container is updated.
    pub fn of(&self, name: &ContainerName) -> Schedule {
        let calendar = self.schedules.get(name);
        let window = self.windows.get(name);
        Schedule {
            calendar: calendar.unwrap_or(&self.schedule.calendar).clone(),
            window: window.unwrap_or(&self.schedule.window).clone(),
        }
    }

    /// The window as it is written; empty for none.
    pub(crate) fn window_text(window: Option<&Window>) -> String {
        window.map(ToString::to_string).unwrap_or_default()
    }

    /// Puts a file's settings over what there is.
    pub(crate) fn lay(
        &mut self,
        section: Section,
        schedules: BTreeMap<ContainerName, String>,
        windows: BTreeMap<ContainerName, Setting>,
    ) {
        if let Some(calendar) = section.schedule {
            self.schedule.calendar = calendar;
        }
        if let Some(Setting(window)) = section.window {
            self.schedule.window = window;
        }
        if let Some(authfile) = section.authfile {
            self.authfile = authfile;
        }
        self.schedules.extend(schedules);
        let windows = windows
            .into_iter()
            .map(|(name, Setting(window))| (name, window));
        self.windows.extend(windows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_opens_and_closes() {
        let window = Window::try_from("Sat *-*-* 02:00 + 1h 30min".to_owned()).unwrap();
        assert_eq!(window.opens, "Sat *-*-* 02:00");
        assert_eq!(window.length, Duration::from_mins(90));
        for wrong in ["Sat", "Sat +", "+ 4h", "Sat + 0s", "Sat + soon"] {
            assert!(Window::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
