//! What is installed is, file by file, what umoci unpacks: names, types, modes, owners, attributes, links and content.
//! Times are not kept: an OSTree repository has none, and equal files of two images are one.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;

use rustix::fs::{XattrFlags, lsetxattr};

use crate::host::Host;
use crate::layout::PLAIN;
use crate::pieces::{MANIFEST, Pieces};
use crate::process;

/// The first layer: every kind of file that an image can hold and a root file system is made of.
fn first(dir: &Path) {
    let put = |name: &str, mode: u32, owner: u32| {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("the content of {name}")).unwrap();
        chown(&path, Some(owner), Some(owner + 1)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    put("usr/bin/tool", 0o755, 0);
    put("usr/bin/su", 0o4755, 0);
    put("usr/bin/write", 0o2755, 0);
    put("etc/secret", 0o400, 12);
    put("etc/none", 0, 34);
    put("etc/gone", 0o644, 0);
    put("opaque/below/gone", 0o644, 0);
    put("turned/file", 0o644, 0);
    put("empty/.keep", 0o600, 0);
    put("ünïcode/with space\n", 0o644, 70_000);
    let capable = put("usr/bin/ping", 0o755, 0);
    // VFS_CAP_REVISION_2 with CAP_NET_RAW, permitted and effective.
    let capability = [
        1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    lsetxattr(
        &capable,
        "security.capability",
        &capability,
        XattrFlags::empty(),
    )
    .unwrap();
    let told = put("etc/told", 0o644, 0);
    lsetxattr(&told, "user.told", b"a\0b", XattrFlags::empty()).unwrap();
    lsetxattr(
        dir.join("usr"),
        "user.of-a-directory",
        b"1",
        XattrFlags::empty(),
    )
    .unwrap();
    for name in ["usr/bin/linked", "etc/linked too"] {
        fs::hard_link(dir.join("usr/bin/su"), dir.join(name)).unwrap();
    }
    for (name, target) in [
        ("bin", "usr/bin"),
        ("etc/nowhere", "/not/there"),
        ("etc/up", "../../../../usr"),
    ] {
        symlink(target, dir.join(name)).unwrap();
        lchown(dir.join(name), Some(5), Some(6)).unwrap();
    }
    for (name, mode) in [("tmp", 0o1777), ("etc/shared", 0o2770), ("etc/shut", 0)] {
        fs::create_dir(dir.join(name)).unwrap();
        chown(dir.join(name), Some(9), Some(10)).unwrap();
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// The second: what is taken away, replaced, and changed.
fn second(dir: &Path) {
    for name in [
        "etc/.wh.gone",
        "opaque/.wh..wh..opq",
        "opaque/new",
        "etc/none",
        "turned",
    ] {
        fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
        fs::write(dir.join(name), "").unwrap();
    }
    fs::set_permissions(dir.join("etc"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::create_dir_all(dir.join("usr/bin/tool")).unwrap();
}

fn layer(host: &Host, name: &str, fill: fn(&Path)) -> Vec<u8> {
    let (dir, tar) = (host.beside(name), host.beside(&format!("{name}.tar")));
    fs::create_dir_all(&dir).unwrap();
    fill(&dir);
    let [from, to] = [&dir, &tar].map(|path| path.to_str().unwrap());
    let all = [
        "--xattrs",
        "--xattrs-include=*",
        "--numeric-owner",
        "--sort=name",
    ];
    process::tool(
        "tar",
        &[
            &all[..],
            &["--create", "--directory", from, "--file", to, "."],
        ]
        .concat(),
    );
    fs::read(tar).unwrap()
}

#[test]
fn it_is_what_umoci_unpacks() {
    let image = Pieces::new();
    let (one, two) = (
        layer(&image.host, "first", first),
        layer(&image.host, "second", second),
    );
    let manifest = image.manifest_of(&[&one, &two]);
    let reference = image.tag(image.json(MANIFEST, &manifest), "1");
    image.is_what_umoci_unpacks("whole", &reference);

    let rootfs = image.rootfs("whole");
    let inode = |name: &str| fs::metadata(rootfs.join(name)).unwrap().ino();
    assert_eq!(inode("usr/bin/su"), inode("usr/bin/linked"));
    assert_eq!(inode("usr/bin/su"), inode("etc/linked too"));
}

/// umoci ends such a layer with the last byte of the last file.
#[test]
fn a_layer_of_umoci_insert_is_whole() {
    let host = Host::new();
    let layout = host.image_of("inserted", PLAIN);
    let added = host.beside("added");
    fs::write(&added, "added").unwrap();
    let image = layout.reference.trim_start_matches("oci:");
    let added = added.to_str().unwrap();
    process::tool("umoci", &["insert", "--image", image, added, "/opt/added"]);
    host.ok(&["install", &layout.reference]);
    host.ok(&["verify", "inserted"]);
    let found = host.text("var/lib/bedplate/containers/inserted/1/rootfs/opt/added");
    assert_eq!(found, "added");
}
