//! Images against the kernel that mounts them. They need root, as the tests of whole verbs do.
#![expect(clippy::disallowed_methods, reason = "the tests look from outside")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ostree::gio::prelude::Cast;
use ostree::{MutableTree, Repo, RepoMode, gio};
use rustix::fs::{FileType, XattrFlags};

use crate::exec::Program;
use crate::store::composefs::erofs::{Content, Node};
use crate::store::composefs::{erofs, mount_options, tree};
use crate::store::objects::Objects;

/// Everything of a tree but its times and which files are one, as a hash.
const SUM: &str = "tar --directory \"$1\" --sort=name --mtime=@0 --hard-dereference --numeric-owner \
     --pax-option=delete=atime,delete=ctime,exthdr.name=x \
     --xattrs --xattrs-include='*' --create . | sha256sum";

fn meta(kind: FileType, mode: u32, content: Content) -> Node {
    Node {
        uid: 0,
        gid: 0,
        mode: kind.as_raw_mode() | mode,
        xattrs: Vec::new(),
        content,
    }
}

fn dir(children: impl IntoIterator<Item = (Vec<u8>, Node)>) -> Node {
    let children: BTreeMap<_, _> = children.into_iter().collect();
    meta(FileType::Directory, 0o755, Content::Dir(children))
}

fn file(length: u64) -> Node {
    meta(FileType::RegularFile, 0o644, Content::File(length))
}

/// Mounts an image in a mount namespace of its own and says what a script writes there; `$1` is the tree.
fn mounted(image: &[u8], script: &str) -> String {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("image"), image).unwrap();
    fs::create_dir(place.path().join("tree")).unwrap();
    let script =
        format!("mount -t erofs -o ro \"$1/image\" \"$1/tree\" && set \"$1/tree\" && {script}");
    inside(place.path(), &script)
}

/// What fsck.erofs(1) makes of an image.
fn checked(image: &[u8]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, image).unwrap();
    Program::new("fsck.erofs").arg(file.path()).run().unwrap();
    // It would say so if there were something: the root's directory is gone here.
    let mut damaged = image.to_vec();
    damaged[1152] = 0xff;
    fs::write(&file, damaged).unwrap();
    Program::new("fsck.erofs")
        .arg(file.path())
        .run()
        .unwrap_err();
}

fn inside(place: &Path, script: &str) -> String {
    Program::new("unshare")
        .args(["--mount", "--propagation", "private", "--", "sh", "-ec"])
        .args([script, "sh"])
        .arg(place)
        .run()
        .unwrap()
}

#[test]
fn the_kernel_reads_what_was_written() {
    let long = |n: usize| format!("{n:04}{}", "n".repeat(n % 252)).into_bytes();
    let mut deep = dir([]);
    for _ in 0..500 {
        deep = dir([(b"d".to_vec(), deep)]);
    }
    let link = |length| meta(FileType::Symlink, 0o777, Content::Link(vec![b'l'; length]));
    let mut odd = file(0);
    (odd.uid, odd.gid, odd.mode) = (70_000, 4_000_000_000, odd.mode | 0o6111);
    odd.xattrs = vec![
        (
            b"security.capability".to_vec(),
            b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec(),
        ),
        (b"user.a".to_vec(), vec![7; 3000]),
        (b"user.b".to_vec(), vec![]),
    ];
    let tree = dir([
        (
            b"many".to_vec(),
            dir((0..3000).map(|n| (long(n), file(n as u64)))),
        ),
        (b"full".to_vec(), dir((0..200).map(|n| (long(n), file(1))))),
        (b"deep".to_vec(), deep),
        (b"odd".to_vec(), odd),
        (b"huge".to_vec(), file(3 << 40)),
        (
            b"links".to_vec(),
            dir([1, 2000, 3900, 4032, 4033, 4095].map(|n| (long(n), link(n)))),
        ),
    ]);
    let image = erofs::image(&tree).unwrap();
    assert_eq!(
        image,
        erofs::image(&tree).unwrap(),
        "equal trees are equal images"
    );
    checked(&image);
    let said = mounted(
        &image,
        "cd \"$1\"; ls many | wc -l; find full -type f | wc -l; find deep | wc -l; stat -c '%a %u %g %h %s' odd; \
         stat -c '%s %F' huge; for l in links/*; do readlink $l | tr -d '\\n' | wc -c; done; \
         stat -c %h . many; \
         tar --xattrs --xattrs-include='*' --create odd | grep -a -o -E 'SCHILY.xattr.[a-z.]*=' | sort; \
         for f in $(ls many); do test -f many/$f || echo missing $f; done; test ! -e many/0000x; \
         cat many/0004nnnn | wc -c",
    );
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        [
            "3000",
            "200",
            "501",
            "6755 70000 4000000000 1 0",
            "3298534883328 regular file",
            "1",
            "2000",
            "3900",
            "4032",
            "4033",
            "4095",
            "6",
            "2",
            "SCHILY.xattr.security.capability=",
            "SCHILY.xattr.user.a=",
            "SCHILY.xattr.user.b=",
            "4"
        ]
    );
}

