//! Damage of every kind: `verify` names it, `repair` brings back just that.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::damage::{
    NOTE, OBJECTS, at, etcd, flip, mended, object, of_kind, pushed, repair, some_mended, store,
    verify, well, with_content,
};
use crate::host::{Host, assert_same};
use crate::process;
use crate::registry::registry;

#[test]
fn nothing_is_wrong_after_an_install() {
    let host = etcd();
    well(&host);
    let run = host.run(&["verify"]);
    assert_eq!(run.stderr, "");
    let said = run.ok();
    let ours = said.starts_with("verified etcd: 15 files, 3") && said.ends_with(", no fault\n");
    assert!(ours && said.lines().count() == 1, "{said}");
}

#[test]
fn content_of_the_store() {
    let host = etcd();
    let program = || object(&host, "bin/program");
    let content = ["object file content etcd /bin/program"];
    let cut_to = |length| {
        let file = fs::OpenOptions::new().write(true).open(program()).unwrap();
        file.set_len(length).unwrap();
    };
    mended(&host, "a byte flipped", || flip(&program()), &content);
    mended(&host, "cut", || cut_to(5000), &content);
    mended(
        &host,
        "emptied",
        || cut_to(0),
        &["object file truncated etcd /bin/program"],
    );
    mended(
        &host,
        "a link that points elsewhere",
        || {
            let link = object(&host, "etc/link");
            fs::remove_file(&link).unwrap();
            symlink("shadow", &link).unwrap();
        },
        &["object file content etcd /etc/link"],
    );
    mended(
        &host,
        "what an upper layer hides",
        || flip(&with_content(&host, b"below\n")),
        &["object file content etcd layer /usr/hidden"],
    );
}

#[test]
fn files_that_are_gone() {
    let host = etcd();
    let from_store = || fs::remove_file(object(&host, "bin/program")).unwrap();
    let from_rootfs = || fs::remove_file(at(&host, "bin/program")).unwrap();
    let said = mended(
        &host,
        "gone from the store",
        from_store,
        &["object file missing etcd /bin/program"],
    );
    assert!(said.ends_with(": the rootfs of `etcd`\n"), "{said}");
    mended(
        &host,
        "gone from the rootfs",
        from_rootfs,
        &["rootfs missing etcd /bin/program"],
    );
    let said = mended(
        &host,
        "gone from both",
        || {
            from_store();
            from_rootfs();
        },
        &[
            "object file missing etcd /bin/program",
            "rootfs missing etcd /bin/program",
        ],
    );
    assert!(said.contains(": layer sha256:"), "{said}");
    let said = mended(
        &host,
        "gone from the store, and the copy damaged",
        || {
            from_store();
            flip(&at(&host, "bin/program"));
        },
        &[
            "object file missing etcd /bin/program",
            "rootfs content etcd /bin/program",
        ],
    );
    assert!(said.contains(".file: layer sha256:"), "{said}");
    assert!(!said.contains(": the rootfs of"), "{said}");
}

#[test]
fn attributes_of_the_store() {
    let host = etcd();
    let program = || object(&host, "bin/program");
    let own = ": its own content, its attributes put right\n";
    let mode = fs::Permissions::from_mode(0o4711);
    let said = mended(
        &host,
        "another mode",
        || fs::set_permissions(program(), mode).unwrap(),
        &["object file mode etcd /bin/program"],
    );
    assert!(said.ends_with(own), "{said}");
    mended(
        &host,
        "another owner",
        || chown(program(), Some(1000), Some(7)).unwrap(),
        &["object file owner etcd /bin/program"],
    );
    mended(
        &host,
        "an extended attribute",
        || {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(program(), "trusted.x", b"1", flags).unwrap();
        },
        &["object file xattrs etcd /bin/program"],
    );
    let noted = || object(&host, "var/data/deep/file");
    let xattrs = ["object file xattrs etcd /var/data/deep/file"];
    let replace = rustix::fs::XattrFlags::REPLACE;
    let said = mended(
        &host,
        "another value of an extended attribute",
        || rustix::fs::setxattr(noted(), NOTE, b"theirs", replace).unwrap(),
        &xattrs,
    );
    assert!(said.ends_with(own), "{said}");
    mended(
        &host,
        "no extended attribute",
        || rustix::fs::removexattr(noted(), NOTE).unwrap(),
        &xattrs,
    );
    let mut value = [0; 8];
    let length = rustix::fs::getxattr(at(&host, "var/data/deep/file"), NOTE, &mut value).unwrap();
    assert_eq!(&value[..length], b"ours");
    mended(
        &host,
        "all of it",
        || {
            chown(program(), Some(1000), Some(7)).unwrap();
            flip(&program());
        },
        &["object file owner+content etcd /bin/program"],
    );
}

