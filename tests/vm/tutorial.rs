//! `docs/tutorial.md`, word by word: what it tells the reader to write is written, what it tells to run is run, and
//! what it shows is what comes out.
//!
//! | fence | is |
//! |---|---|
//! | `LANGUAGE FILE` | the content of a file in the folder |
//! | `diff FILE` | changes of one: lines that stay, go and come |
//! | `sh` | a script for where the image is made, here the test's own machine, by `tutorial-build` |
//! | `console` | commands after `# ` and their output, in a booted guest that sees the folder. `…` in a line is any text, `…` alone any lines |
//!
//! What the text between the blocks tells to run is run at the end if it only looks; anything else of bedplate's or
//! systemd's must be the beginning of a command in a block.
//!
//! A command may fail if its output as shown begins with an error or with a program's name. One that only looks
//! (`curl`, `journalctl`) is run again until it shows what it should.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::guest::{Guest, Suite};
use crate::host;
use crate::product::{self, UP};
use crate::story::{Story, Told};

/// The stories of this file.
pub(crate) const STORIES: &[Told] = &[("tutorial-trixie", tutorial)];

/// The folder as the guest sees it.
const FOLDER: &str = "/root/httpd";

/// Within which a command of a guest must have ended, an install included.
const COMMAND: Duration = Duration::from_mins(3);

/// What the reader ends up with is this example, so these files are its.
const SAME: &[&str] = &[
    "httpd.conf",
    "httpd-log",
    "exports/manifest.toml",
    "exports/tmpfiles.hbs",
];

/// One fenced block.
#[derive(Debug)]
struct Block {
    language: String,
    file: Option<String>,
    text: String,
    line: usize,
}

/// A command, and what it is said to print.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    command: String,
    output: Vec<String>,
}

fn tutorial(story: &Story) -> Result<()> {
    let text = fs::read_to_string(host::project("docs/tutorial.md"))?;
    let folder = story.dir().join("home/httpd");
    fs::create_dir_all(&folder)?;
    let mut guest = Guest::new(story, Suite::Trixie)?.bind(&folder, FOLDER);
    guest.start()?;
    product::only_what_works(&guest, Suite::Trixie)?;
    let storage = storage(story.dir())?;
    for block in blocks(&text) {
        followed(&block, &folder, &storage, &guest)
            .with_context(|| format!("docs/tutorial.md, block at line {}", block.line))?;
    }
    spoken(&text, &guest)?;
    for file in SAME {
        let example = fs::read_to_string(host::project("examples/httpd").join(file))?;
        let written = fs::read_to_string(folder.join(file))?;
        ensure!(written == example, "{file} is not that of examples/httpd");
    }
    Ok(())
}

fn followed(block: &Block, folder: &Path, storage: &Path, guest: &Guest) -> Result<()> {
    match (block.language.as_str(), &block.file) {
        ("diff", Some(file)) => {
            let path = folder.join(file);
            let new = changed(&fs::read_to_string(&path)?, &block.text)?;
            fs::write(&path, new).context("writing what has changed")
        }
        (_, Some(file)) => fs::write(folder.join(file), &block.text).context("writing the file"),
        ("sh", None) => build(&block.text, folder, storage),
        ("console", None) => shown(&block.text)
            .iter()
            .try_for_each(|shown| run(guest, shown)),
        (language, None) => anyhow::bail!("what is a block of `{language}`?"),
    }
}

/// All fenced blocks, in order.
fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for (at, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), open) {
            (Some(info), false) => {
                let (language, file) = info.split_once(' ').unwrap_or((info, ""));
                blocks.push(Block {
                    language: language.to_owned(),
                    file: (!file.is_empty()).then(|| file.to_owned()),
                    text: String::new(),
                    line: at + 1,
                });
                open = true;
            }
            (Some(_), true) => open = false,
            (None, true) => {
                if let Some(block) = blocks.last_mut() {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
            }
            (None, false) => {}
        }
    }
    blocks
}

