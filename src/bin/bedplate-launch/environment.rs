//! What the payload gets of the environment that systemd gives the launcher.
//!
//! The rule: **every variable of the launcher's environment is handed on and wins over config.json's**, so that
//! `Environment=`, `EnvironmentFile=`, `PassEnvironment=` and a socket's `REMOTE_ADDR=` work as for a native
//! service. What [`WITHHELD`] lists is not handed on: it speaks of the host or of the launcher. Of that, what
//! sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3) and systemd.exec(5) promise a service is given anew, as
//! it holds inside the container ([`promises`]). Variables of those protocols that config.json itself sets are
//! dropped: an image cannot know them.
//!
//! In a container that shares the host's process ids the payload's id is unknown before it exists: `LISTEN_PID`
//! cannot be given there (sd_listen_fds(3) then reports no sockets), and `WATCHDOG_PID`, which is optional, is not.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};

/// A variable's name and value.
pub(crate) type Variable = (String, String);

/// What is not handed on: a name, or the beginning of names (with a final `*`), and why.
const WITHHELD: &[(&str, &str)] = &[
    ("PATH", "the host's programs; the image knows its own"),
    ("HOME", "a directory of the host"),
    ("USER", "a user of the host"),
    ("LOGNAME", "a user of the host"),
    ("SHELL", "a program of the host"),
    ("TERM", "the console of the host"),
    ("LANG", "the host's locale, which the image need not have"),
    ("LANGUAGE", "the host's locale"),
    ("LC_*", "the host's locale"),
    (
        "SYSTEMD_*",
        "how systemd itself runs, and the launcher's own process id",
    ),
    ("MAINPID*", "a process of the host"),
    ("MANAGERPID*", "a process of the host"),
    ("PIDFILE", "a file of the host"),
    ("NOTIFY_SOCKET", "a file of the host; given anew"),
    ("LISTEN_*", "means the launcher; given anew"),
    ("WATCHDOG_*", "means the launcher; given anew"),
    (
        "FDSTORE",
        "useless without the real notify socket; given anew",
    ),
    (
        "CREDENTIALS_DIRECTORY",
        "a directory of the host; given anew",
    ),
    (
        "RUNTIME_DIRECTORY",
        "a directory of the host; mounts say what the payload sees",
    ),
    ("STATE_DIRECTORY", "a directory of the host"),
    ("CACHE_DIRECTORY", "a directory of the host"),
    ("LOGS_DIRECTORY", "a directory of the host"),
    ("CONFIGURATION_DIRECTORY", "a directory of the host"),
    ("MEMORY_PRESSURE_*", "a file of the host's cgroup tree"),
];

/// The protocols between systemd and a service: dropped from config.json, set by this start alone.
const PROTOCOLS: &[&str] = &[
    "NOTIFY_SOCKET",
    "LISTEN_*",
    "WATCHDOG_*",
    "FDSTORE",
    "CREDENTIALS_DIRECTORY",
];

/// The launcher's own environment and process id.
pub(crate) struct Inherited {
    variables: BTreeMap<String, String>,
    pid: u32,
}

/// The process ids that the payload sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pids {
    /// Its own: it is process 1.
    Private,
    /// The host's, or some other's.
    Foreign,
}

/// What the payload is promised, each as it is named inside the container.
pub(crate) struct Promises<'a> {
    /// Which process ids it sees.
    pub(crate) pids: Pids,
    /// Its notify socket.
    pub(crate) notify: Option<&'a str>,
    /// That socket is systemd's own, so that watchdog and file descriptor store work.
    pub(crate) real: bool,
    /// Its credentials.
    pub(crate) credentials: Option<&'a str>,
}

impl Inherited {
    /// Reads this process's environment.
    pub(crate) fn read() -> Result<Self> {
        let variables = std::env::vars_os()
            .map(
                |(name, value)| match (name.into_string(), value.into_string()) {
                    (Ok(name), Ok(value)) => Ok((name, value)),
                    (Err(name), _) => Err(anyhow!("variable `{}` is not UTF-8", name.display())),
                    (Ok(name), Err(_)) => {
                        Err(anyhow!("the value of variable `{name}` is not UTF-8"))
                    }
                },
            )
            .collect::<Result<_>>()?;
        Ok(Self {
            variables,
            pid: std::process::id(),
        })
    }