#[test]
fn directories_of_the_store() {
    let host = etcd();
    for kind in ["dirtree", "dirmeta"] {
        // Everything of a kind at once: whatever it is of.
        let all = of_kind(&host, kind);
        let flip_all = || all.iter().for_each(|object| flip(object));
        some_mended(&host, "flipped", flip_all, kind);
        some_mended(&host, "gone", || remove(&all), kind);
    }
    mended(
        &host,
        "a list of entries flipped",
        || flip(&list_of_entries(&host)),
        &["object file content etcd layer entries"],
    );
    some_mended(
        &host,
        "no list, no directories, no commits",
        || {
            fs::remove_file(list_of_entries(&host)).unwrap();
            for kind in ["dirtree", "dirmeta", "commit"] {
                remove(&of_kind(&host, kind));
            }
        },
        "commit",
    );
}

fn list_of_entries(host: &Host) -> PathBuf {
    with_content(host, b"{\"format\":")
}

fn remove(objects: &[PathBuf]) {
    for object in objects {
        fs::remove_file(object).unwrap();
    }
}

#[test]
fn refs_and_commits_of_the_store() {
    let host = etcd();
    let named = |dir: &str| {
        let dir = host.at(&format!("var/lib/bedplate/repo/refs/heads/bedplate/{dir}"));
        let found = fs::read_dir(dir).unwrap().map(|f| f.unwrap().path());
        found.collect::<Vec<_>>()
    };
    let commit = |path: &Path| {
        let name = fs::read_to_string(path).unwrap();
        let (start, rest) = name.trim().split_at(2);
        host.at(&format!("{OBJECTS}/{start}/{rest}.commit"))
    };
    for path in [named("layer"), named("image")].concat() {
        let object = commit(&path);
        some_mended(&host, "a commit flipped", || flip(&object), "commit");
        some_mended(
            &host,
            "no commit",
            || fs::remove_file(&object).unwrap(),
            "commit",
        );
        some_mended(
            &host,
            "a ref that is none",
            || fs::write(&path, "x\n").unwrap(),
            "ref",
        );
        some_mended(&host, "no ref", || fs::remove_file(&path).unwrap(), "ref");
    }
}

#[test]
fn files_of_a_rootfs() {
    let host = etcd();
    let path = |path: &str| at(&host, path);
    let put = |name: &str, content: &str| fs::write(path(name), content).unwrap();
    let extra = "rootfs extra etcd";
    mended(
        &host,
        "a file too many",
        || put("bin/evil", "x"),
        &[&format!("{extra} /bin/evil")],
    );
    mended(
        &host,
        "a directory too many",
        || fs::create_dir_all(path("opt/new/deep")).unwrap(),
        &[&format!("{extra} /opt/new")],
    );
    mended(
        &host,
        "another file",
        || {
            fs::remove_file(path("bin/program")).unwrap();
            put("bin/program", "x");
        },
        &["rootfs content etcd /bin/program"],
    );
    mended(
        &host,
        "another empty file",
        || {
            fs::remove_file(path("usr/empty")).unwrap();
            put("usr/empty", "not empty");
        },
        &["rootfs content etcd /usr/empty"],
    );
    mended(
        &host,
        "no empty file",
        || fs::remove_file(path("usr/empty")).unwrap(),
        &["rootfs missing etcd /usr/empty"],
    );
    let long = "n".repeat(255);
    let said = mended(
        &host,
        "a file too many, its name as long as can be",
        || put(&long, "long"),
        &[&format!("{extra} /{long}")],
    );
    let short = "n".repeat(240);
    assert!(said.contains(&format!("/replaced/1-{short}\n")), "{said}");
    for (name, content) in [
        ("1-evil", "x"),
        ("1-program", "x"),
        ("1-empty", "not empty"),
        (&format!("1-{short}"), "long"),
    ] {
        assert_eq!(host.text(&format!("{REPLACED}/{name}")), content, "{name}");
    }
    let kept = fs::read_dir(host.at(REPLACED)).unwrap();
    // With the directory.
    assert_eq!(kept.count(), 5);
}

