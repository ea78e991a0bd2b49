//! Every transport of containers-transports(5), each against the real thing, and what can be said of a source.

use std::fs;

use crate::host::Host;
use crate::layout::{Image, Layout, PLAIN};
use crate::process;
use crate::registry::{PASSWORD, USER, secured};

/// An image with something of its own in it.
fn image(host: &Host, name: &str) -> Layout {
    let content = format!("the content of {name}");
    host.image(name, &Image::new(PLAIN).file("opt/unique", content))
}

/// Pushes an image to the registry with TLS and a password; its reference.
fn pushed(host: &Host, name: &str) -> String {
    let layout = image(host, name);
    let creds = format!("--dest-creds={USER}:{PASSWORD}");
    secured()
        .registry
        .push_with(&layout.reference, &format!("{name}:1"), &[&creds])
}

/// A directory with the CA of the registry with TLS.
fn cert_dir(host: &Host) -> String {
    let dir = host.beside("certs");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("ca.crt"), &secured().ca).unwrap();
    format!("--cert-dir={}", dir.display())
}

/// Installs the image with these options; what of it is then below the root.
fn installed(host: &Host, name: &str, options: &[&str], reference: &str) {
    host.ok(&[&["install", "--name", name], options, &[reference]].concat());
    let path = format!("var/lib/bedplate/containers/{name}/1/rootfs/opt/unique");
    assert!(host.text(&path).starts_with("the content of "));
    host.ok(&["verify", name]);
}

#[test]
fn a_registry_with_tls_and_a_password() {
    let host = Host::new();
    let reference = pushed(&host, "secured");
    let address = &secured().registry.address;
    let certs = cert_dir(&host);
    let creds = format!("--creds={USER}:{PASSWORD}");
    installed(&host, "by-creds", &[&certs, &creds], &reference);

    let file = host.beside("auth.json");
    let authfile = format!("--authfile={}", file.display());
    process::tool(
        "skopeo",
        &[
            "login",
            &authfile,
            "--tls-verify=false",
            &format!("--username={USER}"),
            &format!("--password={PASSWORD}"),
            address,
        ],
    );
    installed(&host, "by-authfile", &[&certs, &authfile], &reference);
    installed(
        &host,
        "unverified",
        &["--tls-verify=false", &authfile],
        &reference,
    );

    // Where an operator puts them for good.
    let home = host.beside("home/.config/containers");
    let certs = home.join("certs.d").join(address);
    fs::create_dir_all(&certs).unwrap();
    fs::write(certs.join("ca.crt"), &secured().ca).unwrap();
    fs::copy(&file, home.join("auth.json")).unwrap();
    installed(&host, "by-files", &[], &reference);
    installed(&host, "verified", &["--tls-verify"], &reference);
}
