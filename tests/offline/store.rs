//! A host's store from outside: what libostree and du say of it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::host::Host;
use crate::process;

/// The repository.
pub(crate) fn repo(host: &Host) -> PathBuf {
    host.at("var/lib/bedplate/repo")
}

/// libostree finds every object that a ref needs, and none damaged.
pub(crate) fn assert_whole(host: &Host) {
    let repo = format!("--repo={}", repo(host).display());
    if repo_exists(host) {
        process::tool("ostree", &["fsck", "--quiet", &repo]);
    }
}

/// Nothing is in the store that no ref needs, and df and du agree.
pub(crate) fn assert_no_garbage(host: &Host) {
    assert_eq!(host.ok(&["prune"]), "freed 0 B\n");
    // What has not been written to disk yet may be counted otherwise a moment later (delayed allocation).
    process::tool("sync", &["--file-system", host.root().to_str().unwrap()]);
    let usage = df(host);
    assert_eq!(usage["disk"]["reclaimable"], 0, "{usage:#}");
    assert_near_du(host, &usage);
    if !repo_exists(host) {
        return;
    }
    let option = format!("--repo={}", repo(host).display());
    let said = process::tool("ostree", &["prune", "--refs-only", "--no-prune", &option]);
    assert!(said.contains("No unreachable objects"), "{said}");
    let tmp: Vec<_> = names(&repo(host).join("tmp"));
    assert!(tmp.iter().all(|name| name == "cache"), "{tmp:?}");
    assert!(!host.at("var/lib/bedplate/staging").exists());
    for file in files(&repo(host).join("objects")) {
        let kind = file
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default();
        let known = ["file", "dirtree", "dirmeta", "commit"];
        assert!(known.contains(&kind), "{}", file.display());
    }
}

/// What df says in total is what du says, but for 2 %.
pub(crate) fn assert_near_du(host: &Host, usage: &Value) {
    let (total, du) = (usage["disk"]["total"].as_u64().unwrap(), du(host));
    assert!(total.abs_diff(du) * 50 <= du, "df: {total}, du: {du}");
}

/// `bedplate df --json`.
pub(crate) fn df(host: &Host) -> Value {
    serde_json::from_str(&host.ok(&["df", "--json"])).unwrap()
}

/// Bytes on disk below bedplate's directory, which nobody may have needed yet.
pub(crate) fn du(host: &Host) -> u64 {
    let dir = host.at("var/lib/bedplate");
    if !dir.exists() {
        return 0;
    }
    let said = process::tool("du", &["-s", "--block-size=1", dir.to_str().unwrap()]);
    said.split_whitespace().next().unwrap().parse().unwrap()
}

/// The names in a directory, sorted.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// The refs of a kind, `image` or `layer`.
pub(crate) fn refs(host: &Host, kind: &str) -> Vec<String> {
    names(&repo(host).join("refs/heads/bedplate").join(kind))
}

/// Every file below a directory.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for name in names(dir) {
        let path = dir.join(name);
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn repo_exists(host: &Host) -> bool {
    // What libostree makes last.
    repo(host).join("objects").exists()
}