/// The commands in the text between the blocks.
fn spoken(text: &str, guest: &Guest) -> Result<()> {
    let blocks = blocks(text);
    let commands: Vec<Shown> = blocks.iter().flat_map(|block| shown(&block.text)).collect();
    let prose = text.split("```").step_by(2);
    for words in prose.flat_map(|prose| prose.split('`').skip(1).step_by(2)) {
        let begins = |programs: &[&str]| {
            let program = words.split_once(' ').map(|(program, _)| program);
            program.is_some_and(|program| programs.contains(&program))
        };
        if begins(&["journalctl", "ss", "ls"]) {
            guest.sh(words).with_context(|| format!("`{words}`"))?;
        }
        // `--set KEY=VALUE` stands for any.
        let words = words.split(" --set KEY").next().unwrap_or(words);
        let is_shown = || {
            commands
                .iter()
                .any(|shown| shown.command.starts_with(words))
        };
        ensure!(
            !begins(&["bedplate", "systemctl"]) || is_shown(),
            "`{words}` is in no block"
        );
    }
    Ok(())
}

/// The file with the lines of a diff's ` ` and `-`, which it holds in one place, replaced by those of ` ` and `+`.
fn changed(file: &str, diff: &str) -> Result<String> {
    let side = |other: char| -> String {
        diff.split_inclusive('\n')
            .filter(|line| !line.starts_with(other))
            .filter_map(|line| line.get(1..))
            .collect()
    };
    let (old, new) = (side('+'), side('-'));
    ensure!(
        file.matches(&old).count() == 1,
        "not once in the file: {old}"
    );
    Ok(file.replacen(&old, &new, 1))
}

/// Where buildah keeps its layers: a place of the story's own.
fn storage(dir: &Path) -> Result<PathBuf> {
    let kind = host::output("stat", &["--file-system", "--format=%T"], Some(dir))?;
    let driver = if kind.trim() == "overlayfs" {
        "vfs"
    } else {
        "overlay"
    };
    let dir = dir.display();
    let text = format!(
        "[storage]\ndriver = \"{driver}\"\ngraphroot = \"{dir}/layers\"\nrunroot = \"{dir}/run\"\n"
    );
    let path = PathBuf::from(format!("{dir}/storage.conf"));
    fs::write(&path, text)?;
    Ok(path)
}

/// Runs a script in the folder; one that makes the folder is run above it.
fn build(script: &str, folder: &Path, storage: &Path) -> Result<()> {
    let dir = if script.starts_with("mkdir ") {
        folder.parent().context("a folder lies in another")?
    } else {
        folder
    };
    let storage = storage.display().to_string();
    let program = host::project("tests/vm/tutorial-build");
    let program = program.display().to_string();
    host::output_in(dir, &program, &[&storage, script])?;
    Ok(())
}

/// The commands of a console, each with the lines below it.
fn shown(text: &str) -> Vec<Shown> {
    let mut all: Vec<Shown> = Vec::new();
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("# ") {
            let (command, output) = (command.to_owned(), Vec::new());
            all.push(Shown { command, output });
        } else if let Some(last) = all.last_mut() {
            last.output.push(line.to_owned());
        }
    }
    all
}

fn run(guest: &Guest, shown: &Shown) -> Result<()> {
    let Shown { command, output } = shown;
    let looks = ["curl", "journalctl"]
        .iter()
        .any(|word| command.starts_with(word));
    let may_fail = output.first().is_some_and(|line| {
        ["error:", "curl:", "Unit "]
            .iter()
            .any(|w| line.starts_with(w))
    });
    let script = format!("cd {FOLDER} && {{ {command}\n}} 2>&1");
    let end = Instant::now() + UP;
    loop {
        let done = guest.run_with(&["bash", "-o", "pipefail", "-c", &script], COMMAND, &[])?;
        let lines: Vec<&str> = done.stdout.lines().map(str::trim_end).collect();
        let wanted: Vec<&str> = output.iter().map(String::as_str).collect();
        if matches(&wanted, &lines) && (done.status == 0) != may_fail {
            return Ok(());
        }
        ensure!(
            looks && Instant::now() < end,
            "`{command}`: status {}, and not what is shown but:\n{}",
            done.status,
            done.stdout
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Whether lines are those shown.
fn matches(shown: &[&str], lines: &[&str]) -> bool {
    match (shown.split_first(), lines.split_first()) {
        (None, _) => lines.is_empty(),
        (Some((&"…", rest)), _) => (0..=lines.len()).any(|skip| matches(rest, &lines[skip..])),
        (Some((first, rest)), Some((line, lines))) => fits(first, line) && matches(rest, lines),
        (Some(_), None) => false,
    }
}

/// Whether a line is one with `…` in it.
fn fits(shown: &str, line: &str) -> bool {
    let mut parts = shown.split('…');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}
