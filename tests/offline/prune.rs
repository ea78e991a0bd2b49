//! `bedplate prune`: what goes, what stays and why, and that nothing else is at work meanwhile.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};

use rustix::fs::FlockOperation;
use serde_json::{Value, json};

use crate::df::noise;
use crate::host::{Host, Listing, assert_same};
use crate::layout::{Image, Layout, PLAIN};
use crate::lock::lines;
use crate::process::{self, DEADLINE};
use crate::store::{assert_no_garbage, assert_whole, df, du, files, refs, repo};

fn base() -> Image {
    Image::bare().file("usr/lib/base", noise(1, 300_000))
}

fn image(host: &Host, name: &str, seed: u8) -> Layout {
    let image = Image::new(PLAIN).file("usr/bin/it", noise(seed, 200_000));
    host.image(name, &image.file("name", name).over(&base()))
}

fn prune(host: &Host, options: &[&str]) -> Value {
    let said = host.ok(&[&["prune", "--json"], options].concat());
    serde_json::from_str(&said).unwrap()
}

fn short(digest: &str) -> &str {
    &digest[..19]
}

#[test]
fn an_image_goes_with_its_last_container() {
    let host = Host::new();
    let [etcd, httpd] = [("etcd", 2), ("httpd", 3)].map(|(name, seed)| image(&host, name, seed));
    host.ok(&["install", &etcd.reference, &httpd.reference]);
    assert_no_garbage(&host);
    host.ok(&["uninstall", "etcd"]);
    let with = du(&host);
    let mut would = String::new();
    host.unchanged(|| would = host.ok(&["prune", "--dry-run"]));
    assert_eq!(du(&host), with);
    let said = host.ok(&["prune"]);
    let past = would.replace("would remove", "removed");
    assert_eq!(said, past.replace("would free", "freed"));
    let things: Vec<_> = said.lines().map(|line| line.rsplit_once(": ")).collect();
    let things: Vec<_> = things
        .into_iter()
        .flatten()
        .map(|(thing, _)| thing)
        .collect();
    let expected = [
        format!("removed image {} ({})", etcd.reference, short(&etcd.digest)),
        format!("removed layer {}", short(&etcd.diff_id)),
    ];
    assert_eq!(things, expected);
    // The layer that the other image has as well stays.
    assert_eq!(
        (refs(&host, "image").len(), refs(&host, "layer").len()),
        (1, 2)
    );
    assert_whole(&host);
    assert_no_garbage(&host);
    // What is installed is there still, and what went can come back.
    host.ok(&["install", &etcd.reference, &httpd.reference]);
    assert_whole(&host);
}

#[test]
fn what_is_freed_is_what_du_misses() {
    let host = Host::new();
    let etcd = image(&host, "etcd", 2);
    host.ok(&["install", &etcd.reference]);
    let left = fs::read(repo(&host).join("config")).unwrap();
    for path in ["tmp/staging-x/aa/x.file", "objects/aa/tmp.Ab12xY"] {
        let path = repo(&host).join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &left).unwrap();
    }
    let containers = host.at("var/lib/bedplate/containers");
    // An install that was undone and cut short once more.
    fs::create_dir_all(containers.join("httpd/1/rootfs")).unwrap();
    fs::write(containers.join("httpd/1/rootfs/x"), vec![1; 9_000]).unwrap();
    symlink("1", containers.join("etcd/.current.bedplate-tmp")).unwrap();
    let loose = [&repo(&host).join("objects/aa"), &"b".repeat(62).into()];
    fs::write(loose[0].join(loose[1]).with_extension("file"), &left).unwrap();
    let before = du(&host);
    let outcome = prune(&host, &[]);
    assert_eq!(outcome["freed"], before - du(&host), "{outcome:#}");
    assert_eq!(outcome["generations"][0]["container"], "httpd");
    assert_eq!(outcome["loose_objects"]["count"], 1);
    // The staging directory, one in it, the file; the other file; the link; the empty directory.
    assert_eq!(outcome["temporary"]["count"], 6, "{outcome:#}");
    assert!(!containers.join("httpd").exists());
    assert_no_garbage(&host);
    assert_whole(&host);
}

