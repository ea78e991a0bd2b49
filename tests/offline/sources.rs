//! Every transport of containers-transports(5), each against the real thing, and what can be said of a source.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use serde_json::Value;

use crate::damage::{flip, object};
use crate::host::Host;
use crate::layout::{Image, Layout, PLAIN};
use crate::process::{self, DEADLINE};
use crate::registry::{PASSWORD, USER, mutual, registry, secured};

/// An image with something of its own in it.
fn image(host: &Host, name: &str) -> Layout {
    let content = format!("the content of {name}");
    host.image(name, &Image::new(PLAIN).file("opt/unique", content))
}

/// Pushes an image to the registry with TLS and a password; its reference.
fn pushed(host: &Host, name: &str) -> String {
    let layout = image(host, name);
    let creds = format!("--dest-creds={USER}:{PASSWORD}");
    let name = format!("{name}:1");
    secured()
        .registry
        .push_with(&layout.reference, &name, &[&creds])
}

/// `--cert-dir` with the CA of the registry with TLS.
fn cert_dir(host: &Host) -> String {
    let dir = host.beside("certs");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("ca.crt"), &secured().ca).unwrap();
    format!("--cert-dir={}", dir.display())
}

/// `--authfile` with the password of that registry, as skopeo writes it.
fn authfile(host: &Host) -> String {
    let option = format!("--authfile={}", host.beside("auth.json").display());
    let user = format!("--username={USER}");
    let password = format!("--password={PASSWORD}");
    let address = &secured().registry.address;
    let login = [
        "login",
        "--tls-verify=false",
        &option,
        &user,
        &password,
        address,
    ];
    process::tool("skopeo", &login);
    option
}

/// Installs an image with these options, its own file among it; the digest of its manifest.
fn installed(host: &Host, name: &str, options: &[&str], reference: &str) -> String {
    host.ok(&[&["install", "--name", name], options, &[reference]].concat());
    assert_whole(host, name);
    let shown: Value = serde_json::from_str(&host.ok(&["show", "--json", name])).unwrap();
    shown["manifest_digest"].as_str().unwrap().to_owned()
}

fn assert_whole(host: &Host, name: &str) {
    let path = format!("var/lib/bedplate/containers/{name}/1/rootfs/opt/unique");
    assert!(host.text(&path).starts_with("the content of "));
    host.ok(&["verify", name]);
}

/// Copies an image from one place to another, with these options.
fn copy(options: &[&str], from: &str, to: &str) {
    let copy = ["--insecure-policy", "copy", "--quiet"];
    process::tool("skopeo", &[&copy, options, &[from, to]].concat());
}

#[test]
fn a_registry_with_tls_and_a_password() {
    let host = Host::new();
    let reference = pushed(&host, "secured");
    let certs = cert_dir(&host);
    let creds = format!("--creds={USER}:{PASSWORD}");
    installed(&host, "by-creds", &[&certs, &creds], &reference);
    let auth = authfile(&host);
    installed(&host, "by-authfile", &[&certs, &auth], &reference);
    let careless = ["--tls-verify=false", &auth];
    installed(&host, "unverified", &careless, &reference);

    // Where an operator puts them for good.
    let home = host.beside("home/.config/containers");
    let certs = home.join("certs.d").join(&secured().registry.address);
    fs::create_dir_all(&certs).unwrap();
    fs::write(certs.join("ca.crt"), &secured().ca).unwrap();
    fs::copy(host.beside("auth.json"), home.join("auth.json")).unwrap();
    installed(&host, "by-files", &[], &reference);
    installed(&host, "verified", &["--tls-verify"], &reference);
}

#[test]
fn a_repair_enters_a_registry_as_an_update_does() {
    let host = Host::new();
    let reference = pushed(&host, "mended");
    let (certs, auth) = (cert_dir(&host), authfile(&host));
    installed(&host, "etcd", &[&certs, &auth], &reference);
    let damaged = || flip(&object(&host, "opt/unique"));
    damaged();
    let run = host.run(&["repair", &certs]);
    assert!(
        run.status == 1 && run.stdout.contains("unauthorized"),
        "{run:?}"
    );
    host.ok(&["repair", &certs, &auth]);
    host.ok(&["verify"]);

    // Nobody says a password.
    let own = host.at("etc/bedplate/auth.json");
    fs::create_dir_all(own.parent().unwrap()).unwrap();
    fs::copy(host.beside("auth.json"), &own).unwrap();
    fs::set_permissions(&own, fs::Permissions::from_mode(0o644)).unwrap();
    damaged();
    let run = host.run(&["repair", &certs]);
    let open = "note: taking the registries' passwords from `/etc/bedplate/auth.json`: others than root could read or change it";
    assert!(run.status == 1 && run.stderr.contains(open), "{run:?}");
    fs::set_permissions(&own, fs::Permissions::from_mode(0o600)).unwrap();
    host.ok(&["repair", &certs]);
    host.ok(&["verify"]);
}

