//! What images become: each of `golden/inputs` rendered, and compared with `golden/` letter by letter.
//!
//! An input is a directory as `/exports` has it and the image's configuration beside it. `BEDPLATE_BLESS=1` writes
//! the golden files anew; what changed is then for `git diff` to show.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the tests read the source tree and call programs; a panic is a test failure"
)]

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bedplate::contract::builtins::BuiltIns;
use bedplate::contract::manifest::Restart;
use bedplate::contract::values::{Given, resolve};
use bedplate::contract::{self, Contract, HostContent};
use bedplate::launch::ServiceType;
use bedplate::name::{ContainerName, Generation};
use bedplate::render::capability;
use bedplate::render::device::{Devices, Node};
use bedplate::render::directories::name_directories;
use bedplate::render::users::Users;
use bedplate::render::{Rendered, Subject, render, unit};
use bedplate::runtime::{Runtime, RuntimeKind};
use containers_image_proxy::oci_spec::image::ImageConfiguration;
use containers_image_proxy::oci_spec::runtime::LinuxDeviceType;

const INPUTS: [&str; 6] = ["bare", "containerd", "edge", "etcd", "flanneld", "own"];

/// A host: its runtime and the version of its systemd.
#[derive(Clone, Copy)]
enum Host {
    Trixie,
    Bookworm,
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The contract of an input, read as from an image.
fn contract_of(input: &str) -> Contract {
    let rootfs = tempfile::tempdir().unwrap();
    let from = golden().join("inputs").join(input);
    let exports = rootfs.path().join("exports");
    let copied = Command::new("cp")
        .args(["-r", "--no-preserve=mode"])
        .args([&from, &exports])
        .status();
    assert!(copied.unwrap().success());
    fs::remove_file(exports.join("image.json")).unwrap();
    if input == "bare" {
        fs::remove_dir(&exports).unwrap();
    }
    contract::load(rootfs.path()).unwrap()
}

fn runtime(host: Host) -> Runtime {
    let (path, kind) = match host {
        Host::Trixie => ("/usr/bin/crun", RuntimeKind::Crun),
        Host::Bookworm => ("/usr/sbin/runc", RuntimeKind::Runc),
    };
    let path = path.into();
    Runtime { path, kind }
}

/// The values when nobody sets one.
fn built_ins(name: &ContainerName, directory: &Path, runtime: &Runtime) -> BuiltIns {
    BuiltIns {
        name: name.clone(),
        generation: Generation::FIRST,
        image: format!("docker://registry.example/{name}:1"),
        digest: format!("sha256:{}", "0".repeat(64)),
        rootfs: directory.join("rootfs"),
        runtime: runtime.path.clone(),
        launch: unit::launch_command(directory),
        arch: "amd64".to_owned(),
        state_dir: Path::new("/var/lib").join(name.as_str()),
        runtime_dir: Path::new("/run").join(name.as_str()),
        logs_dir: Path::new("/var/log").join(name.as_str()),
        cache_dir: Path::new("/var/cache").join(name.as_str()),
    }
}

/// What the input becomes on the host, or the error as it is printed.
fn rendered(input: &str, contract: &Contract, host: Host) -> Result<Rendered, String> {
    let name: ContainerName = input.parse().unwrap();
    let generation_dir = Path::new("/var/lib/bedplate/containers")
        .join(input)
        .join("1");
    let runtime = runtime(host);
    let mut built_ins = built_ins(&name, &generation_dir, &runtime);
    name_directories(&mut built_ins, &contract.manifest.service.directories).unwrap();
    let values = resolve(&contract.manifest, &Given::default(), &built_ins).unwrap();
    let inputs = golden().join("inputs");
    let read = |path: &str| fs::read_to_string(inputs.join(path)).unwrap();
    let image: ImageConfiguration =
        serde_json::from_str(&read(&format!("{input}/image.json"))).unwrap();
    let tun = Node {
        kind: LinuxDeviceType::C,
        major: 10,
        minor: 200,
    };
    let subject = Subject {
        name: &name,
        generation: Generation::FIRST,
        generation_dir,
        image: &image,
        users: Users::parse(&read("passwd"), &read("group")),
        runtime: &runtime,
        systemd: match host {
            Host::Trixie => 257,
            Host::Bookworm => 252,
        },
        // All but CAP_SYS_RESOURCE.
        bounding: capability::bounding("CapBnd:\t000001fffeffffff\n"),
        devices: Devices::from_iter([(PathBuf::from("/dev/net/tun"), tun)]),
        reference: built_ins.image.clone(),
        digest: built_ins.digest.clone(),
        overlay: None,
    };
    render(contract, &values, &subject).map_err(|error| format!("{error:#}"))
}

/// All that is neither the service nor config.json, for people.
fn summary(rendered: &Rendered) -> String {
    let mut text = String::new();
    for (title, lines) in [
        ("privileges", &rendered.privileges),
        ("notes", &rendered.notes),
    ] {
        writeln!(text, "{title}").unwrap();
        for line in lines {
            writeln!(text, "  {line}").unwrap();
        }
    }
    writeln!(text, "{:#?}", rendered.service).unwrap();
    writeln!(text, "{:#?}", rendered.health).unwrap();
    let launch = serde_json::to_string_pretty(&rendered.launch).unwrap();
    writeln!(text, "launch.json\n{launch}").unwrap();
    for unit in &rendered.units[1..] {
        writeln!(text, "{}\n{}", unit.name, unit.text).unwrap();
    }
    for file in &rendered.host_files {
        let content = match &file.content {
            HostContent::File(content) => str::from_utf8(content).unwrap(),
            HostContent::Link(_) | HostContent::Dir => "",
        };
        writeln!(text, "{}\n{content}", file.path.display()).unwrap();
    }
    writeln!(
        text,
        "tmpfiles\n{}",
        rendered.tmpfiles.as_deref().unwrap_or("")
    )
    .unwrap();
    text
}

fn compare(file: &str, actual: &str) {
    let path = golden().join(file);
    if std::env::var_os("BEDPLATE_BLESS").is_some() {
        fs::write(&path, actual).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        actual, expected,
        "tests/golden/{file} differs; BEDPLATE_BLESS=1 writes it anew"
    );
}

#[test]
fn images_become_what_the_golden_files_say() {
    for input in INPUTS {
        let contract = contract_of(input);
        let trixie = rendered(input, &contract, Host::Trixie).unwrap();
        let bookworm = rendered(input, &contract, Host::Bookworm).unwrap();
        assert_eq!(trixie.units[0].name.as_str(), format!("{input}.service"));
        compare(&format!("{input}.service"), &trixie.units[0].text);
        compare(&format!("{input}.252.service"), &bookworm.units[0].text);
        compare(&format!("{input}.json"), &trixie.config_json().unwrap());
        // Neither the runtime nor systemd's version changes what the payload is given.
        assert_eq!(
            trixie.config_json().unwrap(),
            bookworm.config_json().unwrap()
        );
        compare(&format!("{input}.txt"), &summary(&trixie));
    }
}

/// The units as systemd itself reads them; 252 is the oldest that is supported, and the one most likely to complain.
#[test]
fn systemd_takes_the_units() {
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        println!("skipped: systemd-analyze is not installed");
        return;
    }
    for input in INPUTS {
        let dir = tempfile::tempdir().unwrap();
        let units = rendered(input, &contract_of(input), Host::Bookworm)
            .unwrap()
            .units;
        for unit in &units {
            // The launcher need not be installed here.
            let text = unit
                .text
                .replace("/usr/libexec/bedplate/launch", "/bin/true");
            fs::write(dir.path().join(unit.name.as_str()), text).unwrap();
        }
        // What another unit would be is no question here; it must be there for `Sockets=`.
        fs::write(
            dir.path().join("edge.socket"),
            "[Socket]\nListenStream=/run/edge\n",
        )
        .unwrap();
        let verified = Command::new("systemd-analyze")
            .args(["verify", "--man=no", "--recursive-errors=no"])
            .arg(dir.path().join(units[0].name.as_str()))
            .output()
            .unwrap();
        let said = String::from_utf8(verified.stderr).unwrap();
        let of_ours: Vec<_> = said.lines().filter(|line| line.contains(input)).collect();
        assert_eq!(of_ours, Vec::<&str>::new(), "{input}");
        assert!(verified.status.success(), "{input}: {said}");
    }
}