#[test]
fn what_was_pulled_to_be_kept_stays() {
    let host = Host::new();
    let etcd = image(&host, "etcd", 2);
    host.ok(&["install", &etcd.reference]);
    host.ok(&["pull", &etcd.reference]);
    host.ok(&["uninstall", "etcd"]);
    assert_eq!(host.ok(&["prune"]), "freed 0 B\n");
    assert_whole(&host);
    let image = &df(&host)["images"][0];
    assert_eq!(
        (&image["kept"], &image["containers"]),
        (&json!(true), &json!([]))
    );
    // The ref that keeps it is enough, its layers stay as well.
    let name = etcd.digest.replace(':', "-");
    let option = format!("--repo={}", repo(&host).display());
    let delete = |kind: &str| {
        let name = format!("bedplate/{kind}/{name}");
        process::tool("ostree", &["refs", &option, "--delete", &name]);
    };
    delete("image");
    assert_eq!(host.ok(&["prune"]), "freed 0 B\n");
    delete("kept");
    let outcome = prune(&host, &[]);
    assert_eq!(
        outcome["layers"].as_array().unwrap().len(),
        2,
        "{outcome:#}"
    );
    assert_eq!(refs(&host, "layer"), Vec::<String>::new());
    assert_no_garbage(&host);
}

/// A copy of generation 1 with another number, as an update would make it.
pub(crate) fn generation(host: &Host, name: &str, number: u32) {
    let dir = host.at(&format!("var/lib/bedplate/containers/{name}"));
    let copy = dir.join(number.to_string());
    process::tool(
        "cp",
        &[
            "-al",
            dir.join("1").to_str().unwrap(),
            copy.to_str().unwrap(),
        ],
    );
    let record = fs::read_to_string(copy.join("record.toml")).unwrap();
    fs::remove_file(copy.join("record.toml")).unwrap();
    let record = record.replace("generation = 1\n", &format!("generation = {number}\n"));
    fs::write(copy.join("record.toml"), record).unwrap();
}

fn point_current(host: &Host, name: &str, number: u32) {
    let link = host.at(&format!("var/lib/bedplate/containers/{name}/current"));
    fs::remove_file(&link).unwrap();
    symlink(number.to_string(), link).unwrap();
}

/// A process that stays until it is dropped.
struct Stays(Child);

impl Stays {
    fn new(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = child.spawn().unwrap();
        let mut byte = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut byte).unwrap();
        Self(child)
    }
}

impl Drop for Stays {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn generations_that_may_still_be_needed_stay() {
    let host = Host::new();
    let etcd = image(&host, "etcd", 2);
    host.ok(&["install", &etcd.reference]);
    (2..=8).for_each(|number| generation(&host, "etcd", number));
    let dir = host.at("var/lib/bedplate/containers/etcd");
    // 1 is named by the unit, 2 pinned, 3 and 4 in use; 6 is before 7.
    fs::write(dir.join("2/pinned"), "").unwrap();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "echo; read -r line"])
        .current_dir(dir.join("3/rootfs"));
    let shell = Stays::new(&mut shell);
    let script = format!(
        "mount --bind '{0}' '{0}'; cd '{0}'; pivot_root . .; cd /; echo; read -r line",
        dir.join("4/rootfs").display()
    );
    let mut container = Command::new("unshare");
    container.args(["--mount", "--propagation", "private", "sh", "-ec", &script]);
    let container = Stays::new(&mut container);
    point_current(&host, "etcd", 7);
    let before = du(&host);
    let outcome = prune(&host, &[]);
    let gone = outcome["generations"].as_array().unwrap();
    let gone: Vec<_> = gone
        .iter()
        .map(|gone| gone["generation"].as_u64().unwrap())
        .collect();
    assert_eq!(gone, [5, 8]);
    let held = |number: u32, process: &Stays| json!({ "container": "etcd", "generation": number, "process": { "pid": process.0.id(), "name": "sh" } });
    assert_eq!(
        outcome["in_use"],
        json!([held(3, &shell), held(4, &container)])
    );
    assert_eq!(outcome["freed"], before - du(&host));
    assert_eq!(
        crate::store::names(&dir),
        ["1", "2", "3", "4", "6", "7", "current", "lifecycle.toml"]
    );
    let said = host.ok(&["prune"]);
    let expected = format!(
        "kept generation 3 of etcd: process {} (sh) uses it\nkept generation 4 of etcd: process {} (sh) uses it\nfreed 0 B\n",
        shell.0.id(),
        container.0.id()
    );
    assert_eq!(said, expected);
    drop((shell, container));
    let outcome = prune(&host, &[]);
    assert_eq!(
        outcome["generations"].as_array().unwrap().len(),
        2,
        "{outcome:#}"
    );
    assert_whole(&host);
}

