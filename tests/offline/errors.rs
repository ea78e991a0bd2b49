//! Every kind of error that an operator can meet, provoked; `docs/errors.md` is made of what the program says then.
//!
//! `BEDPLATE_BLESS=1` writes the document anew.
#![expect(clippy::too_many_lines, reason = "each chapter is a table")]

mod page;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::damage;
use crate::errors::page::{CHAPTERS, Entry, HEAD, chapters, path};
use crate::host::{BEDPLATE, Host};
use crate::layout::{Image, Layout, PLAIN};
use crate::namespace;
use crate::pieces::digest;
use crate::process::{self, Run};
use crate::registry::{PASSWORD, USER, registry, secured};

/// What one test provokes.
struct Chapter {
    title: &'static str,
    host: Host,
    told: Vec<Entry>,
}

impl Chapter {
    fn new(title: &'static str) -> Self {
        Self {
            title,
            host: Host::new(),
            told: Vec::new(),
        }
    }

    /// The program must fail with these arguments, and change nothing.
    fn met(&mut self, cause: &'static str, args: &[&str]) -> &mut Entry {
        let said = self.host.fails(args);
        self.add(cause, &said)
    }

    /// The same where another program's words are in the error: only `reason` is kept of what follows ours.
    fn met_abridged(&mut self, cause: &'static str, reason: &str, args: &[&str]) -> &mut Entry {
        let said = self.host.fails(args);
        self.add_abridged(cause, reason, &said)
    }

    fn add_abridged(&mut self, cause: &'static str, reason: &str, said: &str) -> &mut Entry {
        let (error, hint) = said.split_once('\n').unwrap_or((said, ""));
        assert!(error.contains(reason), "{said}");
        let (ours, _) = error.split_once("`: ").unwrap();
        self.add(cause, &format!("{ours}`: … {reason} …\n{hint}"))
    }

    fn add(&mut self, cause: &'static str, said: &str) -> &mut Entry {
        let mut said = said.trim_end().to_owned();
        for (found, shown) in [
            (self.host.root().display().to_string(), String::new()),
            (
                self.host.beside("").display().to_string(),
                "/images/".to_owned(),
            ),
            (registry().address.clone(), "registry.example".to_owned()),
        ] {
            said = said.replace(&found, &shown);
        }
        self.told.push(Entry::new(cause, &said));
        self.told.last_mut().unwrap()
    }

    fn image(&self, name: &str, image: &Image) -> Layout {
        self.host.image(name, image)
    }

    /// Compares the chapter with the document's, or writes it there.
    fn end(self) {
        page::settle(self.title, &self.told).unwrap();
    }
}

#[test]
fn the_document_has_these_chapters() {
    if std::env::var_os("BEDPLATE_BLESS").is_some() {
        return;
    }
    let text = fs::read_to_string(path()).unwrap();
    assert!(text.starts_with(HEAD));
    let titles: Vec<_> = chapters(&text)
        .iter()
        .map(|chapter| chapter.lines().next().unwrap()[3..].to_owned())
        .collect();
    assert_eq!(titles, CHAPTERS);
}

/// What `doctor` finds broken in this machine's own root: the finding and its remedy.
fn doctor(host: &Host, mounts: &str, subject: &str) -> String {
    let run = namespace::script(host, &format!("{mounts}\nbedplate doctor --json"), &[]);
    let outcome: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let mut checks = outcome["checks"].as_array().unwrap().iter();
    let check = checks.find(|check| check["subject"] == subject).unwrap();
    assert_eq!(check["verdict"], "broken", "{check}");
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    format!(
        "error: {}\nhint: {}",
        text(&check["found"]),
        text(&check["remedies"][0])
    )
}

/// `install` on the machine's own root, where nothing it could write is the machine's.
fn live(host: &Host, mounts: &str, image: &str) -> Run {
    let script = format!("{mounts}\nmount -t tmpfs none /var/lib\nbedplate install \"$1\"");
    namespace::script(host, &script, &[image])
}

