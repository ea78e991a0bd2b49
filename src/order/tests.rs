//! The graph as a whole: what follows from a set, exact to the letter.

use crate::name::{ContainerName, UnitName};
use crate::order::{Graph, HostRoles, Member, OrderError, States};

fn member(name: &str) -> Member {
    Member {
        name: name.parse().unwrap(),
        provides: Vec::new(),
        requires: Vec::new(),
        after: Vec::new(),
        before: Vec::new(),
        early: false,
    }
}

/// `name: key role, role; key role …`
fn written(text: &str) -> Member {
    let (name, keys) = text.split_once(':').unwrap_or((text, ""));
    let mut member = member(name);
    for clause in keys.split(';').map(str::trim).filter(|c| !c.is_empty()) {
        let (key, roles) = clause.split_once(' ').unwrap_or((clause, ""));
        let roles: Vec<_> = roles.split(", ").map(str::to_owned).collect();
        match key {
            "provides" => member.provides = roles,
            "requires" => member.requires = roles,
            "after" => member.after = roles,
            "before" => member.before = roles,
            "early" => member.early = true,
            _ => panic!("{key}"),
        }
    }
    member
}

fn set(members: &[&str]) -> Vec<Member> {
    members.iter().map(|text| written(text)).collect()
}

fn graph(members: &[&str], present: &[&str]) -> Result<Graph, OrderError> {
    Graph::build(&set(members), &HostRoles::default(), &|unit| {
        present.contains(&unit.as_str())
    })
}

fn names(order: &[ContainerName]) -> Vec<&str> {
    order.iter().map(ContainerName::as_str).collect()
}

fn unit(name: &str) -> UnitName {
    name.parse().unwrap()
}

fn states(of: &[(&str, &str)]) -> States {
    of.iter()
        .map(|(name, state)| (unit(name), (*state).to_owned()))
        .collect()
}

const ETCD: &str = "etcd: provides etcd";
const FLANNELD: &str = "flanneld: requires etcd; before cri";
const CONTAINERD: &str = "containerd: provides cri";
const HEADER: &str = "\
# The order of system containers, written by bedplate at every change of the installed set.
# Changes made here are lost; a drop-in of a later name can add to it.
";

#[test]
fn however_the_three_are_installed_the_order_is_the_same() {
    let reference = graph(&[ETCD, FLANNELD, CONTAINERD], &[]).unwrap();
    for members in [
        [ETCD, CONTAINERD, FLANNELD],
        [FLANNELD, ETCD, CONTAINERD],
        [FLANNELD, CONTAINERD, ETCD],
        [CONTAINERD, ETCD, FLANNELD],
        [CONTAINERD, FLANNELD, ETCD],
    ] {
        assert_eq!(graph(&members, &[]).unwrap(), reference);
    }
    assert_eq!(
        names(&reference.start_order()),
        ["etcd", "flanneld", "containerd"]
    );
    let waits = "\n[Unit]\n# flanneld is before the role cri\nAfter=flanneld.service\n";
    let expected = [
        (
            "containerd.service",
            "\n[Unit]\n# flanneld is before the role cri\nAfter=flanneld.service\n",
        ),
        ("cri-docker.service", waits),
        ("crio.service", waits),
        ("docker.service", waits),
        (
            "etcd.service",
            "\n[Service]\n# required by flanneld: a start that fails and is tried again does not fail them\nRestartMode=direct\n",
        ),
        (
            "flanneld.service",
            "\n[Unit]\n# flanneld requires etcd\nRequires=etcd.service\nAfter=etcd.service\n",
        ),
    ]
    .map(|(name, text)| (unit(name), format!("{HEADER}{text}")));
    assert_eq!(reference.drop_ins(257), expected.into());
}

#[test]
fn below_254_a_requirement_is_a_wish() {
    let drop_ins = graph(&[ETCD, FLANNELD], &[]).unwrap().drop_ins(253);
    assert_eq!(
        drop_ins[&unit("flanneld.service")],
        format!(
            "{HEADER}\n[Unit]\n# flanneld requires etcd\nWants=etcd.service\nAfter=etcd.service\n"
        )
    );
    assert!(!drop_ins.contains_key(&unit("etcd.service")));
    let at = graph(&[ETCD, FLANNELD], &[]).unwrap().drop_ins(254);
    assert!(at[&unit("flanneld.service")].contains("Requires=etcd.service\n"));
    assert!(at.contains_key(&unit("etcd.service")));
}

