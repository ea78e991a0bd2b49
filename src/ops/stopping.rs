//! Payloads that a stop does not reach: the first process of a PID namespace is not ended by a signal that it has
//! no handler for, pid_namespaces(7). Such a service takes all of its stop timeout and is killed.

use anyhow::Result;

use crate::ops::Host;
use crate::systemd::UnitState;

/// What the operator should know of stopping a service, if anything.
pub(crate) fn advice(host: &Host, state: &UnitState) -> Result<Option<String>> {
    if state.main_pid == 0 || !host.root.is_host() {
        return Ok(None);
    }
    let status = host
        .root
        .read_text(format!("/proc/{}/status", state.main_pid))?;
    let Some(status) = status.filter(|s| ignores(s, state.kill_signal)) else {
        return Ok(None);
    };
    let name = field(&status, "Name:").unwrap_or("its process");
    let signal = match state.kill_signal {
        15 => "SIGTERM".to_owned(),
        number => format!("signal {number}"),
    };
    Ok(Some(format!(
        "`{name}` does not handle {signal}: a stop waits for its timeout and kills it; the image's remedy is an init \
         such as tini as its entrypoint, a `stop_signal` that it handles, or a short `stop_timeout`"
    )))
}

/// Whether the process of this proc_pid_status(5) is the first of its namespace and does not catch `signal`.
fn ignores(status: &str, signal: i32) -> bool {
    let first = field(status, "NSpid:")
        .is_some_and(|ids| ids.split_whitespace().skip(1).last() == Some("1"));
    let caught = field(status, "SigCgt:").and_then(|mask| u64::from_str_radix(mask, 16).ok());
    match (first, caught, u32::try_from(signal - 1)) {
        (true, Some(mask), Ok(bit)) if bit < u64::BITS => mask & (1 << bit) == 0,
        _ => false,
    }
}

fn field<'s>(status: &'s str, key: &str) -> Option<&'s str> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_first_process_without_a_handler_ignores() {
        for (nspid, caught, ignored) in [
            ("71\t1", "0000000000000000", true),
            ("71\t1", "0000000000004000", false),
            ("71", "0000000000000000", false),
            ("71\t5", "0000000000000000", false),
            ("9\t71\t1", "0000000000000001", true),
        ] {
            let status = format!("Name:\tsh\nNSpid:\t{nspid}\nSigCgt:\t{caught}\n");
            assert_eq!(ignores(&status, 15), ignored, "{nspid} {caught}");
        }
        assert!(!ignores("Name:\tsh\n", 15));
        assert!(!ignores("NSpid:\t1\t1\nSigCgt:\t0\n", 0));
    }
}