#[test]
fn this_machine() {
    let mut chapter = Chapter::new("This machine");
    let image = chapter.image("etcd", &Image::new(PLAIN)).reference;
    let nobody = chapter.host.as_nobody(&["install", &image]);
    chapter.add(
        "Not everybody may change what a machine runs.",
        nobody.failed(1),
    );

    let run = live(&chapter.host, "mount -t tmpfs none /sys/fs/cgroup", &image);
    chapter.add(
        "The machine was booted with the old control groups.",
        run.failed(1),
    );
    let mounts = "mount -t cgroup2 none /sys/fs/cgroup; mount -t tmpfs none /run";
    let run = live(&chapter.host, mounts, &image);
    chapter.add(
        "systemd cannot be reached: in a chroot, a rescue shell, or without D-Bus.",
        run.failed(1),
    );

    let run = process::run(Command::new(BEDPLATE).args(["list", "--root=/nowhere"]));
    let told = chapter.add("`--root` leads nowhere.", run.failed(1));
    told.remedy("Give a directory that holds a root file system.");

    let met = |chapter: &mut Chapter, cause, options: &[&str]| {
        chapter.met(cause, &[&["install"], options, &[&*image]].concat());
    };
    met(
        &mut chapter,
        "What lies below `--root` does not run, so nothing there can be started.",
        &["--now"],
    );
    let crun = chapter.host.at("usr/bin/crun");
    met(
        &mut chapter,
        "The runtime that `--runtime` names is not installed.",
        &["--runtime=runc"],
    );
    met(
        &mut chapter,
        "The path that `--runtime` gives is no program.",
        &["--runtime=/usr/bin/kata"],
    );
    fs::remove_file(crun).unwrap();
    met(&mut chapter, "No runtime is installed.", &[]);

    let old = "mkdir -p $ROOT/old; printf '#!/bin/sh\\necho crun 0.15\\n' >$ROOT/old/crun
        chmod +x $ROOT/old/crun; PATH=$ROOT/old:$PATH";
    let said = doctor(&chapter.host, old, "crun");
    let said = said.replace("/old/crun", "/usr/bin/crun");
    chapter.add(
        "The runtime is too old for the unified control groups; `doctor` says the same.",
        &said,
    );
    let old =
        "mkdir -p $ROOT/bin; printf '#!/bin/sh\\necho skopeo version 1.2.2\\n' >$ROOT/bin/skopeo
        chmod +x $ROOT/bin/skopeo; PATH=$ROOT/bin:$PATH";
    let said = doctor(&chapter.host, old, "skopeo");
    chapter.add(
        "skopeo is too old: it cannot hand images to other programs.",
        &said,
    );
    let run = process::run(
        chapter
            .host
            .command(&["pull", &image])
            .env("PATH", "/nonexistent"),
    );
    chapter.add(
        "skopeo, which fetches images, is not installed.",
        run.failed(1),
    );
    chapter.end();
}