/// A change to an input's contract, and the error that it makes.
type Fault = (&'static str, fn(&mut Contract), &'static str);

const FAULTS: [Fault; 8] = [
    (
        "etcd",
        |contract| contract.manifest.container.user = Some("nobody".to_owned()),
        "manifest.toml: container.user: no user `nobody` in `/etc/passwd` of the image",
    ),
    (
        "own",
        |contract| config_is(contract, "{\n\"root\": 7}"),
        "reading `config.json.hbs` as an OCI runtime configuration: invalid type: integer `7`, expected struct Root \
         at line 2 column 9",
    ),
    (
        "own",
        |contract| config_is(contract, "{\"ociVersion\": \"1.0.2\"}"),
        "reading `config.json.hbs` as an OCI runtime configuration: it has no `process.args`",
    ),
    (
        "own",
        |contract| service_is(contract, "[Unit]\nWants x\n"),
        "`service.hbs`, line 2: it is neither a section nor `Key=value`",
    ),
    (
        "own",
        |contract| service_is(contract, "[Unit]\n"),
        "`service.hbs` has no [Service] section",
    ),
    (
        "own",
        |contract| contract.templates = contract::Templates::default(),
        "the image has neither Entrypoint nor Cmd, and `container.args` gives no command",
    ),
    (
        "edge",
        |contract| {
            contract.manifest.service.kind = ServiceType::Oneshot;
            contract.manifest.service.restart = Restart::Always;
        },
        "manifest.toml: service.restart: `always` never ends with type oneshot",
    ),
    (
        "edge",
        |contract| contract.manifest.container.mounts[0].source.push('\\'),
        "`/srv/with blank & 5 %\\\\` cannot stand in one line of a unit",
    ),
];

fn config_is(contract: &mut Contract, text: &str) {
    text.clone_into(&mut contract.templates.config.as_mut().unwrap().text);
}

fn service_is(contract: &mut Contract, text: &str) {
    text.clone_into(&mut contract.templates.service.as_mut().unwrap().text);
}

#[test]
fn what_cannot_be_rendered_is_named() {
    for (input, change, message) in FAULTS {
        let mut contract = contract_of(input);
        change(&mut contract);
        let error = rendered(input, &contract, Host::Trixie).unwrap_err();
        assert_eq!(error, message);
    }
}