#[test]
fn the_hosts_own_units_play_roles() {
    // Each: the set, the host's units, a unit, and what it is told.
    for (members, present, told, text) in [
        (
            &[FLANNELD][..],
            &["etcd.service"][..],
            "flanneld.service",
            "# flanneld requires the role etcd\nWants=etcd.service\nAfter=etcd.service\n",
        ),
        (
            &[FLANNELD, "kv: provides etcd"],
            &["etcd.service"],
            "flanneld.service",
            "# flanneld requires the role etcd\nAfter=etcd.service\n# flanneld requires the role etcd\nRequires=kv.service\nAfter=kv.service\n",
        ),
        (
            &["kubelet: requires cri"],
            &["crio.service"],
            "kubelet.service",
            "# kubelet requires the role cri\nAfter=containerd.service\n# kubelet requires the role cri\nAfter=cri-docker.service\n\
             # kubelet requires the role cri\nWants=crio.service\nAfter=crio.service\n# kubelet requires the role cri\nAfter=docker.service\n",
        ),
        // A container of the host unit's name plays its role though its manifest does not say so.
        (
            &["kubelet: requires cri", "docker"],
            &["docker.service", "crio.service"],
            "kubelet.service",
            "# kubelet requires the role cri\nAfter=containerd.service\n# kubelet requires the role cri\nAfter=cri-docker.service\n\
             # kubelet requires the role cri\nAfter=crio.service\n# kubelet requires the role cri\nRequires=docker.service\nAfter=docker.service\n",
        ),
        // Whoever provides what it orders against means the others.
        (
            &["a: provides x; requires x; after x, a", "b: provides x"],
            &[],
            "a.service",
            "# a requires the role x\n# a is after the role x\nRequires=b.service\nAfter=b.service\n",
        ),
        // An early container waits for present host units only, and not beside a container of the role.
        (
            &["a: early; after etcd, cri", "kv: provides etcd; early"],
            &["etcd.service", "crio.service"],
            "a.service",
            "# a is after the role cri\nAfter=crio.service\n# a is after the role etcd\nAfter=kv.service\n",
        ),
    ] {
        let drop_ins = graph(members, present).unwrap().drop_ins(257);
        assert_eq!(drop_ins[&unit(told)], format!("{HEADER}\n[Unit]\n{text}"));
    }
}

#[test]
fn a_set_without_order_is_refused() {
    for (members, error, hint) in [
        (
            &["flanneld: requires etcd, dns", "dns2: requires etcd"][..],
            "`dns2` requires `etcd`, which no installed container and no unit of this host provides; \
             `flanneld` requires `dns`, which no installed container and no unit of this host provides; \
             `flanneld` requires `etcd`, which no installed container and no unit of this host provides",
            "install an image that provides `dns`, `etcd` in the same call, or name the host's unit under `[roles]` in bedplate.toml",
        ),
        (
            &["a: requires b", "b: after a"],
            "ordering cycle: `a` → `b` → `a` (`b` is after `a`; `a` requires `b`)",
            "one of these must give way: leave one container out, or change `[service]` in its image's manifest",
        ),
        // The shortest, and units of the host are part of it.
        (
            &[
                "a: before b",
                "b: before c",
                "c: before a",
                "net: after cri; before cri",
            ],
            "ordering cycle: `containerd.service` → `net` → `containerd.service` \
             (`net` is after the role `cri`; `net` is before the role `cri`)",
            "one of these must give way: leave one container out, or change `[service]` in its image's manifest",
        ),
        (
            &["vpn: early; requires kv", "kv", "late: before vpn"],
            "`vpn` starts early and cannot wait for `kv`, which does not: `vpn` requires `kv`; \
             `vpn` starts early and cannot wait for `late`, which does not: `late` is before `vpn`",
            "everything that an early container waits for must be early too",
        ),
        (
            &["a: provides x y; after b\nExecStart=/bad", "b: before ../c"],
            "`provides` of `a` holds \"x y\", which is neither a name nor a role; \
             `after` of `a` holds \"b\\nExecStart=/bad\", which is neither a name nor a role; \
             `before` of `b` holds \"../c\", which is neither a name nor a role",
            "names and roles are letters, digits, `.`, `_` and `-`: a fault of the image's manifest",
        ),
    ] {
        let refused = graph(members, &[]).unwrap_err();
        assert_eq!(refused.to_string(), error);
        assert_eq!(refused.hint(), hint);
    }
}

