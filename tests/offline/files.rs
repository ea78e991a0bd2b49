//! Files for the host: installed, kept when they were changed, and gone otherwise.

use std::os::unix::fs::{MetadataExt, symlink};

use crate::host::{Host, assert_same};
use crate::layout::{Image, Layout};

fn image(host: &Host, name: &str) -> Layout {
    let manifest = "contract = 1
[values.PORT]
type = 'integer'
default = 2379
help = 'x'
[files]
template = ['/etc/app/app.conf']
rename = { '/etc/app' = '/etc/{{name}}' }
";
    let image = Image::new(manifest)
        .file("exports/hostfs/etc/app/app.conf", "port = {{PORT}}\n")
        .file("exports/hostfs/etc/app/plain.conf", "{{PORT}}\n")
        .symlink("exports/hostfs/usr/share/app/link", "/etc/app/app.conf")
        .file("exports/tmpfiles.hbs", "d /run/{{name}} 0755 root root -\n");
    host.image(name, &image)
}

#[test]
fn installed_and_removed() {
    let host = Host::new();
    let before = host.listing();
    let layout = image(&host, "etcd");
    let said = host.ok(&["install", &layout.reference]);
    assert_eq!(
        said.lines()
            .filter(|l| l.contains("host file"))
            .collect::<Vec<_>>()
            .join("\n"),
        "  host file: /etc/etcd/app.conf\n  host file: /etc/etcd/plain.conf\n\
  \x20 host file: /usr/share/app/link\n  host file: /etc/tmpfiles.d/bedplate-etcd.conf"
    );
    assert_eq!(host.text("etc/etcd/app.conf"), "port = 2379\n");
    assert_eq!(host.text("etc/etcd/plain.conf"), "{{PORT}}\n");
    assert_eq!(
        host.text("etc/tmpfiles.d/bedplate-etcd.conf"),
        "d /run/etcd 0755 root root -\n"
    );
    let meta = host.at("etc/etcd/app.conf").metadata().unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o644, 0));
    assert_eq!(
        host.at("usr/share/app/link").read_link().unwrap().to_str(),
        Some("/etc/app/app.conf")
    );
    host.ok(&["uninstall", "etcd"]);
    assert_same(&before, &host.listing());
}

#[test]
fn a_changed_one_is_kept_and_named() {
    let host = Host::new();
    let layout = image(&host, "etcd");
    host.ok(&["install", &layout.reference]);
    host.put("etc/etcd/app.conf", "port = 4001\n");
    std::fs::remove_file(host.at("usr/share/app/link")).unwrap();
    symlink("/elsewhere", host.at("usr/share/app/link")).unwrap();
    host.put("etc/etcd/mine.conf", "the operator's\n");
    assert_eq!(
        host.ok(&["uninstall", "etcd"]),
        "uninstalled etcd; its data is kept\n\
         kept /usr/share/app/link: it was changed since\n\
         kept /etc/etcd/app.conf: it was changed since\n"
    );
    assert_eq!(host.text("etc/etcd/app.conf"), "port = 4001\n");
    assert_eq!(host.text("etc/etcd/mine.conf"), "the operator's\n");
    assert!(!host.at("etc/etcd/plain.conf").exists());
    // Whose they are now: not the image's, which is told so.
    host.refused(
        &["install", &layout.reference],
        "error: installing `etcd`: the host file `/etc/etcd/app.conf` exists already and is not its own\n\
         hint: move that file away first, if nothing else needs it",
    );
}

#[test]
fn a_shared_directory_goes_with_the_last() {
    let host = Host::new();
    let before = host.listing();
    let [one, two] = ["one", "two"].map(|name| {
        let file = format!("exports/hostfs/etc/shared.d/{name}.conf");
        host.image(name, &Image::new("contract = 1\n").file(&file, "x\n"))
    });
    host.ok(&["install", &one.reference]);
    host.ok(&["install", &two.reference]);
    host.ok(&["uninstall", "one"]);
    assert_eq!(host.text("etc/shared.d/two.conf"), "x\n");
    host.ok(&["uninstall", "two"]);
    assert_same(&before, &host.listing());
}

#[test]
fn directories_of_the_host_stay_the_operators() {
    let host = Host::new();
    std::fs::create_dir_all(host.at("srv/www")).unwrap();
    let before = host.listing();
    let image = Image::new("contract = 1\n")
        .dir("exports/hostfs/srv/www", 0o777, 1000)
        .dir("exports/hostfs/srv/own/data", 0o700, 1000);
    let layout = host.image("etcd", &image);
    host.ok(&["install", &layout.reference]);
    let kind = |path: &str| {
        let meta = host.at(path).metadata().unwrap();
        (meta.mode() & 0o7777, meta.uid())
    };
    assert_eq!(kind("srv/www"), (0o755, 0));
    assert_eq!(kind("srv/own"), (0o755, 0));
    assert_eq!(kind("srv/own/data"), (0o700, 1000));
    host.ok(&["uninstall", "etcd"]);
    assert_same(&before, &host.listing());
    host.put("srv/own/data", "a file\n");
    host.refused(
        &["install", &layout.reference],
        "error: installing `etcd`: the host file `/srv/own/data` exists already and is not its own\n\
         hint: move that file away first, if nothing else needs it",
    );
}

#[test]
fn none_gets_where_no_image_may_put_one() {
    let host = Host::new();
    symlink("/run", host.at("var/run")).unwrap();
    let through = Image::new("contract = 1\n")
        .file("exports/hostfs/var/run/bedplate/bedplate.toml", "[roles]\n");
    let through = host.image("through", &through);
    host.refused(
        &["install", &through.reference],
        "error: installing `through`: the host file `/var/run/bedplate/bedplate.toml` would lie in `/run/bedplate`, \
         where no image may put one\n\
         hint: on this host it leads to `/run/bedplate/bedplate.toml`",
    );
    let link =
        Image::new("contract = 1\n").symlink("exports/hostfs/etc/x", "/usr/libexec/bedplate");
    let link = host.image("link", &link);
    let below = Image::new("contract = 1\n").file("exports/hostfs/etc/x/launch", "evil\n");
    let below = host.image("below", &below);
    host.refused(
        &["install", &link.reference, &below.reference],
        "error: installing `below`: the host file `/etc/x/launch` lies in `/etc/x`, which the same set brings and \
         is no directory\n\
         hint: leave one of them out",
    );
}

/// The operator's umask is for the operator's files.
#[test]
fn the_umask_changes_no_mode() {
    let host = Host::new();
    let image = Image::new("contract = 1\n").file("exports/hostfs/etc/etcd/etcd.conf", "x\n");
    let layout = host.image("etcd", &image);
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "umask 077; exec \"$@\"", "sh", crate::host::BEDPLATE])
        .args(["install", &layout.reference, "--root"])
        .arg(host.root());
    host.environment(&mut command);
    crate::process::run(&mut command).ok();
    let rootfs = "var/lib/bedplate/containers/etcd/1/rootfs";
    for (path, mode) in [
        ("etc/etcd".to_owned(), 0o755),
        (format!("{rootfs}/proc"), 0o755),
        (format!("{rootfs}/tmp"), 0o1777),
    ] {
        let found = host.at(&path).metadata().unwrap().mode() & 0o7777;
        assert_eq!(found, mode, "{path}");
    }
}
