//! Names of signals, signal(7), as images and manifests write them.

const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The signal that `text` names, as systemd writes it: `SIGTERM`, `SIGRTMIN+3`. Taken are names with and without
/// `SIG` and the numbers of the machines that count as x86 and arm do.
pub(crate) fn parse(text: &str) -> Option<String> {
    let word = text.trim().to_ascii_uppercase();
    if let Ok(number) = word.parse::<usize>() {
        let name = NAMES.get(number.checked_sub(1)?)?;
        return Some(format!("SIG{name}"));
    }
    let word = word.strip_prefix("SIG").unwrap_or(&word);
    if NAMES.contains(&word) {
        return Some(format!("SIG{word}"));
    }
    let offset = |rest: &str, sign: char| -> Option<u32> {
        let offset = rest.strip_prefix(sign)?.parse().ok()?;
        (offset <= 30).then_some(offset)
    };
    let real_time = match (word.strip_prefix("RTMIN"), word.strip_prefix("RTMAX")) {
        (Some(""), _) | (_, Some("")) => true,
        (Some(rest), _) => offset(rest, '+').is_some(),
        (_, Some(rest)) => offset(rest, '-').is_some(),
        _ => false,
    };
    real_time.then(|| format!("SIG{word}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals() {
        for (text, expected) in [
            ("SIGTERM", Some("SIGTERM")),
            ("quit", Some("SIGQUIT")),
            ("15", Some("SIGTERM")),
            ("SIGRTMIN+3", Some("SIGRTMIN+3")),
            ("RTMAX-2", Some("SIGRTMAX-2")),
            ("SIGRTMIN-3", None),
            ("SIGRTMIN+99", None),
            ("0", None),
            ("reload-me", None),
            ("", None),
        ] {
            assert_eq!(parse(text).as_deref(), expected, "{text}");
        }
    }
}
