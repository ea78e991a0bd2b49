//! `exec` and `logs`: a command in a running container is as one in a shell, and what a container has said is its
//! units' journal.

use anyhow::{Context, Result, ensure};

use crate::guest::{Guest, Output, Suite};
use crate::product;
use crate::story::{Story, Told};

/// The stories of this file.
pub(crate) const STORIES: &[Told] = &[
    ("inside-trixie", |story| inside(story, Suite::Trixie)),
    ("inside-bookworm", |story| inside(story, Suite::Bookworm)),
];

fn inside(story: &Story, suite: Suite) -> Result<()> {
    let mut guest = product::boot(story, suite)?;
    for runtime in product::runtimes(suite)? {
        told_by(&guest, runtime).with_context(|| format!("with {runtime}"))?;
    }
    product::does(&guest, &["install", "--now", &product::image("payload")])?;
    product::wait_said(&guest, "payload.service", "up", 1)?;
    let first = said(&guest, &["-b"])?;
    guest.reboot()?;
    remembers_boots(&guest, &first)
}

fn told_by(guest: &Guest, runtime: &str) -> Result<()> {
    let image = product::image("payload");
    product::does(guest, &["install", "--runtime", runtime, &image])?;
    needs_a_running_container(guest)?;
    product::does(guest, &["uninstall", "payload"])?;
    let args = [
        "install",
        "--now",
        "--set=USER=1000",
        "--runtime",
        runtime,
        &image,
    ];
    product::does(guest, &args)?;
    runs_as_the_payload(guest)?;
    runs_as_another(guest)?;
    keeps_its_status(guest)?;
    reads_what_it_is_given(guest)?;
    has_a_terminal(guest)?;
    stays_in_the_unit(guest)?;
    tells_what_was_said(guest)?;
    offers_names(guest)?;
    product::does(guest, &["uninstall", "payload"])?;
    product::is_gone(guest, &["payload"])
}

/// Runs the payload's program in the container once more, with these steps.
fn steps(guest: &Guest, options: &[&str], steps: &str) -> Result<Output> {
    let script = format!("SCRIPT={steps}");
    let command = ["--env", &script, "payload", "/payload"];
    product::bedplate(guest, &[&["exec"][..], options, &command].concat())
}

fn ends(output: &Output, status: i32, stdout: &str, stderr: &str) -> Result<()> {
    ensure!(
        output.status == status && output.stdout == stdout && output.stderr.contains(stderr),
        "{output:?} is not {status}, {stdout:?}, {stderr:?}"
    );
    Ok(())
}

fn needs_a_running_container(guest: &Guest) -> Result<()> {
    let output = steps(guest, &[], "say never")?;
    let expected =
        "error: `payload` is not running\nhint: `systemctl start payload.service` starts it";
    ends(&output, 125, "", expected)?;
    let output = product::bedplate(guest, &["exec", "nobody", "true"])?;
    ends(&output, 125, "", "error: `nobody` is not installed")
}

