//! Real registries, each on a port of its own: Debian's docker-registry, one without TLS and one with TLS and a
//! password for all tests, gone with them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Name};

use crate::host::Host;
use crate::layout::Layout;
use crate::process::{self, DEADLINE};

/// A running registry.
pub(crate) struct Registry {
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
    storage: PathBuf,
}

/// The registry, started by whoever needs it first.
pub(crate) fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(|| start("http: {addr: '127.0.0.1:0'}", Vec::new()))
}

/// A registry that speaks TLS alone and asks for [`USER`] and [`PASSWORD`].
pub(crate) struct Secured {
    pub(crate) registry: Registry,
    /// The certificate of the authority that vouches for it.
    pub(crate) ca: String,
}

pub(crate) const USER: &str = "operator";
pub(crate) const PASSWORD: &str = "open:sesame";

/// Them as htpasswd(1) writes them.
const HTPASSWD: &str = "operator:$2y$05$abcdefghijklmnopqrstuubMHTpw5uKdtLGvKw5uzYhbpqtktcY3.\n";

/// The registry with TLS and a password, started by whoever needs it first.
pub(crate) fn secured() -> &'static Secured {
    static SECURED: OnceLock<Secured> = OnceLock::new();
    SECURED.get_or_init(|| {
        let Certificates { ca, own, key } = certificates();
        let files = vec![
            ("CERT", own),
            ("KEY", key),
            ("HTPASSWD", HTPASSWD.to_owned()),
        ];
        let config = "http: {addr: '127.0.0.1:0', tls: {certificate: /mnt/cert, key: /mnt/key}}
auth: {htpasswd: {realm: test, path: /mnt/htpasswd}}";
        let registry = start(config, files);
        Secured { registry, ca }
    })
}

/// A registry that lets in who shows a certificate of its authority.
pub(crate) struct Mutual {
    pub(crate) registry: Registry,
    /// The certificate of the authority that vouches for it, and for who may come in.
    pub(crate) ca: String,
    /// One who may come in.
    pub(crate) cert: String,
    pub(crate) key: String,
}

/// The registry that asks for a certificate, started by whoever needs it first.
pub(crate) fn mutual() -> &'static Mutual {
    static MUTUAL: OnceLock<Mutual> = OnceLock::new();
    MUTUAL.get_or_init(|| {
        let Certificates { ca, own, key } = certificates();
        let files = vec![
            ("CERT", own.clone()),
            ("KEY", key.clone()),
            ("CA", ca.clone()),
        ];
        let config = "http: {addr: '127.0.0.1:0', tls: {certificate: /mnt/cert, key: /mnt/key, clientcas: [/mnt/ca]}}";
        let registry = start(config, files);
        let cert = own;
        Mutual {
            registry,
            ca,
            cert,
            key,
        }
    })
}

/// Its configuration, and where it keeps its images: in memory that nobody else sees and that goes with it.
const SCRIPT: &str = "mount -t tmpfs none /mnt
    printf '%s' \"${CERT-}\" >/mnt/cert
    printf '%s' \"${KEY-}\" >/mnt/key
    printf '%s' \"${HTPASSWD-}\" >/mnt/htpasswd
    printf '%s' \"${CA-}\" >/mnt/ca
    cat >/mnt/config.yml <<END
version: 0.1
log: {level: info}
storage: {filesystem: {rootdirectory: /mnt}}
$CONFIG
END
    exec docker-registry serve /mnt/config.yml";

fn start(config: &'static str, files: Vec<(&'static str, String)>) -> Registry {
    let (found, listening) = mpsc::channel();
    // It is killed when the thread that started it ends: this one lives as long as the process.
    thread::spawn(move || {
        let mut server = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--mount"])
            .args(["--propagation", "private", "sh", "-ec", SCRIPT])
            .env("OTEL_TRACES_EXPORTER", "none")
            .env("CONFIG", config)
            .envs(files)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let storage = PathBuf::from(format!("/proc/{}/root/mnt", server.id()));
        let log = BufReader::new(server.stderr.take().unwrap());
        for line in log.lines().map_while(Result::ok) {
            if let Some((_, rest)) = line.split_once("listening on ") {
                let address = rest.split(['"', ',', ' ']).next().unwrap_or_default();
                let registry = Registry {
                    address: address.to_owned(),
                    storage: storage.clone(),
                };
                let _nobody_waits_twice = found.send(registry);
            }
        }
        let _ended = server.wait();
    });
    listening.recv_timeout(DEADLINE).unwrap()
}

