//! The stand-in for flanneld against a real etcd, in network namespaces of its own: the machine's network stays as it
//! is. Needs root, `etcd` and `etcdctl` of Debian's etcd-server and etcd-client, and ip(8).

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test drives programs and files as an operator does"
)]

use std::io::{ErrorKind, Read as _};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// The longest wait for anything: a machine that is busy with other tests is slow.
const PATIENCE: Duration = Duration::from_mins(1);

const CONFIG: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","VNI":1,"Port":8472}}"#;

/// Two hosts on one wire: namespaces joined by a veth pair, etcd on the first.
struct Wire {
    directory: TempDir,
    namespaces: [String; 2],
    etcd: Child,
}

impl Wire {
    fn new(test: &str) -> Self {
        let namespaces = ["a", "b"].map(|end| format!("bp{}{test}{end}", std::process::id()));
        for namespace in &namespaces {
            run("ip", &["netns", "add", namespace]);
            run("ip", &["-n", namespace, "link", "set", "lo", "up"]);
        }
        let [a, b] = &namespaces;
        run(
            "ip",
            &[
                "-n", a, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", b,
            ],
        );
        for (index, namespace) in namespaces.iter().enumerate() {
            let address = format!("{}/24", address(index));
            run(
                "ip",
                &["-n", namespace, "address", "add", &address, "dev", "eth0"],
            );
            run("ip", &["-n", namespace, "link", "set", "eth0", "up"]);
        }
        let directory = tempfile::tempdir().unwrap();
        let etcd = etcd(&directory, a);
        let wire = Self {
            directory,
            namespaces,
            etcd,
        };
        wire.until("etcd answers", || {
            wire.etcdctl(&["endpoint", "health"]).status.success()
        });
        wire
    }

    /// A command on one of the hosts.
    fn on(&self, host: usize, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespaces[host], program]);
        command
    }

    fn etcdctl(&self, arguments: &[&str]) -> Output {
        let mut command = self.on(0, "etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={}", endpoint()))
            .args(arguments);
        command.output().unwrap()
    }

    fn etcd_says(&self, arguments: &[&str]) -> String {
        text(self.etcdctl(arguments))
    }

    fn subnets(&self) -> Vec<String> {
        let listed = self.etcd_says(&[
            "get",
            "--prefix",
            "--keys-only",
            "/coreos.com/network/subnets/",
        ]);
        let names = listed.lines().filter(|line| !line.is_empty());
        names
            .map(|line| line.rsplit('/').next().unwrap().to_owned())
            .collect()
    }

    fn ip(&self, host: usize, arguments: &[&str]) -> Value {
        let output = self
            .on(host, "ip")
            .args(["-json", "-details"])
            .args(arguments)
            .output()
            .unwrap();
        serde_json::from_str(&text(output)).unwrap()
    }

    fn subnet_file(&self, host: usize) -> PathBuf {
        self.directory.path().join(format!("{host}/subnet.env"))
    }

    fn flanneld(&self, host: usize, more: &[&str]) -> Flanneld {
        let path = self.directory.path().join(format!("notify{host}"));
        let _ = std::fs::remove_file(&path);
        let notify = UnixDatagram::bind(&path).unwrap();
        notify.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = self.on(host, stand_in().to_str().unwrap());
        command.arg(format!("-etcd-endpoints={}", endpoint()));
        command
            .args(["-iface", "eth0", "-subnet-file"])
            .arg(self.subnet_file(host))
            .args(more);
        let child = command
            .env("NOTIFY_SOCKET", &path)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Flanneld { child, notify }
    }

    fn until(&self, what: &str, mut done: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done() {
            assert!(
                Instant::now() < deadline,
                "waiting until {what}: {}",
                self.directory.path().display()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = self.etcd.kill();
        let _ = self.etcd.wait();
        for namespace in &self.namespaces {
            let _ = Command::new("ip")
                .args(["netns", "delete", namespace])
                .status();
        }
    }
}

/// A running stand-in and what it tells systemd.
struct Flanneld {
    child: Child,
    notify: UnixDatagram,
}

impl Flanneld {
    fn told(&self) -> String {
        let end = Instant::now() + PATIENCE;
        let mut message = [0; 4096];
        loop {
            match self.notify.recv(&mut message) {
                Ok(length) => return String::from_utf8(message[..length].to_vec()).unwrap(),
                // A wait with a timeout ends when the process is stopped and continued (signal(7)), as on a machine
                // that is frozen for a moment.
                Err(error) if error.kind() == ErrorKind::Interrupted && Instant::now() < end => {}
                Err(error) => panic!("waiting for the stand-in's message: {error}"),
            }
        }
    }

    /// The status it gives with READY.
    fn ready(&self) -> String {
        loop {
            if let Some(status) = self.told().strip_prefix("READY=1\nSTATUS=") {
                return status.to_owned();
            }
        }
    }

    /// SIGTERM; its exit status and its log.
    fn stop(self) -> (Option<i32>, String) {
        run("kill", &["-TERM", &self.child.id().to_string()]);
        self.end()
    }

    fn end(mut self) -> (Option<i32>, String) {
        let mut log = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut log)
            .unwrap();
        (self.child.wait().unwrap().code(), log)
    }
}

