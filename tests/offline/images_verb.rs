//! `bedplate images`: what the store has, what an image says about itself, and what is no longer kept.

use serde_json::{Value, json};

use crate::host::{Host, assert_same};
use crate::layout::{Image, Layout, PLAIN};
use crate::registry::registry;
use crate::store::assert_whole;

const ETCD: &str = "contract = 1
description = 'Distributed key-value store'
[values.PORT]
type = 'integer'
default = 2379
help = 'Where it listens'
[container]
capabilities = ['CAP_NET_ADMIN']
mounts = [{ source = '{{state_dir}}', target = '/data', access = 'rw' }]
[service]
provides = ['store']
requires = ['network']
";

fn etcd(host: &Host) -> Layout {
    let image = Image::new(ETCD)
        .file("exports/hostfs/etc/{{name}}.conf", "x\n")
        .file("exports/tmpfiles.hbs", "");
    host.image("etcd", &image)
}

fn images(host: &Host) -> Value {
    serde_json::from_str(&host.ok(&["images", "--json"])).unwrap()
}

#[test]
fn the_list_tells_who_uses_what() {
    let host = Host::new();
    let before = host.listing();
    assert_eq!(host.ok(&["images"]), "No image is in the store.\n");
    assert!(!host.at("var/lib/bedplate").exists());
    assert_same(&before, &host.listing());

    let (used, kept) = (
        host.image_of("used", PLAIN),
        host.image("kept", &Image::bare().file("etc/kept", "x")),
    );
    host.ok(&["install", &used.reference]);
    host.ok(&["install", "--name=second", &used.reference]);
    host.ok(&["pull", &kept.reference]);
    let text = host.ok(&["images"]);
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let size = |content: usize| format!("{content} B");
    let bare = "not really a program\n".len() + "root:x:0:0::/:/bin/sh\n".len();
    let row = |image: &Layout, size: String, used_by: &str| -> Vec<String> {
        let words = format!(
            "{} {} - {size} {used_by}",
            image.reference,
            &image.digest[..19]
        );
        words.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(
        lines[0],
        ["IMAGE", "DIGEST", "CREATED", "SIZE", "USED", "BY"]
    );
    assert_eq!(lines[1], row(&kept, size(bare + 1), "(kept)"));
    assert_eq!(
        lines[2],
        row(&used, size(bare + PLAIN.len()), "second used")
    );
    assert_eq!(
        images(&host)[1],
        json!({
            "image": used.reference,
            "digest": used.digest,
            "created": null,
            "platform": if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" },
            "layers": 1,
            "size": bare + PLAIN.len(),
            "kept": false,
            "containers": ["second", "used"],
        })
    );
}

#[test]
fn an_image_tells_its_contract_without_a_checkout() {
    let host = Host::new();
    let etcd = etcd(&host);
    host.ok(&["pull", &etcd.reference]);
    let before = host.listing();
    let by_digest = host.ok(&["images", "show", &etcd.digest[..19]]);
    assert_eq!(host.ok(&["images", "show", &etcd.reference]), by_digest);
    let layer_size = std::fs::metadata(etcd.layer_path()).unwrap().len();
    assert_eq!(
        by_digest,
        format!(
            "{}
  digest      {}
  platform    linux/{}
  in store    yes
  used by     (kept)
  entrypoint  /bin/sleep
  command     infinity
  layers      {} {layer_size} B
  contract    version 1
              description: Distributed key-value store
              provides: store
              requires: network
              capabilities: CAP_NET_ADMIN
              shares with the host: network
              mounts: {{{{state_dir}}}} on /data
              values: PORT
              templates: tmpfiles.hbs
              host files: /etc/{{{{name}}}}.conf
",
            etcd.reference,
            etcd.digest,
            if cfg!(target_arch = "aarch64") {
                "arm64"
            } else {
                "amd64"
            },
            &etcd.layer[..19],
        )
    );
    let shown: Value =
        serde_json::from_str(&host.ok(&["images", "show", "--json", &etcd.reference])).unwrap();
    assert_eq!(shown["contract"]["service"]["provides"], json!(["store"]));
    assert_eq!(
        shown["contract"]["values"]["PORT"],
        json!({ "type": "integer", "default": 2379, "required": false, "help": "Where it listens" })
    );
    assert_eq!(shown["layers"][0]["diff_id"], etcd.diff_id.as_str());
    assert_eq!(shown["contract_error"], Value::Null);
    assert_same(&before, &host.listing());
    assert_whole(&host);
}

#[test]
fn an_image_without_a_contract_and_one_with_a_bad_one() {
    let host = Host::new();
    let bare = host.image("bare", &Image::bare());
    let bad = host.image_of("bad", "contract = 1\ndescripton = 'x'\n");
    let link = host.image("link", &Image::bare().symlink("exports", "/etc"));
    let large = Image::bare().file("exports/README", vec![0; 81 << 20]);
    let large = host.image("large", &large);
    for (image, expected) in [
        (&bare, "none: its OCI configuration is used"),
        (
            &bad,
            "unusable: reading `/exports/manifest.toml`: line 2: unknown key `descripton`; did you mean `description`?",
        ),
        (&link, "is no directory"),
        (&large, "it is larger than a contract can be"),
    ] {
        host.ok(&["pull", &image.reference]);
        let shown = host.ok(&["images", "show", &image.reference]);
        let line = shown.lines().find(|line| line.starts_with("  contract"));
        assert!(line.unwrap().ends_with(expected), "{shown}");
    }
}

#[test]
fn an_image_is_shown_where_it_comes_from() {
    let host = Host::new();
    registry().allow(&host);
    let etcd = etcd(&host);
    let remote = registry().push(&etcd, "images-show:1");
    let before = host.listing();
    let shown = host.ok(&["images", "show", "--remote", &remote]);
    let wanted = format!(
        "  layers      {} {} B, to fetch\n  contract    not known before it is pulled\n",
        &etcd.layer[..19],
        std::fs::metadata(etcd.layer_path()).unwrap().len()
    );
    assert!(shown.ends_with(&wanted), "{shown}");
    assert!(shown.contains(&format!("\n  digest      {}\n", etcd.digest)));
    assert!(shown.contains("\n  in store    no\n"));
    assert!(!host.at("var/lib/bedplate").exists());
    assert_same(&before, &host.listing());

    host.ok(&["pull", &remote]);
    let args = ["images", "show", "--remote", "--json", &remote];
    let shown: Value = serde_json::from_str(&host.ok(&args)).unwrap();
    assert_eq!(
        (&shown["stored"], &shown["kept"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(shown["layers"][0]["stored"], true);
    host.refused(
        &["images", "show", "--remote", &etcd.digest],
        &format!(
            "error: `{}` does not say where the image comes from\n\
             hint: give its reference, such as `docker://registry.example/etcd:3.5`",
            etcd.digest
        ),
    );
}

#[test]
fn what_is_removed_goes_with_the_next_prune() {
    let host = Host::new();
    let (used, kept) = (
        host.image_of("used", PLAIN),
        host.image("kept", &Image::bare().file("etc/kept", "x")),
    );
    host.ok(&["pull", &used.reference, &kept.reference]);
    host.ok(&["install", &used.reference]);
    // All or none: the first of the two may go, the second may not.
    host.refused(
        &["images", "remove", &kept.reference, &used.digest],
        &format!(
            "error: `{}` is in use: by used\nhint: `bedplate uninstall used` first; its data is kept",
            used.digest
        ),
    );
    host.refused(
        &["images", "remove", "oci:/nowhere:latest"],
        "error: `oci:/nowhere:latest` is not in the store\n\
         hint: `bedplate images` lists what is; `bedplate pull oci:/nowhere:latest` brings it there",
    );
    assert_eq!(
        host.ok(&["images", "remove", "--dry-run", &kept.reference]),
        format!(
            "{}: would no longer be kept ({})\nnothing was changed\n",
            kept.reference, kept.digest
        )
    );
    assert_eq!(host.ok(&["prune"]), "freed 0 B\n");
    assert_eq!(
        host.ok(&["images", "remove", &kept.reference]),
        format!(
            "{}: no longer kept ({})\n`bedplate prune` frees what nobody else needs\n",
            kept.reference, kept.digest
        )
    );
    let again = host.ok(&["images", "remove", &kept.digest]);
    assert!(again.contains(": was not kept ("), "{again}");
    host.ok(&["prune"]);
    let left = images(&host);
    assert_eq!(left.as_array().unwrap().len(), 1);
    assert_eq!(left[0]["digest"], used.digest.as_str());

    host.ok(&["uninstall", "used"]);
    host.ok(&["images", "remove", &used.reference]);
    host.ok(&["prune"]);
    assert_eq!(host.ok(&["images"]), "No image is in the store.\n");
    assert_whole(&host);
}
