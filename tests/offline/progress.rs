//! `--progress-fd`: lines of JSON for whoever draws the progress, who holds up nothing.

use std::fs;
use std::io::{Read, pipe};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::host::Host;
use crate::layout::{Image, Layout, PLAIN};
use crate::process::{self, Run};
use crate::schema;

/// An image of so many layers.
fn layered(host: &Host, name: &str, layers: u8) -> Layout {
    let image = |n: u8| Image::bare().file(&format!("srv/{n}"), crate::df::noise(n + 1, 20_000));
    let lower = (1..layers).fold(image(0), |below, n| image(n).over(&below));
    host.image(name, &Image::new(PLAIN).over(&lower))
}

/// Lets a shell run `pull` of the images; `$TO` is the path.
fn pull(host: &Host, images: &[&Layout], script: &str, to: &Path) -> Run {
    let mut args = vec!["pull", "--json", "--progress-fd=9"];
    args.extend(images.iter().map(|image| image.reference.as_str()));
    let bedplate = host.command(&args);
    let mut shell = Command::new("sh");
    shell
        .args(["-c", script, "sh"])
        .arg(bedplate.get_program())
        .args(bedplate.get_args());
    host.environment(&mut shell);
    process::run(shell.env("TO", to))
}

fn lines(text: &str) -> Vec<Value> {
    let parsed = text.lines().map(|line| {
        let event = serde_json::from_str(line).unwrap();
        schema::check_event(&event);
        event
    });
    parsed.collect()
}

