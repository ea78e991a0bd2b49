//! The httpd example: a host's `/var/www` on its port 80, served by a payload that is not root, and there again after
//! an uninstall.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::guest::{Guest, Suite};
use crate::images;
use crate::product::{self, UP};
use crate::story::{Story, Told};

/// The stories of this file.
pub(crate) const STORIES: &[Told] = &[
    ("httpd-trixie", |story| httpd(story, Suite::Trixie)),
    ("httpd-bookworm", |story| httpd(story, Suite::Bookworm)),
];

const UNIT: &str = "httpd.service";
const PAGE: &str = "/var/www/index.html";

fn httpd(story: &Story, suite: Suite) -> Result<()> {
    let images = images::examples(&["httpd"])?;
    let mut guest = Guest::new(story, suite)?.bind(images, images::INSIDE);
    guest.start()?;
    product::only_what_works(&guest, suite)?;
    for runtime in suite.runtimes()? {
        served_by(&guest, runtime).with_context(|| format!("with {runtime}"))?;
    }
    needs_its_port(&guest)
}

fn served_by(guest: &Guest, runtime: &str) -> Result<()> {
    let image = product::image("httpd");
    let install = ["install", "--now", "--runtime", runtime, &image];
    guest.write(PAGE, format!("before {runtime}\n"))?;
    product::does(guest, &install)?;
    // It is ready, so it answers: nobody has to ask twice.
    answers(guest, &format!("before {runtime}"))?;
    harmless(guest)?;
    guest.write(PAGE, "after\n")?;
    answers(guest, "after")?;
    product::wait_said(guest, UNIT, r#"127.0.0.1 "GET / HTTP/1.1" 200 6"#, 1)?;
    reloads(guest)?;
    product::nothing_resident(guest)?;

    product::does(guest, &["uninstall", "httpd"])?;
    product::is_gone(guest, &["httpd"])?;
    ensure!(guest.ok(&["cat", PAGE])? == "after");
    let nobody = guest.run(&["curl", "--silent", "http://127.0.0.1/"])?;
    ensure!(nobody.status == 7, "somebody still listens: {nobody:?}");

    product::does(guest, &install)?;
    answers(guest, "after")?;
    guest.ok(&["systemctl", "stop", UNIT])?;
    let result = guest.property(UNIT, "Result")?;
    ensure!(result == "success", "a stop ends with {result}");
    product::does(guest, &["uninstall", "httpd"])?;
    Ok(())
}

fn get(guest: &Guest) -> Result<String> {
    guest.ok(&[
        "curl",
        "--silent",
        "--fail",
        "--include",
        "http://127.0.0.1/",
    ])
}

fn answers(guest: &Guest, page: &str) -> Result<()> {
    let answer = get(guest)?;
    ensure!(answer.ends_with(&format!("\r\n\r\n{page}")), "{answer}");
    Ok(())
}

/// No process of it is root, has more than the one capability, or sees a page that it could write.
fn harmless(guest: &Guest) -> Result<()> {
    let main = guest.property(UNIT, "MainPID")?;
    ensure!(guest.ok(&["cat", &format!("/proc/{main}/comm")])? == "apache2");
    let group = guest.property(UNIT, "ControlGroup")?;
    let script = format!(
        r#"find "/sys/fs/cgroup{group}" -name cgroup.procs -exec cat {{}} + | while read -r pid; do
            awk '/^(Uid|CapBnd):/ {{ print $1, $2 }}' "/proc/$pid/status"
        done | sort -u"#
    );
    let is = guest.sh(&script)?;
    ensure!(is == "CapBnd: 0000000000000400\nUid: 33", "{is}");
    let mounts = guest.sh(&format!("grep ' /var/www ' /proc/{main}/mountinfo"))?;
    ensure!(mounts.contains(" ro,"), "{mounts}");
    Ok(())
}

/// The operator's own configuration counts after a reload, with the same main process.
fn reloads(guest: &Guest) -> Result<()> {
    let main = guest.property(UNIT, "MainPID")?;
    let before = get(guest)?;
    ensure!(!before.contains("X-Own"), "{before}");
    guest.write("/etc/httpd/conf.d/own.conf", "Header set X-Own yes\n")?;
    guest.ok(&["systemctl", "reload", UNIT])?;
    // The signal has been sent; what is not read yet is no event to an outsider.
    let end = Instant::now() + UP;
    while !get(guest)?.contains("X-Own: yes") {
        ensure!(
            Instant::now() < end,
            "not reloaded: {}",
            guest.journal(UNIT)?
        );
    }
    ensure!(
        guest.property(UNIT, "MainPID")? == main,
        "a reload restarted it"
    );
    guest.ok(&["rm", "/etc/httpd/conf.d/own.conf"])?;
    Ok(())
}

/// Where another one has the port, an install says so and leaves nothing behind.
fn needs_its_port(guest: &Guest) -> Result<()> {
    guest.sh(
        "systemd-run --quiet --unit=other --property=Type=exec busybox nc -ll -p 80 -e /bin/true
         until ss --listening --tcp --numeric --no-header 'sport = :80' | grep -q .; do sleep 0.05; done",
    )?;
    product::refuses(
        guest,
        &["install", "--now", &product::image("httpd")],
        &[
            "starting httpd.service: it exited with status 1",
            "Address already in use: AH00072: make_sock: could not bind to address 0.0.0.0:80",
        ],
    )?;
    product::is_gone(guest, &["httpd"])?;
    guest.ok(&["systemctl", "stop", "other.service"])?;
    Ok(())
}