impl Drop for Flanneld {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn etcd(directory: &TempDir, namespace: &str) -> Child {
    let (client, peer) = (endpoint(), "http://127.0.0.1:2380");
    let log = std::fs::File::create(directory.path().join("etcd.log")).unwrap();
    Command::new("ip")
        .args([
            "netns",
            "exec",
            namespace,
            "etcd",
            "--name=default",
            "--data-dir",
        ])
        .arg(directory.path().join("etcd"))
        .args([
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
        ])
        .args([
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
        ])
        .arg(format!("--initial-cluster=default={peer}"))
        .stderr(log)
        .spawn()
        .unwrap()
}

fn address(host: usize) -> Ipv4Addr {
    [Ipv4Addr::new(10, 77, 0, 1), Ipv4Addr::new(10, 77, 0, 2)][host]
}

fn endpoint() -> String {
    format!("http://{}:2379", address(0))
}

/// The stand-in, built: cargo makes no example for a single integration test.
fn stand_in() -> &'static Path {
    static BUILT: LazyLock<PathBuf> = LazyLock::new(|| {
        let this = std::env::current_exe().unwrap();
        let target = this.ancestors().nth(3).unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--locked", "--manifest-path"]);
        cargo.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        cargo
            .args(["--example", "flanneld-stand-in", "--target-dir"])
            .arg(target);
        text(cargo.output().unwrap());
        target.join("debug/examples/flanneld-stand-in")
    });
    &BUILT
}

fn run(program: &str, arguments: &[&str]) {
    text(Command::new(program).args(arguments).output().unwrap());
}

fn text(output: Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The link on the first host is flannel's; its hardware address.
fn assert_link(wire: &Wire) -> Value {
    let link = &wire.ip(0, &["address", "show", "dev", "flannel.1"])[0];
    let data = &link["linkinfo"]["info_data"];
    assert_eq!(
        (
            &data["id"],
            &data["port"],
            &data["learning"],
            &data["local"],
            &link["mtu"]
        ),
        (
            &json!(1),
            &json!(8472),
            &json!(false),
            &json!("10.77.0.1"),
            &json!(1450)
        )
    );
    let own = link["addr_info"]
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["family"] == "inet")
        .unwrap();
    assert_eq!(
        (&own["local"], &own["prefixlen"]),
        (&json!("10.5.1.0"), &json!(32))
    );
    assert_eq!(
        wire.ip(0, &["route", "show", "10.5.0.0/16"])[0]["dev"],
        "flannel.1"
    );
    link["address"].clone()
}

/// The subnet's key in etcd hangs on a lease and holds what flannel's peers read.
fn assert_lease(wire: &Wire, mac: &Value) {
    let entry: Value = serde_json::from_str(&wire.etcd_says(&[
        "get",
        "-w=json",
        "/coreos.com/network/subnets/10.5.1.0-24",
    ]))
    .unwrap();
    assert_ne!(
        entry["kvs"][0]["lease"].as_u64().unwrap_or(0),
        0,
        "the key hangs on a lease"
    );
    let value = wire.etcd_says(&[
        "get",
        "--print-value-only",
        "/coreos.com/network/subnets/10.5.1.0-24",
    ]);
    assert_eq!(
        serde_json::from_str::<Value>(&value).unwrap(),
        json!({
            "PublicIP": "10.77.0.1",
            "BackendType": "vxlan",
            "BackendData": { "VNI": 1, "VtepMAC": mac },
        })
    );
}