#[test]
fn nothing_goes_while_it_is_not_known_what_is_needed() {
    let host = Host::new();
    let [etcd, httpd] = [("etcd", 2), ("httpd", 3)].map(|(name, seed)| image(&host, name, seed));
    host.ok(&["install", &etcd.reference, &httpd.reference]);
    host.ok(&["uninstall", "etcd"]);
    let objects = files(&repo(&host).join("objects"));
    let hint =
        "`bedplate repair` brings back what is missing; until then nothing of the store is removed";
    let refused = |fault: &str| {
        let error = format!(
            "error: looking for what nobody needs: the store is damaged: {fault}\nhint: {hint}"
        );
        host.refused(&["prune"], &error);
        assert_eq!(files(&repo(&host).join("objects")), objects);
    };
    // The commit of the image that is installed: httpd's.
    let name = httpd.digest.replace(':', "-");
    let image = repo(&host).join("refs/heads/bedplate/image").join(&name);
    let commit = fs::read_to_string(&image).unwrap();
    let (first, rest) = commit.trim().split_at(2);
    let object = format!("objects/{first}/{rest}.commit");
    let commit = repo(&host).join(&object);
    let whole = fs::read(&commit).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    fs::write(&commit, flipped).unwrap();
    refused(&format!("`/var/lib/bedplate/repo/{object}` is damaged"));
    // df shows what it can.
    let run = host.run(&["df", "--json"]);
    assert!(
        run.stderr
            .starts_with("note: what could be reclaimed is not known: "),
        "{run:?}"
    );
    run.ok();
    fs::write(&commit, whole).unwrap();
    let text = fs::read(&image).unwrap();
    fs::remove_file(&image).unwrap();
    refused(&format!("the image {} is missing", httpd.digest));
    fs::write(&image, text).unwrap();
    // That of the image that goes may be as it will.
    host.ok(&["prune"]);
    assert_whole(&host);
    assert_no_garbage(&host);
}

/// What is installed, file by file.
fn rootfs(host: &Host) -> Listing {
    let mut found = host.listing();
    found.retain(|path, _| path.starts_with("var/lib/bedplate/containers"));
    found
}

/// Two commands that wait for the lock, let go at the same moment.
fn at_once(host: &Host, commands: [&[&str]; 2]) {
    let lock = File::options()
        .write(true)
        .open(host.at("var/lib/bedplate/lock"))
        .unwrap();
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
    let children = commands.map(|args| {
        let mut command = host.command(args);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = lines(&mut child);
        let waits = said.recv_timeout(DEADLINE).unwrap();
        assert!(waits.starts_with("note: waiting for "), "{waits}");
        (child, said)
    });
    rustix::fs::flock(&lock, FlockOperation::Unlock).unwrap();
    for (mut child, said) in children {
        assert!(process::ends_within(&child, DEADLINE));
        let status = child.wait().unwrap();
        let said: Vec<_> = said.try_iter().collect();
        assert!(status.success(), "{said:?}");
    }
}

/// How often prune meets an install or a pull.
const ROUNDS: u8 = 10;

#[test]
fn never_at_once_with_an_install_or_a_pull() {
    let host = Host::new();
    let first = image(&host, "first", 1);
    host.ok(&["install", &first.reference]);
    // What each round's install needs is what nobody needs until then.
    for round in 0..ROUNDS {
        let (old, new) = (format!("old{round}"), format!("new{round}"));
        let shared = Image::bare()
            .file("shared", noise(100 + round, 100_000))
            .over(&base());
        let of = |name: &str| Image::new(PLAIN).file("name", name).over(&shared);
        let [old_image, new_image] = [&old, &new].map(|name| host.image(name, &of(name)));
        host.ok(&["install", &old_image.reference]);
        host.ok(&["uninstall", &old]);
        let verb = if round % 3 == 2 { "pull" } else { "install" };
        let import = [verb, new_image.reference.as_str()];
        if round % 2 == 0 {
            at_once(&host, [&["prune"], &import]);
        } else {
            at_once(&host, [&import, &["prune"]]);
        }
        assert_whole(&host);
        host.ok(&["install", &new_image.reference]);
        assert_whole(&host);
        let found = rootfs(&host);
        // Another host, on which nothing was ever pruned.
        let other = Host::new();
        other.ok(&["install", &first.reference, &new_image.reference]);
        assert_same(&rootfs(&other), &found);
        host.ok(&["uninstall", &new]);
    }
    host.ok(&["prune"]);
    assert_no_garbage(&host);
    // What was pulled is kept.
    assert_eq!(refs(&host, "image").len(), 1 + usize::from(ROUNDS / 3));
}
