//! Whom things belong to: the payload's user and groups, its capabilities, its directories and files.

use anyhow::{Context, Result, ensure};

use crate::guest::Suite;
use crate::handed::says;
use crate::scene::{self, Scene};
use crate::story::{Story, Told};
use crate::{images, product};

/// The stories of this file.
pub(crate) const STORIES: &[Told] = &[
    ("owners-trixie", |story| owners(story, Suite::Trixie)),
    ("owners-bookworm", |story| owners(story, Suite::Bookworm)),
];

const MANIFEST: &str = r#"contract = 1
description = "What belongs to whom"

[values.SCRIPT]
type = "string"
default = "tell READY=1; wait"
help = "What it does, step by step"

[values.USER]
type = "string"
help = "Whom it runs as"

[container]
user = "{{USER}}"
env = { SCRIPT = "{{SCRIPT}}" }
capabilities = ["CAP_NET_ADMIN"]
mounts = [
    { source = "{{state_dir}}", target = "/data", access = "rw" },
    { source = "{{runtime_dir}}", target = "/runtime", access = "rw" },
    { source = "{{logs_dir}}", target = "/logs", access = "rw" },
    { source = "{{cache_dir}}", target = "/cache", access = "rw" },
]

[service]
type = "notify"
reload = "SIGHUP"

[service.directories]
state = ["{{name}}"]
logs = ["{{name}}"]
cache = ["{{name}}"]
runtime = [{ name = "{{name}}" }]
"#;

/// What each payload does: it says whose its directories are, makes a file in each, and says whose that is.
const SCRIPT: &str = "show /proc/self/status; \
    owner /data; owner /runtime; owner /logs; owner /cache; \
    make /data/f; make /runtime/f; make /logs/f; make /cache/f; \
    owner /data/f; owner /runtime/f; owner /logs/f; owner /cache/f; tell READY=1; wait";

/// Where they are, in the container and on the host.
const PLACES: [(&str, &str); 4] = [
    ("/data", "/var/lib"),
    ("/runtime", "/run"),
    ("/logs", "/var/log"),
    ("/cache", "/var/cache"),
];

/// `user` of the contract, and what the kernel makes of it: user and group, and supplementary groups.
const USERS: &[(&str, &str, &str, &str)] = &[
    ("0", "0", "0", ""),
    ("user", "1000", "1000", "2000 2001"),
    ("1000:extra", "1000", "2000", ""),
    ("1234", "1234", "0", ""),
];

fn owners(story: &Story, suite: Suite) -> Result<()> {
    let guest = product::boot(story, suite)?;
    let files = [
        (
            "etc/passwd",
            "root:x:0:0::/:/none\nuser:x:1000:1000::/:/none\n",
        ),
        (
            "etc/group",
            "root:x:0:\nuser:x:1000:\nextra:x:2000:user\nmore:x:2001:user\n",
        ),
    ];
    images::add(&scene::of(suite, "mine"), MANIFEST, &files)?;
    let shared = MANIFEST.replace("runtime = [{ name = \"{{name}}\" }]", SHARED);
    images::add(&scene::of(suite, "ours"), &shared, &files)?;
    scene::with_each_runtime(&guest, suite, |scene| {
        for user in USERS {
            is_whom(&scene, user).with_context(|| format!("as {}", user.0))?;
        }
        is_kept(&scene).context("shared")?;
        let checks = [
            "users.user",
            "users.capabilities",
            "users.files",
            "directories.root",
            "directories.user",
        ];
        scene.shown(&checks)
    })
}

const SHARED: &str = "runtime = [{ name = \"{{name}}\", shared = true }]";

fn install(scene: &Scene<'_>, name: &str, user: &str) -> Result<()> {
    let (user, script) = (format!("USER={user}"), format!("SCRIPT={SCRIPT}"));
    scene.install(name, &["--set", &user, "--set", &script])
}