/// Of an authority, and of a server on this machine that it vouches for; PEM.
struct Certificates {
    ca: String,
    own: String,
    key: String,
}

fn certificates() -> Certificates {
    let key = || PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let (ca_key, own_key) = (key(), key());
    let begin = |name: &str, serial: u32, issuer: &str| {
        let mut cert = X509::builder().unwrap();
        cert.set_version(2).unwrap();
        cert.set_serial_number(&BigNum::from_u32(serial).unwrap().to_asn1_integer().unwrap())
            .unwrap();
        cert.set_subject_name(&common_name(name)).unwrap();
        cert.set_issuer_name(&common_name(issuer)).unwrap();
        // The clock of a machine that was frozen may step.
        cert.set_not_before(&Asn1Time::from_unix(0).unwrap())
            .unwrap();
        cert.set_not_after(&Asn1Time::days_from_now(365).unwrap())
            .unwrap();
        cert
    };
    let mut ca = begin("Test CA", 1, "Test CA");
    ca.set_pubkey(&ca_key).unwrap();
    ca.append_extension(BasicConstraints::new().critical().ca().build().unwrap())
        .unwrap();
    ca.sign(&ca_key, MessageDigest::sha256()).unwrap();
    let ca = ca.build();
    let mut own = begin("registry", 2, "Test CA");
    own.set_pubkey(&own_key).unwrap();
    let names = SubjectAlternativeName::new()
        .ip("127.0.0.1")
        .build(&own.x509v3_context(Some(&ca), None))
        .unwrap();
    own.append_extension(names).unwrap();
    own.sign(&ca_key, MessageDigest::sha256()).unwrap();
    let text = |pem: Vec<u8>| String::from_utf8(pem).unwrap();
    Certificates {
        ca: text(ca.to_pem().unwrap()),
        own: text(own.build().to_pem().unwrap()),
        key: text(own_key.private_key_to_pem_pkcs8().unwrap()),
    }
}

fn common_name(name: &str) -> X509Name {
    let mut made = X509Name::builder().unwrap();
    made.append_entry_by_text("CN", name).unwrap();
    made.build()
}

impl Registry {
    /// Lets a host's skopeo speak plain HTTP to it, as an operator would.
    pub(crate) fn allow(&self, host: &Host) {
        allow(host, &self.address);
    }

    /// Copies an image in; its reference.
    pub(crate) fn push(&self, layout: &Layout, name: &str) -> String {
        self.push_with(&layout.reference, name, &[])
    }

    /// Copies an image in from anywhere, with these options of `skopeo copy`; its reference.
    pub(crate) fn push_with(&self, source: &str, name: &str, options: &[&str]) -> String {
        let reference = format!("docker://{}/{name}", self.address);
        let copy = [
            "--insecure-policy",
            "copy",
            "--quiet",
            "--dest-tls-verify=false",
        ];
        process::tool(
            "skopeo",
            &[&copy[..], options, &[source, &reference]].concat(),
        );
        reference
    }

    /// The file that holds a blob.
    pub(crate) fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        let blobs = self.storage.join("docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }
}

/// Lets a host's skopeo speak plain HTTP to a registry.
pub(crate) fn allow(host: &Host, address: &str) {
    let dir = host.beside("home/.config/containers/registries.conf.d");
    fs::create_dir_all(&dir).unwrap();
    let text = format!("[[registry]]\nlocation = \"{address}\"\ninsecure = true\n");
    fs::write(dir.join(format!("{address}.conf")), text).unwrap();
}