/// What stands between is skopeo's own.
fn assert_said(said: &str, reference: &str, reason: &str, hint: &str) {
    let (error, remedy) = said.split_once('\n').unwrap_or((said, ""));
    let ours = format!("error: opening `{reference}`: ");
    assert!(error.starts_with(&ours) && error.contains(reason), "{said}");
    assert_eq!(remedy, format!("hint: {hint}"));
}

const LOG_IN: &str = "check user and password: `skopeo login REGISTRY` tries and keeps them, `--creds USER` asks for them; \
    or check the name: registries say the same of images that do not exist";

const UNKNOWN_CA: &str = "if the registry is meant to be trusted, put its CA as `ca.crt` into \
    /etc/containers/certs.d/REGISTRY/ or a directory given by `--cert-dir`; see containers-certs.d(5)";

const PLAIN_HTTP: &str = "a registry without TLS must be allowed: `insecure = true` in /etc/containers/registries.conf.d/, \
    or `--tls-verify=false` for once";

/// As podman and buildah push it: a layer whose files can be fetched one by one, and which is an ordinary one too.
#[test]
fn zstd_chunked() {
    let host = Host::new();
    let layout = image(&host, "chunked");
    let options = ["--dest-compress-format=zstd:chunked", "--dest-compress"];
    let plain = host.beside("plain");
    // Only what is not compressed is compressed.
    copy(
        &["--dest-decompress"],
        &layout.reference,
        &format!("dir:{}", plain.display()),
    );
    let chunked = format!("oci:{}:1", host.beside("in-chunks").display());
    copy(&options, &format!("dir:{}", plain.display()), &chunked);
    let reference = registry().push_with(&chunked, "chunked:1", &[]);
    for (name, reference) in [("layout", &chunked), ("pushed", &reference)] {
        let raw = ["inspect", "--raw", "--tls-verify=false", reference.as_str()];
        let manifest: Value = serde_json::from_str(&process::tool("skopeo", &raw)).unwrap();
        let layer = &manifest["layers"][0];
        assert_eq!(
            layer["mediaType"],
            "application/vnd.oci.image.layer.v1.tar+zstd"
        );
        let table = &layer["annotations"]["io.containers.zstd-chunked.manifest-position"];
        let table = table.as_str().or(
            layer["annotations"]["io.github.containers.zstd-chunked.manifest-position"].as_str(),
        );
        assert!(table.is_some(), "{layer}");
        installed(&host, name, &["--tls-verify=false"], reference);
    }
}

#[test]
fn what_keeps_a_registry_shut() {
    let host = Host::new();
    let reference = pushed(&host, "shut");
    let (certs, auth) = (cert_dir(&host), authfile(&host));
    let cases: &[(&[&str], &str, &str)] = &[
        (
            &[],
            "x509: certificate signed by unknown authority",
            UNKNOWN_CA,
        ),
        (
            &[&auth],
            "x509: certificate signed by unknown authority",
            UNKNOWN_CA,
        ),
        (&[&certs], "unauthorized", LOG_IN),
        (&[&certs, "--creds=operator:wrong"], "unauthorized", LOG_IN),
        (&[&certs, "--creds=nobody:"], "unauthorized", LOG_IN),
    ];
    for (options, reason, hint) in cases {
        let said = host.fails(&[&["install"], *options, &[&reference]].concat());
        assert_said(&said, &reference, reason, hint);
    }
    // The other way round.
    let layout = image(&host, "plain");
    let reference = registry().push(&layout, "sources/plain:1");
    let said = host.fails(&["pull", &reference]);
    assert_said(
        &said,
        &reference,
        "server gave HTTP response to HTTPS client",
        PLAIN_HTTP,
    );
    installed(&host, "plain", &["--tls-verify=false"], &reference);
}

