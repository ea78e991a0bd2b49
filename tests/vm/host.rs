//! The host's side: programs run on it, the build's files, the environment that steers the tests.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};

/// The program under test, freshly built by cargo.
pub(crate) const BEDPLATE: &str = env!("CARGO_BIN_EXE_bedplate");

/// `BEDPLATE_KEEP=1`: guests stay up, directories stay.
pub(crate) fn keeps_guests() -> bool {
    env::var_os("BEDPLATE_KEEP").is_some_and(|value| value == "1")
}

/// A line for the person who runs the tests.
#[expect(clippy::print_stderr, reason = "the one place that does")]
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
}

/// A file of the project.
pub(crate) fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The folder that holds the build of the program under test.
fn build() -> &'static Path {
    Path::new(BEDPLATE).parent().unwrap_or(Path::new("."))
}

/// Cargo's target directory.
pub(crate) fn target() -> &'static Path {
    build().parent().unwrap_or(build())
}

/// Runs a program to its end and returns its stdout; any status but 0 is an error with its stderr.
pub(crate) fn output<S: AsRef<OsStr>>(
    program: S,
    argv: &[&str],
    last: Option<&Path>,
) -> Result<String> {
    let mut command = Command::new(&program);
    command.args(argv).args(last);
    finished(command)
}

/// As [`output`], in a directory.
pub(crate) fn output_in(dir: &Path, program: &str, argv: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(argv).current_dir(dir);
    finished(command)
}

fn finished(mut command: Command) -> Result<String> {
    command.stdin(Stdio::null());
    let output = command
        .output()
        .with_context(|| format!("running {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The launcher, linked statically: the one that `BEDPLATE_LAUNCH` names, else built here, once.
pub(crate) fn launcher() -> Result<&'static Path> {
    static LAUNCHER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    once(&LAUNCHER, || {
        if let Some(path) = env::var_os("BEDPLATE_LAUNCH") {
            let path = PathBuf::from(path);
            ensure!(
                path.is_file(),
                "BEDPLATE_LAUNCH names no file: `{}`",
                path.display()
            );
            return Ok(path);
        }
        static_program("--bin", "bedplate-launch")
    })
}

/// A directory with a crun for guests whose own does not work on this host, made once.
pub(crate) fn newer_crun() -> Result<&'static Path> {
    static CRUN: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    once(&CRUN, || {
        let directory = target().join("vm").join("crun");
        fs::create_dir_all(target().join("vm"))?;
        output(project("tests/vm/newer-crun"), &[], Some(&directory))?;
        Ok(directory)
    })
}

/// The program that small images hold, linked statically, built once.
pub(crate) fn payload() -> Result<&'static Path> {
    static PAYLOAD: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    once(&PAYLOAD, || static_program("--example", "vm-payload"))
}

/// What `make` gives, made by the first who asks; the error is everybody's.
pub(crate) fn once(
    cell: &'static OnceLock<Result<PathBuf, String>>,
    make: impl FnOnce() -> Result<PathBuf>,
) -> Result<&'static Path> {
    match cell.get_or_init(|| make().map_err(|error| format!("{error:#}"))) {
        Ok(path) => Ok(path),
        Err(error) => bail!("{error}"),
    }
}

/// Builds a program of this package so that it runs in any root file system. `kind` is cargo's option for it.
pub(crate) fn static_program(kind: &str, name: &str) -> Result<PathBuf> {
    let profile = match build().file_name().and_then(OsStr::to_str) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["rustc", "--quiet", kind, name, "--profile", profile])
        .arg("--manifest-path")
        .arg(project("Cargo.toml"))
        .arg("--target-dir")
        .arg(target())
        .args(["--", "-C", "target-feature=+crt-static"]);
    ensure!(cargo.status()?.success(), "{cargo:?}");
    let folder = if kind == "--example" { "examples" } else { "" };
    let built = build().join(folder).join(name);
    // The next ordinary build puts a dynamic one in its place.
    let kept = target().join("vm").join(name);
    fs::create_dir_all(target().join("vm"))?;
    let new = kept.with_extension(std::process::id().to_string());
    fs::copy(&built, &new).with_context(|| format!("copying `{}`", built.display()))?;
    fs::rename(&new, &kept)?;
    Ok(kept)
}
