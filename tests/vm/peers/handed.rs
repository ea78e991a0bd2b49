//! What systemd hands a service: descriptors, sockets, credentials.

use anyhow::Result;
use serde_json::{Value, json};

use crate::peers::{Asked, Made, PLAIN, Peer, bind, runs_as_user};

pub(crate) const ASKED: &[Asked] = &[
    (
        "stored descriptors survive a restart",
        stores,
        [false, false, false],
    ),
    (
        "the first connection starts it, and the payload answers",
        is_activated,
        [true, true, true],
    ),
    ("each socket has its name", has_names, [true, true, false]),
    (
        "credentials arrive by themselves",
        has_credentials,
        [false, false, false],
    ),
    (
        "credentials that are mounted by hand are readable by root",
        mounts_credentials,
        [true, true, true],
    ),
    (
        "credentials that are mounted by hand are readable by a user",
        mounts_credentials_for_a_user,
        [false, false, false],
    ),
    (
        "a secret of podman's is readable by a user",
        has_secret,
        [true, true, false],
    ),
    (
        "a secret of podman's is nowhere on disk in clear",
        hides_secret,
        [false, false, false],
    ),
];

fn stores(peer: &Peer<'_>) -> Result<bool> {
    peer.start(&Made {
        steps: "recall; store kept one; tell READY=1; wait",
        lines: "FileDescriptorStoreMax=4",
        ..PLAIN
    })?;
    peer.guest.ok(&["systemctl", "restart", &peer.unit])?;
    peer.has_said("kept: one")
}

const SERVES: Made<'_> = Made {
    steps: "env LISTEN_FDNAMES; tell READY=1; serve",
    ..PLAIN
};

/// Two socket units with a name each, as for any service.
fn listens(peer: &Peer<'_>, made: &Made<'_>) -> Result<()> {
    for (name, stream) in [("web", "127.0.0.1:7001"), ("admin", "/run/admin.socket")] {
        let text = format!(
            "[Socket]\nListenStream={stream}\nFileDescriptorName={name}\nService={}\n",
            peer.unit
        );
        let unit = format!("/etc/systemd/system/{name}.socket");
        peer.guest.write(&unit, text)?;
    }
    peer.make(made)?;
    peer.guest
        .ok(&["systemctl", "start", "web.socket", "admin.socket"])?;
    Ok(())
}

fn closes(peer: &Peer<'_>) -> Result<()> {
    let stop = ["stop", "web.socket", "admin.socket", &peer.unit];
    peer.guest.ok(&[&["systemctl"][..], &stop].concat())?;
    Ok(())
}

/// runc takes descriptors and has no names for them; the payload is told some.
fn is_activated(peer: &Peer<'_>) -> Result<bool> {
    let named = Made {
        config: |config| {
            if let Some(env) = config["process"]["env"].as_array_mut() {
                env.push(json!("LISTEN_FDNAMES=one:two"));
            }
        },
        ..SERVES
    };
    listens(peer, &named)?;
    let asked = peer.guest.run(&ASK_WEB)?;
    closes(peer)?;
    Ok(asked.status == 0 && !asked.stdout.is_empty())
}

fn has_names(peer: &Peer<'_>) -> Result<bool> {
    listens(peer, &SERVES)?;
    let web = peer.guest.run(&ASK_WEB)?;
    let admin = peer.guest.run(&ASK_ADMIN)?;
    closes(peer)?;
    Ok(web.stdout == "web\n" && admin.stdout == "admin\n")
}

const ASK_WEB: [&str; 5] = [
    "curl",
    "--silent",
    "--max-time",
    "10",
    "http://127.0.0.1:7001/",
];
const ASK_ADMIN: [&str; 7] = [
    "curl",
    "--silent",
    "--max-time",
    "10",
    "--unix-socket",
    "/run/admin.socket",
    "http://admin/",
];

const CREDENTIAL: &str = "LoadCredential=token:/etc/cred-file";

fn has_credentials(peer: &Peer<'_>) -> Result<bool> {
    peer.guest.write("/etc/cred-file", "of-a-file\n")?;
    peer.start(&Made {
        steps: "env CREDENTIALS_DIRECTORY; show /run/credentials/UNIT.service/token; show /run/credentials/token; tell READY=1; wait",
        lines: CREDENTIAL,
        ..PLAIN
    })?;
    peer.has_said("of-a-file")
}

fn mounts_credentials(peer: &Peer<'_>) -> Result<bool> {
    let root = Made {
        keys: "Volume=%d:/run/credentials:ro",
        options: "--cgroups=split --volume %d:/run/credentials:ro",
        config: binds_credentials,
        ..PLAIN
    };
    shows_credentials(peer, &root)
}

fn mounts_credentials_for_a_user(peer: &Peer<'_>) -> Result<bool> {
    let user = Made {
        keys: "User=1000\nVolume=%d:/run/credentials:ro",
        options: "--cgroups=split --user 1000 --volume %d:/run/credentials:ro",
        config: |config| {
            runs_as_user(config);
            binds_credentials(config);
        },
        ..PLAIN
    };
    shows_credentials(peer, &user)
}

/// Its configuration knows no specifiers, but the place is the same at each start.
fn binds_credentials(config: &mut Value) {
    bind(
        config,
        "/run/credentials/runc.service",
        "/run/credentials",
        &["bind", "ro"],
    );
}

fn shows_credentials(peer: &Peer<'_>, made: &Made<'_>) -> Result<bool> {
    peer.guest.write("/etc/cred-file", "of-a-file\n")?;
    peer.start(&Made {
        steps: "show /run/credentials/token; tell READY=1; wait",
        lines: CREDENTIAL,
        ..*made
    })?;
    peer.has_said("of-a-file")
}

const SECRET: Made<'_> = Made {
    steps: "show /run/secrets/token; say .; tell READY=1; wait",
    keys: "User=1000\nSecret=token,uid=1000,mode=0400",
    options: "--cgroups=split --user 1000 --secret token,uid=1000,mode=0400",
    ..PLAIN
};

fn has_secret(peer: &Peer<'_>) -> Result<bool> {
    peer.guest
        .sh("echo of-a-secret | podman secret create --replace token -")?;
    peer.start(&SECRET)?;
    peer.has_said("of-a-secret")
}

/// In base64, which is no more than that.
fn hides_secret(peer: &Peer<'_>) -> Result<bool> {
    if peer.name == "runc" {
        return Ok(false);
    }
    let found = peer.guest.run(&[
        "grep",
        "--recursive",
        "--quiet",
        "b2YtYS1zZWNyZXQK",
        "/var/lib/containers/storage/secrets",
    ])?;
    Ok(found.status != 0)
}
