//! Conditions of a machine that a test may not make for real: a private mount namespace has them.

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
