//! `bedplate values`: what an image can be told, and what a container has been told.

use serde_json::{Value, json};

use crate::host::{Host, assert_same};
use crate::layout::Image;

const MANIFEST: &str = "contract = 1
[values]
PORT = { type = 'integer', default = 2379, help = 'Where it listens' }
NODE = { type = 'string', required = true, help = 'Its name' }
PEERS = { type = 'list', help = 'The others' }
TOKEN = { type = 'secret', help = 'What it is let in by' }
[service]
directories = { state = ['{{name}}-data'] }
";

#[test]
fn an_image_says_what_it_takes() {
    let host = Host::new();
    let image = host.image_of("etcd", MANIFEST);
    host.refused(
        &["values", &image.reference],
        &format!(
            "error: `{0}` is not in the store\n\
             hint: `bedplate images` lists what is; `bedplate pull {0}` brings it there",
            image.reference
        ),
    );
    host.ok(&["pull", &image.reference]);
    let before = host.listing();
    let shown = host.ok(&["values", &image.reference]);
    let (declared, built_in) = shown.split_once("\n\n").unwrap();
    assert_eq!(
        declared,
        "VALUE  TYPE     DEFAULT     HELP
NODE   string   (required)  Its name
PEERS  list     -           The others
PORT   integer  2379        Where it listens
TOKEN  secret   -           What it is let in by"
    );
    assert!(
        built_in.starts_with("BUILT IN     HELP\narch         The machine's architecture"),
        "{built_in}"
    );
    assert_eq!(host.ok(&["values", &image.digest]), shown);
    assert_same(&before, &host.listing());

    let bare = host.image("bare", &Image::bare());
    host.ok(&["pull", &bare.reference]);
    let shown = host.ok(&["values", &bare.reference]);
    assert!(
        shown.starts_with("The image declares no values.\n\nBUILT IN"),
        "{shown}"
    );
}

#[test]
fn a_container_says_what_it_has_and_from_where() {
    let host = Host::new();
    let image = host.image_of("etcd", MANIFEST);
    host.put("values.toml", "PEERS = ['a', 'b']\nNODE = 'weak'\n");
    let file = host.at("values.toml");
    let file = file.to_str().unwrap();
    host.ok(&[
        "install",
        "--set=NODE=one",
        "--values",
        file,
        &image.reference,
    ]);
    let shown = host.ok(&["values", "etcd"]);
    let words: Vec<Vec<&str>> = shown
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(words[0], ["VALUE", "TYPE", "DEFAULT", "IS", "FROM", "HELP"]);
    assert_eq!(
        words[1][..5],
        ["NODE", "string", "(required)", "one", "--set"]
    );
    assert_eq!(words[2][..5], ["PEERS", "list", "-", "a,b", file]);
    assert_eq!(
        words[3][..5],
        ["PORT", "integer", "2379", "2379", "default"]
    );
    assert_eq!(words[4][..5], ["TOKEN", "secret", "-", "-", "-"]);

    let shown: Value = serde_json::from_str(&host.ok(&["values", "--json", "etcd"])).unwrap();
    assert_eq!(shown["container"], "etcd");
    assert_eq!(
        shown["values"][1],
        json!({
            "name": "PEERS",
            "type": "list",
            "required": false,
            "default": [],
            "value": ["a", "b"],
            "origin": { "file": file },
            "help": "The others",
        })
    );
    assert_eq!(shown["values"][3]["value"], Value::Null);
    let built_in = |name: &str| {
        let all = shown["built_in"].as_array().unwrap();
        let found = all.iter().find(|built_in| built_in["name"] == name);
        found.unwrap()["value"].clone()
    };
    assert_eq!(built_in("state_dir"), "/var/lib/etcd-data");
    assert_eq!(built_in("runtime"), "/usr/bin/crun");
    assert_eq!(built_in("digest"), image.digest.as_str());
    host.refused(
        &["values", "flanneld"],
        "error: `flanneld` is not installed\n\
         hint: `bedplate list` shows what is; an image is written out, such as `docker://registry.example/etcd`",
    );
}