#[test]
fn what_is_installed_is_drawn_though_its_provider_is_gone() {
    let graph = Graph::of_installed(&set(&[FLANNELD]), &HostRoles::default(), &|_| false).unwrap();
    assert_eq!(graph.missing()[0].asked, "etcd");
    assert_eq!(
        graph.text(&States::new()),
        "Boot order: a unit starts when all that it waits for are ready.\n\nflanneld\n\n\
         Missing: flanneld requires etcd, which nothing provides.\n"
    );
}

#[test]
fn dependents_are_found_through_others() {
    let graph = graph(
        &[
            ETCD,
            FLANNELD,
            CONTAINERD,
            "apiserver: requires etcd",
            "a-scheduler: requires apiserver",
            "watch: after etcd",
        ],
        &[],
    )
    .unwrap();
    let of = |name: &str| {
        let found = graph.dependents(&name.parse().unwrap());
        names(&found).join(" ")
    };
    assert_eq!(of("etcd"), "apiserver a-scheduler flanneld");
    assert_eq!(of("apiserver"), "a-scheduler");
    assert_eq!(of("flanneld"), "");
}

#[test]
fn early_ones_go_first() {
    let graph = graph(&["b: early", "a", "c: early; before b"], &[]).unwrap();
    assert_eq!(names(&graph.start_order()), ["c", "b", "a"]);
}

#[test]
fn the_tree_reads_from_top_to_bottom() {
    let three = graph(&[CONTAINERD, ETCD, FLANNELD], &["docker.service"]).unwrap();
    assert_eq!(
        three.text(&states(&[
            ("etcd.service", "active"),
            ("flanneld.service", "activating"),
            ("docker.service", "inactive"),
        ])),
        "\
Boot order: a unit starts when all that it waits for are ready.

etcd                                active
└─ flanneld                         activating   requires etcd
   ├─ containerd [cri]                           flanneld is before cri
   └─ docker.service [cri] (host)   inactive     flanneld is before cri
"
    );
    let more = graph(
        &[
            "etcd",
            "clock: early",
            FLANNELD,
            "api: requires etcd, cri",
            "kv: provides store",
            "web: requires store, api; after flanneld",
        ],
        &["crio.service"],
    )
    .unwrap();
    assert_eq!(
        more.text(&States::new()),
        "\
Boot order: a unit starts when all that it waits for are ready.

clock                             early
etcd
└─ flanneld                       requires etcd
   └─ crio.service [cri] (host)   flanneld is before cri
      └─ api                      requires cri (crio.service); requires etcd
         └─ web                   requires api; requires store (kv); after flanneld
kv [store]
"
    );
    assert_eq!(
        graph(&[], &[]).unwrap().text(&States::new()),
        "No system container is installed.\n"
    );
}

#[test]
fn dot_has_every_edge() {
    let three = graph(&[CONTAINERD, ETCD, FLANNELD], &["docker.service"]).unwrap();
    assert_eq!(
        three.dot(&states(&[("etcd.service", "active")])),
        r##"digraph "boot order" {
  rankdir=LR;
  node [shape=box, style="rounded,filled", fillcolor="#eef4fb", color="#3b6ea5", fontname="sans-serif"];
  edge [color="#5a6672", fontname="sans-serif", fontsize=10];
  "etcd" [label="etcd\nactive"];
  "flanneld" [label="flanneld"];
  "docker.service" [label="docker.service [cri]\nhost unit", fillcolor="#f4f4f2", color="#8a8a85"];
  "containerd" [label="containerd [cri]"];
  "etcd" -> "flanneld" [label="requires"];
  "flanneld" -> "docker.service" [label="before cri", style=dashed];
  "flanneld" -> "containerd" [label="before cri", style=dashed];
}
"##
    );
}