fn status_lines(output: &Output, key: &str) -> Result<String> {
    let line = output.stdout.lines().find_map(|l| l.strip_prefix(key));
    let line = line.with_context(|| format!("{key} in {output:?}"))?;
    Ok(line.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Its user, its capabilities, its environment but for what is between systemd and the payload.
fn runs_as_the_payload(guest: &Guest) -> Result<()> {
    let output = steps(guest, &[], "show /proc/self/status")?;
    ensure!(status_lines(&output, "Uid:")? == "1000 1000 1000 1000");
    ensure!(status_lines(&output, "CapEff:")?.chars().all(|c| c == '0'));
    ensure!(status_lines(&output, "NoNewPrivs:")? == "1");
    ensure!(status_lines(&output, "Seccomp:")? == "2");
    let output = steps(guest, &["--env=GREETING=hi"], "env GREETING; env PATH")?;
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    ends(&output, 0, &format!("GREETING=hi\nPATH={path}\n"), "")?;
    let output = steps(guest, &[], "env NOTIFY_SOCKET")?;
    ends(
        &output,
        0,
        "env NOTIFY_SOCKET: environment variable not found\n",
        "",
    )?;
    let output = steps(guest, &["--workdir=/etc"], "show group")?;
    ends(&output, 0, "root:x:0:\nuser:x:1000:\n", "")
}

fn runs_as_another(guest: &Guest) -> Result<()> {
    let output = steps(guest, &["--user=root"], "show /proc/self/status")?;
    ensure!(status_lines(&output, "Uid:")? == "0 0 0 0");
    let output = steps(guest, &["-u", "user:0"], "show /proc/self/status")?;
    ensure!(status_lines(&output, "Uid:")? == "1000 1000 1000 1000");
    ensure!(status_lines(&output, "Gid:")? == "0 0 0 0");
    let output = steps(guest, &["--user=nobody"], "say never")?;
    let expected = "error: no user `nobody` in `/etc/passwd` of the image";
    ends(&output, 125, "", expected)
}

fn keeps_its_status(guest: &Guest) -> Result<()> {
    ends(&steps(guest, &[], "say x; exit 7")?, 7, "x\n", "")?;
    let missing = product::bedplate(guest, &["exec", "payload", "ls"])?;
    ends(
        &missing,
        127,
        "",
        "error: the container has no command `ls`",
    )?;
    let data = product::bedplate(guest, &["exec", "payload", "--", "/etc/passwd"])?;
    ends(&data, 126, "", "error: `/etc/passwd` is no program")?;
    let nowhere = steps(guest, &["--workdir=/nowhere"], "say never")?;
    ends(
        &nowhere,
        126,
        "",
        "error: the container has no directory `/nowhere`",
    )
}

fn reads_what_it_is_given(guest: &Guest) -> Result<()> {
    let exec = |options: &str| {
        let command = "-e 'SCRIPT=show /dev/stdin; terminal' payload -- /payload";
        guest.sh(&format!("echo given | bedplate exec {options} {command}"))
    };
    let said = exec("-i")?;
    ensure!(said == "given\nterminal=false", "{said}");
    let said = exec("")?;
    ensure!(said == "terminal=false", "{said}");
    let terminal = steps(guest, &["--tty"], "say never")?;
    ends(
        &terminal,
        125,
        "",
        "error: `--tty` needs a terminal, and standard input is none",
    )
}

/// util-linux's script(1) is a terminal.
fn has_a_terminal(guest: &Guest) -> Result<()> {
    let exec = "bedplate exec -it -e SCRIPT='terminal; env TERM; exit 3' payload /payload";
    let script = format!(
        "TERM=vt220 script --quiet --return --command \"{exec}\" /dev/null </dev/null || echo status=$?"
    );
    let said = guest.sh(&script)?;
    // The end of script(1)'s own input is echoed somewhere, as `^D` or `^@`.
    let shown = said.replace("^D", "").replace("^@", "");
    let shown = shown.replace(|c: char| c.is_control() && c != '\n', "");
    ensure!(shown == "terminal=true\nTERM=vt220\nstatus=3", "{said:?}");
    Ok(())
}

/// A command that runs on is the unit's: a stop ends it as well.
fn stays_in_the_unit(guest: &Guest) -> Result<()> {
    // Not to the journal: whose lines these are, the caller's or the container's, systemd sees differently by version.
    let begin =
        "systemd-run --quiet --unit=outside --property=StandardOutput=truncate:/run/outside \
         bedplate exec -e 'SCRIPT=say begun; wait' payload /payload
         until grep -q begun /run/outside; do sleep 0.05; done";
    guest.sh(begin)?;
    guest.ok(&["systemctl", "stop", "payload.service"])?;
    guest.wait_property("outside.service", "ActiveState", "failed", product::UP)?;
    guest.ok(&["systemctl", "reset-failed", "outside.service"])?;
    guest.ok(&["systemctl", "start", "payload.service"])?;
    Ok(())
}

/// What `bedplate logs` shows of the payload.
fn said(guest: &Guest, options: &[&str]) -> Result<String> {
    guest.ok(&["journalctl", "--sync"])?;
    product::does(guest, &[&["logs", "payload"][..], options].concat())
}

fn tells_what_was_said(guest: &Guest) -> Result<()> {
    let all = said(guest, &["--output=cat"])?;
    let lines: Vec<&str> = all.lines().collect();
    for line in ["up", "bye"] {
        ensure!(lines.contains(&line), "{line}: {all}");
    }
    // What systemd has said about it, too.
    ensure!(
        lines.iter().any(|line| line.starts_with("Started ")),
        "{all}"
    );
    let unit = guest.ok(&["journalctl", "--unit=payload.service", "--output=cat"])? + "\n";
    ensure!(unit.starts_with(&all), "{all} is not how {unit} begins");
    let last = said(guest, &["-n", "1", "-o", "cat"])?;
    ensure!(last.lines().count() == 1, "{last}");
    let up = said(guest, &["--grep=^up$", "--output=cat"])?;
    ensure!(
        !up.is_empty() && up.lines().all(|line| line == "up"),
        "{up}"
    );
    let json = said(guest, &["--json", "-n", "2"])?;
    for line in json.lines() {
        let entry: serde_json::Value = serde_json::from_str(line)?;
        ensure!(entry["MESSAGE"].is_string(), "{line}");
    }
    let future = said(guest, &["--since=+1h", "--output=cat"])?;
    ensure!(!future.contains("up"), "{future}");
    let output = product::bedplate(guest, &["logs", "nobody"])?;
    ends(
        &output,
        1,
        "",
        "error: `nobody` is not installed\nhint: `bedplate list` shows what is; `journalctl --unit nobody.service`",
    )
}

/// What bash offers for the beginning of a container's name, through the script that it is given.
fn offers_names(guest: &Guest) -> Result<()> {
    let offered = guest.sh(r#"source <(bedplate completions bash)
           COMP_WORDS=(bedplate show pay) COMP_CWORD=2 COMP_TYPE=9
           _clap_complete_bedplate bedplate pay
           echo "${COMPREPLY[@]}""#)?;
    ensure!(offered == "payload", "{offered}");
    Ok(())
}

fn remembers_boots(guest: &Guest, first: &str) -> Result<()> {
    let earlier = said(guest, &["--boot=-1"])?;
    ensure!(
        earlier.starts_with(first),
        "{earlier} does not begin as {first}"
    );
    let this = said(guest, &["-b", "--output=cat"])?;
    ensure!(this.lines().any(|line| line == "up"), "{this}");
    ensure!(!earlier.contains(&this));
    Ok(())
}
