//! Manual pages and completions: made from the definitions of the command line, complete, and of good form.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::host::BEDPLATE;
use crate::process::{run, tool};
use crate::store::names;

#[test]
fn every_verb_has_a_manual_page_of_good_form() {
    let dir = tempfile::tempdir().unwrap();
    tool(BEDPLATE, &["man", dir.path().to_str().unwrap()]);
    let pages = names(dir.path());
    for page in [
        "bedplate.8",
        "bedplate-install.8",
        "bedplate-images-show.8",
        "bedplate.toml.5",
        "bedplate-contract.7",
    ] {
        assert!(pages.iter().any(|name| name == page), "{page}: {pages:?}");
    }
    assert!(!pages.iter().any(|page| page == "bedplate-man.8"));
    let help = tool(BEDPLATE, &["--help"]);
    let verbs = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    for verb in verbs.take_while(|line| !line.is_empty()) {
        let verb = verb.split_whitespace().next().unwrap();
        let page = format!("bedplate-{verb}.8");
        assert!(verb == "help" || pages.contains(&page), "{page}: {pages:?}");
    }
    for page in &pages {
        let path = dir.path().join(page);
        let path = path.to_str().unwrap();
        let said = run(Command::new("groff").args(["-man", "-ww", "-z", "-Tutf8", path]));
        assert_eq!((said.status, said.stderr.as_str()), (0, ""), "{page}");
        let said = run(Command::new("mandoc").args(["-Tlint", "-Wwarning", path]));
        // A page has no date: the version says what it describes.
        let faults = said
            .stdout
            .lines()
            .filter(|line| !line.contains("missing date"));
        assert_eq!(faults.collect::<Vec<_>>(), [""; 0], "{page}");
    }
    let main = fs::read_to_string(dir.path().join("bedplate.8")).unwrap();
    assert!(main.contains("\n.SH FILES\n"), "{main}");
    let text = fs::read_to_string(dir.path().join("bedplate-exec.8")).unwrap();
    for part in [
        "SYNOPSIS",
        "OPTIONS",
        "EXAMPLES",
        "\"EXIT STATUS\"",
        "\"SEE ALSO\"",
    ] {
        assert!(text.contains(&format!(".SH {part}\n")), "{part}: {text}");
    }
}

#[test]
fn the_pages_of_files_have_what_the_program_reads() {
    let dir = tempfile::tempdir().unwrap();
    tool(BEDPLATE, &["man", dir.path().to_str().unwrap()]);
    let shown = |page: &str| {
        let path = dir.path().join(page);
        let path = path.to_str().unwrap();
        let text = tool("mandoc", &["-Tascii", "-Owidth=200", path]);
        // Bold is overstruck.
        let plain: Vec<&str> = text.split('\u{8}').collect();
        let kept = plain.iter().enumerate().map(|(n, part)| {
            let cut = part.len() - usize::from(n + 1 < plain.len());
            part[..cut].to_owned()
        });
        let text: String = kept.collect();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let settings = shown("bedplate.toml.5");
    for text in [
        "[network] timeout how long",
        "Default: 60s.",
        "[store] integrity what",
    ] {
        assert!(settings.contains(text), "{text}: {settings}");
    }
    let contract = shown("bedplate-contract.7");
    for text in [
        "/exports/manifest.toml The manifest",
        "contract (integer) The contract version, 1. Required.",
        "[values.NAME]",
        "[container] What the container may do and see.",
        "network (one of) The network namespace. Default: \"host\". host: The host's. private: One of its own.",
        "[service.directories.runtime]",
        "http: A URL that must answer 2xx",
        "state_dir Below /var/lib",
    ] {
        assert!(contract.contains(text), "{text}: {contract}");
    }
}

/// The texts for people in these directories and below.
fn documents() -> Vec<PathBuf> {
    let own = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"];
    let mut found: Vec<PathBuf> = own.map(PathBuf::from).to_vec();
    let mut left = ["docs", "examples", "tests"].map(PathBuf::from).to_vec();
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|e| e == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// The text without its examples and without what is set as code.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let lines = text.lines().filter(|line| {
        let fence = line.starts_with("```");
        fenced ^= fence;
        !fenced && !fence && !line.starts_with("    ")
    });
    let text: Vec<&str> = lines.collect();
    let text = text.join("\n");
    text.split('`').step_by(2).collect()
}

/// The anchors of a text's headings, as GitHub makes them.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = |c: &char| c.is_alphanumeric() || "-_ ".contains(*c);
            title
                .chars()
                .filter(kept)
                .collect::<String>()
                .replace(' ', "-")
        })
        .collect()
}

#[test]
fn every_link_of_a_document_leads_somewhere() {
    let mut links = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for rest in prose(&text).split("](").skip(1) {
            let link = rest.split(')').next().unwrap();
            if link.starts_with("https://") {
                continue;
            }
            links += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => document.clone(),
                path => document.parent().unwrap().join(path),
            };
            let at = document.display();
            assert!(target.exists(), "{at}: `{link}`");
            if !anchor.is_empty() {
                let text = fs::read_to_string(&target).unwrap();
                let known = anchors(&text);
                assert!(
                    known.iter().any(|a| a == anchor),
                    "{at}: `{link}`: {known:?}"
                );
            }
        }
    }
    assert!(links > 30, "{links} links were seen");
}

#[test]
fn every_shell_can_read_its_completions() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = tool(BEDPLATE, &["completions", shell]);
        let path = dir.path().join(shell);
        fs::write(&path, script).unwrap();
        tool(shell, &["-n", path.to_str().unwrap()]);
    }
    let zsh = fs::read_to_string(dir.path().join("zsh")).unwrap();
    assert!(zsh.starts_with("#compdef bedplate\n"), "{zsh}");
}

/// What bash offers for the last of these words, through the script that it is given.
fn offered(dir: &Path, words: &[&str]) -> Vec<String> {
    let script = r#"
        PATH=$1:$PATH
        shift
        source <(bedplate completions bash)
        COMP_WORDS=(bedplate "$@") COMP_CWORD=$# COMP_TYPE=9
        _clap_complete_bedplate bedplate "${COMP_WORDS[COMP_CWORD]}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    let mut args = vec!["--norc", "-c", script, "bash", dir.to_str().unwrap()];
    args.extend(words);
    let said = tool("bash", &args);
    said.lines().map(str::to_owned).collect()
}

#[test]
fn bash_offers_verbs_options_and_their_values() {
    let dir = Path::new(BEDPLATE).parent().unwrap();
    assert_eq!(offered(dir, &["unin"]), ["uninstall"]);
    assert_eq!(offered(dir, &["images", "re"]), ["remove"]);
    assert_eq!(offered(dir, &["prune", "--dry"]), ["--dry-run"]);
    assert_eq!(
        offered(dir, &["completions", ""])[..3],
        ["bash", "zsh", "fish"]
    );
}
