//! The order of a set: the same however it was installed, or refused before anything is written.

use crate::host::{Host, assert_same};

const ETCD: &str = "contract = 1\n[service]\nprovides = ['store']\n";
const FLANNELD: &str = "contract = 1\n[service]\nKEY = ['store']\nbefore = ['cri']\n";
const CRI: &str = "contract = 1\n[service]\nprovides = ['cri']\nafter = ['store']\n";

/// What every order drop-in begins with.
const HEAD: &str =
    "# The order of system containers, written by bedplate at every change of the installed set.
# Changes made here are lost; a drop-in of a later name can add to it.

[Unit]
";

/// The three orders of the first, times two.
const PERMUTATIONS: [[usize; 3]; 6] = [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
];

fn host() -> Host {
    let host = Host::new();
    host.put(
        "usr/lib/systemd/system/containerd.service",
        "[Service]\nExecStart=/usr/bin/containerd\n",
    );
    host
}

#[test]
fn every_order_of_installing_gives_the_same() {
    // One place for the images: their references are part of what is compared.
    let images_at = Host::new();
    for key in ["after", "requires"] {
        let flanneld = FLANNELD.replace("KEY", key);
        let images = [("etcd", ETCD), ("flanneld", &flanneld), ("crid", CRI)]
            .map(|(name, manifest)| images_at.image_of(name, manifest));
        let mut first = None;
        for order in PERMUTATIONS {
            let references = order.map(|i| images[i].reference.as_str());
            let together = host();
            together.ok(&["install", references[0], references[1], references[2]]);
            let expected = first.get_or_insert_with(|| together.listing());
            assert_same(expected, &together.listing());
            if key == "requires" {
                continue;
            }
            let apart = host();
            for reference in references {
                apart.ok(&["install", reference]);
            }
            assert_same(expected, &apart.listing());
        }
        let host = host();
        host.ok(&["install", &images[0].reference, &images[1].reference]);
        let waits = if key == "after" {
            "# flanneld is after the role store\nAfter=etcd.service\n"
        } else {
            "# flanneld requires the role store\nRequires=etcd.service\nAfter=etcd.service\n"
        };
        for (unit, text) in [
            (
                "containerd.service",
                "# flanneld is before the role cri\nAfter=flanneld.service\n",
            ),
            ("flanneld.service", waits),
        ] {
            let path = format!("etc/systemd/system.attached/{unit}.d/50-bedplate-order.conf");
            let found = host.text(&path);
            assert_eq!(found, format!("{HEAD}{text}"), "{key} {unit}");
        }
    }
}

#[test]
fn missing_requirement() {
    let host = host();
    let flanneld = host.image_of("flanneld", &FLANNELD.replace("KEY", "requires"));
    host.refused(
        &["install", &flanneld.reference],
        "error: ordering the set: `flanneld` requires `store`, which no installed container and no unit of this host provides\n\
         hint: install an image that provides `store` in the same call, or name the host's unit under `[roles]` in bedplate.toml",
    );
}

#[test]
fn cycle() {
    let host = host();
    let kept = host.image_of("kept", ETCD);
    host.ok(&["install", &kept.reference]);
    let one = host.image_of("one", "contract = 1\n[service]\nafter = ['two']\n");
    let two = host.image_of("two", "contract = 1\n[service]\nrequires = ['one']\n");
    let hint = "hint: one of these must give way: leave one container out, or change `[service]` in its image's manifest";
    let error = format!(
        "error: ordering the set: ordering cycle: `one` → `two` → `one` (`two` requires `one`; `one` is after `two`)\n{hint}"
    );
    host.refused(&["install", &one.reference, &two.reference], &error);
    // Closed by what is installed already.
    host.ok(&["install", &one.reference]);
    host.refused(&["install", &two.reference], &error);
    let own = host.image_of(
        "own",
        "contract = 1\n[service]\nafter = ['cri']\nbefore = ['cri']\n",
    );
    let error = format!(
        "error: ordering the set: ordering cycle: `containerd.service` → `own` → `containerd.service` \
         (`own` is after the role `cri`; `own` is before the role `cri`)\n{hint}"
    );
    host.refused(&["install", &own.reference], &error);
}