/// What was moved out of the way.
const REPLACED: &str = "var/lib/bedplate/containers/etcd/replaced";

/// As a mended object is linked again wherever it was, also where nobody asked.
#[test]
fn what_somebody_put_into_another_container_is_kept() {
    let host = Host::new();
    for name in ["etcd", "other"] {
        let (reference, _, _) = pushed(&host, name);
        host.ok(&["install", &reference]);
    }
    flip(&object(&host, "opt/upper"));
    let theirs = "var/lib/bedplate/containers/other/1/rootfs/opt/upper";
    fs::remove_file(host.at(theirs)).unwrap();
    host.put(theirs, "mine\n");
    let said = host.ok(&["repair", "etcd"]);
    let kept = "/var/lib/bedplate/containers/other/replaced/1-upper";
    assert!(said.contains(&format!("it is now {kept}\n")), "{said}");
    assert_eq!(host.text(kept), "mine\n");
    assert_eq!(host.text(theirs), "of the upper layer\n");
    well(&host);
}

#[test]
fn directories_of_a_rootfs() {
    let host = etcd();
    let path = |path: &str| at(&host, path);
    mended(
        &host,
        "a directory's mode and owner",
        || {
            fs::set_permissions(path("var/data"), fs::Permissions::from_mode(0o777)).unwrap();
            chown(path("var"), Some(9), None).unwrap();
        },
        &["rootfs owner etcd /var", "rootfs mode etcd /var/data"],
    );
    mended(
        &host,
        "a directory gone",
        || fs::remove_dir_all(path("var")).unwrap(),
        &["rootfs missing etcd /var"],
    );
    mended(
        &host,
        "a directory that is a link",
        || {
            fs::remove_dir_all(path("var")).unwrap();
            symlink("/etc", path("var")).unwrap();
        },
        &["rootfs type etcd /var"],
    );
    mended(
        &host,
        "a file that is a directory",
        || {
            fs::remove_file(path("etc/passwd")).unwrap();
            fs::create_dir(path("etc/passwd")).unwrap();
        },
        &["rootfs type etcd /etc/passwd"],
    );
}

#[test]
fn mount_targets_and_all_of_a_rootfs() {
    let host = etcd();
    let path = |path: &str| at(&host, path);
    let put = |name: &str, content: &str| fs::write(path(name), content).unwrap();
    mended(
        &host,
        "no mount target",
        || fs::remove_dir(path("proc")).unwrap(),
        &["rootfs missing etcd /proc"],
    );
    mended(
        &host,
        "a mount target with content",
        || put("etc/resolv.conf", "x"),
        &["rootfs content etcd /etc/resolv.conf"],
    );
    assert_eq!(host.text(&format!("{REPLACED}/1-resolv.conf")), "x");
    mended(
        &host,
        "the link of the image over which a mount target lies",
        || {
            let nowhere = |path: &PathBuf| {
                fs::read_link(path).is_ok_and(|target| target == Path::new("/run/nowhere"))
            };
            remove(&[of_kind(&host, "file").into_iter().find(nowhere).unwrap()]);
        },
        &["object file missing etcd /etc/resolv.conf"],
    );
    mended(
        &host,
        "all of it",
        || fs::remove_dir_all(path("")).unwrap(),
        &["rootfs missing etcd /"],
    );
}

