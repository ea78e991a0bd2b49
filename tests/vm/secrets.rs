//! Secrets of the contract: given once, sealed for the host, readable inside, and in clear nowhere else.

use anyhow::{Context, Result, ensure};

use crate::guest::{Guest, Output, Suite};
use crate::product::{self, COMMAND, UP};
use crate::story::{Story, Told};
use crate::{fidelity, host, images};

/// The stories of this file.
pub(crate) const STORIES: &[Told] = &[
    ("secrets-trixie", |story| secrets(story, Suite::Trixie)),
    ("secrets-bookworm", |story| secrets(story, Suite::Bookworm)),
];

const MANIFEST: &str = r#"contract = 1
description = "What has a secret"

[values.TOKEN]
type = "secret"
required = true
help = "What it is let in by"

[values.SPARE]
type = "secret"
help = "Another"

[values.WORD]
type = "string"
default = "one"
help = "What it says"

[container]
user = "user"
args = ["say {{WORD}}; mirror /run/credentials/TOKEN; mirror /run/credentials/SPARE; tell READY=1; wait"]

[service]
type = "notify"

[health]
settle = "100ms"
"#;

const UNIT: &str = "vault.service";

/// Two secrets, and how the payload says them: backwards.
const FIRST: (&str, &str) = ("first-swordfish-0815", "5180-hsifdrows-tsrif");
const SECOND: (&str, &str) = ("second-swordfish-4711", "1174-hsifdrows-dnoces");

/// Where a secret lies that is given as a file: in memory.
const FILE: &str = "/dev/shm/token";

/// A systemd-creds that writes down what everybody can see while it runs.
const SPY: &str = "#!/bin/sh
cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ >>/dev/shm/seen 2>/dev/null
exec /usr/bin/systemd-creds \"$@\"
";

fn secrets(story: &Story, suite: Suite) -> Result<()> {
    let mut guest = product::boot(story, suite)?;
    let image = format!("vault-{}", suite.name());
    images::add(&image, MANIFEST, &[])?;
    let image = product::image(&image);
    guest.write("/opt/spy/systemd-creds", SPY)?;
    guest.ok(&["chmod", "755", "/opt/spy/systemd-creds"])?;
    for runtime in product::runtimes(suite)? {
        let told = told_by(&guest, runtime, &image);
        told.with_context(|| format!("with {runtime}"))?;
        fidelity::shown(suite, runtime, &["credentials.secret"])?;
    }
    is_there_after_a_reboot(&mut guest, &image)
}

fn told_by(guest: &Guest, runtime: &str, image: &str) -> Result<()> {
    is_asked_for(guest, image)?;
    needs_systemd_creds(guest, image)?;
    let install = [
        "install",
        "--name=vault",
        "--runtime",
        runtime,
        "--now",
        "--secret=TOKEN=-",
        image,
    ];
    gives(guest, &install, FIRST.0)?;
    says(guest, FIRST.1)?;
    is_named(guest)?;
    same_is_nothing_new(guest, image)?;
    changes(guest)?;
    goes_along(guest)?;
    is_nowhere_in_clear(guest)?;
    is_verified(guest)?;
    product::does(guest, &["uninstall", "vault"])?;
    product::is_gone(guest, &["vault"])
}

/// Runs bedplate with this to read, under the eyes of the spy; it must succeed.
fn gives(guest: &Guest, args: &[&str], secret: &str) -> Result<Output> {
    let spied = [
        "env",
        "PATH=/opt/spy:/usr/sbin:/usr/bin:/sbin:/bin",
        "bedplate",
    ];
    let output = guest.run_with(&[&spied[..], args].concat(), COMMAND, secret.as_bytes())?;
    ensure!(output.status == 0, "bedplate {args:?}: {output:?}");
    for (secret, _) in [FIRST, SECOND] {
        let clear = output.stdout.contains(secret) || output.stderr.contains(secret);
        ensure!(!clear, "bedplate {args:?} shows it: {output:?}");
    }
    Ok(output)
}

/// The payload's last start read this.
fn says(guest: &Guest, mirrored: &str) -> Result<()> {
    guest.wait_active(UNIT, UP)?;
    let id = guest.property(UNIT, "InvocationID")?;
    let said = guest.messages(&[&format!("_SYSTEMD_INVOCATION_ID={id}")])?;
    ensure!(
        said.lines().any(|line| line == mirrored),
        "no {mirrored}: {said}"
    );
    Ok(())
}