#[test]
fn where_images_come_from() {
    let mut chapter = Chapter::new("Where images come from");
    let layout = chapter.image("etcd", &Image::new(PLAIN));
    let push = format!("--dest-creds={USER}:{PASSWORD}");
    let secret = &secured().registry;
    let shut = secret.push_with(&layout.reference, "errors:1", &[&push]);
    let certs = chapter.host.beside("certs");
    fs::create_dir_all(&certs).unwrap();
    fs::write(certs.join("ca.crt"), &secured().ca).unwrap();
    let certs = format!("--cert-dir={}", certs.display());
    let named = |chapter: &mut Chapter, cause, reason: &str, args: &[&str]| {
        let said = chapter
            .host
            .fails(args)
            .replace(&secret.address, "registry.example");
        chapter.add_abridged(cause, reason, &said);
    };
    let wrong = format!("--creds={USER}:wrong");
    named(
        &mut chapter,
        "The registry asks for a password, and there is none or another.",
        "unauthorized",
        &["pull", &certs, &wrong, &shut],
    );
    let unknown = "x509: certificate signed by unknown authority";
    named(
        &mut chapter,
        "Nobody that this host trusts vouches for the registry.",
        unknown,
        &["pull", &shut],
    );
    let plain = registry().push(&layout, "errors/etcd:1");
    let http = "server gave HTTP response to HTTPS client";
    chapter.met_abridged("The registry speaks plain HTTP.", http, &["pull", &plain]);
    let missing = format!("docker://{}/errors/etcd:2", registry().address);
    chapter.met_abridged(
        "The registry has no such image, or none with this tag.",
        "manifest unknown",
        &["pull", "--tls-verify=false", &missing],
    );
    let refused = "connection refused";
    chapter.met_abridged(
        "Nobody listens there.",
        refused,
        &["pull", "docker://127.0.0.1:9/etcd:1"],
    );
    let untagged = format!("{}-other", layout.reference);
    chapter.met(
        "The layout has no image with this tag.",
        &["pull", &untagged],
    );
    chapter.met(
        "There is no layout at this path.",
        &["pull", "oci:/nowhere:latest"],
    );

    chapter.end();
}

#[test]
fn what_is_in_an_image() {
    let mut chapter = Chapter::new("What is in an image");
    let policy = r#"{"default":[{"type":"reject"}]}"#;
    let layout = chapter.image("etcd", &Image::new(PLAIN));
    let run = namespace::with_policy(&chapter.host, Some(policy), &["pull", &layout.reference]);
    chapter.add_abridged(
        "The signature policy of this host does not allow the image.",
        "rejected by policy",
        run.failed(1),
    );
    let run = namespace::with_policy(&chapter.host, None, &["pull", &layout.reference]);
    chapter.add_abridged(
        "This host has no signature policy: none is never taken for one that allows all.",
        "/etc/containers/policy.json",
        run.failed(1),
    );

    let bytes = fs::read(layout.layer_path()).unwrap();
    fs::write(layout.layer_path(), &bytes[..bytes.len() - 9]).unwrap();
    chapter.met_abridged(
        "A layer at the source is not what its digest says.",
        "corrupted blob",
        &["pull", &layout.reference],
    );
    let other = chapter.image("one", &Image::new(PLAIN).file("opt/x", "one"));
    let lying = Image::new(PLAIN)
        .file("opt/x", "two")
        .write_as(&chapter.host.beside("two"), &other);
    chapter.met(
        "A layer unpacks to something else than the image says.",
        &["pull", &lying.reference],
    );
    let cut = Image::new(PLAIN).file("opt/big", "0123456789".repeat(10_000));
    let cut = cut.write_cut(&chapter.host.beside("cut"), 4000);
    chapter
        .met(
            "A layer ends in the middle of a file.",
            &["pull", &cut.reference],
        )
        .remedy("The image was built so: build and push it again.");
    let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
    let xz = manifest_of(&chapter, gzip, "application/vnd.oci.image.layer.v1.tar+xz");
    chapter
        .met(
            "A layer is compressed in a way that OCI does not know.",
            &["pull", &xz],
        )
        .remedy("Build the image anew; layers are gzip, zstd or not compressed.");
    let locked = manifest_of(
        &chapter,
        gzip,
        "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
    );
    chapter.met("A layer is encrypted.", &["pull", &locked]);
    let foreign = manifest_of(
        &chapter,
        gzip,
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    );
    chapter.met(
        "A layer comes from somewhere else than the registry.",
        &["pull", &foreign],
    );
    let config = "application/vnd.oci.image.config.v1+json";
    let artifact = manifest_of(&chapter, config, "application/vnd.example+json");
    chapter.met(
        "It is something else than an image: a chart, a signature, a list of parts.",
        &["pull", &artifact],
    );
    chapter.met(
        "It is an image of another kind of machine.",
        &["pull", "--arch=s390x", &other.reference],
    );
    chapter.host.put(
        "etc/bedplate/bedplate.toml",
        "[store]\nlayer_limit = \"16M\"\n",
    );
    let bomb = chapter.image(
        "bomb",
        &Image::new(PLAIN).file("opt/zeros", vec![0; 20 << 20]),
    );
    chapter.met(
        "A layer unpacks to more than this host allows.",
        &["pull", &bomb.reference],
    );
    chapter.end();
}