#[test]
fn a_registry_that_asks_for_a_certificate() {
    let host = Host::new();
    let mutual = mutual();
    let certs = host.beside("client");
    fs::create_dir_all(&certs).unwrap();
    fs::write(certs.join("ca.crt"), &mutual.ca).unwrap();
    let option = format!("--cert-dir={}", certs.display());
    let reference = format!("docker://{}/mutual:1", mutual.registry.address);
    // Without one nobody comes in; go's words for it differ with the version of TLS.
    let said = host.fails(&["pull", &option, &reference]);
    assert!(
        said.starts_with(&format!("error: opening `{reference}`: ")),
        "{said}"
    );
    assert!(said.contains("tls: "), "{said}");

    fs::write(certs.join("client.cert"), &mutual.cert).unwrap();
    fs::write(certs.join("client.key"), &mutual.key).unwrap();
    let layout = image(&host, "mutual");
    let to = format!("--dest-cert-dir={}", certs.display());
    copy(
        &["--dest-tls-verify=true", &to],
        &layout.reference,
        &reference,
    );
    assert_eq!(
        installed(&host, "mutual", &[&option], &reference),
        layout.digest
    );
}

#[test]
fn options_that_cannot_be_meant() {
    let host = Host::new();
    let one = &image(&host, "one").reference;
    let (here, there) = ("r.example/x:1", "other.example/x:1");
    let missing = host.beside("missing").display().to_string();
    for (args, error) in [
        (
            &["--creds=me:x", one][..],
            "`--creds` is for registries, and none of the images comes from one".to_owned(),
        ),
        (
            &["--creds=me:x", here, there],
            "`--creds` is for one registry; the images come from 2\n\
             hint: log in to each with `skopeo login REGISTRY`, or give them one by one"
                .to_owned(),
        ),
        (
            &["--creds=:x", here],
            "`--creds`: give it as USER or USER:PASSWORD".to_owned(),
        ),
        (
            &[&format!("--authfile={missing}"), here],
            format!("`--authfile {missing}`: there is no such file"),
        ),
        (
            &[&format!("--cert-dir={missing}"), here],
            format!("`--cert-dir {missing}`: there is no such directory"),
        ),
        (
            &["--arch=AMD64", here],
            "`AMD64` is no platform: write it in lower-case letters and digits, such as `linux`, `arm64`, `v8`"
                .to_owned(),
        ),
    ] {
        host.refused(&[&["pull"], args].concat(), &format!("error: {error}"));
    }
}

/// Puts a skopeo first in `PATH` that notes with which arguments and environment it is called.
fn watched(host: &Host) -> (String, PathBuf) {
    let dir = host.beside("watched");
    fs::create_dir_all(&dir).unwrap();
    let log = host.beside("called");
    let script = format!(
        "#!/bin/sh\n{{ echo \"$@\"; env; }} >>{}\nPATH=${{PATH#*:}} exec skopeo \"$@\"\n",
        log.display()
    );
    process::executable(&dir.join("skopeo"), &script);
    let path = std::env::var("PATH").unwrap();
    (format!("{}:{path}", dir.display()), log)
}

#[test]
fn a_password_is_seen_nowhere() {
    let host = Host::new();
    let reference = pushed(&host, "secret");
    let certs = cert_dir(&host);
    let (path, log) = watched(&host);
    let creds = format!("--creds={USER}:{PASSWORD}");
    let mut said = String::new();
    // The one serves images, the other tells what a name stands for.
    for verb in [&["install"][..], &["images", "show", "--remote"]] {
        let mut command = host.command(&[verb, &["-vv", &certs, &creds, &reference]].concat());
        let run = process::run(command.env("PATH", &path));
        said.push_str(&run.stderr);
        run.ok();
    }
    assert_whole(&host, "secret");
    let called = fs::read_to_string(&log).unwrap();
    assert!(called.contains("experimental-image-proxy") && called.contains("inspect --raw"));
    let encoded = openssl::base64::encode_block(format!("{USER}:{PASSWORD}").as_bytes());
    for secret in [PASSWORD, &encoded] {
        assert!(!called.contains(secret) && !said.contains(secret));
        let kept = Command::new("grep")
            .args(["--recursive", "--files-with-matches", "--text", secret])
            .arg(host.beside(""))
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&kept.stdout), "");
    }
}

