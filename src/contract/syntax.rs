//! The small languages inside the manifest: names, paths, URLs, spans of time, signals, capabilities.
//!
//! Each check returns what is wrong as the end of a sentence that begins with the key.

use crate::contract::problems::did_you_mean;

/// What a check says: nothing, or what is wrong.
pub type Checked = Result<(), String>;

/// The longest text of a value, in bytes: below what execve(2) takes as one environment string.
pub const TEXT_MAX: usize = 64 * 1024;

/// Whether the text is a template, so that only its result can be judged.
pub fn is_template(text: &str) -> bool {
    text.contains("{{")
}

/// One line of text: no control characters, which would add lines to a unit or move a terminal's cursor.
pub fn line(text: &str) -> Checked {
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return Err("must be one line without control characters".to_owned());
    }
    if text.len() > TEXT_MAX {
        return Err(format!("must not be longer than {TEXT_MAX} bytes"));
    }
    Ok(())
}

/// The name of a value: `[A-Za-z_][A-Za-z0-9_]*`.
pub fn value_name(name: &str) -> Checked {
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if begins && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Ok(());
    }
    Err("the name may hold only letters, digits and `_`, and may not begin with a digit".to_owned())
}

/// An absolute path without `..`.
pub fn path(text: &str) -> Checked {
    line(text)?;
    if !text.starts_with('/') || text.split('/').any(|part| part == "..") {
        return Err(format!(
            "expected an absolute path without `..`, found `{text}`"
        ));
    }
    Ok(())
}

/// `SCHEME://REST`, the scheme as in RFC 3986.
pub fn url(text: &str) -> Checked {
    line(text)?;
    let valid = text.split_once("://").is_some_and(|(scheme, rest)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
            && !rest.is_empty()
            && !rest.contains(char::is_whitespace)
    });
    if valid {
        return Ok(());
    }
    Err(format!(
        "expected a URL such as `http://127.0.0.1:2379`, found `{text}`"
    ))
}

/// A device node: a path below `/dev`.
pub fn device(text: &str) -> Checked {
    path(text)?;
    if text
        .strip_prefix("/dev/")
        .is_some_and(|rest| !rest.is_empty())
    {
        return Ok(());
    }
    Err(format!("expected a path below `/dev`, found `{text}`"))
}

/// A directory below `/var/lib`, `/run` and so on, as systemd.exec(5) has it for `StateDirectory=`. Blanks and
/// colons would make it two directories or a link; `bedplate` is our own.
pub fn directory(text: &str) -> Checked {
    line(text)?;
    let mut parts = text.split('/');
    if parts.any(|part| matches!(part, "" | "." | "..")) {
        return Err(format!(
            "expected a relative path without `..`, found `{text}`"
        ));
    }
    if text.contains(|c: char| c.is_whitespace() || ":\\\"'".contains(c)) {
        return Err(format!(
            "may hold no blanks, colons, quotes or backslashes, found `{text}`"
        ));
    }
    if text.split('/').next() == Some("bedplate") {
        return Err("`bedplate` is bedplate's own directory".to_owned());
    }
    Ok(())
}

/// A name that stands alone in a unit's list and is a plain file name: a credential's or a socket's.
pub fn word(text: &str) -> Checked {
    let valid = text.chars().all(|c| c.is_ascii_graphic() && c != '/');
    if valid && !text.is_empty() && text.len() <= 255 && !text.contains(['%', ':', '\\', '"', '\''])
    {
        return Ok(());
    }
    Err(format!(
        "expected a name of letters, digits, `.`, `_` and `-`, found `{text}`"
    ))
}

/// The name of an environment variable.
pub fn variable(name: &str) -> Checked {
    if name.is_empty() || name.contains('=') || name.chars().any(char::is_control) {
        return Err("is no name for an environment variable".to_owned());
    }
    Ok(())
}

/// The units of systemd.time(7).
const TIME_UNITS: &str = " usec us µs msec ms seconds second sec s minutes minute min m hours hour hr h days day d \
                          weeks week w months month M years year y ";

/// A span of systemd.time(7), such as `1min 30s`, or `infinity`.
pub fn span(text: &str) -> Checked {
    let mut rest = text.trim();
    let wrong = || {
        Err(format!(
            "expected a span of time such as `30s`, found `{text}`"
        ))
    };
    if rest.is_empty() {
        return wrong();
    }
    if rest == "infinity" {
        return Ok(());
    }
    while !rest.is_empty() {
        let number = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        if rest[..number].parse::<f64>().is_err() {
            return wrong();
        }
        let after = rest[number..].trim_start();
        let unit = after
            .find(|c: char| !c.is_alphabetic())
            .unwrap_or(after.len());
        if unit > 0 && !TIME_UNITS.contains(&format!(" {} ", &after[..unit])) {
            return wrong();
        }
        rest = after[unit..].trim_start();
    }
    Ok(())
}

/// The signals of signal(7) that a unit may name, without their prefix.
const SIGNALS: [&str; 32] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "KILL", "PIPE",
    "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN",
    "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
];