#[test]
fn every_layer_is_told_of_from_its_begin_to_its_end() {
    let host = Host::new();
    let image = layered(&host, "etcd", 4);
    let to = host.beside("progress");
    fs::write(
        &to,
        "{\"event\":\"step\",\"text\":\"what was there stays\"}\n",
    )
    .unwrap();
    let run = pull(&host, &[&image], r#"exec "$@" 9>>"$TO""#, &to);
    // People are told as ever.
    assert!(
        run.stderr.contains("stored layer sha256:"),
        "{}",
        run.stderr
    );
    let pulled: Value = serde_json::from_str(&run.ok()).unwrap();
    let events = lines(&fs::read_to_string(&to).unwrap());
    assert_eq!(events[0]["text"], "what was there stays");
    let layers = pulled["images"][0]["fetched"].as_array().unwrap();
    assert_eq!(layers.len(), 5);
    for layer in layers {
        let of_it: Vec<_> = events
            .iter()
            .filter(|event| event["digest"] == layer["digest"])
            .collect();
        let (first, last) = (of_it[0], of_it[of_it.len() - 1]);
        assert_eq!(
            (&first["event"], &first["size"]),
            (&"layer-begin".into(), &layer["size"])
        );
        assert_eq!(last["event"], "layer-done");
        let counts: Vec<_> = of_it[1..of_it.len() - 1]
            .iter()
            .map(|event| event["bytes"].as_u64().unwrap())
            .collect();
        assert!(counts.is_sorted(), "{counts:?}");
        assert_eq!(counts.last().copied(), layer["size"].as_u64());
    }
}

#[test]
fn a_check_is_told_of() {
    let host = Host::new();
    let image = layered(&host, "etcd", 2);
    host.ok(&["install", &image.reference]);
    let to = host.beside("progress");
    let verify = host.command(&["verify", "--progress-fd", "9"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"exec "$@" 9>"$TO""#, "sh"]);
    shell.arg(verify.get_program()).args(verify.get_args());
    host.environment(&mut shell);
    process::run(shell.env("TO", &to)).ok();
    let events = lines(&fs::read_to_string(&to).unwrap());
    let kinds: Vec<_> = events
        .iter()
        .map(|e| e["event"].as_str().unwrap())
        .collect();
    let position = |kind: &str| kinds.iter().position(|k| *k == kind).unwrap();
    assert!(
        position("check-begin") < position("check-bytes"),
        "{kinds:?}"
    );
    assert_eq!(kinds[kinds.len() - 2..], ["check-done", "done"]);
    let counted = events
        .iter()
        .rfind(|e| e["event"] == "check-bytes")
        .unwrap();
    assert_eq!(counted["bytes"], counted["size"]);
}

#[test]
fn a_failure_is_told_last() {
    let host = Host::new();
    let missing = "oci:/nowhere:latest";
    let to = host.beside("progress");
    let bedplate = host.command(&["pull", "--progress-fd=9", missing]);
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"exec "$@" 9>"$TO""#, "sh"]);
    shell.arg(bedplate.get_program()).args(bedplate.get_args());
    host.environment(&mut shell);
    let run = process::run(shell.env("TO", &to));
    let said = run.failed(1);
    let events = lines(&fs::read_to_string(&to).unwrap());
    let last = events.last().unwrap();
    assert_eq!(last["event"], "failed");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let told = format!(
        "error: {}\nhint: {}",
        text(&last["error"]),
        text(&last["hints"][0])
    );
    assert_eq!(said, told);
    assert_eq!(last["exit"], 1);
}

#[test]
fn a_failure_is_json_where_that_is_asked_for() {
    let host = Host::new();
    let missing = "oci:/nowhere:latest";
    let run = host.run(&["pull", "--json", missing]);
    assert_eq!((run.status, run.stdout.as_str()), (1, ""));
    let last: Value = serde_json::from_str(run.stderr.lines().last().unwrap()).unwrap();
    let causes: Vec<_> = last["causes"].as_array().unwrap().iter().collect();
    assert_eq!(causes[0], &format!("opening `{missing}`"));
    assert!(
        last["error"]
            .as_str()
            .unwrap()
            .starts_with(causes[0].as_str().unwrap())
    );
    assert!(!last["hints"].as_array().unwrap().is_empty());
    let usage = host.run(&["pull", "--json", "--dry-rum", missing]);
    assert_eq!(
        (usage.status, usage.stderr.as_str()),
        (
            2,
            "{\"error\":\"unexpected argument '--dry-rum' found\",\
             \"causes\":[\"unexpected argument '--dry-rum' found\"],\
             \"hints\":[\"a similar argument exists: '--dry-run'\"],\"exit\":2}\n"
        )
    );
}

/// A pipe that is soon full, and nobody reads.
#[test]
fn a_reader_who_does_not_read_holds_up_nothing() {
    let host = Host::new();
    let images: Vec<_> = (0..8)
        .map(|n| layered(&host, &format!("image{n}"), 3))
        .collect();
    let (mut reader, writer) = pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
    let own = format!("/proc/{}/fd/{}", std::process::id(), writer.as_raw_fd());
    let images: Vec<_> = images.iter().collect();
    pull(&host, &images, r#"exec "$@" 9>"$TO""#, &PathBuf::from(own)).ok();
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    // What fitted is whole up to the last line.
    let whole = &text[..=text.rfind('\n').unwrap()];
    assert!(!lines(whole).is_empty());
}

#[test]
fn a_reader_who_is_gone_is_no_error() {
    let host = Host::new();
    let image = layered(&host, "etcd", 3);
    let status = host.beside("status");
    let script = r#"{ "$@" 9>&1 >/dev/null; echo "$?" >"$TO"; } | true"#;
    let run = pull(&host, &[&image], script, &status);
    assert_eq!(
        fs::read_to_string(&status).unwrap(),
        "0\n",
        "{}",
        run.stderr
    );
    host.ok(&["install", "--pull=never", &image.reference]);
}

#[test]
fn a_wrong_descriptor_is_wrong_usage() {
    let host = Host::new();
    for (number, why) in [
        ("1", "give the number of a descriptor above 2"),
        ("77", "descriptor 77 is not open"),
    ] {
        let run = host.run(&["list", "--progress-fd", number]);
        let said = run.failed(2);
        let expected = format!("error: invalid value '{number}' for '--progress-fd <FD>': {why}");
        assert!(said.starts_with(&expected), "{said}");
    }
}