/// Runs the program on a terminal of its own, on which this is typed when it asks; what the terminal shows.
fn typing(host: &Host, typed: &str, prompt: &str, args: &[&str]) -> String {
    let program = host.command(args);
    let words = std::iter::once(program.get_program()).chain(program.get_args());
    let line: Vec<_> = words.map(|w| format!("'{}'", w.display())).collect();
    let mut command = Command::new("script");
    command
        .args(["--quiet", "--return", "--echo", "never", "--command"])
        .arg(line.join(" "))
        .arg("/dev/null")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    host.environment(&mut command);
    let mut script = command.spawn().unwrap();
    let mut shown = script.stdout.take().unwrap();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let (mut text, mut buffer) = (String::new(), [0; 1024]);
        while let Ok(read @ 1..) = shown.read(&mut buffer) {
            text.push_str(&String::from_utf8_lossy(&buffer[..read]));
            let _test_is_over = tell.send(text.clone());
        }
    });
    let mut text = String::new();
    while !text.ends_with(prompt) {
        text = told.recv_timeout(DEADLINE).unwrap();
    }
    let mut keyboard = script.stdin.take().unwrap();
    keyboard.write_all(typed.as_bytes()).unwrap();
    while let Ok(more) = told.recv_timeout(DEADLINE) {
        text = more;
    }
    assert!(script.wait().unwrap().success(), "{text}");
    text
}

#[test]
fn a_password_is_asked_for() {
    let host = Host::new();
    let reference = pushed(&host, "asked");
    let certs = cert_dir(&host);
    let args = ["pull", &certs, "--creds", USER, &reference];
    let typed = format!("{PASSWORD}\n");
    let prompt = format!("Password of {USER} at {}: ", secured().registry.address);
    let said = typing(&host, &typed, &prompt, &args);
    assert!(said.contains("kept") && !said.contains(PASSWORD), "{said}");
    // Without a terminal.
    let mut command = Command::new("setsid");
    let program = host.command(&args);
    command
        .arg("--wait")
        .arg(program.get_program())
        .args(program.get_args());
    host.environment(&mut command);
    let run = process::run(&mut command);
    assert_eq!(
        run.failed(1),
        "error: `--creds` without a password asks for it, and there is no terminal: \
         No such device or address (os error 6)\n\
         hint: give a file with `--authfile FILE`: `skopeo login --authfile FILE REGISTRY` writes one"
    );
}

#[test]
fn a_mirror_in_registries_conf() {
    let host = Host::new();
    let layout = image(&host, "mirrored");
    registry().push(&layout, "cache/sources/mirrored:1");
    // Nothing listens on the discard port: the registry itself is never there.
    let dir = host.beside("home/.config/containers/registries.conf.d");
    fs::create_dir_all(&dir).unwrap();
    let text = format!(
        "[[registry]]\nprefix = \"127.0.0.1:9/group\"\nlocation = \"127.0.0.1:9/group\"\n\
         [[registry.mirror]]\nlocation = \"{}/cache/sources\"\ninsecure = true\n",
        registry().address
    );
    fs::write(dir.join("mirror.conf"), text).unwrap();
    let digest = installed(&host, "tag", &[], "127.0.0.1:9/group/mirrored:1");
    assert_eq!(digest, layout.digest);
    let pinned = format!("127.0.0.1:9/group/mirrored@{digest}");
    assert_eq!(installed(&host, "digest", &[], &pinned), digest);
    let said = host.fails(&["pull", "127.0.0.1:9/other/mirrored:1"]);
    assert!(said.contains("connection refused"), "{said}");
}

#[test]
fn archives_and_directories() {
    let host = Host::new();
    let layout = image(&host, "layout");
    assert_eq!(
        installed(&host, "oci", &[], &layout.reference),
        layout.digest
    );
    let path = |name: &str| host.beside(name).display().to_string();
    for (name, to, from) in [
        (
            "oci-archive",
            format!("oci-archive:{}:local/x:1", path("a.tar")),
            None,
        ),
        (
            "docker-archive",
            format!("docker-archive:{}:local/x:1", path("b.tar")),
            None,
        ),
        ("dir", format!("dir:{}", path("c")), None),
        (
            "oci-archive-alone",
            format!("oci-archive:{}", path("d.tar")),
            None,
        ),
        (
            "docker-archive-first",
            format!("docker-archive:{}:local/y:2", path("e.tar")),
            Some(format!("docker-archive:{}:@0", path("e.tar"))),
        ),
        (
            "docker-archive-alone",
            format!("docker-archive:{}:local/z:3", path("f.tar")),
            Some(format!("docker-archive:{}", path("f.tar"))),
        ),
    ] {
        copy(&[], &layout.reference, &to);
        let from = from.unwrap_or(to);
        let digest = installed(&host, name, &[], &from);
        let again = host.ok(&["install", "--name", name, &from]);
        assert!(again.contains("already installed"), "{digest}: {again}");
    }
}

