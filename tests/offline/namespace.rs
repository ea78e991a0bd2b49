//! Conditions of a machine that a test may not make for real: a private mount namespace has them.

use std::path::Path;
use std::process::Command;

use crate::host::{BEDPLATE, Host};
use crate::process::{self, Run};

/// Runs a shell script in a mount namespace of its own. In it `bedplate` is the program, on the machine's own root;
/// what the script mounts, nobody else sees.
pub(crate) fn script(host: &Host, script: &str, args: &[&str]) -> Run {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-euc"])
        .arg(format!("bedplate() {{ \"$BEDPLATE\" \"$@\"; }}\n{script}"))
        .arg("sh")
        .args(args)
        .env("BEDPLATE", BEDPLATE)
        .env("ROOT", host.root());
    host.environment(&mut command);
    process::run(&mut command)
}

/// Runs the program with `--root` where the machine's `/etc/containers` holds only this policy, if any.
pub(crate) fn with_policy(host: &Host, policy: Option<&str>, args: &[&str]) -> Run {
    let write = policy.map_or(String::new(), |text| {
        format!("echo '{text}' >/etc/containers/policy.json\n")
    });
    script(
        host,
        &format!("mount -t tmpfs none /etc/containers\n{write}bedplate \"$@\" --root=\"$ROOT\""),
        args,
    )
}

/// Says that this process has a mount namespace of its own.
const OWN: &str = "BEDPLATE_TEST_MOUNTS";

/// Whether the test may mount what it needs: in a process of its own, which this one starts and waits for.
pub(crate) fn own(test: &str) -> bool {
    if std::env::var_os(OWN).is_some() {
        return true;
    }
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(OWN, "1");
    let run = process::run(&mut command);
    println!("{}{}", run.stderr, run.stdout);
    assert!(run.stdout.contains("1 passed"), "{test}");
    false
}

/// A file system of its own over a directory, until it is dropped.
pub(crate) struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    /// One of this type with these options; what was in the directory is in it.
    pub(crate) fn over(dir: &'a Path, options: &[&str]) -> Self {
        let beside = dir.with_extension("mounted");
        let [at, beside] = [dir, &beside].map(|p| p.to_str().unwrap());
        process::tool("mkdir", &[beside]);
        process::tool("mount", &[options, &[beside]].concat());
        process::tool("cp", &["-a", &format!("{at}/."), beside]);
        process::tool("mount", &["--move", beside, at]);
        process::tool("rmdir", &[beside]);
        Self(dir)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        process::tool("umount", &[self.0.to_str().unwrap()]);
    }
}
