//! Time spans of systemd.time(7), as durations: `5s`, `1min 30s`, `500ms`.

use std::time::Duration;

use anyhow::{Result, anyhow};

/// Units and their seconds.
const UNITS: [(&[&str], f64); 9] = [
    (&["us", "µs", "usec"], 1e-6),
    (&["ms", "msec"], 1e-3),
    (&["", "s", "sec", "second", "seconds"], 1.0),
    (&["m", "min", "minute", "minutes"], 60.0),
    (&["h", "hr", "hour", "hours"], 3600.0),
    (&["d", "day", "days"], 86_400.0),
    (&["w", "week", "weeks"], 604_800.0),
    (&["M", "month", "months"], 2_629_800.0),
    (&["y", "year", "years"], 31_557_600.0),
];

/// The span that `text` means.
pub fn parse(text: &str) -> Result<Duration> {
    let wrong = || anyhow!("`{text}` is no time span such as `10s` or `1min 30s`");
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = rest[digits..].trim_start();
        let letters = rest
            .find(|c: char| !c.is_alphabetic())
            .unwrap_or(rest.len());
        let unit = &rest[..letters];
        let (_, length) = UNITS
            .iter()
            .find(|(names, _)| names.contains(&unit))
            .ok_or_else(wrong)?;
        seconds += number * length;
        rest = rest[letters..].trim_start();
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        for (text, millis) in [
            ("5", 5000),
            ("500ms", 500),
            ("1min 30s", 90_000),
            ("1.5h", 5_400_000),
            (" 2 m 1s", 121_000),
        ] {
            assert_eq!(parse(text).unwrap(), Duration::from_millis(millis));
        }
        for text in ["", "s", "5 parsecs", "-1s", "1..2s", "5s\nX=1", "infinity"] {
            assert_eq!(
                parse(text).unwrap_err().to_string(),
                format!("`{text}` is no time span such as `10s` or `1min 30s`")
            );
        }
    }
}