#[test]
fn json_keys_are_stable() {
    let two = graph(&["clock: early; before cri", FLANNELD, ETCD], &[]).unwrap();
    let json = serde_json::to_string_pretty(&two.document(&states(&[("etcd.service", "active")])));
    assert_eq!(
        json.unwrap(),
        r#"{
  "nodes": [
    {
      "name": "clock",
      "unit": "clock.service",
      "kind": "container",
      "provides": [],
      "stage": "early",
      "state": null
    },
    {
      "name": "etcd",
      "unit": "etcd.service",
      "kind": "container",
      "provides": [],
      "stage": "normal",
      "state": "active"
    },
    {
      "name": "flanneld",
      "unit": "flanneld.service",
      "kind": "container",
      "provides": [],
      "stage": "normal",
      "state": null
    }
  ],
  "edges": [
    {
      "from": "etcd",
      "to": "flanneld",
      "kind": "requires",
      "role": null
    }
  ],
  "order": [
    "clock",
    "etcd",
    "flanneld"
  ],
  "missing": []
}"#
    );
}

/// The picture in the README is this graph's. `BEDPLATE_BLESS=1 cargo test` draws it anew.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "writes a file of the source tree when told to"
)]
fn the_picture_of_the_readme_is_drawn_by_us() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/boot-order.svg");
    let drawn = graph(&[ETCD, FLANNELD, CONTAINERD], &[])
        .unwrap()
        .svg(&States::new());
    if std::env::var_os("BEDPLATE_BLESS").is_some() {
        std::fs::write(path, &drawn).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), drawn);
}

/// Numerical Recipes' linear congruential generator: the same numbers on every machine.
struct Random(u32);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as usize % limit
    }
}

/// Containers `c0` … in a random order of names, with edges from lesser to greater places only.
fn random_set(random: &mut Random) -> (Vec<Member>, Vec<(usize, usize)>) {
    let count = 2 + random.below(12);
    let mut members: Vec<Member> = (0..count)
        .map(|i| member(&format!("c{}", (i * 7 + 3) % 101)))
        .collect();
    let mut edges = Vec::new();
    for later in 1..count {
        for _ in 0..random.below(3) {
            let earlier = random.below(later);
            let (first, then) = (
                members[earlier].name.to_string(),
                members[later].name.to_string(),
            );
            match random.below(3) {
                0 => members[later].requires.push(first),
                1 => members[later].after.push(first),
                _ => members[earlier].before.push(then),
            }
            edges.push((earlier, later));
        }
    }
    (members, edges)
}

#[test]
fn every_order_respects_every_edge_and_every_cycle_is_found() {
    let mut random = Random(2026);
    for _ in 0..500 {
        let (mut members, edges) = random_set(&mut random);
        let roles = HostRoles::default();
        let graph = Graph::build(&members, &roles, &|_| false).unwrap();
        let order = graph.start_order();
        let place = |i: usize| order.iter().position(|name| *name == members[i].name);
        assert_eq!(order.len(), members.len());
        for &(earlier, later) in &edges {
            assert!(place(earlier) < place(later), "{earlier} {later} {order:?}");
        }
        // No drawing stumbles over any shape, and each shows every unit once.
        assert_eq!(
            graph.text(&States::new()).lines().count(),
            members.len() + 2
        );
        assert_eq!(
            graph.svg(&States::new()).matches("class=\"name\"").count(),
            members.len()
        );

        let Some(&(earlier, later)) = edges.first() else {
            continue;
        };
        let back = members[earlier].name.to_string();
        members[later].before.push(back);
        let OrderError::Cycle { units, reasons } =
            Graph::build(&members, &roles, &|_| false).unwrap_err()
        else {
            panic!("the planted cycle was not found");
        };
        assert_eq!(units.len(), 2);
        assert_eq!(reasons.len(), 2);
    }
}

#[test]
fn pictures_have_no_text_that_is_markup() {
    let roles: HostRoles = toml::from_str("\"<&>\" = [\"a\\\\x2db.service\"]").unwrap();
    let graph = Graph::build(&set(&["x: provides y"]), &roles, &|_| true).unwrap();
    let hostile = states(&[("x.service", "<b> & \"c\"")]);
    assert!(
        graph
            .svg(&hostile)
            .contains("provides y · &lt;b&gt; &amp; &quot;c&quot;")
    );
    assert!(graph.dot(&hostile).contains("x [y]\\n<b> & \\\"c\\\""));
}