fn is_asked_for(guest: &Guest, image: &str) -> Result<()> {
    let said = [
        "`TOKEN`: a value is required: a secret: What it is let in by",
        "hint: give it as in `--secret TOKEN=FILE`",
    ];
    product::refuses(guest, &["install", "--name=vault", image], &said)?;
    guest.write(FILE, FIRST.0)?;
    let secret = format!("--secret=TOKEN={FILE}");
    let dry = product::does(
        guest,
        &["install", "--name=vault", "--dry-run", &secret, image],
    )?;
    ensure!(
        dry.contains("note: the secret `TOKEN` is from /dev/shm/token, kept sealed")
            && dry.contains(
                "LoadCredentialEncrypted=TOKEN:/var/lib/bedplate/containers/vault/1/secrets/TOKEN"
            )
            && !dry.contains(FIRST.0),
        "{dry}"
    );
    product::is_gone(guest, &["vault"])
}

/// Where the host cannot seal nothing is installed, and it says why.
fn needs_systemd_creds(guest: &Guest, image: &str) -> Result<()> {
    guest.write(
        "/opt/broken/systemd-creds",
        "#!/bin/sh\necho no key >&2\nexit 1\n",
    )?;
    guest.ok(&["chmod", "755", "/opt/broken/systemd-creds"])?;
    let hint = "hint: a host that seals secrets has systemd-creds(1) and a key";
    // Without a PATH of the guest's there is no program at all.
    for (path, reason) in [
        (
            "/opt/broken:/usr/sbin:/usr/bin",
            "`systemd-creds` said: no key",
        ),
        (
            "/opt/few",
            "running `systemd-creds`: No such file or directory",
        ),
    ] {
        guest.sh("mkdir -p /opt/few; ln -sf /usr/bin/skopeo /usr/sbin/runc /opt/few/")?;
        let path = format!("PATH={path}");
        let secret = format!("--secret=TOKEN={FILE}");
        let argv = [
            "env",
            &path,
            "/usr/bin/bedplate",
            "install",
            "--name=vault",
            &secret,
            image,
        ];
        let output = guest.run(&argv)?;
        let expected = format!("sealing the secret `TOKEN`: {reason}");
        ensure!(
            output.status == 1 && output.stderr.contains(&expected) && output.stderr.contains(hint),
            "{output:?}"
        );
        product::is_gone(guest, &["vault"])?;
    }
    Ok(())
}