#[test]
fn a_checkout_and_its_image_are_the_same() {
    let place = tempfile::tempdir().unwrap();
    let (repo, commit) = committed(&place.path().join("repo"));
    let checkout = place.path().join("checkout");
    let options = ostree::RepoCheckoutAtOptions {
        force_copy_zerosized: true,
        ..Default::default()
    };
    repo.checkout_at(
        Some(&options),
        -100,
        &checkout,
        &commit,
        gio::Cancellable::NONE,
    )
    .unwrap();
    // What staging adds: mount targets.
    fs::create_dir_all(checkout.join("run/etcd")).unwrap();
    fs::write(checkout.join("etc/hosts"), "").unwrap();
    let objects = Objects::open(&place.path().join("repo")).unwrap();
    let tree = tree::read(&objects, &commit, &checkout, None).unwrap();
    fs::write(
        place.path().join("tree.erofs"),
        erofs::image(&tree).unwrap(),
    )
    .unwrap();
    for name in ["tree", "rootfs"] {
        fs::create_dir(place.path().join(name)).unwrap();
    }
    checked(&fs::read(place.path().join("tree.erofs")).unwrap());
    let options = mount_options(Path::new("$1/tree"), Path::new("$1/repo/objects"), false);
    let sums = inside(
        place.path(),
        &format!(
            "mount -t erofs -o ro \"$1/tree.erofs\" \"$1/tree\"
            mount -t overlay -o \"{options}\" overlay \"$1/rootfs\"
            ! touch \"$1/rootfs/new\" 2>/dev/null
            ! sh -c 'echo x >>\"$1/rootfs/etc/large\"' sh \"$1\" 2>/dev/null
            cd \"$1\"; set checkout; {SUM}; set rootfs; {SUM}; cat rootfs/etc/small"
        ),
    );
    let [checked_out, composed, small] = sums.lines().collect::<Vec<_>>()[..] else {
        panic!("{sums}");
    };
    assert_eq!(checked_out, composed);
    assert_eq!(small, "small");

    // What the commit does not have is no file of the image.
    fs::write(checkout.join("etc/stray"), "x").unwrap();
    let error = tree::read(&objects, &commit, &checkout, None).unwrap_err();
    assert_eq!(
        format!("{error:#}"),
        format!(
            "`{}` is no file of the image",
            checkout.join("etc/stray").display()
        )
    );
    fs::remove_file(checkout.join("etc/stray")).unwrap();
    fs::remove_file(checkout.join("etc/large")).unwrap();
    let error = tree::read(&objects, &commit, &checkout, None).unwrap_err();
    assert_eq!(
        format!("{error:#}"),
        format!("`{}` is missing", checkout.join("etc/large").display())
    );
}

/// A repository with a commit of files of every kind.
fn committed(path: &Path) -> (Repo, String) {
    let none = gio::Cancellable::NONE;
    let repo = Repo::new_for_path(path);
    repo.create(RepoMode::Bare, none).unwrap();
    let source = path.join("tmp/source");
    fs::create_dir_all(source.join("etc/empty")).unwrap();
    fs::write(source.join("etc/small"), "small\n").unwrap();
    fs::write(source.join("etc/nothing"), "").unwrap();
    fs::write(source.join("etc/large"), vec![b'x'; 3_000_000]).unwrap();
    fs::hard_link(source.join("etc/large"), source.join("again")).unwrap();
    std::os::unix::fs::symlink("../etc/small", source.join("etc/link")).unwrap();
    let large = source.join("etc/large");
    std::os::unix::fs::chown(&large, Some(70_000), Some(5)).unwrap();
    fs::set_permissions(&large, std::os::unix::fs::PermissionsExt::from_mode(0o6755)).unwrap();
    for (name, value) in [("user.of", "large"), ("trusted.overlay.opaque", "y")] {
        rustix::fs::setxattr(&large, name, value.as_bytes(), XattrFlags::empty()).unwrap();
    }
    let transaction = repo.auto_transaction(none).unwrap();
    let tree = MutableTree::new();
    repo.write_dfd_to_mtree(-100, source.to_str().unwrap(), &tree, None, none)
        .unwrap();
    let root = repo.write_mtree(&tree, none).unwrap();
    let root = root.downcast_ref().unwrap();
    let commit = repo
        .write_commit(None, None, None, None, root, none)
        .unwrap();
    transaction.commit(none).unwrap();
    fs::remove_dir_all(source).unwrap();
    (repo, commit.into())
}

#[test]
fn names_that_are_none_are_refused() {
    for (name, error) in [
        (&b"a/b"[..], "`a/b` is no name of a file"),
        (b"..", "`..` is no name of a file"),
        (b"", "`` is no name of a file"),
        (b"\0", "`\\0` is no name of a file"),
    ] {
        let tree = dir([(name.to_vec(), file(1))]);
        assert_eq!(erofs::image(&tree).unwrap_err().to_string(), error);
    }
    let mut strange = file(1);
    strange.xattrs = vec![(b"other.x".to_vec(), vec![])];
    assert_eq!(
        erofs::image(&dir([(b"f".to_vec(), strange)]))
            .unwrap_err()
            .to_string(),
        "the extended attribute `other.x` has a prefix that is not known"
    );
}