#[test]
fn what_was_rendered() {
    let host = etcd();
    let generation = "var/lib/bedplate/containers/etcd/1";
    let unit = "etc/systemd/system.attached/etcd.service";
    let gone = |path: &str| fs::remove_file(host.at(path)).unwrap();
    let edit = |path: &str| {
        let text = host.text(path);
        host.put(path, &format!("{text}\n# x\n"));
    };
    for file in ["config.json", "launch.json", "units/etcd.service"] {
        let path = format!("{generation}/{file}");
        let fault = |defect: &str| format!("generation /{path} {defect} etcd");
        mended(&host, "edited", || edit(&path), &[&fault("content")]);
        mended(&host, "gone", || gone(&path), &[&fault("missing")]);
        mended(
            &host,
            "emptied",
            || host.put(&path, ""),
            &[&fault("truncated")],
        );
    }
    mended(
        &host,
        "the unit and its copy",
        || {
            edit(unit);
            gone(&format!("{generation}/units/etcd.service"));
        },
        &[
            &format!("generation /{generation}/units/etcd.service missing etcd"),
            &format!("unit /{unit} content etcd"),
        ],
    );
    mended(
        &host,
        "no unit",
        || gone(unit),
        &[&format!("unit /{unit} missing etcd")],
    );
    mended(
        &host,
        "unit edited",
        || edit(unit),
        &[&format!("unit /{unit} content etcd")],
    );
}

/// Whoever may write a unit may do what root may.
#[test]
fn owners_and_modes_of_what_was_rendered() {
    let host = etcd();
    let generation = "var/lib/bedplate/containers/etcd/1";
    let unit = "etc/systemd/system.attached/etcd.service";
    let config = format!("{generation}/config.json");
    let open = |path: &str| {
        fs::set_permissions(host.at(path), fs::Permissions::from_mode(0o666)).unwrap();
    };
    let said = mended(
        &host,
        "a unit that all may write",
        || open(unit),
        &[&format!("unit /{unit} mode etcd")],
    );
    let own = "its own content, its attributes put right";
    assert_eq!(said, format!("repaired unit /{unit}: {own}\n"));
    mended(
        &host,
        "a unit of somebody's",
        || chown(host.at(unit), Some(1000), Some(7)).unwrap(),
        &[&format!("unit /{unit} owner etcd")],
    );
    for file in [
        &config,
        &format!("{generation}/launch.json"),
        &format!("{generation}/units/etcd.service"),
    ] {
        mended(
            &host,
            "a file of the generation",
            || {
                open(file);
                chown(host.at(file), Some(1000), None).unwrap();
            },
            &[&format!("generation /{file} owner+mode etcd")],
        );
    }
    mended(
        &host,
        "edited as well",
        || {
            open(unit);
            host.put(unit, "[Service]\n");
        },
        &[&format!("unit /{unit} mode+content etcd")],
    );
    // What the operator may change is theirs.
    open("etc/etcd/plain.conf");
    well(&host);
}

#[test]
fn files_of_the_host() {
    let host = etcd();
    let gone = |path: &str| fs::remove_file(host.at(path)).unwrap();
    for (path, defect) in [
        ("etc/etcd/app.conf", "missing"),
        ("etc/etcd/plain.conf", "missing"),
    ] {
        let fault = format!("host-file /{path} {defect} etcd");
        mended(&host, "no host file", || gone(path), &[&fault]);
    }
    mended(
        &host,
        "no directory of a host file",
        || fs::remove_dir_all(host.at("etc/etcd")).unwrap(),
        &[
            "host-file /etc/etcd missing etcd",
            "host-file /etc/etcd/app.conf missing etcd",
            "host-file /etc/etcd/plain.conf missing etcd",
        ],
    );
    mended(
        &host,
        "no current",
        || gone("var/lib/bedplate/containers/etcd/current"),
        &["current /var/lib/bedplate/containers/etcd/current missing etcd"],
    );
}

