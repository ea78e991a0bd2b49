//! etcd → flanneld → a CRI daemon: installed in any order, they start in one, each when the one before is ready.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::guest::{Guest, Suite};
use crate::images;
use crate::product::{self, UP};
use crate::registry::Registry;
use crate::story::{Story, Told};

/// The stories of this file.
pub(crate) const STORIES: &[Told] = &[
    ("order-trixie", |story| order(story, Suite::Trixie)),
    ("order-bookworm", |story| order(story, Suite::Bookworm)),
    ("host-cri-trixie", |story| host_cri(story, Suite::Trixie)),
    ("host-cri-bookworm", |story| {
        host_cri(story, Suite::Bookworm)
    }),
];

const TRIO: [&str; 3] = ["etcd", "flanneld", "containerd"];

/// The network that flanneld is to lease from, as etcd keeps it.
const NETWORK: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;

/// A start that fails once in a boot.
const FAILS_ONCE: &str =
    "[Service]\nExecStartPre=/bin/sh -c 'test -e /run/tried || { touch /run/tried; exit 1; }'\n";

fn order(story: &Story, suite: Suite) -> Result<()> {
    let images = images::examples(&["etcd", "flanneld", "containerd", "hello"])?;
    let mut guest = Guest::new(story, suite)?.bind(images, images::INSIDE);
    guest.start()?;
    product::only_what_works(&guest, suite)?;
    // The machine's own containerd makes way for the one that is installed by that name.
    guest.sh("dpkg --purge --force-depends containerd >/dev/null 2>&1
         rm -f /etc/systemd/system/containerd.service
         systemctl daemon-reload")?;

    let registry = Registry::start(&guest)?;
    let [etcd, flanneld, containerd] = references(&registry, images)?;
    one_by_one(&guest, &etcd, &flanneld, &containerd)?;
    let drop_ins = drop_ins(&guest)?;
    drop(registry);
    guest.reboot()?;
    in_order(&guest)?;
    works(&guest)?;
    // Once more, with an etcd whose first start fails.
    first_start_fails(&mut guest, suite, "containerd")?;
    works(&guest)?;

    // What etcd keeps outlives it.
    guest.ok(&["etcdctl", "put", "kept", "by etcd"])?;
    product::does(&guest, &["uninstall", "containerd", "etcd", "flanneld"])?;
    product::is_gone(&guest, &TRIO)?;
    let again = Registry::start(&guest)?;
    let [set, link] = network("flanneld.");
    product::does(
        &guest,
        &[
            "install",
            "--system",
            "--set",
            &set,
            "--set",
            &link,
            &flanneld,
            &containerd,
            &etcd,
        ],
    )?;
    ensure!(
        self::drop_ins(&guest)? == drop_ins,
        "other drop-ins: {drop_ins}"
    );
    drop(again);
    guest.reboot()?;
    in_order(&guest)?;
    works(&guest)?;
    let kept = guest.ok(&["etcdctl", "get", "--print-value-only", "kept"])?;
    ensure!(kept == "by etcd", "etcd has kept {kept:?}");
    Ok(())
}

fn references(registry: &Registry, images: &std::path::Path) -> Result<[String; 3]> {
    let push = |name: &str| {
        let layout = format!("{}:latest", images.join(name).display());
        registry.push(&layout, &format!("{name}:1"))
    };
    Ok([push("etcd")?, push("flanneld")?, push("containerd")?])
}

/// What flanneld is told: the network, and a link, for a machine without a default route.
fn network(prefix: &str) -> [String; 2] {
    [
        format!("{prefix}NETWORK_CONFIG={NETWORK}"),
        format!("{prefix}IFACE=lo"),
    ]
}

/// containerd, etcd, flanneld: each alone, and flanneld too early.
fn one_by_one(guest: &Guest, etcd: &str, flanneld: &str, containerd: &str) -> Result<()> {
    product::does(guest, &["install", "--system", containerd])?;
    product::refuses(
        guest,
        &["install", "--system", flanneld],
        &[
            "`flanneld` requires `etcd`, which no installed container and no unit of this host provides",
        ],
    )?;
    product::is_gone(guest, &["flanneld"])?;
    product::does(guest, &["install", "--system", etcd])?;
    let [set, link] = network("");
    product::does(
        guest,
        &[
            "install", "--system", "--set", &set, "--set", &link, flanneld,
        ],
    )?;
    let same = product::does(guest, &["install", "--system", etcd])?;
    ensure!(
        same.contains("etcd: already installed with this image and these values"),
        "{same}"
    );
    ensure!(product::installed(guest)? == ["containerd", "etcd", "flanneld"]);
    Ok(())
}

/// All order drop-ins with their texts.
fn drop_ins(guest: &Guest) -> Result<String> {
    guest.sh(
        "cd /etc/systemd/system.attached && grep -r . --include=50-bedplate-order.conf . | sort",
    )
}

/// After a boot: all are up, each began when the one before was ready, and systemd has nothing to say.
fn in_order(guest: &Guest) -> Result<()> {
    for name in TRIO {
        guest.wait_active(&format!("{name}.service"), UP)?;
    }
    product::started_after(guest, "flanneld", "etcd")?;
    product::started_after(guest, "containerd", "flanneld")?;
    let verify = guest.run(&[
        "systemd-analyze",
        "verify",
        "--man=no",
        "multi-user.target",
        "etcd.service",
        "flanneld.service",
        "containerd.service",
    ])?;
    let said: Vec<&str> = verify
        .stderr
        .lines()
        .filter(|line| line.contains("cycle") || TRIO.iter().any(|name| line.contains(name)))
        .collect();
    ensure!(
        verify.status == 0 && said.is_empty(),
        "systemd-analyze verify: {said:?}"
    );
    let cycles = guest
        .messages(&["--grep=ordering cycle"])
        .unwrap_or_default();
    ensure!(cycles.is_empty(), "{cycles}");
    for name in TRIO {
        product::holds_payload_alone(guest, name, name)?;
    }
    product::nothing_resident(guest)
}

/// Each does what it is for, without a registry.
fn works(guest: &Guest) -> Result<()> {
    let health = guest.ok(&["curl", "--silent", "--fail", "http://127.0.0.1:2379/health"])?;
    ensure!(health.contains(r#""health":"true""#), "{health}");
    let config = guest.ok(&[
        "etcdctl",
        "get",
        "--print-value-only",
        "/coreos.com/network/config",
    ])?;
    ensure!(config == NETWORK, "etcd holds the network `{config}`");
    leased(guest)?;

    // By containerd's own client, in its own view of the machine.
    let main = guest.property("containerd.service", "MainPID")?;
    let script = format!(
        r#"ctr() {{ nsenter --target {main} --mount -- ctr --namespace k8s.io "$@"; }}
        ctr version >/dev/null
        ctr plugins list | grep -q 'io.containerd.grpc.v1 *cri .* ok'
        ctr images list --quiet | grep -q -x hello:latest ||
            tar --create --directory {}/hello . | ctr images import --base-name hello - >/dev/null
        # containerd's shim waits two seconds for what a container said to be taken, then drops it (process/init.go,
        # `delete`): on a busy machine so few words are lost now and then.
        for try in 1 2 3; do
            said=$(ctr run --rm --cpu-shares 0 hello:latest hello-$try)
            [ -z "$said" ] || break
        done
        echo "$said""#,
        images::INSIDE
    );
    let said = guest.sh(&script)?;
    ensure!(
        said == "hello from a container",
        "the container said {said:?}"
    );
    Ok(())
}

/// flanneld's subnet is one that etcd holds a lease for.
fn leased(guest: &Guest) -> Result<()> {
    let subnet = guest.sh(r#". /run/flannel/subnet.env && echo "$FLANNEL_SUBNET""#)?;
    // 10.5.34.1/24 is kept as 10.5.34.0-24.
    let (address, bits) = subnet.split_once('/').unwrap_or_default();
    let (begin, _) = address.rsplit_once('.').unwrap_or_default();
    let key = format!("/coreos.com/network/subnets/{begin}.0-{bits}");
    let keys =
        guest.sh("etcdctl get --prefix --keys-only /coreos.com/network/subnets/ | grep .")?;
    ensure!(
        keys.lines().any(|held| held == key),
        "{subnet} is none of {keys}"
    );
    Ok(())
}

/// Boots with an etcd whose first start fails: the chain comes up all the same.
///
/// From systemd 254 on nothing that requires etcd starts before it is ready. Older ones have no
/// `RestartMode=direct`: flanneld is let go when etcd's first start has failed and waits for etcd itself. It is
/// not ready before, so what comes after it keeps the order.
fn first_start_fails(guest: &mut Guest, suite: Suite, cri: &str) -> Result<()> {
    product::edit(guest, "etcd.service", FAILS_ONCE)?;
    guest.reboot()?;
    for name in ["etcd", "flanneld", cri] {
        // etcd's restart waits two seconds.
        wait_up(guest, &format!("{name}.service"))?;
    }
    let tries = guest.property("etcd.service", "NRestarts")?;
    ensure!(tries == "1", "etcd was restarted {tries} times");
    if suite == Suite::Trixie {
        product::started_after(guest, "flanneld", "etcd")?;
    } else {
        let at = |name: &str| guest.property(name, "ActiveEnterTimestampMonotonic");
        let (etcd, flanneld): (u64, u64) = (
            at("etcd.service")?.parse()?,
            at("flanneld.service")?.parse()?,
        );
        ensure!(
            flanneld > etcd,
            "flanneld was ready at {flanneld} µs, etcd at {etcd} µs"
        );
    }
    product::started_after(guest, cri, "flanneld")?;
    guest.ok(&["systemctl", "revert", "--quiet", "etcd.service"])?;
    Ok(())
}

/// Waits until a unit is active, also one that fails meanwhile.
fn wait_up(guest: &Guest, unit: &str) -> Result<()> {
    let script = format!("until systemctl --quiet is-active {unit}; do sleep 0.05; done");
    let waited = guest.run_with(&["sh", "-c", &script], UP, &[])?;
    ensure!(
        waited.status == 0,
        "{unit} did not come up: {}",
        guest.journal(unit)?
    );
    Ok(())
}

/// Debian's own containerd waits for flanneld, which it knows nothing of.
fn host_cri(story: &Story, suite: Suite) -> Result<()> {
    let images = images::examples(&["etcd", "flanneld"])?;
    let mut guest = Guest::new(story, suite)?.bind(images, images::INSIDE);
    guest.start()?;
    product::only_what_works(&guest, suite)?;
    guest.ok(&["systemctl", "unmask", "--quiet", "containerd.service"])?;
    guest.ok(&[
        "systemctl",
        "enable",
        "--quiet",
        "--now",
        "containerd.service",
    ])?;
    let [set, link] = network("flanneld.");
    let (etcd, flanneld) = (product::image("etcd"), product::image("flanneld"));
    product::does(
        &guest,
        &[
            "install", "--now", "--set", &set, "--set", &link, &flanneld, &etcd,
        ],
    )?;
    leased(&guest)?;
    guest.reboot()?;
    for unit in ["etcd.service", "flanneld.service", "containerd.service"] {
        guest.wait_active(unit, UP)?;
    }
    let fragment = guest.property("containerd.service", "FragmentPath")?;
    ensure!(
        fragment.ends_with("/lib/systemd/system/containerd.service"),
        "{fragment}"
    );
    product::started_after(&guest, "flanneld", "etcd")?;
    product::started_after(&guest, "containerd", "flanneld")?;
    leased(&guest)?;

    // Without them it is as Debian made it.
    product::does(&guest, &["uninstall", "etcd", "flanneld"])?;
    product::is_gone(&guest, &["etcd", "flanneld"])?;
    let left = guest.property("containerd.service", "DropInPaths")?;
    ensure!(left.is_empty(), "{left}");
    guest.wait_active("containerd.service", Duration::ZERO)?;
    Ok(())
}