#[test]
fn it_keeps_flannelds_contract_with_etcd_and_with_the_host() {
    let wire = Wire::new("c");
    wire.etcd_says(&["put", "/coreos.com/network/config", CONFIG]);
    let flanneld = wire.flanneld(0, &["-ip-masq"]);
    assert_eq!(
        flanneld.ready(),
        "stand-in for flanneld: subnet 10.5.1.0/24 of 10.5.0.0/16"
    );

    assert_eq!(
        std::fs::read_to_string(wire.subnet_file(0)).unwrap(),
        "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n"
    );
    let mac = assert_link(&wire);
    assert_lease(&wire, &mac);

    let (code, log) = flanneld.stop();
    assert_eq!(code, Some(0));
    assert_eq!(
        log,
        format!(
            "flanneld stand-in {} (not flannel: it keeps flanneld's contract and carries no traffic to other hosts)\n\
             note: -ip-masq does nothing in the stand-in\n\
             using interface eth0 with address 10.77.0.1\n\
             leased 10.5.1.0/24, wrote {}\n\
             told to stop: the link and the subnet stay\n",
            env!("CARGO_PKG_VERSION"),
            wire.subnet_file(0).display()
        )
    );
    assert_eq!(
        wire.ip(0, &["link", "show", "dev", "flannel.1"])[0]["address"],
        mac
    );
}

#[test]
fn two_hosts_at_once_take_two_subnets_and_keep_them_over_restarts() {
    let wire = Wire::new("t");
    wire.etcd_says(&["put", "/coreos.com/network/config", CONFIG]);
    let both = [wire.flanneld(0, &[]), wire.flanneld(1, &[])];
    let first = both.each_ref().map(Flanneld::ready);
    assert_ne!(first[0], first[1]);
    assert_eq!(wire.subnets(), ["10.5.1.0-24", "10.5.2.0-24"]);
    for flanneld in both {
        assert_eq!(flanneld.stop().0, Some(0));
    }
    // One by its public address, the other by its file alone: its keys are gone, and somebody has the lower one.
    std::fs::remove_file(wire.subnet_file(0)).unwrap();
    let again = wire.flanneld(0, &[]);
    assert_eq!(again.ready(), first[0]);
    let key = first[1]
        .split(' ')
        .find(|word| word.contains("/24"))
        .unwrap()
        .replace('/', "-");
    wire.etcd_says(&["del", &format!("/coreos.com/network/subnets/{key}")]);
    let again = wire.flanneld(1, &[]);
    assert_eq!(again.ready(), first[1]);
}

#[test]
fn it_waits_for_the_configuration_renews_the_lease_and_ends_when_it_is_lost() {
    let wire = Wire::new("w");
    let flanneld = wire.flanneld(0, &["-subnet-lease-seconds=9"]);
    assert_eq!(
        flanneld.told(),
        "STATUS=stand-in for flanneld: waiting for the network configuration in etcd"
    );
    wire.etcd_says(&["put", "/coreos.com/network/config", CONFIG]);
    flanneld.ready();
    let lease = {
        let entry = wire.etcd_says(&["get", "-w=json", "/coreos.com/network/subnets/10.5.1.0-24"]);
        serde_json::from_str::<Value>(&entry).unwrap()["kvs"][0]["lease"]
            .as_u64()
            .unwrap()
    };
    let lease = format!("{lease:x}");
    // Two renewals seen: the time that is left has grown twice.
    let mut left = u64::MAX;
    let mut grown = 0;
    wire.until("the lease was renewed twice", || {
        let said: Value =
            serde_json::from_str(&wire.etcd_says(&["lease", "timetolive", "-w=json", &lease]))
                .unwrap();
        let now = said["ttl"].as_u64().unwrap_or(0);
        grown += usize::from(now > left);
        left = now;
        grown == 2
    });
    wire.etcd_says(&["lease", "revoke", &lease]);
    let (code, log) = flanneld.end();
    assert_eq!(code, Some(1));
    assert_eq!(
        log.lines().last(),
        Some("error: renewing the lease of `10.5.1.0/24`: etcd no longer knows it")
    );
    assert!(
        log.contains("\nwaiting for somebody to put `/coreos.com/network/config` into etcd\n"),
        "{log}"
    );
}

#[test]
fn it_stops_while_it_waits_and_names_what_is_wrong() {
    let wire = Wire::new("s");
    let waiting = wire.flanneld(1, &[]);
    waiting.told();
    assert_eq!(waiting.stop().0, Some(0));
    for (arguments, code, last) in [
        (
            &["-iface=nope"][..],
            1,
            "error: finding the interface: none of `eth0, nope` is there with an IPv4 address",
        ),
        (
            &["-kube-subnet-mgr"],
            2,
            "error: reading the command line: the stand-in does not know `-kube-subnet-mgr`",
        ),
    ] {
        if code == 1 {
            run("ip", &["-n", &wire.namespaces[1], "link", "delete", "eth0"]);
        }
        let (ended, log) = wire.flanneld(1, arguments).end();
        assert_eq!((ended, log.lines().last()), (Some(code), Some(last)));
    }
    let version = text(Command::new(stand_in()).arg("--version").output().unwrap());
    assert!(version.starts_with("flanneld stand-in "), "{version}");
}
