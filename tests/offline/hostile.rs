//! What an image or a failing disk asks for that no host should pay for: words that forge output, small archives that
//! become large in memory, lists that lie.

use std::fs;

use crate::damage::objects;
use crate::host::Host;
use crate::layout::{Image, PLAIN};
use crate::store::assert_no_garbage;

/// What a name would do to a terminal, and how it is shown.
const NAME: &str = "opt/\u{1b}[2J\u{202e}\nhint: run this";
const SHOWN: &str = r"opt/\u{1b}[2J\u{202e}\nhint: run this";

#[test]
fn words_of_an_image_are_no_commands_to_a_terminal() {
    let host = Host::new();
    let layout = host.image("fifo", &Image::new(PLAIN).fifo(NAME));
    let said = host.run(&["install", &layout.reference]);
    assert!(
        said.stderr.contains(&format!("sockets: `{SHOWN}`\n")),
        "{}",
        said.stderr
    );
    said.ok();

    let layout = host.image("link", &Image::new(PLAIN).hardlink(NAME, "opt/nothing"));
    let error = format!(
        "error: importing `{}`: layer {}: entry `{SHOWN}`: it is a hard link to `opt/nothing`, which is no file of the \
         image",
        layout.reference, layout.layer
    );
    host.refused(&["install", &layout.reference], &error);
}

/// A path of a few bytes, hundreds of directories: a megabyte of them would be gigabytes of memory.
#[test]
fn what_paths_imply_has_a_limit() {
    let host = Host::new();
    let below = "d/".repeat(200);
    let files = (0..600).fold(Image::new(PLAIN), |image, i| {
        image.file(&format!("{i}/{below}f"), "")
    });
    let layout = host.image("implied", &files);
    let said = host.fails(&["install", &layout.reference]);
    assert!(
        said.ends_with("the image has more than 100000 directories that only paths imply"),
        "{said}"
    );
    assert_eq!(host.ok(&["list", "--json"]).trim(), "[]");
    host.ok(&["prune"]);
    assert_no_garbage(&host);
}

#[test]
fn users_are_no_mass_data() {
    let host = Host::new();
    let passwd = format!("root:x:0:0::/:\n{}", "#\n".repeat(3 << 20));
    let image = Image::new("contract = 1\n[container]\nuser = 'app'\n").file("etc/passwd", passwd);
    let layout = host.image("users", &image);
    let said = host.fails(&["install", &layout.reference]);
    assert!(
        said.contains("reading `/etc/passwd` of the image: ")
            && said.contains("it has more than 4194304 bytes"),
        "{said}"
    );
}

/// The list of a layer's entries is what new images are made of; a damaged one would be true from then on.
#[test]
fn no_image_is_made_of_a_damaged_list() {
    let host = Host::new();
    let base = Image::bare().file("opt/shared", "shared\n");
    let image = |name: &str| {
        let top = Image::default().file(&format!("opt/{name}"), name);
        top.write_over(&base, &host.beside(name)).0
    };
    let (one, two) = (image("one"), image("two"));
    host.ok(&["install", &one.reference]);
    let list = objects(&host).into_iter().find(|object| {
        let content = fs::read(object).unwrap_or_default();
        content.starts_with(b"{\"format\"") && contains(&content, b"opt/shared")
    });
    let list = list.unwrap();
    let whole = fs::read(&list).unwrap();
    let text = String::from_utf8(whole.clone()).unwrap();
    fs::write(&list, text.replace("opt/shared", "opt/sharee")).unwrap();
    let said = host.fails(&["pull", &two.reference]);
    let sum = list.strip_prefix(host.at("var/lib/bedplate/repo/objects"));
    let sum = sum.unwrap().to_str().unwrap().replace('/', "");
    let sum = sum.trim_end_matches(".file");
    assert!(
        said.contains(&format!(
            "reading its list of entries: the object {sum} is damaged\nhint: `bedplate repair`"
        )),
        "{said}"
    );
    let images = host.ok(&["images", "--json"]);
    assert!(!images.contains(&two.reference), "{images}");
    host.ok(&["repair"]);
    assert_eq!(fs::read(&list).unwrap(), whole);
    host.ok(&["pull", &two.reference]);
    host.ok(&["verify", "--all-images"]);
}

fn contains(content: &[u8], part: &[u8]) -> bool {
    content.windows(part.len()).any(|window| window == part)
}