fn manifest_of(chapter: &Chapter, text: &str, new: &str) -> String {
    let layout = chapter.host.image("typed", &Image::new(PLAIN));
    rewritten(&layout, |manifest| manifest.replace(text, new))
}

/// The image with another manifest in its place, all digests right.
fn rewritten(layout: &Layout, change: impl Fn(String) -> String) -> String {
    let index = layout.dir.join("index.json");
    let blob = |digest: &str| layout.dir.join("blobs/sha256").join(&digest[7..]);
    let manifest = change(fs::read_to_string(blob(&layout.digest)).unwrap());
    let digest = digest(manifest.as_bytes());
    fs::write(blob(&digest), &manifest).unwrap();
    let text = fs::read_to_string(&index).unwrap();
    let mut document: serde_json::Value = serde_json::from_str(&text).unwrap();
    document["manifests"][0]["digest"] = digest.into();
    document["manifests"][0]["size"] = manifest.len().into();
    fs::write(&index, document.to_string()).unwrap();
    layout.reference.clone()
}

#[test]
fn the_contract_of_an_image() {
    let mut chapter = Chapter::new("The contract of an image");
    let spec = |more: &str| {
        format!(
            "{{\"ociVersion\": \"1.0.2\", \"process\": {{\"cwd\": \"/\", \"args\": [\"/bin/sleep\"], \
             \"user\": {{\"uid\": 1, \"gid\": 1}}}}, \"linux\": {{\"namespaces\": [{{\"type\": \"mount\"}}]}}{more}}}"
        )
    };
    let own = |text: &str| Image::new(PLAIN).file("exports/config.json.hbs", text);
    let author = "A fault of the image: its author finds it with `bedplate lint`.";
    for (cause, image) in [
        (
            "A key of the manifest is unknown.",
            Image::new("contract = 1\ndescripton = 'x'\n"),
        ),
        (
            "A value of the manifest is none.",
            Image::new("contract = 1\n[service]\nwatchdog = 'soon'\n"),
        ),
        (
            "`/exports` holds a file that no contract knows.",
            Image::new(PLAIN).file("exports/servce.hbs", ""),
        ),
        (
            "A template names a variable that nobody declares.",
            Image::new(PLAIN).file("exports/tmpfiles.hbs", "d /run/{{naem}}\n"),
        ),
        (
            "A unit that the image ships is none.",
            Image::new(PLAIN).file("exports/socket.hbs", "ListenStream=80\n"),
        ),
        (
            "The image asks for sockets and for the host's process ids.",
            Image::new(
                "contract = 1\n[container]\npid = 'host'\n[service]\nsockets = ['admin.socket']\n",
            ),
        ),
        ("`config.json.hbs` is no JSON.", own("{")),
        (
            "`config.json.hbs` is no OCI configuration.",
            own("{\"process\": {}}"),
        ),
        (
            "`config.json.hbs` asks for a root file system that can be written to.",
            own(&spec(", \"root\": {\"path\": \"x\", \"readonly\": false}")),
        ),
        (
            "The user is not one of the image.",
            Image::new("contract = 1\n[container]\nuser = 'web'\n"),
        ),
        (
            "A file for the host would lie where no image may put one.",
            Image::new(PLAIN).file("exports/hostfs/dev/x", ""),
        ),
        (
            "A device or directory of the host would be mounted over the image itself.",
            Image::new("contract = 1\n[container]\nmounts = [{ source = '/srv', target = '/' }]\n"),
        ),
    ] {
        let image = chapter.image("etcd", &image).reference;
        let told = chapter.met(cause, &["install", &image]);
        if !told.said.contains("\nhint: ") {
            told.remedy(author);
        }
    }
    let newer = chapter
        .image("etcd", &Image::new("contract = 2\n"))
        .reference;
    chapter.met(
        "The image is made for a later bedplate.",
        &["install", &newer],
    );
    let newer = chapter
        .image("etcd", &Image::new("contract = 1\nneeds = ['gpu']\n"))
        .reference;
    chapter.met(
        "The image needs what this bedplate does not have.",
        &["install", &newer],
    );
    let nothing = chapter.host.beside("home").display().to_string();
    chapter.met(
        "`lint` was given a directory that holds no contract.",
        &["lint", &nothing],
    );
    let broken = chapter.host.beside("broken/exports/manifest.toml");
    fs::create_dir_all(broken.parent().unwrap()).unwrap();
    fs::write(&broken, "contract = 1\ndescripton = 'x'\n").unwrap();
    let dir = chapter.host.beside("broken").display().to_string();
    let run = chapter.host.run(&["lint", &dir]);
    assert_eq!(run.status, 1);
    let told = chapter.add(
        "`lint` found something; what, stands in its output.",
        &run.stderr,
    );
    told.remedy("Mend what it lists under `problems`.");
    chapter.end();
}

