//! `bedplate exec` and `bedplate logs` of a root that does not run. `tests/vm/inside.rs` tells what they do.

use crate::host::Host;
use crate::layout::PLAIN;

#[test]
fn what_does_not_run_runs_no_command() {
    let host = Host::new();
    let etcd = host.image_of("etcd", PLAIN);
    host.ok(&["install", &etcd.reference]);
    // The tests' own comes last, and is a word of the command here.
    let root = format!("--root={}", host.root().display());
    host.unchanged(|| {
        let run = host.run(&["exec", &root, "etcd", "true"]);
        assert_eq!(
            run.failed(125),
            "error: a container of a `--root` directory does not run"
        );
        // The words after the command are its own, whatever they look like.
        let run = host.run(&["exec", &root, "-t", "etcd", "sh", "-c", "true", "--help"]);
        assert_eq!(
            run.failed(125),
            "error: `--tty` needs a terminal, and standard input is none\n\
             hint: leave it out; `--interactive` alone hands on standard input"
        );
        for wrong in [
            &["exec", &root, "--env==x", "etcd", "true"][..],
            &["exec", &root, "--workdir=etc", "etcd", "true"],
            &["logs"],
            &["logs", "--output=cat", "--json", "etcd"],
        ] {
            assert_eq!(host.run(wrong).status, 2, "{wrong:?}");
        }
    });
}

#[test]
fn the_journal_of_a_root_is_read_there() {
    let host = Host::new();
    let etcd = host.image_of("etcd", PLAIN);
    host.ok(&["install", &etcd.reference]);
    // Another than this machine's: there is none.
    let run = host.run(&["logs", "--output=cat", "etcd"]);
    assert!(["", "-- No entries --\n"].contains(&&*run.ok()));
    host.refused(
        &["logs", "flanneld"],
        "error: `flanneld` is not installed\n\
         hint: `bedplate list` shows what is; `journalctl --unit flanneld.service` has what one said that was",
    );
}
