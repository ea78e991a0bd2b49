//! Images whose contract is wrong, and values that do not fit: nothing is written but the store.

use std::fs;

use crate::host::Host;
use crate::layout::{Image, PLAIN};

#[test]
fn wrong_manifests() {
    let host = Host::new();
    for (number, (manifest, error)) in [
        (
            "contract = 1\n\n[service]\nprovdes = ['x']\n",
            "reading `/exports/manifest.toml`: line 4: unknown key `provdes`; did you mean `provides`?",
        ),
        (
            "contract = 1\n[container]\ncapabilities = ['NET_ADMIN']\n[service]\nwatchdog = 'soon'\nstop_signal = 'TERM'\n",
            "reading `/exports/manifest.toml`: 3 problems
  container.capabilities: unknown capability `NET_ADMIN`; did you mean `CAP_NET_ADMIN`?
  service.stop_signal: unknown signal `TERM`
  service.watchdog: expected a span of time such as `30s`, found `soon`",
        ),
        (
            "contract = 2\n",
            "reading `/exports/manifest.toml`: the image follows contract 2; bedplate 0.1.0 knows contracts up to 1\n\
             hint: install a newer bedplate",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let layout = host.image_of(&format!("wrong-{number}"), manifest);
        let error = format!("error: installing `{}`: {error}", layout.reference);
        host.refused(&["install", &layout.reference], &error);
    }
    let layout = host.image(
        "servce",
        &Image::new(PLAIN).file("exports/servce.hbs", "[Unit]\n"),
    );
    let error = format!(
        "error: installing `{}`: reading `/exports`: `servce.hbs` is no file of the contract; did you mean `service.hbs`?",
        layout.reference
    );
    host.refused(&["install", &layout.reference], &error);
}

const VALUES: &str = "contract = 1
[values]
NODE = { type = 'string', required = true, help = 'Its name in the cluster' }
TOKEN = { type = 'string', required = true, help = 'What the members share' }
PORT = { type = 'integer', default = 2379, help = 'Where it listens' }
URL = { type = 'url', help = 'Where clients connect' }
[container]
env = { NODE = '{{NODE}}', PORT = '{{PORT}}' }
";

#[test]
fn wrong_values() {
    let host = Host::new();
    let image = host.image_of("etcd", VALUES);
    let file = host.beside("values.toml");
    fs::write(&file, "URL = 3\nOTHER = 'x'\n").unwrap();
    let file = file.to_str().unwrap();
    let args = ["install", &image.reference, "--values", file];
    let set = ["--set", "PROT=1", "--set", "PORT=many", "--set", "name=x"];
    let error = format!(
        "error: installing `etcd`: 7 problems
  `NODE`: a value is required: a string: Its name in the cluster
  `OTHER` of `{file}`: the image declares no such value
  `PORT`: expected an integer, found `many`
  `PROT`: the image declares no such value; did you mean `PORT`?
  `TOKEN`: a value is required: a string: What the members share
  `URL` of `{file}`: expected a URL, found an integer
  `name`: it is built in and cannot be set
hint: give it as in `--set NODE=VALUE`"
    );
    host.refused(&[&args[..], &set].concat(), &error);

    fs::write(file, "\nURL = \n").unwrap();
    let error = format!(
        "error: reading `{file}`: line 2: string values must be quoted, expected literal string"
    );
    host.refused(&args, &error);
    host.refused(
        &["install", &image.reference, "--values", "/nowhere"],
        "error: reading `/nowhere`: No such file or directory (os error 2)",
    );
}

#[test]
fn a_value_adds_no_line() {
    let host = Host::new();
    let image = host.image_of("etcd", VALUES);
    let evil = "NODE=x\nExecStartPre=/bin/sh";
    host.refused(
        &[
            "install",
            &image.reference,
            "--set",
            evil,
            "--set",
            "TOKEN=x",
        ],
        "error: installing `etcd`: `NODE`: must be one line without control characters",
    );
}

#[test]
fn wrong_templates() {
    let host = Host::new();
    let manifest = "contract = 1\n[values.ETCD_NAME]\ntype = 'string'\ndefault = 'x'\nhelp = 'x'\n";
    let unit =
        "[Unit]\nDescription=x\n[Service]\nExecStart={{{launch}}}\nEnvironment=N={{ETCD_NAEM}}\n";
    for (name, files, error) in [
        (
            "unknown",
            &[("service.hbs", unit)][..],
            "rendering `service.hbs`: line 5: unknown variable `ETCD_NAEM`; did you mean `ETCD_NAME`?",
        ),
        (
            "open",
            &[("service.hbs", "[Unit]\n{{#if name}}\n")],
            "rendering `service.hbs`: line 3: something is not closed before here, or is no handlebars",
        ),
        (
            "section",
            &[("service.hbs", "[Unit]\nDescription=x\n")],
            "`service.hbs` has no [Service] section",
        ),
        (
            "nounit",
            &[(
                "service.hbs",
                "[Service]\nExecStart={{{launch}}}\nnot a line\n",
            )],
            "`service.hbs`, line 3: it is neither a section nor `Key=value`",
        ),
        (
            "json",
            &[("config.json.hbs", "{ \"ociVersion\": {{name}} }")],
            "reading `config.json.hbs` as an OCI runtime configuration: expected value at line 1 column 17",
        ),
        (
            "tmpfiles",
            &[("tmpfiles.hbs", "d /run/x\nd {{nam}}\n")],
            "rendering `tmpfiles.hbs`: line 2: unknown variable `nam`; did you mean `name`?",
        ),
    ] {
        let image = files
            .iter()
            .fold(Image::new(manifest), |image, (file, text)| {
                image.file(&format!("exports/{file}"), text)
            });
        let layout = host.image(name, &image);
        let error = format!("error: installing `{name}`: {error}");
        host.refused(&["install", &layout.reference], &error);
    }
}

#[test]
fn wrong_names() {
    let host = Host::new();
    let image = host.image_of("etcd", PLAIN);
    for (name, why) in [
        ("etcd/x", "may hold only letters, digits, `.`, `_` and `-`"),
        ("etcd@1", "may hold only letters, digits, `.`, `_` and `-`"),
        ("etcd.service", "ends like a unit; leave the unit type out"),
        ("_etcd", "must begin with a letter or a digit"),
        ("", "is empty"),
    ] {
        host.unchanged(|| {
            let run = host.run(&["install", &image.reference, "--name", name]);
            assert_eq!(
                run.failed(2),
                format!(
                    "error: invalid value '{name}' for '--name <NAME>': container name `{name}` {why}\n\n\
                     For more information, try '--help'."
                )
            );
        });
    }
    // Taken from the reference, it is an error of the image's, not of usage.
    let image = host.image_of("_etcd", PLAIN);
    let error = format!(
        "error: `{}` gives no name for the container\nhint: choose one with `--name`",
        image.reference
    );
    host.refused(&["install", &image.reference], &error);
    host.refused(
        &["install", &image.reference, &image.reference, "--name", "x"],
        "error: `--name` goes with one image; 2 were given",
    );
    host.unchanged(|| {
        assert_eq!(host.run(&["install", "etcd"]).failed(2),
            "error: invalid value 'etcd' for '<IMAGE>...': image `etcd`: names no registry; write it out, such as \
             `registry.example/etcd`\n\nFor more information, try '--help'."
        );
    });
}