/// What can be wrong with secrets before one is sealed.
fn secrets(chapter: &mut Chapter) {
    let manifest = "contract = 1\n[values]\n\
        TOKEN = { type = 'secret', required = true, help = 'What it is let in by' }\n\
        SPARE = { type = 'secret', help = 'Another' }\n\
        PORT = { type = 'integer', default = 1, help = 'Where it listens' }\n";
    let image = chapter.image("vault", &Image::new(manifest)).reference;
    for (name, size) in [("token", 3), ("empty", 0), ("large", 768 * 1024 + 1)] {
        fs::write(chapter.host.beside(name), "x".repeat(size)).unwrap();
    }
    let of =
        |key: &str, name: &str| format!("--secret={key}={}", chapter.host.beside(name).display());
    let (token, empty, large) = (
        of("TOKEN", "token"),
        of("TOKEN", "empty"),
        of("TOKEN", "large"),
    );
    let (absent, port) = (of("TOKEN", "absent"), of("PORT", "token"));
    chapter.met(
        "A secret that the image requires was not given.",
        &["install", &image],
    );
    let told = chapter.met(
        "A secret was given as a value.",
        &["install", "--set=TOKEN=x", &image],
    );
    told.remedy("`--secret TOKEN=FILE`: others see what stands on a command line.");
    let told = chapter.met(
        "A value was given as a secret.",
        &["install", &token, &port, &image],
    );
    told.remedy("`bedplate values IMAGE` shows the types.");
    for (cause, secret) in [
        ("The file of a secret is not there.", &absent),
        ("The file of a secret is empty.", &empty),
        ("The file of a secret is too large.", &large),
    ] {
        chapter.met(cause, &["install", secret, &image]);
    }
    chapter.met(
        "Two secrets are to come from standard input.",
        &["install", "--secret=TOKEN=-", "--secret=SPARE=-", &image],
    );
    chapter.met(
        "A secret was given for a host that does not run.",
        &["install", &token, &image],
    );
}

