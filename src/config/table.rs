//! What there is to set: the one table from which `bedplate config`, the errors and `docs/configuration.md` are made.

use std::fmt::Display;

use schemars::JsonSchema;
use serde::Serialize;

use crate::config::Config;
use crate::config::update::Update;
use crate::contract::values::{Data, Origin, Value};

/// A setting as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Setting {
    /// `SECTION.KEY`.
    pub name: String,
    /// What holds, and where it comes from.
    #[serde(flatten)]
    pub value: Value,
    /// What it means.
    pub meaning: String,
}

/// A setting that every host has.
struct Row {
    name: &'static str,
    value: fn(&Config) -> String,
    meaning: &'static str,
}

/// By name. `[roles]` has no fixed keys: see [`ROLE`].
const ROWS: [Row; 6] = [
    Row {
        name: "network.timeout",
        value: |config| config.network.timeout_text(),
        meaning: "how long a registry may be silent, without an answer or a byte, before what was asked is tried \
                  again: 1 second to 1 day, as `\"60s\"` or `\"5min\"`",
    },
    Row {
        name: "store.integrity",
        value: |config| config.store.integrity.to_string(),
        meaning: "what keeps a container's files from changing: `\"none\"` (hard links to the store; `verify` finds \
                  changes), `\"composefs\"`, `\"verity\"`, or `\"auto\"` for the strongest that works here",
    },
    Row {
        name: "store.layer_limit",
        value: |config| config.store.layer_limit_text(),
        meaning: "how many bytes one layer may have when it is unpacked; a layer that has more is refused. K, M, G, T \
                  are to the base of 1024",
    },
    Row {
        name: "update.authfile",
        value: |config| config.update.authfile.display().to_string(),
        meaning: "the registries' passwords that `repair` and `update` use, also unattended, as `skopeo login --authfile` \
                  writes them; root's alone. Without the file: what containers-auth.json(5) finds",
    },
    Row {
        name: "update.schedule",
        value: |config| config.update.schedule.calendar.clone(),
        meaning: "when containers are updated once `bedplate-update.timer` is enabled: a calendar expression of \
                  systemd.time(7)",
    },
    Row {
        name: "update.window",
        value: |config| Update::window_text(config.update.schedule.window.as_ref()),
        meaning: "updates that are due wait for this window: when it opens, `+`, and for how long, as \
                  `\"Sat 02:00 + 4h\"`; empty: any time",
    },
];

/// What a key of `[roles]` means.
const ROLE: (&str, &str) = (
    "roles.ROLE",
    "the units of this host that play the role; an empty list takes the role away",
);

/// What keys of the sections mean that have a key for each container.
const SCHEDULE: (&str, &str) = (
    "schedules.NAME",
    "when the container is updated, instead of `update.schedule`",
);
const WINDOW: (&str, &str) = (
    "windows.NAME",
    "in which window the container is updated, instead of `update.window`",
);

/// Every setting, by name.
pub(crate) fn settings(config: &Config) -> Vec<Setting> {
    let value = |data| Value {
        data,
        origin: Origin::Default,
    };
    let rows = ROWS.iter().map(|row| Setting {
        name: row.name.to_owned(),
        value: value(Data::Text((row.value)(config))),
        meaning: row.meaning.to_owned(),
    });
    let roles = config.roles.iter().map(|(role, units)| Setting {
        name: format!("roles.{role}"),
        value: value(Data::List(units.iter().map(ToString::to_string).collect())),
        meaning: ROLE.1.to_owned(),
    });
    let own = |section: &str, name: &dyn Display, text: String, meaning: &str| Setting {
        name: format!("{section}.{name}"),
        value: value(Data::Text(text)),
        meaning: meaning.to_owned(),
    };
    let schedules = config.update.schedules.iter();
    let schedules = schedules.map(|(name, text)| own("schedules", name, text.clone(), SCHEDULE.1));
    let windows = config.update.windows.iter().map(|(name, window)| {
        let text = Update::window_text(window.as_ref());
        own("windows", name, text, WINDOW.1)
    });
    let mut settings: Vec<_> = rows.chain(roles).chain(schedules).chain(windows).collect();
    settings.sort_by(|a, b| a.name.cmp(&b.name));
    settings
}

/// A setting as the manual explains it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Documented {
    /// `SECTION.KEY`.
    pub name: String,
    /// Its default, where all hosts have the same.
    pub default: Option<String>,
    /// What it means.
    pub meaning: &'static str,
}