/// What shows the container names the secret and where it came from, never what it is.
fn is_named(guest: &Guest) -> Result<()> {
    for (args, named) in [
        (
            &["show", "vault"][..],
            "TOKEN (secret, from standard input)",
        ),
        (&["show", "--json", "vault"], r#""origin": "secret-input""#),
        (&["values", "vault"], "(never shown)"),
        (
            &["values", "--json", "vault"],
            r#""origin": "secret-input""#,
        ),
    ] {
        let shown = product::does(guest, args)?;
        ensure!(shown.contains(named), "{args:?} does not name it: {shown}");
    }
    Ok(())
}

/// To give what is there already changes nothing.
fn same_is_nothing_new(guest: &Guest, image: &str) -> Result<()> {
    let install = ["install", "--name=vault", "--secret=TOKEN=-", image];
    let output = gives(guest, &install, FIRST.0)?;
    ensure!(output.stdout.contains("already installed"), "{output:?}");
    let output = gives(guest, &["update", "vault", "--secret=TOKEN=-"], FIRST.0)?;
    ensure!(output.stdout.contains("up to date"), "{output:?}");
    Ok(())
}

/// A new one is a new generation.
fn changes(guest: &Guest) -> Result<()> {
    guest.write(FILE, SECOND.0)?;
    let secret = format!("--secret=TOKEN={FILE}");
    gives(guest, &["update", "vault", &secret], "")?;
    guest.ok(&["rm", FILE])?;
    says(guest, SECOND.1)?;
    let shown = product::does(guest, &["show", "vault"])?;
    ensure!(
        shown.contains("TOKEN (secret, from /dev/shm/token)"),
        "{shown}"
    );
    Ok(())
}

/// An update keeps them, a rollback has those of its generation, and one that is not required can be taken away.
fn goes_along(guest: &Guest) -> Result<()> {
    gives(guest, &["update", "vault", "--set=WORD=two"], "")?;
    says(guest, "two")?;
    says(guest, SECOND.1)?;
    gives(guest, &["update", "vault", "--secret=SPARE=-"], FIRST.0)?;
    says(guest, FIRST.1)?;
    says(guest, SECOND.1)?;
    the_largest(guest)?;
    product::does(guest, &["update", "vault", "--unset=SPARE"])?;
    let shown = product::does(guest, &["values", "vault"])?;
    let spare = shown.lines().find(|line| line.starts_with("SPARE"));
    let spare = spare.with_context(|| shown.clone())?;
    ensure!(!spare.contains("never shown"), "{shown}");
    product::does(guest, &["rollback", "vault", "--to=1"])?;
    says(guest, "one")?;
    says(guest, FIRST.1)
}

/// What bedplate takes, systemd hands in; two of that size are more than it does.
fn the_largest(guest: &Guest) -> Result<()> {
    let large = "x".repeat(768 * 1024);
    gives(guest, &["update", "vault", "--secret=SPARE=-"], &large)?;
    guest.wait_active(UNIT, UP)?;
    let size = guest.ok(&[
        "stat",
        "--format=%s",
        "/run/credentials/vault.service/SPARE",
    ])?;
    ensure!(size == large.len().to_string(), "{size}");
    let args = ["bedplate", "update", "vault", "--secret=TOKEN=-"];
    let output = guest.run_with(&args, COMMAND, large.as_bytes())?;
    let said = "the secrets are larger than 1 MiB together";
    ensure!(
        output.status == 1 && output.stderr.contains(said),
        "{output:?}"
    );
    Ok(())
}

/// Not on the guest's disk, not in its memory file systems but where systemd keeps credentials, not in what systemd
/// tells, not in what could be seen while it was given.
fn is_nowhere_in_clear(guest: &Guest) -> Result<()> {
    guest.ok(&["journalctl", "--sync"])?;
    let dirs = ["upper", "data"].map(|name| guest.dir().join(name).display().to_string());
    for (secret, _) in [FIRST, SECOND] {
        for dir in &dirs {
            let found = host::output(
                "sh",
                &["-c", &format!("grep -rlF {secret} {dir} || true")],
                None,
            )?;
            ensure!(found.is_empty(), "in clear on the disk: {found}");
        }
        let found = guest.sh(&format!("grep -rlsF {secret} /run /tmp /dev/shm || true"))?;
        let places: Vec<&str> = found.lines().collect();
        ensure!(
            places
                .iter()
                .all(|place| *place == "/run/credentials/vault.service/TOKEN"),
            "in clear in memory: {found}"
        );
        for argv in [
            &["systemctl", "show", UNIT][..],
            &["systemctl", "cat", UNIT],
            &["journalctl", "--quiet", "--output=export"],
        ] {
            let told = guest.ok(argv)?;
            ensure!(!told.contains(secret), "{argv:?} tells it");
        }
    }
    let seen = guest.sh("grep -c -aF -e --name=TOKEN /dev/shm/seen; rm /dev/shm/seen")?;
    ensure!(seen != "0", "the spy has seen nothing");
    let modes = guest.sh(
        "stat -c '%U %a' /var/lib/bedplate/containers/vault/1/secrets /var/lib/bedplate/containers/vault/1/secrets/TOKEN",
    )?;
    ensure!(modes == "root 700\nroot 600", "{modes}");
    Ok(())
}

/// A sealed secret that is damaged is found; only whoever has it can give it anew.
fn is_verified(guest: &Guest) -> Result<()> {
    product::does(guest, &["verify", "vault"])?;
    let sealed = "/var/lib/bedplate/containers/vault/1/secrets/TOKEN";
    guest.ok(&["cp", "--archive", sealed, "/root/sealed"])?;
    guest.sh(&format!("echo x >{sealed}"))?;
    let output = product::bedplate(guest, &["verify", "vault"])?;
    ensure!(
        output.status == 1 && output.stdout.contains(sealed),
        "{output:?}"
    );
    let output = product::bedplate(guest, &["repair", "vault"])?;
    let told = format!("{}{}", output.stdout, output.stderr);
    ensure!(
        output.status == 1
            && told.contains("`bedplate update vault --secret TOKEN=FILE` takes it anew"),
        "{output:?}"
    );
    guest.ok(&["cp", "--archive", "/root/sealed", sealed])?;
    product::does(guest, &["verify", "vault"])?;
    Ok(())
}

fn is_there_after_a_reboot(guest: &mut Guest, image: &str) -> Result<()> {
    gives(
        guest,
        &[
            "install",
            "--name=vault",
            "--now",
            "--secret=TOKEN=-",
            image,
        ],
        FIRST.0,
    )?;
    guest.reboot()?;
    says(guest, FIRST.1)
}