#[test]
fn all_who_share_a_damaged_file_are_named_and_mended() {
    let host = Host::new();
    let (etcd, layout, lower) = pushed(&host, "etcd");
    let (other, _, _) = pushed(&host, "other");
    host.ok(&["install", &etcd]);
    host.ok(&["install", &other]);
    flip(&object(&host, "opt/upper"));
    let name = object(&host, "opt/upper");
    let name = format!(
        "{}{}",
        name.parent()
            .unwrap()
            .file_name()
            .unwrap()
            .to_str()
            .unwrap(),
        name.file_name().unwrap().to_str().unwrap()
    );
    let text = format!(
        "object {name}: wrong content (19 bytes that are not the image's)\n  etcd   /opt/upper\n  other  /opt/upper\n"
    );
    let run = host.run(&["verify", "etcd"]);
    assert_eq!(run.status, 1);
    let rest = run
        .stdout
        .strip_prefix(&text)
        .unwrap_or_else(|| panic!("{run:?}"));
    let ours = rest.starts_with("verified etcd: 16 files, 3") && rest.ends_with(", 1 fault\n");
    assert!(ours && rest.lines().count() == 1, "{rest}");
    let error = "error: 1 fault found in etcd, other\n\
         hint: `bedplate repair etcd other` brings back what can be brought back\n";
    assert!(run.stderr.ends_with(error), "{}", run.stderr);
    // Only the layer that holds it can be had.
    let other_blob = registry().blob(&lower);
    let away = other_blob.with_extension("away");
    fs::rename(&other_blob, &away).unwrap();
    let said = host.ok(&["repair", "etcd"]);
    fs::rename(&away, &other_blob).unwrap();
    assert_eq!(
        said,
        format!(
            "repaired object {name}: layer {} of `{etcd}`\n",
            layout.layer
        )
    );
    well(&host);
    let inode = |name: &str| {
        let path = format!("var/lib/bedplate/containers/{name}/1/rootfs/opt/upper");
        host.at(&path).metadata().unwrap().ino()
    };
    assert_eq!(inode("etcd"), inode("other"));
}

#[test]
fn faults_and_repairs_as_json() {
    let host = Host::new();
    let (reference, _, lower) = pushed(&host, "json");
    host.ok(&["install", "--name", "etcd", &reference]);
    let path = object(&host, "bin/program");
    flip(&path);
    let name = path.strip_prefix(host.at(OBJECTS)).unwrap();
    let name = name.to_str().unwrap().replace('/', "");
    let json = |run: &process::Run| -> Value { serde_json::from_str(&run.stdout).unwrap() };
    let run = host.run(&["verify", "--json"]);
    let fault = json!({
        "thing": "object",
        "name": name,
        "defects": ["content"],
        "detail": "320000 bytes that are not the image's",
        "places": [{
            "container": "etcd",
            "generation": 1,
            "image": reference,
            "path": "/bin/program",
        }],
    });
    assert_eq!((run.status, &json(&run)["faults"]), (1, &json!([fault])));
    let found = json(&run);
    let keys: Vec<_> = found.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        ["faults", "notes", "containers", "images", "files", "bytes"]
    );
    let expected = json!({
        "dry_run": false,
        "repaired": [{
            "thing": "object",
            "name": name,
            "from": format!("layer {} of `{reference}`", lower),
        }],
        "left": [],
        "fetched": [lower],
        "kept": [],
        "restart": [],
    });
    assert_eq!(json(&host.run(&["repair", "--json"])), expected);
}

#[test]
fn what_cannot_be_repaired_is_named() {
    let host = Host::new();
    let (reference, layout, _) = pushed(&host, "gone");
    host.ok(&["install", "--name", "etcd", &reference]);
    let object = object(&host, "bin/program");
    flip(&object);
    let digest = layout.digest.strip_prefix("sha256:").unwrap();
    let manifest = registry().blob(&layout.digest);
    let away = manifest.with_extension("away");
    fs::rename(&manifest, &away).unwrap();
    let before = (host.listing(), store(&host));
    let run = host.run(&["repair"]);
    fs::rename(&away, &manifest).unwrap();
    assert_eq!(run.status, 1, "{run:?}");
    assert_same(&before.0, &host.listing());
    assert_eq!(before.1, store(&host));
    let (first, rest) = run.stdout.split_once('\n').unwrap();
    assert!(
        first.starts_with("left object ") && first.contains(".file: opening `docker://127.0.0.1:"),
        "{first}"
    );
    assert!(
        first.contains(digest) || first.contains("manifest unknown"),
        "{first}"
    );
    assert_eq!(rest, "  etcd  /bin/program\n");
    assert!(
        run.stderr.ends_with("error: 1 fault left\n"),
        "{}",
        run.stderr
    );
    // The registry is back.
    repair(&host);
    well(&host);
}