    /// The value of `name`, unless it is empty.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.variables
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// How many file descriptors systemd passes, from 3 on.
    pub(crate) fn descriptors(&self) -> u32 {
        let mine = self.value("LISTEN_PID") == Some(&self.pid.to_string());
        let count = self
            .value("LISTEN_FDS")
            .and_then(|count| count.parse().ok());
        count.filter(|_| mine).unwrap_or(0)
    }

    /// What is handed on as it is.
    fn handed_on(&self) -> impl Iterator<Item = Variable> {
        let kept = self
            .variables
            .iter()
            .filter(|(name, _)| !WITHHELD.iter().any(|(pattern, _)| matches(pattern, name)));
        kept.map(|(name, value)| (name.clone(), value.clone()))
    }

    /// What is given anew.
    fn promises(&self, given: &Promises<'_>) -> Vec<Variable> {
        let mut variables: Vec<(&str, String)> = Vec::new();
        variables.extend(given.notify.map(|path| ("NOTIFY_SOCKET", path.to_owned())));
        variables.extend(
            given
                .credentials
                .map(|path| ("CREDENTIALS_DIRECTORY", path.to_owned())),
        );
        let descriptors = self.descriptors();
        if descriptors > 0 {
            variables.push(("LISTEN_FDS", descriptors.to_string()));
            variables.extend(
                self.value("LISTEN_FDNAMES")
                    .map(|names| ("LISTEN_FDNAMES", names.to_owned())),
            );
            if given.pids == Pids::Private {
                variables.push(("LISTEN_PID", "1".to_owned()));
            }
        }
        if given.real {
            variables.extend(
                self.value("FDSTORE")
                    .map(|limit| ("FDSTORE", limit.to_owned())),
            );
        }
        if let Some(interval) = self.value("WATCHDOG_USEC").filter(|_| given.real) {
            variables.push(("WATCHDOG_USEC", interval.to_owned()));
            if given.pids == Pids::Private {
                variables.push(("WATCHDOG_PID", "1".to_owned()));
            }
        }
        variables
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    /// The payload's environment: `image`'s (`NAME=VALUE` each), overlaid with what this start gives.
    pub(crate) fn complete(&self, image: &[String], given: &Promises<'_>) -> Vec<String> {
        let mut overlay: BTreeMap<String, String> =
            self.handed_on().chain(self.promises(given)).collect();
        let mut complete: Vec<String> = Vec::new();
        for entry in image {
            let name = entry
                .split_once('=')
                .map_or(entry.as_str(), |(name, _)| name);
            match overlay.remove(name) {
                Some(value) => complete.push(format!("{name}={value}")),
                None if PROTOCOLS.iter().any(|pattern| matches(pattern, name)) => {}
                None => complete.push(entry.clone()),
            }
        }
        complete.extend(
            overlay
                .into_iter()
                .map(|(name, value)| format!("{name}={value}")),
        );
        complete
    }
}

/// Whether `pattern`, a name or a beginning with `*`, means `name`.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inherited(variables: &[&str]) -> Inherited {
        let variables = variables.iter().map(|entry| entry.split_once('=').unwrap());
        Inherited {
            variables: variables
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            pid: 77,
        }
    }

    fn complete(image: &[&str], own: &[&str], given: &Promises<'_>) -> Vec<String> {
        inherited(own).complete(
            &image.iter().map(ToString::to_string).collect::<Vec<_>>(),
            given,
        )
    }

    const NOTHING: Promises<'_> = Promises {
        pids: Pids::Private,
        notify: None,
        real: false,
        credentials: None,
    };

    #[test]
    fn each_variable_is_handed_on_or_withheld() {
        let on = [
            "FOO=1",
            "INVOCATION_ID=0a",
            "JOURNAL_STREAM=8:1",
            "REMOTE_ADDR=::1",
            "TRIGGER_UNIT=a.timer",
            "DEBUG_INVOCATION=1",
        ];
        let off = [
            "PATH=/sbin",
            "HOME=/root",
            "USER=root",
            "LOGNAME=root",
            "SHELL=/bin/sh",
            "TERM=vt220",
            "LANG=C",
            "LANGUAGE=en",
            "LC_ALL=C",
            "SYSTEMD_EXEC_PID=77",
            "MAINPID=1",
            "MAINPIDFDID=1",
            "MANAGERPID=1",
            "PIDFILE=/run/p",
            "NOTIFY_SOCKET=/run/systemd/notify",
            "LISTEN_FDS=1",
            "LISTEN_PID=5",
            "WATCHDOG_USEC=3",
            "WATCHDOG_PID=77",
            "FDSTORE=3",
            "CREDENTIALS_DIRECTORY=/run/c",
            "RUNTIME_DIRECTORY=/run/b",
            "STATE_DIRECTORY=/s",
            "CACHE_DIRECTORY=/c",
            "LOGS_DIRECTORY=/l",
            "CONFIGURATION_DIRECTORY=/e",
            "MEMORY_PRESSURE_WATCH=/sys/p",
            "MEMORY_PRESSURE_WRITE=x",
        ];
        let mut expected = on.map(String::from);
        expected.sort();
        assert_eq!(
            complete(&[], &[&on[..], &off[..]].concat(), &NOTHING),
            expected
        );
        for (pattern, _) in WITHHELD {
            assert!(
                off.iter()
                    .any(|entry| matches(pattern, entry.split('=').next().unwrap())),
                "{pattern} is untested"
            );
        }
    }

    #[test]
    fn systemds_variables_win_in_the_images_order() {
        let image = [
            "PATH=/bin",
            "FOO=image",
            "LISTEN_FDS=9",
            "NOTIFY_SOCKET=/x",
            "BARE",
            "Z=z",
        ];
        let own = ["FOO=unit", "PATH=/sbin", "BAR=a=b"];
        assert_eq!(
            complete(&image, &own, &NOTHING),
            ["PATH=/bin", "FOO=unit", "BARE", "Z=z", "BAR=a=b"]
        );
    }

    #[test]
    fn promises_hold_inside_the_container() {
        let own = [
            "LISTEN_FDS=2",
            "LISTEN_PID=77",
            "LISTEN_FDNAMES=a:b",
            "WATCHDOG_USEC=5000000",
            "WATCHDOG_PID=77",
            "FDSTORE=4",
        ];
        let given = |pids, real| Promises {
            pids,
            notify: Some("/run/notify"),
            real,
            credentials: Some("/run/credentials"),
        };
        let common = [
            "CREDENTIALS_DIRECTORY=/run/credentials",
            "LISTEN_FDNAMES=a:b",
            "LISTEN_FDS=2",
            "NOTIFY_SOCKET=/run/notify",
        ];
        let with = |more: &[&str]| {
            let mut all: Vec<String> = common.iter().chain(more).map(ToString::to_string).collect();
            all.sort();
            all
        };
        let private = complete(&[], &own, &given(Pids::Private, true));
        assert_eq!(
            private,
            with(&[
                "LISTEN_PID=1",
                "WATCHDOG_USEC=5000000",
                "WATCHDOG_PID=1",
                "FDSTORE=4"
            ])
        );
        let foreign = complete(&[], &own, &given(Pids::Foreign, true));
        assert_eq!(foreign, with(&["WATCHDOG_USEC=5000000", "FDSTORE=4"]));
        let proxy = complete(&[], &own, &given(Pids::Private, false));
        assert_eq!(proxy, with(&["LISTEN_PID=1"]));
    }

    #[test]
    fn descriptors_meant_for_another_process_are_not_ours() {
        for (own, count) in [
            (vec!["LISTEN_FDS=2", "LISTEN_PID=77"], 2),
            (vec!["LISTEN_FDS=2", "LISTEN_PID=78"], 0),
            (vec!["LISTEN_FDS=2"], 0),
            (vec!["LISTEN_FDS=x", "LISTEN_PID=77"], 0),
            (vec![], 0),
        ] {
            assert_eq!(inherited(&own).descriptors(), count, "{own:?}");
        }
    }
}