#[test]
fn values() {
    let mut chapter = Chapter::new("Values");
    let manifest = "contract = 1\n[values]\n\
        PORT = { type = 'integer', default = 1, help = 'Where it listens' }\n\
        NODE = { type = 'string', required = true, help = 'Its name' }\n";
    let image = chapter.image("etcd", &Image::new(manifest)).reference;
    chapter.met(
        "A value that has no default was not set.",
        &["install", &image],
    );
    let told = chapter.met(
        "A value is not of its type.",
        &["install", "--set=NODE=x", "--set=PORT=many", &image],
    );
    told.remedy("`bedplate values IMAGE` shows the types.");
    chapter.met(
        "No such value is declared.",
        &["install", "--set=NODE=x", "--set=PROT=1", &image],
    );
    let told = chapter.met(
        "A built-in variable was set.",
        &["install", "--set=NODE=x", "--set=name=x", &image],
    );
    told.remedy("Leave it out; `--name` gives the container's name.");
    secrets(&mut chapter);
    let bare = chapter.image("bare", &Image::new(PLAIN)).reference;
    let told = chapter.met(
        "No image of a set declares the value.",
        &["install", "--set=PROT=1", &image, &bare],
    );
    told.remedy("Write it as the image does: `bedplate values IMAGE`; or as NAME.KEY=VALUE for one container.");
    chapter.host.put("values.toml", "PORT = \n");
    let file = format!("--values={}", chapter.host.at("values.toml").display());
    let told = chapter.met(
        "The file of values is no TOML.",
        &["install", &file, &image],
    );
    told.remedy("Mend the line; texts stand in quotes.");
    chapter.met(
        "The image whose values are asked for is not here.",
        &["values", "oci:/images/other:1"],
    );
    chapter.end();
}

#[test]
fn what_is_there_already() {
    let mut chapter = Chapter::new("What is there already");
    let image = chapter.image("etcd", &Image::new(PLAIN)).reference;
    let own = Image::new(PLAIN).file("exports/hostfs/etc/etcd.conf", "ours\n");
    let with_file = chapter.image("file", &own).reference;
    let unit = "etc/systemd/system/etcd.service";
    chapter.host.put(unit, "[Service]\n");
    chapter.met("The host has a unit of this name.", &["install", &image]);
    fs::remove_file(chapter.host.at(unit)).unwrap();
    symlink("/dev/null", chapter.host.at(unit)).unwrap();
    chapter.met("An operator masked the unit.", &["install", &image]);
    fs::remove_file(chapter.host.at(unit)).unwrap();
    chapter.host.put("etc/etcd.conf", "theirs\n");
    chapter.met(
        "The host has a file that the image brings.",
        &["install", &with_file],
    );
    fs::remove_file(chapter.host.at("etc/etcd.conf")).unwrap();
    let other = Image::new(PLAIN).file("exports/hostfs/etc/etcd.conf", "others\n");
    let second = chapter.image("second", &other).reference;
    chapter.met(
        "Two images of one call bring the same file.",
        &["install", &with_file, &second],
    );
    let told = chapter.met(
        "Two images of one call would have the same name.",
        &["install", &image, &image],
    );
    told.remedy("Install them one by one, each with a `--name` of its own.");
    let manifest =
        "contract = 1\n[container]\nuser = '967'\n[service]\ndirectories = { state = ['db'] }\n";
    let db = chapter.image("db", &Image::new(manifest)).reference;
    chapter.host.put("var/lib/db/precious", "");
    chapter.met(
        "The directory for its data holds somebody else's.",
        &["install", &db],
    );

    chapter.host.ok(&["install", &image]);
    let other = chapter
        .image("other", &Image::new(PLAIN).file("opt/x", "x"))
        .reference;
    chapter.met(
        "Another image is installed under this name.",
        &["install", "--name=etcd", &other],
    );
    let valued = "contract = 1\n[values.PORT]\ntype = 'integer'\ndefault = 1\nhelp = 'x'\n";
    let valued = chapter.image("valued", &Image::new(valued)).reference;
    chapter.host.ok(&["install", &valued]);
    chapter.met(
        "It is installed with other values.",
        &["install", "--set=PORT=2", &valued],
    );
    chapter.met("No container has this name.", &["show", "etdc"]);
    chapter.met(
        "An image is in use that shall no longer be kept.",
        &["images", "remove", &image],
    );
    chapter.end();
}