/// Of two damaged files the layer of one is away.
#[test]
fn what_can_be_repaired_is_beside_what_cannot() {
    let host = Host::new();
    let (reference, layout, lower) = pushed(&host, "partial");
    host.ok(&["install", "--name", "etcd", &reference]);
    let file = |path: &str| {
        let path = object(&host, path);
        let name = path.strip_prefix(host.at(OBJECTS)).unwrap();
        (name.to_str().unwrap().replace('/', ""), path)
    };
    let ((ours, upper), (theirs, program)) = (file("opt/upper"), file("bin/program"));
    let whole = fs::read(&program).unwrap();
    flip(&upper);
    flip(&program);
    let blob = registry().blob(&lower);
    let away = blob.with_extension("away");
    fs::rename(&blob, &away).unwrap();
    let run = host.run(&["repair", "--json"]);
    fs::rename(&away, &blob).unwrap();
    assert_eq!(run.status, 1, "{run:?}");
    let outcome: Value = serde_json::from_str(&run.stdout).unwrap();
    let from = format!("layer {} of `{reference}`", layout.layer);
    let repaired = json!([{ "thing": "object", "name": ours, "from": from }]);
    assert_eq!(outcome["repaired"], repaired);
    let left = outcome["left"].as_array().unwrap();
    assert_eq!((left.len(), &left[0]["name"]), (1, &json!(theirs)));
    let why = left[0]["why"].as_str().unwrap();
    assert!(
        why.starts_with(&format!("fetching layer {lower} of ")),
        "{why}"
    );
    assert_eq!(verify(&host), ["object file content etcd /bin/program"]);
    repair(&host);
    well(&host);
    assert_eq!(fs::read(at(&host, "bin/program")).unwrap(), whole);
}

#[test]
fn an_operators_change_is_a_note() {
    let host = etcd();
    host.put("etc/etcd/plain.conf", "mine\n");
    host.put(
        "etc/systemd/system/etcd.service",
        "[Service]\nExecStart=/bin/true\n",
    );
    let run = host.run(&["verify"]);
    assert_eq!(
        run.stderr,
        "note: etcd.service is the operator's: /etc/systemd/system/etcd.service stands above it\n\
         note: /etc/etcd/plain.conf, a host file of `etcd`, was changed by the operator\n"
    );
    assert!(run.ok().ends_with("no fault\n"));
    assert_eq!(host.ok(&["repair"]), "nothing to repair\n");
    assert_eq!(host.text("etc/etcd/plain.conf"), "mine\n");
    host.refused(
        &["verify", "nothing"],
        "error: `nothing` is not installed\nhint: `bedplate list` shows what is",
    );
}

#[test]
fn order_is_verified() {
    let host = Host::new();
    let etcd = host.image_of("etcd", "contract = 1\n[service]\nprovides = ['store']\n");
    let flanneld = host.image_of(
        "flanneld",
        "contract = 1\n[service]\nrequires = ['store']\n",
    );
    host.ok(&["install", &etcd.reference, &flanneld.reference]);
    let path = "etc/systemd/system.attached/flanneld.service.d/50-bedplate-order.conf";
    let fault = format!("order /{path} content flanneld");
    mended(
        &host,
        "no drop-in",
        || fs::remove_file(host.at(path)).unwrap(),
        &[&fault],
    );
    mended(&host, "edited", || host.put(path, "[Unit]\n"), &[&fault]);
    let none = "etc/systemd/system.attached/x.service.d/50-bedplate-order.conf";
    mended(
        &host,
        "one too many",
        || host.put(none, "[Unit]\n"),
        &[&format!("order /{none} extra")],
    );
}