/// Options and environment by which podman and skopeo keep images in a place of their own.
fn storage(host: &Host) -> PathBuf {
    let conf = host.beside("storage.conf");
    let text = format!(
        "[storage]\ndriver = \"vfs\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
        host.beside("graph").display(),
        host.beside("graph-run").display()
    );
    fs::write(&conf, text).unwrap();
    conf
}

#[test]
fn the_storage_of_podman() {
    let host = Host::new();
    let layout = image(&host, "stored");
    let conf = storage(&host);
    let mut command = Command::new("skopeo");
    command
        .args(["--insecure-policy", "copy", "--quiet", &layout.reference])
        .arg("containers-storage:localhost/stored:1")
        .env("CONTAINERS_STORAGE_CONF", &conf);
    process::run(&mut command).ok();
    let own = "containers-storage:localhost/stored:1";
    let mut command = host.command(&["install", "--name", "by-conf", own]);
    process::run(command.env("CONTAINERS_STORAGE_CONF", &conf)).ok();
    assert_whole(&host, "by-conf");
    let stores = format!(
        "[vfs@{}+{}]",
        host.beside("graph").display(),
        host.beside("graph-run").display()
    );
    let named = format!("containers-storage:{stores}localhost/stored:1");
    let digest = installed(&host, "by-name", &[], &named);
    assert_eq!(digest, layout.digest);
    let missing = format!("containers-storage:{stores}localhost/stored:2");
    let said = host.fails(&["install", &missing]);
    let hint = "check the name: `podman images` shows which there are";
    assert_said(&said, &missing, "does not resolve to an image ID", hint);
}

/// A Docker daemon of its own, with nothing of the machine's; gone with its tests.
struct Docker {
    unshare: Child,
    address: String,
}

impl Docker {
    fn start() -> Self {
        let script = "mount -t tmpfs none /mnt
            mount -t tmpfs none /run
            exec dockerd --storage-driver=vfs --iptables=false --ip6tables=false --bridge=none \
                --data-root=/mnt/data --exec-root=/mnt/exec --pidfile=/mnt/pid --host=unix:///mnt/docker.sock";
        let (tell, told) = mpsc::channel();
        // A daemon that is killed leaves its containerd; a namespace of processes leaves nothing.
        let mut unshare = Command::new("unshare")
            .args(["--mount", "--net", "--pid", "--fork", "--kill-child"])
            .args([
                "--mount-proc",
                "--propagation",
                "private",
                "sh",
                "-ec",
                script,
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(unshare.stderr.take().unwrap());
        thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                println!("{line}");
                if line.contains("API listen on") {
                    let _nobody_waits = tell.send(());
                }
            }
        });
        let docker = Self {
            address: format!("unix:///proc/{}/root/mnt/docker.sock", unshare.id()),
            unshare,
        };
        told.recv_timeout(DEADLINE).unwrap();
        docker
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let _ended = self.unshare.kill();
        let _status = self.unshare.wait();
    }
}

#[test]
fn a_docker_daemon() {
    let host = Host::new();
    let layout = image(&host, "docker");
    let docker = Docker::start();
    let daemon = format!("--dest-daemon-host={}", docker.address);
    copy(
        &[&daemon],
        &layout.reference,
        "docker-daemon:local/docker:1",
    );
    let run = |args: &[&str]| {
        let mut command = host.command(args);
        process::run(command.env("DOCKER_HOST", &docker.address))
    };
    run(&["install", "docker-daemon:local/docker:1"]).ok();
    assert_whole(&host, "docker");
    let again = run(&["install", "docker-daemon:local/docker:1"]).ok();
    assert!(again.contains("already installed"), "{again}");
    let missing = "docker-daemon:local/docker:2";
    let said = run(&["install", missing]);
    let hint = "check the name: `docker images` shows which there are";
    assert_said(said.failed(1), missing, "reference does not exist", hint);
    let address = format!("unix://{}", host.beside("no.sock").display());
    let mut command = host.command(&["install", missing]);
    let said = process::run(command.env("DOCKER_HOST", address));
    let hint =
        "start Docker, or say where it listens with DOCKER_HOST=unix:///PATH in the environment";
    assert_said(
        said.failed(1),
        missing,
        "Cannot connect to the Docker daemon",
        hint,
    );
}
