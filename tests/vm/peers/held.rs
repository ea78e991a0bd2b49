//! What holds the payload: the unit's control group, its directories, users, mounts and devices.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::operated::PASSES;
use crate::owners;
use crate::peers::{Asked, Made, PLAIN, Peer, bind, runs_as_user};

pub(crate) const ASKED: &[Asked] = &[
    (
        "the payload is in the unit's control group as it comes",
        is_in_its_group,
        [true, false, false],
    ),
    (
        "the payload is in the unit's control group when told so",
        is_put_in_its_group,
        [true, true, true],
    ),
    (
        "it goes where `Slice=` of a drop-in says",
        is_in_its_slice,
        [true, true, true],
    ),
    (
        "the state directory arrives by itself",
        has_directory,
        [false, false, false],
    ),
    (
        "a state directory that is mounted by hand is root's to write",
        writes_as_root,
        [true, true, true],
    ),
    (
        "a state directory that is mounted by hand is a user's to write",
        writes_as_user,
        [true, true, false],
    ),
    (
        "it is so after `systemctl reload`",
        writes_after_reload,
        [false, false, false],
    ),
    (
        "a user by name, with the image's groups",
        is_named_user,
        [true, true, false],
    ),
    (
        "a user by number, with a capability that is ambient",
        is_able_user,
        [true, true, true],
    ),
    (
        "mounts pass as they are told, all on one file system",
        passes_mounts,
        [true, true, false],
    ),
    (
        "a device that is listed works, another does not",
        has_devices,
        [true, true, true],
    ),
    (
        "what is read-only cannot be written",
        has_walls,
        [true, true, true],
    ),
];

/// As podman and runc choose, where they are not told.
const CHOOSES: Made<'_> = Made {
    lines: "DelegateSubgroup=",
    options: "",
    ..PLAIN
};

fn is_in_its_group(peer: &Peer<'_>) -> Result<bool> {
    peer.start(&CHOOSES)?;
    is_below(peer, "/system.slice")
}

fn is_put_in_its_group(peer: &Peer<'_>) -> Result<bool> {
    peer.start(&PLAIN)?;
    is_below(peer, "/system.slice")
}

fn is_in_its_slice(peer: &Peer<'_>) -> Result<bool> {
    let lines = "Slice=some.slice";
    peer.start(&Made { lines, ..PLAIN })?;
    is_below(peer, "/some.slice")
}

/// The payload's control group is below the unit's, and that is in the slice.
fn is_below(peer: &Peer<'_>, slice: &str) -> Result<bool> {
    let group = peer.property("ControlGroup")?;
    ensure!(
        group == format!("{slice}/{}", peer.unit),
        "the unit is in {group}"
    );
    let payload = peer.payload()?;
    let groups = peer
        .guest
        .ok(&["cat", &format!("/proc/{payload}/cgroup")])?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"));
    let own = own.with_context(|| format!("no unified group in {groups}"))?;
    Ok(own.starts_with(&format!("{group}/")))
}

const STATE: &str = "StateDirectory=peer-UNIT\nExecReload=/bin/true";

fn has_directory(peer: &Peer<'_>) -> Result<bool> {
    writes(peer, &PLAIN)
}

fn writes_as_root(peer: &Peer<'_>) -> Result<bool> {
    let root = Made {
        keys: "Volume=%S/peer-UNIT:/var/lib/peer-UNIT",
        options: "--cgroups=split --volume %S/peer-UNIT:/var/lib/peer-UNIT",
        config: binds_state,
        ..PLAIN
    };
    writes(peer, &root)
}

/// With podman's own way to give a directory to the container's user.
const AS_USER: Made<'_> = Made {
    keys: "User=1000\nVolume=%S/peer-UNIT:/var/lib/peer-UNIT:U",
    options: "--cgroups=split --user 1000 --volume %S/peer-UNIT:/var/lib/peer-UNIT:U",
    config: |config| {
        runs_as_user(config);
        binds_state(config);
    },
    ..PLAIN
};

/// At a second start as well.
fn writes_as_user(peer: &Peer<'_>) -> Result<bool> {
    let first = writes(peer, &AS_USER)?;
    peer.guest.ok(&["systemctl", "stop", &peer.unit])?;
    Ok(first && writes(peer, &AS_USER)?)
}

fn writes_after_reload(peer: &Peer<'_>) -> Result<bool> {
    writes(peer, &AS_USER)?;
    peer.guest.ok(&["systemctl", "reload", &peer.unit])?;
    let directory = format!("/var/lib/peer-{}", peer.name);
    let owner = peer.guest.ok(&["stat", "--format=%u", &directory])?;
    Ok(owner == "1000")
}

fn binds_state(config: &mut Value) {
    bind(
        config,
        "/var/lib/peer-runc",
        "/var/lib/peer-runc",
        &["bind", "rw"],
    );
}

/// The payload makes a file where the unit's state directory is on the host, and it is there.
fn writes(peer: &Peer<'_>, made: &Made<'_>) -> Result<bool> {
    let file = format!("/var/lib/peer-{}/file", peer.name);
    peer.guest.ok(&["rm", "-f", &file])?;
    let steps = format!("make {file}; tell READY=1; wait");
    peer.start(&Made {
        steps: &steps,
        lines: STATE,
        ..*made
    })?;
    Ok(peer.guest.run(&["test", "-e", &file])?.status == 0)
}

