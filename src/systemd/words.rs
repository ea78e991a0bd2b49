//! systemd's words in ours: its version as a number, and why a start failed.

use anyhow::{Result, anyhow};

use crate::systemd::UnitState;

/// The major number of a version such as `252.39-1~deb12u2` or `v257-rc1`.
pub(crate) fn major(text: &str) -> Result<u32> {
    text.trim_start_matches('v')
        .split(|c: char| !c.is_ascii_digit())
        .next()
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| anyhow!("systemd's version `{text}` does not begin with a number"))
}

/// One clause about how a start ended.
pub(crate) fn explain(job: &str, state: &UnitState) -> String {
    match (job, state.load.as_str()) {
        (_, "masked") => return "the unit is masked; `systemctl unmask` it first".to_owned(),
        ("dependency", _) => return "a unit that it requires did not start".to_owned(),
        ("canceled", _) => return "the start was cancelled by another job".to_owned(),
        _ => {}
    }
    match state.result.as_str() {
        "exit-code" => format!("it exited with status {}", state.exit_status),
        "signal" | "core-dump" => format!("it was killed by signal {}", state.exit_status),
        "timeout" => "it was not ready in time".to_owned(),
        "protocol" => "it ended without saying that it is ready".to_owned(),
        "watchdog" => "it missed its watchdog".to_owned(),
        "oom-kill" => "it ran out of memory".to_owned(),
        "start-limit-hit" => "it was started too often".to_owned(),
        "" | "success" => format!("its start job ended as `{job}`"),
        other => format!("it ended as `{other}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (text, number) in [("252.39-1~deb12u2", 252), ("v258-rc1", 258), ("257", 257)] {
            assert_eq!(major(text).unwrap(), number);
        }
        assert_eq!(
            major("unknown").unwrap_err().to_string(),
            "systemd's version `unknown` does not begin with a number"
        );
    }

    #[test]
    fn reasons() {
        let state = |result: &str, exit_status| UnitState {
            result: result.to_owned(),
            exit_status,
            ..UnitState::default()
        };
        for (job, state, text) in [
            ("failed", state("exit-code", 3), "it exited with status 3"),
            ("failed", state("signal", 9), "it was killed by signal 9"),
            ("timeout", state("timeout", 15), "it was not ready in time"),
            (
                "dependency",
                state("success", 0),
                "a unit that it requires did not start",
            ),
        ] {
            assert_eq!(explain(job, &state), text);
        }
    }
}
