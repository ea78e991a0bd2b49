//! What the operator may set of the network: `[network]` of bedplate.toml.

use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// `[network]`, with what holds where nothing is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long a source may be silent, without an answer or a byte, before it is tried again.
    pub timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_mins(1),
        }
    }
}

/// `[network]` as one file has it: what is absent leaves the weaker files' word.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Section {
    #[serde(default, deserialize_with = "span")]
    timeout: Option<Duration>,
}

impl Settings {
    /// The timeout as it is written.
    pub fn timeout_text(&self) -> String {
        format!("{}s", self.timeout.as_secs())
    }

    /// These settings with a file's over them.
    pub fn overridden_by(self, section: &Section) -> Self {
        Self {
            timeout: section.timeout.unwrap_or(self.timeout),
        }
    }
}

/// Whole seconds as a number, or with one of the units s and min of systemd.time(7).
fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(u64),
        Text(String),
    }
    let text = match Written::deserialize(deserializer)? {
        Written::Number(seconds) => seconds.to_string(),
        Written::Text(text) => text,
    };
    let (number, unit) = match text.strip_suffix("min") {
        Some(number) => (number, 60),
        None => (text.strip_suffix('s').unwrap_or(&text), 1),
    };
    let seconds = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit));
    match seconds {
        Some(seconds @ 1..=86_400) => Ok(Some(Duration::from_secs(seconds))),
        _ => Err(D::Error::custom(format!(
            "`{text}` is no time: 1 second to 1 day, such as \"60s\" or \"5min\""
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, seconds) in [("60", 60), ("\"3s\"", 3), ("\"5min\"", 300), ("\"7\"", 7)] {
            let section: Section = toml::from_str(&format!("timeout = {text}")).unwrap();
            let set = Settings::default().overridden_by(&section);
            assert_eq!(set.timeout, Duration::from_secs(seconds));
        }
        for wrong in ["0", "-1", "\"1h\"", "\"\"", "\"99999min\"", "1.5"] {
            let read = toml::from_str::<Section>(&format!("timeout = {wrong}"));
            assert!(read.is_err(), "{wrong}");
        }
    }
}
