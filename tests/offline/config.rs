//! `bedplate config`: what holds on a host, and which file says so.

use serde_json::{Value, json};

use crate::host::Host;

const MAIN: &str = "/etc/bedplate/bedplate.toml";

#[test]
fn without_files_the_defaults_hold() {
    let host = Host::new();
    let before = host.listing();
    let shown = "\
SETTING               VALUE                                                              FROM
network.timeout       60s                                                                default
roles.cri             containerd.service,crio.service,docker.service,cri-docker.service  default
roles.etcd            etcd.service                                                       default
roles.network-online  network-online.target                                              default
store.integrity       none                                                               default
store.layer_limit     32G                                                                default
update.authfile       /etc/bedplate/auth.json                                            default
update.schedule       daily                                                              default
update.window         -                                                                  default
";
    assert_eq!(host.ok(&["config"]), shown);
    crate::host::assert_same(&before, &host.listing());
}

#[test]
fn the_strongest_file_has_the_last_word() {
    let host = Host::new();
    let vendor = "/usr/lib/bedplate/bedplate.toml";
    let [hidden, run] =
        ["/usr/lib", "/run"].map(|dir| format!("{dir}/bedplate/bedplate.conf.d/20-net.conf"));
    let late = "/usr/lib/bedplate/bedplate.conf.d/90-late.conf";
    host.put(vendor, "store.layer_limit = \"1G\"\n");
    host.put(MAIN, "[store]\nintegrity = \"auto\"\n[roles]\netcd = []\n");
    host.put(&hidden, "network.timeout = \"1s\"\n");
    host.put(&run, "[network]\ntimeout = \"2min\"\n");
    host.put(late, "store.layer_limit = \"512M\"\n");
    // No drop-in: not that suffix.
    host.put("/etc/bedplate/bedplate.conf.d/99.toml", "x");
    let shown: Value = serde_json::from_str(&host.ok(&["config", "--json"])).unwrap();
    let of = |name: &str| {
        let settings = shown["settings"].as_array().unwrap();
        let found = settings.iter().find(|s| s["name"] == name).unwrap();
        assert!(found["meaning"].as_str().unwrap().len() > 20, "{found}");
        (found["data"].clone(), found["origin"].clone())
    };
    assert_eq!(
        of("store.integrity"),
        (json!("auto"), json!({"file": MAIN}))
    );
    assert_eq!(
        of("store.layer_limit"),
        (json!("512M"), json!({"file": late}))
    );
    assert_eq!(of("network.timeout"), (json!("120s"), json!({"file": run})));
    assert_eq!(of("roles.etcd"), (json!([]), json!({"file": MAIN})));
    assert_eq!(of("roles.cri").1, "default");
    assert_eq!(shown["files"], json!([MAIN, run, late]));
    assert_eq!(
        shown["passed_over"],
        json!([{"path": vendor, "by": MAIN}, {"path": hidden, "by": run}])
    );
    let text = host.ok(&["config"]);
    let passed = format!("\n{vendor} does not count: {MAIN} takes its place\n");
    assert!(text.contains(&passed), "{text}");
}

#[test]
fn what_is_wrong_is_named() {
    let host = Host::new();
    let hint = "hint: the settings are `network.timeout`, `roles.ROLE`, `schedules.NAME`, `store.integrity`, `store.layer_limit`, \
                `update.authfile`, `update.schedule`, `update.window`, `windows.NAME`: see bedplate.toml(5)";
    host.put(MAIN, "# ours\n[store]\nlayer_limits = 5\n");
    host.refused(
        &["config"],
        &format!("error: reading `{MAIN}`: line 3: unknown key `layer_limits`; did you mean `layer_limit`?\n{hint}"),
    );
    std::fs::remove_file(host.at(MAIN)).unwrap();
    std::os::unix::fs::symlink("nowhere", host.at(MAIN)).unwrap();
    host.refused(
        &["config"],
        &format!(
            "error: reading `{MAIN}`\nhint: it is a link to nothing: remove it, or point it at `/dev/null` to mask \
             files of its name"
        ),
    );
}
