//! When an automatic update is due: calendar expressions of systemd.time(7), which systemd itself reads.

use anyhow::{Context, Result};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::config::update::Schedule;
use crate::exec::Program;
use crate::hint::Hinted;
use crate::name::ContainerName;
use crate::ops::Host;
use crate::ops::update::decide::row;
use crate::ops::update::{Action, Row, Work};
use crate::state::{Lifecycle, Record};

impl Work<'_> {
    /// A row that says why the container is left alone for now; `None`: it is its time.
    pub(super) fn not_due(&self, record: &Record, life: &Lifecycle) -> Result<Option<Row>> {
        if !self.request.automatic {
            return Ok(None);
        }
        let schedule = self.config.update.of(&record.name);
        let why = not_due(&schedule, record, life, self.request.now)
            .with_context(|| format!("reading when `{}` is updated", record.name))?;
        Ok(why.map(|why| {
            let mut row = row(record, Action::NotDue);
            row.notes.push(why);
            row
        }))
    }
}

/// Why it is not the container's time; `None`: it is.
fn not_due(
    schedule: &Schedule,
    record: &Record,
    life: &Lifecycle,
    now: i64,
) -> Result<Option<String>> {
    if let Some(window) = &schedule.window {
        let length = i64::try_from(window.length.as_secs()).unwrap_or(i64::MAX);
        let opens = next(&window.opens, now.saturating_sub(length))?;
        if opens.is_none_or(|opens| opens > now) {
            return Ok(Some(format!("its window is `{window}`")));
        }
    }
    let last = life.checked.as_ref().map_or(record.installed, |c| c.when);
    let due = next(&schedule.calendar, last)?;
    let is_due = due.is_some_and(|due| due <= now);
    Ok((!is_due).then(|| format!("its schedule is `{}`", schedule.calendar)))
}

/// When an automatic update of the container is due next, its window aside: seconds since 1970-01-01 00:00 UTC.
pub fn due(host: &Host, name: &ContainerName, last: i64) -> Result<Option<i64>> {
    let config = crate::config::load(host.root)?;
    next(&config.update.of(name).calendar, last)
}

/// The first time after `base` that a calendar expression names.
fn next(expression: &str, base: i64) -> Result<Option<i64>> {
    let text = Program::new("systemd-analyze")
        .arg("calendar")
        .arg(format!("--base-time=@{base}"))
        .arg(expression)
        .run()
        .with_context(|| format!("reading the calendar expression `{expression}`"))
        .hint("systemd.time(7) describes them: `systemd-analyze calendar EXPRESSION` shows what one means")?;
    parse(&text)
}

/// Reads what `systemd-analyze calendar` prints: the time in UTC stands in a line of its own, unless that is the zone
/// of the host.
fn parse(text: &str) -> Result<Option<i64>> {
    let lines = text.lines().filter_map(|line| line.split_once(": "));
    let of = |key: &str| lines.clone().find(|(k, _)| k.trim() == key).map(|(_, v)| v);
    let found = of("(in UTC)").or_else(|| of("Next elapse"));
    let found = found.context("systemd-analyze names no time")?.trim();
    if found == "never" {
        return Ok(None);
    }
    let time = DateTime::strptime("%a %Y-%m-%d %H:%M:%S UTC", found)
        .with_context(|| format!("reading the time `{found}`"))?;
    let time = time.to_zoned(TimeZone::UTC).context("reading a time")?;
    Ok(Some(time.timestamp().as_second()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_says_when() {
        for (expression, base, expected) in [
            ("*-*-* 00:00:00 UTC", 0, Some(86_400)),
            ("*-*-* 00:00:00 UTC", 86_399, Some(86_400)),
            ("hourly UTC", 10, Some(3600)),
            ("1970-01-01 00:00:00 UTC", 5, None),
        ] {
            assert_eq!(next(expression, base).unwrap(), expected, "{expression}");
        }
        let error = next("whenever", 0).unwrap_err();
        let hint = &crate::hint::hints(&error)[0].0;
        assert!(hint.contains("systemd.time(7)"), "{hint}");
    }

    #[test]
    fn a_time_in_another_zone_is_read_too() {
        let text = "  Original form: daily\nNormalized form: *-*-* 00:00:00\n    Next elapse: Fri 1970-01-02 00:00:00 CET\n       (in UTC): Thu 1970-01-01 23:00:00 UTC\n       From now: 1h\n";
        assert_eq!(parse(text).unwrap(), Some(82_800));
    }
}