/// A signal with its prefix: `SIGHUP`, `SIGRTMIN+3`.
pub fn signal(text: &str) -> Checked {
    let name = text.strip_prefix("SIG").unwrap_or_default();
    let real_time = ["RTMIN+", "RTMAX-"].iter().any(|prefix| {
        name.strip_prefix(prefix)
            .is_some_and(|n| n.parse::<u8>().is_ok_and(|n| n <= 30))
    });
    if real_time || SIGNALS.contains(&name) {
        return Ok(());
    }
    let names: Vec<_> = SIGNALS.iter().map(|s| format!("SIG{s}")).collect();
    let meant = did_you_mean(text, names.iter().map(String::as_str));
    Err(format!("unknown signal `{text}`{meant}"))
}

/// The capabilities of capabilities(7), Linux 5.9 and later.
pub const CAPABILITIES: [&str; 41] = [
    "CAP_AUDIT_CONTROL",
    "CAP_AUDIT_READ",
    "CAP_AUDIT_WRITE",
    "CAP_BLOCK_SUSPEND",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_KILL",
    "CAP_LEASE",
    "CAP_LINUX_IMMUTABLE",
    "CAP_MAC_ADMIN",
    "CAP_MAC_OVERRIDE",
    "CAP_MKNOD",
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_RAW",
    "CAP_PERFMON",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYSLOG",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_CHROOT",
    "CAP_SYS_MODULE",
    "CAP_SYS_NICE",
    "CAP_SYS_PACCT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_WAKE_ALARM",
];

/// A capability by its full name.
pub fn capability(text: &str) -> Checked {
    if CAPABILITIES.contains(&text) {
        return Ok(());
    }
    // Other engines leave the prefix out.
    let full = format!("CAP_{text}");
    let meant = if CAPABILITIES.contains(&full.as_str()) {
        format!("; did you mean `{full}`?")
    } else {
        did_you_mean(text, CAPABILITIES)
    };
    Err(format!("unknown capability `{text}`{meant}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_language_takes_what_it_should() {
        type Case = (fn(&str) -> Checked, &'static [&'static str]);
        let cases: [Case; 8] = [
            (value_name, &["ETCD_NAME", "_x", "a1"]),
            (path, &["/", "/var/lib/etcd", "/a..b"]),
            (url, &["http://127.0.0.1:2379", "unix:///run/x.sock"]),
            (device, &["/dev/kvm", "/dev/net/tun"]),
            (directory, &["etcd", "etcd/data", "bedplate-x"]),
            (
                span,
                &["30s", "1min 30s", "500ms", "5", "1.5h", "infinity", "2 min"],
            ),
            (signal, &["SIGTERM", "SIGRTMIN+3", "SIGWINCH"]),
            (word, &["tls.key", "listen-client"]),
        ];
        for (check, texts) in cases {
            for text in texts {
                assert_eq!(check(text), Ok(()), "{text}");
            }
        }
    }

    const NAME: &str =
        "the name may hold only letters, digits and `_`, and may not begin with a digit";

    type Case = (fn(&str) -> Checked, &'static str, &'static str);

    const WRONG: [Case; 21] = [
        (line, "a\nb", "must be one line without control characters"),
        (
            line,
            "\u{1b}[2J",
            "must be one line without control characters",
        ),
        (value_name, "1a", NAME),
        (value_name, "a-b", NAME),
        (value_name, "", NAME),
        (
            path,
            "etc",
            "expected an absolute path without `..`, found `etc`",
        ),
        (
            path,
            "/a/../b",
            "expected an absolute path without `..`, found `/a/../b`",
        ),
        (
            url,
            "127.0.0.1",
            "expected a URL such as `http://127.0.0.1:2379`, found `127.0.0.1`",
        ),
        (
            url,
            "http://",
            "expected a URL such as `http://127.0.0.1:2379`, found `http://`",
        ),
        (
            device,
            "/etc/x",
            "expected a path below `/dev`, found `/etc/x`",
        ),
        (
            device,
            "/dev/../x",
            "expected an absolute path without `..`, found `/dev/../x`",
        ),
        (
            directory,
            "/etcd",
            "expected a relative path without `..`, found `/etcd`",
        ),
        (
            directory,
            "a b",
            "may hold no blanks, colons, quotes or backslashes, found `a b`",
        ),
        (
            directory,
            "bedplate/x",
            "`bedplate` is bedplate's own directory",
        ),
        (
            word,
            "a/b",
            "expected a name of letters, digits, `.`, `_` and `-`, found `a/b`",
        ),
        (
            span,
            "soon",
            "expected a span of time such as `30s`, found `soon`",
        ),
        (
            span,
            "30x",
            "expected a span of time such as `30s`, found `30x`",
        ),
        (
            span,
            "30s\nUser=0",
            "expected a span of time such as `30s`, found `30s\nUser=0`",
        ),
        (
            signal,
            "SIGTREM",
            "unknown signal `SIGTREM`; did you mean `SIGTERM`?",
        ),
        (
            capability,
            "CAP_NET_ADMN",
            "unknown capability `CAP_NET_ADMN`; did you mean `CAP_NET_ADMIN`?",
        ),
        (capability, "ALL", "unknown capability `ALL`"),
    ];

    #[test]
    fn each_language_says_what_is_wrong() {
        for (check, text, problem) in WRONG {
            assert_eq!(check(text).unwrap_err(), problem);
        }
        assert!(CAPABILITIES.is_sorted() && SIGNALS.is_sorted());
    }
}