#[test]
fn order() {
    let mut chapter = Chapter::new("Order");
    let image = |chapter: &Chapter, name: &str, text: &str| {
        let manifest = format!("contract = 1\n[service]\n{text}\n");
        chapter.image(name, &Image::new(&manifest)).reference
    };
    let flanneld = image(&chapter, "flanneld", "requires = ['store']");
    chapter.met(
        "What the image requires is nowhere.",
        &["install", &flanneld],
    );
    let one = image(&chapter, "one", "after = ['two']");
    let two = image(&chapter, "two", "requires = ['one']");
    chapter.met("Each would wait for the other.", &["install", &one, &two]);
    let early = image(&chapter, "early", "stage = 'early'\nafter = ['late']");
    let late = image(&chapter, "late", "");
    chapter.met(
        "What starts early would wait for what starts later.",
        &["install", &early, &late],
    );
    let store = image(&chapter, "etcd", "provides = ['store']");
    chapter.host.ok(&["install", &store, &flanneld]);
    chapter.met(
        "Another container needs the one that shall go.",
        &["uninstall", "etcd"],
    );
    chapter.end();
}

#[test]
fn updates() {
    let mut chapter = Chapter::new("Updates");
    let manifest = "contract = 1\n[values.PORT]\ntype = 'integer'\ndefault = 1\nhelp = 'x'\n";
    let image = chapter.image("etcd", &Image::new(manifest)).reference;
    let other = chapter.image("other", &Image::new(PLAIN)).reference;
    chapter.host.ok(&["install", &image, &other]);
    chapter.met("There is nothing to go back to.", &["rollback", "etcd"]);
    chapter.host.ok(&["update", "etcd", "--set", "PORT=2"]);
    chapter.met("It is there already.", &["rollback", "--to=2", "etcd"]);
    chapter.met(
        "A generation was removed, or never was.",
        &["rollback", "--to=7", "etcd"],
    );
    chapter.met(
        "A generation that is not there was to be kept.",
        &["pin", "etcd", "7"],
    );
    chapter.met(
        "A value was to follow its default again and does.",
        &["update", "--unset=PROT", "etcd"],
    );
    chapter.host.ok(&["hold", "etcd"]);
    chapter.met("Somebody held the container back.", &["update", "etcd"]);
    chapter.host.ok(&["unhold", "etcd"]);
    let unit = chapter
        .host
        .text("etc/systemd/system.attached/etcd.service");
    chapter.host.put("etc/systemd/system/etcd.service", &unit);
    chapter.met(
        "The unit was changed by `systemctl edit --full`: the changed one would be run for ever.",
        &["update", "--set=PORT=3", "etcd"],
    );
    chapter.end();
}