#[test]
fn images_that_nobody_uses() {
    let host = etcd();
    let object = object(&host, "bin/program");
    host.ok(&["uninstall", "etcd"]);
    flip(&object);
    host.ok(&["verify"]);
    let run = host.run(&["verify", "--all-images"]);
    assert_eq!(run.status, 1, "{run:?}");
    let reference = format!("oci:{}:latest", host.beside("etcd").display());
    assert!(
        run.stdout
            .contains(&format!("\n  {reference}  /bin/program\n")),
        "{}",
        run.stdout
    );
}

/// Whoever has the damaged file open keeps it; the next start has the mended one.
#[test]
fn a_running_process_keeps_its_file() {
    use std::io::{Read, Seek};
    let host = etcd();
    let path = at(&host, "bin/program");
    let mut open = fs::File::open(&path).unwrap();
    let (mut whole, mut damaged) = (Vec::new(), Vec::new());
    open.read_to_end(&mut whole).unwrap();
    flip(&path);
    repair(&host);
    open.rewind().unwrap();
    open.read_to_end(&mut damaged).unwrap();
    assert_ne!(whole, damaged);
    assert_eq!(whole, fs::read(&path).unwrap());
    assert_ne!(
        open.metadata().unwrap().ino(),
        path.metadata().unwrap().ino()
    );
}

/// Whatever moment it is killed at: run again it goes on, and leaves nothing behind.
#[test]
fn a_repair_is_killed() {
    let host = etcd();
    for step in 0..12 {
        for path in ["bin/program", "etc/passwd", "opt/upper", "usr/hidden"] {
            flip(&object(&host, path));
        }
        remove(&of_kind(&host, "dirtree"));
        fs::remove_file(host.at("etc/systemd/system.attached/etcd.service")).unwrap();
        let mut child = host
            .command(&["repair"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        process::ends_within(&child, std::time::Duration::from_millis(step * 40));
        child.kill().unwrap();
        child.wait().unwrap();
        repair(&host);
        well(&host);
        let left = fs::read_dir(host.at("var/lib/bedplate/repo/tmp")).unwrap();
        let left = left.map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = left
            .filter(|n| n.to_string_lossy().contains("repair"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn what_is_no_file_keeps_nobody_waiting() {
    let host = etcd();
    let fifo = |path: PathBuf| {
        fs::remove_file(&path).unwrap();
        process::tool("mkfifo", &[path.to_str().unwrap()]);
    };
    mended(
        &host,
        "an object",
        || fifo(object(&host, "bin/program")),
        &["object file type etcd /bin/program"],
    );
    mended(
        &host,
        "in the rootfs",
        || fifo(at(&host, "bin/program")),
        &["rootfs type etcd /bin/program"],
    );
    let tree = of_kind(&host, "dirmeta").remove(0);
    some_mended(&host, "metadata", || fifo(tree), "dirmeta type");
    let config = "var/lib/bedplate/containers/etcd/1/config.json";
    mended(
        &host,
        "config.json",
        || fifo(host.at(config)),
        &[&format!("generation /{config} type etcd")],
    );
}

#[test]
fn records() {
    let host = etcd();
    let path = "var/lib/bedplate/containers/etcd/1/record.toml";
    let text = host.text(path);
    // As a bedplate wrote it that kept no checksums.
    let (before, rest) = text.split_once("[rendered]").unwrap();
    let after = rest.split_once("\n[").map_or("", |(_, after)| after);
    let older: Vec<_> = before
        .lines()
        .filter(|line| !line.starts_with("commit = "))
        .collect();
    let older = older.join("\n");
    host.put(path, &format!("{older}\n[{after}"));
    well(&host);
    let unit = "etc/systemd/system.attached/etcd.service";
    mended(
        &host,
        "no unit",
        || fs::remove_file(host.at(unit)).unwrap(),
        &[&format!("unit /{unit} missing etcd")],
    );
    host.put(path, "record = 1\n");
    assert_eq!(verify(&host), [format!("record /{path} content etcd")]);
    let run = host.run(&["repair"]);
    assert_eq!(
        (run.status, run.stdout),
        (
            1,
            format!(
                "left record /{path}: uninstall the container and install it again: its data stays\n  etcd\n"
            )
        )
    );
}