fn is_named_user(peer: &Peer<'_>) -> Result<bool> {
    if peer.name == "runc" {
        // Its configuration has numbers.
        return Ok(false);
    }
    peer.start(&Made {
        keys: "User=user",
        options: "--cgroups=split --user user",
        ..PLAIN
    })?;
    let groups = status(peer, "Groups:")?;
    Ok(status(peer, "Uid:")? == "1000 1000 1000 1000"
        && groups.split(' ').any(|group| group == "2000"))
}

fn is_able_user(peer: &Peer<'_>) -> Result<bool> {
    peer.start(&Made {
        keys: "User=1000\nAddCapability=NET_ADMIN",
        options: "--cgroups=split --user 1000 --cap-add NET_ADMIN",
        config: |config| {
            let own = json!(["CAP_NET_ADMIN"]);
            runs_as_user(config);
            config["process"]["capabilities"] = json!({
                "bounding": own, "effective": own, "permitted": own, "inheritable": own, "ambient": own,
            });
        },
        ..PLAIN
    })?;
    Ok(status(peer, "Uid:")? == "1000 1000 1000 1000"
        && status(peer, "CapAmb:")? == "0000000000001000"
        && status(peer, "CapEff:")? == "0000000000001000")
}

/// A line of the payload's `/proc/self/status`.
fn status(peer: &Peer<'_>, key: &str) -> Result<String> {
    let payload = peer.payload()?;
    let status = peer
        .guest
        .ok(&["cat", &format!("/proc/{payload}/status")])?;
    owners::status(&status, key)
}

/// Each kind of mount, a device, and root that is read-only.
const MOUNTED: Made<'_> = Made {
    steps: "mount /shared/inside; mount /slave/inside; mount /private/inside; \
        open /dev/extra; open /fixed/foreign; make /fixed/file; make /file; tell READY=1; wait",
    keys: "AddCapability=SYS_ADMIN
AddDevice=/dev/extra
ReadOnly=true
Volume=/srv/shared:/shared:shared
Volume=/srv/slave:/slave:slave
Volume=/srv/private:/private:private
Volume=/srv/fixed:/fixed:ro",
    options: "--cgroups=split --cap-add SYS_ADMIN --device /dev/extra --read-only \
        --volume /srv/shared:/shared:shared --volume /srv/slave:/slave:slave \
        --volume /srv/private:/private:private --volume /srv/fixed:/fixed:ro",
    config: mounts,
    ..PLAIN
};

fn mounts(config: &mut Value) {
    for kind in ["shared", "slave", "private"] {
        let options = ["rbind", "rw", kind];
        bind(
            config,
            &format!("/srv/{kind}"),
            &format!("/{kind}"),
            &options,
        );
    }
    bind(config, "/srv/fixed", "/fixed", &["rbind", "ro"]);
    let kinds = config["process"]["capabilities"].as_object_mut();
    for kind in kinds.into_iter().flat_map(|kinds| kinds.values_mut()) {
        if let Some(kind) = kind.as_array_mut() {
            kind.push(json!("CAP_SYS_ADMIN"));
        }
    }
    config["linux"]["rootfsPropagation"] = json!("rshared");
    config["linux"]["devices"] =
        json!([{"path": "/dev/extra", "type": "c", "major": 1, "minor": 5, "fileMode": 438}]);

    let extra = json!({"allow": true, "type": "c", "major": 1, "minor": 5, "access": "rwm"});
    if let Some(rules) = config["linux"]["resources"]["devices"].as_array_mut() {
        rules.push(extra);
    }
}

fn is_mounted(peer: &Peer<'_>) -> Result<()> {
    peer.guest.sh(
        "mkdir -p /srv/{shared,slave,private}/{host,inside} /srv/fixed
             [ -e /dev/extra ] || mknod /dev/extra c 1 5
             [ -e /srv/fixed/foreign ] || mknod /srv/fixed/foreign c 1 11",
    )?;
    peer.start(&MOUNTED)
}

/// runc cuts the mount that holds the root file system off from the host; podman's is always one of its own.
fn passes_mounts(peer: &Peer<'_>) -> Result<bool> {
    is_mounted(peer)?;
    let guest = peer.guest;
    let payload = peer.payload()?;
    let mut all = true;
    for (kind, inwards, outwards) in PASSES {
        let inside = format!("/srv/{kind}/inside");
        let out = guest.run(&["mountpoint", "--quiet", &inside])?.status == 0;
        guest.sh(&format!(
            "mount -t tmpfs story /srv/{kind}/host && touch /srv/{kind}/host/there"
        ))?;
        let there = format!("/proc/{payload}/root/{kind}/host/there");
        let came = guest.run(&["test", "-e", &there])?.status == 0;
        guest.sh(&format!(
            "umount /srv/{kind}/host; if {out}; then umount {inside}; fi"
        ))?;
        let passes = peer.has_said(&format!("mounted /{kind}/inside"))?;
        all &= passes && out == *outwards && came == *inwards;
    }
    Ok(all)
}

fn has_devices(peer: &Peer<'_>) -> Result<bool> {
    is_mounted(peer)?;
    let refused = [
        "open /fixed/foreign: Permission denied (os error 13)",
        "open /fixed/foreign: Operation not permitted (os error 1)",
    ];
    Ok(peer.has_said("opened /dev/extra")?
        && (peer.has_said(refused[0])? || peer.has_said(refused[1])?))
}

fn has_walls(peer: &Peer<'_>) -> Result<bool> {
    is_mounted(peer)?;
    Ok(
        peer.has_said("make /fixed/file: Read-only file system (os error 30)")?
            && peer.has_said("make /file: Read-only file system (os error 30)")?,
    )
}
