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