/// Uninstalls it, and removes what it leaves for its next installation: another user's would be refused that.
fn forget(scene: &Scene<'_>, name: &str) -> Result<()> {
    scene.uninstall(name)?;
    let places = PLACES.map(|(_, base)| format!("{base}/{name}"));
    let rm = ["rm", "-rf"]
        .into_iter()
        .chain(places.iter().map(String::as_str));
    scene.guest.ok(&rm.collect::<Vec<_>>())?;
    Ok(())
}

fn is_whom(scene: &Scene<'_>, (user, uid, gid, groups): &(&str, &str, &str, &str)) -> Result<()> {
    install(scene, "mine", user)?;
    let owner = format!("{uid}:{gid}");
    // What systemd does at a second start is the same for every user that is not root.
    let starts = if ["0", "user"].contains(user) { 2 } else { 1 };
    for _start in 0..starts {
        let said = says(scene, "mine")?;
        for (key, wanted) in [
            ("Uid:", [*uid; 4].join(" ")),
            ("Gid:", [*gid; 4].join(" ")),
            ("Groups:", (*groups).to_owned()),
        ] {
            let is = status(&said, key)?;
            ensure!(is == wanted, "{key} {is}, not {wanted}");
        }
        may_what_is_listed(&said, *uid == "0")?;
        owns_inside(&said, &owner)?;
        owns_outside(scene, "mine", &owner)?;
        // What systemd does for a reload must not give anything back to root.
        scene.guest.ok(&["systemctl", "reload", "mine.service"])?;
        owns_outside(scene, "mine", &owner)?;
    }
    scene.guest.ok(&["systemctl", "stop", "mine.service"])?;
    let left = scene
        .guest
        .sh("ls -d /var/lib/mine/f /run/mine 2>/dev/null || true")?;
    ensure!(left == "/var/lib/mine/f", "after the stop there is {left}");
    forget(scene, "mine")
}

/// A line of `/proc/self/status`.
pub(crate) fn status(said: &str, key: &str) -> Result<String> {
    let line = said.lines().find_map(|line| line.strip_prefix(key));
    let line = line.with_context(|| format!("{key} in {said}"))?;
    Ok(line.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// CAP_NET_ADMIN is effective; of one that is not root that is all, and ambient, so that what it runs has it as well.
fn may_what_is_listed(said: &str, root: bool) -> Result<()> {
    const NET_ADMIN: u64 = 1 << 12;
    let held = |key: &str| -> Result<u64> { Ok(u64::from_str_radix(&status(said, key)?, 16)?) };
    let (effective, ambient) = (held("CapEff:")?, held("CapAmb:")?);
    if root {
        ensure!(effective & NET_ADMIN != 0, "root has {effective:x}");
    } else {
        ensure!(
            (effective, ambient) == (NET_ADMIN, NET_ADMIN),
            "effective {effective:x}, ambient {ambient:x}"
        );
    }
    Ok(())
}

fn owns_inside(said: &str, owner: &str) -> Result<()> {
    for (inside, _) in PLACES {
        for line in [
            format!("{inside} {owner} 755"),
            format!("{inside}/f {owner} 644"),
        ] {
            ensure!(
                said.lines().any(|said| said == line),
                "no `{line}` in {said}"
            );
        }
    }
    Ok(())
}

fn owns_outside(scene: &Scene<'_>, name: &str, owner: &str) -> Result<()> {
    for (_, base) in PLACES {
        let found = scene
            .guest
            .sh(&format!("stat -c %u:%g {base}/{name} {base}/{name}/f"))?;
        ensure!(
            found == format!("{owner}\n{owner}"),
            "{base}/{name} and its file: {found}"
        );
    }
    Ok(())
}

/// A runtime directory that others use stays when the service stops, with what is in it.
fn is_kept(scene: &Scene<'_>) -> Result<()> {
    for (user, owner) in [("0", "0:0"), ("user", "1000:1000")] {
        install(scene, "ours", user)?;
        owns_inside(&says(scene, "ours")?, owner)?;
        scene.guest.ok(&["systemctl", "reload", "ours.service"])?;
        owns_outside(scene, "ours", owner)?;
        scene.guest.ok(&["systemctl", "stop", "ours.service"])?;
        owns_outside(scene, "ours", owner)?;
        forget(scene, "ours")?;
    }
    Ok(())
}