#[test]
fn the_store_and_what_is_recorded() {
    let mut chapter = Chapter::new("The store and what is recorded");
    let image = chapter.image("etcd", &Image::new(PLAIN)).reference;
    let wrong = "[store]\nintegritty = \"auto\"\n";
    chapter.host.put("etc/bedplate/bedplate.toml", wrong);
    let told = chapter.met("A setting of the host is unknown.", &["install", &image]);
    told.remedy("`bedplate config` shows the settings there are, bedplate.toml(5) explains them.");
    fs::remove_file(chapter.host.at("etc/bedplate/bedplate.toml")).unwrap();

    let script = "mkdir -p $ROOT/var/lib/bedplate/repo
        mount -t tmpfs none $ROOT/var/lib/bedplate/repo
        bedplate install --root=$ROOT \"$1\"";
    let run = namespace::script(&chapter.host, script, &[&image]);
    chapter.add(
        "The store lies on another file system than the containers, whose files it shares.",
        run.failed(1),
    );
    let large = chapter.image(
        "large",
        &Image::new(PLAIN).file("opt/it", crate::df::noise(3, 4 << 20)),
    );
    let script = "mkdir -p $ROOT/var/lib/bedplate
        mount -t tmpfs -o size=2m none $ROOT/var/lib/bedplate
        bedplate install --root=$ROOT \"$1\"";
    let run = namespace::script(&chapter.host, script, &[&large.reference]);
    let (error, hint) = run.failed(1).split_once('\n').unwrap();
    let (before, _) = error.split_once(": it needs").unwrap_or((error, ""));
    let said = format!("{before}: …\n{hint}");
    chapter.add("The disk has no room for the image.", &said);

    chapter.host.ok(&["install", &image]);
    let record = "var/lib/bedplate/containers/etcd/1/record.toml";
    let text = chapter.host.text(record);
    chapter.host.put(record, "record = 9\n");
    chapter.met("A newer bedplate was here before.", &["show", "etcd"]);
    chapter.host.put(record, "record = 1\n");
    chapter.met(
        "What is recorded of a container is damaged.",
        &["show", "etcd"],
    );
    fs::remove_file(chapter.host.at(record)).unwrap();
    chapter.met(
        "What is recorded of a container is gone.",
        &["show", "etcd"],
    );
    chapter.host.put(record, &text);
    fs::write(
        chapter
            .host
            .at("var/lib/bedplate/containers/etcd/1/config.json"),
        "{}",
    )
    .unwrap();
    let run = chapter.host.run(&["verify"]);
    chapter.add(
        "`verify` found files that are not as they were.",
        &run.stderr,
    );
    let run = chapter.host.run(&["doctor"]);
    chapter.add(
        "`doctor` found the same, or something else; its output says what.",
        &run.stderr,
    );
    chapter.host.ok(&["repair"]);
    let (images, away) = (chapter.host.beside("etcd"), chapter.host.beside("away"));
    fs::rename(&images, &away).unwrap();
    damage::flip(&damage::objects(&chapter.host)[0]);
    let run = chapter.host.run(&["repair"]);
    let told = chapter.add(
        "`repair` could not bring back all; its output says why: here the image is no longer where it came from.",
        &run.stderr,
    );
    told.remedy("Do what stands there, or have the image where it was, and repair again. Nothing was taken away.");
    fs::rename(&away, &images).unwrap();
    chapter.host.ok(&["repair"]);
    let repo = chapter.host.at("var/lib/bedplate/repo");
    fs::rename(&repo, chapter.host.beside("gone")).unwrap();
    chapter.met("The store is gone.", &["verify"]);
    fs::rename(chapter.host.beside("gone"), &repo).unwrap();
    let journal = "var/lib/bedplate/journal/transaction";
    chapter.host.put(journal, "{\"begin\": nothing}\n");
    let run = chapter.host.run(&["recover"]);
    let told = chapter.add(
        "What an interrupted command has left cannot be read.",
        run.failed(1),
    );
    told.remedy(
        "One that no version can read: move it away; `bedplate verify` then tells what is not as recorded, \
         `bedplate repair` mends it.",
    );
    // A step whose undo finds a file where its directory was.
    chapter.host.put("etc/x", "");
    let step = "{\"begin\":{\"format\":1,\"verb\":\"install\"}}\n\
        {\"step\":{\"remove-dir\":{\"path\":\"/etc/x/y\",\"mode\":493,\"owner\":[0,0]}}}\n";
    chapter.host.put(journal, step);
    let run = chapter.host.run(&["recover"]);
    let told = chapter.add(
        "What an interrupted command has left can neither be undone nor finished; exit status 3. Nothing is given up: \
         each writing command tries again first.",
        run.failed(3),
    );
    told.remedy(
        "Take away what the error names, here the file `/etc/x`, and call `bedplate recover`.",
    );
    fs::remove_file(chapter.host.at("etc/x")).unwrap();
    chapter.host.ok(&["recover"]);
    let run = chapter.host.run(&[
        "exec",
        &format!("--root={}", chapter.host.root().display()),
        "etcd",
        "true",
    ]);
    let told = chapter.add(
        "A command was to run in a container of a `--root` directory; exit status 125.",
        run.failed(125),
    );
    told.remedy("Boot that root, and call `exec` there.");
    chapter.end();
}