/// What there is to set, by name.
pub fn documented() -> Vec<Documented> {
    let config = Config::default();
    let rows = ROWS.iter().map(|row| Documented {
        name: row.name.to_owned(),
        default: Some((row.value)(&config)),
        meaning: row.meaning,
    });
    let role = Documented {
        name: ROLE.0.to_owned(),
        default: None,
        meaning: ROLE.1,
    };
    let mut all: Vec<_> = rows.chain([role]).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// What may be set, for whoever wrote something else.
pub(crate) fn hint() -> String {
    let mut names: Vec<_> = ROWS
        .iter()
        .map(|row| row.name)
        .chain([ROLE.0, SCHEDULE.0, WINDOW.0])
        .collect();
    names.sort_unstable();
    format!(
        "the settings are `{}`: see bedplate.toml(5)",
        names.join("`, `")
    )
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    const BEGIN: &str =
        "<!-- generated from src/config/table.rs: BEDPLATE_BLESS=1 cargo test --lib config -->\n";
    const END: &str = "<!-- end of what is generated -->\n";

    /// The tables of the document: the settings, and who plays which role by default.
    fn tables() -> String {
        let mut text = "| setting | default | meaning |\n|---|---|---|\n".to_owned();
        let all = settings(&Config::default());
        let (roles, rows): (Vec<_>, Vec<_>) =
            all.iter().partition(|s| s.name.starts_with("roles."));
        let mut lines: Vec<_> = rows
            .iter()
            .map(|s| format!("| `{}` | `\"{}\"` | {} |", s.name, s.value.data, s.meaning))
            .collect();
        lines.push(format!("| `{}` | as below | {} |", ROLE.0, ROLE.1));
        for (name, meaning) in [SCHEDULE, WINDOW] {
            lines.push(format!("| `{name}` | none | {meaning} |"));
        }
        lines.sort();
        writeln!(text, "{}\n", lines.join("\n")).unwrap();
        text.push_str("| setting | default |\n|---|---|\n");
        for role in roles {
            let Data::List(units) = &role.value.data else {
                panic!("{role:?}")
            };
            let units = format!("`\"{}\"`", units.join("\"`, `\""));
            writeln!(text, "| `{}` | {units} |", role.name).unwrap();
        }
        text
    }

    const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/bedplate.toml");
    const EXAMPLE_HEAD: &str = "\
# Every setting of bedplate with its default, commented out: as it is, this file sets nothing. Lay it at
# /etc/bedplate/bedplate.toml. Which files there are and which of them counts: docs/configuration.md.
# Generated from src/config/table.rs: BEDPLATE_BLESS=1 cargo test --lib config
";

    /// The example file that packages ship.
    fn example() -> String {
        let mut text = EXAMPLE_HEAD.to_owned();
        let mut section = "";
        let all = settings(&Config::default());
        for setting in &all {
            let (head, key) = setting.name.split_once('.').unwrap();
            let data = match &setting.value.data {
                Data::List(units) => format!("{units:?}"),
                other => format!("\"{other}\""),
            };
            if head != section {
                write!(text, "\n[{head}]").unwrap();
            }
            if head != section || head != "roles" {
                let meaning = setting.meaning.replace('`', "");
                write!(text, "\n{}\n", comment(&meaning)).unwrap();
            }
            section = head;
            writeln!(text, "#{key} = {data}").unwrap();
        }
        text
    }

    /// Words in lines of a comment.
    fn comment(words: &str) -> String {
        let mut lines = vec!["#".to_owned()];
        for word in words.split(' ') {
            if lines[lines.len() - 1].len() + word.len() > 99 {
                lines.push("#".to_owned());
            }
            let last = lines.len() - 1;
            lines[last].extend([" ", word]);
        }
        lines.join("\n")
    }

    /// `BEDPLATE_BLESS=1` writes it anew.
    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "reads and, when told to, writes a file of the source tree"
    )]
    fn the_example_has_every_setting_and_sets_none() {
        if std::env::var_os("BEDPLATE_BLESS").is_some() {
            std::fs::write(EXAMPLE, example()).unwrap();
        }
        let text = std::fs::read_to_string(EXAMPLE).unwrap();
        assert_eq!(text, example(), "BEDPLATE_BLESS=1 writes it anew");
        let set = text.replace("\n#", "\n").replace("\n ", "\n# ");
        for (text, all) in [(text, false), (set, true)] {
            let file: crate::config::File = toml::from_str(&text).unwrap();
            let tables: toml::Table = toml::from_str(&text).unwrap();
            let keys = tables.values().flat_map(|t| t.as_table().unwrap());
            let known = settings(&Config::default()).len();
            assert_eq!(keys.count(), if all { known } else { 0 }, "{text}");
            let mut config = Config::default();
            config.lay(file);
            assert_eq!(config, Config::default());
        }
    }

    /// `BEDPLATE_BLESS=1` writes the tables anew.
    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "reads and, when told to, writes a file of the source tree"
    )]
    fn the_document_has_these_settings() {
        let document = std::fs::read_to_string(DOCUMENT).unwrap();
        let (before, rest) = document.split_once(BEGIN).unwrap();
        let (found, after) = rest.split_once(END).unwrap();
        let tables = tables();
        if std::env::var_os("BEDPLATE_BLESS").is_some() {
            std::fs::write(DOCUMENT, format!("{before}{BEGIN}{tables}{END}{after}")).unwrap();
            return;
        }
        assert_eq!(
            found, tables,
            "docs/configuration.md differs; BEDPLATE_BLESS=1 writes it anew"
        );
    }

    /// Each documented default can be written as it is shown, and there is no key beside the documented ones.
    #[test]
    fn every_key_is_in_the_table() {
        for row in &ROWS {
            let text = format!("{} = \"{}\"", row.name, (row.value)(&Config::default()));
            let file: crate::config::File = toml::from_str(&text).unwrap();
            let mut config = Config::default();
            config.lay(file);
            assert_eq!(config, Config::default(), "{text}");
        }
        let mut known = Vec::new();
        for section in ["store", "network", "update"] {
            let error = toml::from_str::<crate::config::File>(&format!("{section}.x = 1"));
            let error = error.unwrap_err().message().to_owned();
            let keys = error.split('`').skip(3).step_by(2);
            known.extend(keys.map(|key| format!("{section}.{key}")));
        }
        known.sort();
        let rows: Vec<_> = ROWS.iter().map(|row| row.name).collect();
        assert_eq!(known, rows);
    }
}
