//! `bedplate.toml(5)`: the settings of a host.

use crate::cli::man::text::Page;
use crate::ops::config::documented;

/// The page.
pub(super) fn page() -> Vec<u8> {
    let mut page = Page::new(
        "bedplate.toml",
        "5",
        "settings of a host with system containers",
    );
    page.section("SYNOPSIS");
    for (path, what) in [
        ("/etc/bedplate/bedplate.toml", "the administrator's"),
        ("/run/bedplate/bedplate.toml", "until the next boot"),
        ("/usr/lib/bedplate/bedplate.toml", "the distribution's"),
        (
            "{/etc,/run,/usr/lib}/bedplate/bedplate.conf.d/*.conf",
            "drop-ins, over the file",
        ),
    ] {
        page.entry(path, what);
    }
    page.section("DESCRIPTION");
    page.paragraph(
        "`bedplate`(8) works without any settings. They are read at each command from the first of the files above \
         that is there, and from the drop-ins over it, in the order of their file names; of two drop-ins of one name \
         that of the stronger directory counts, and an empty file or a link to `/dev/null` masks the others. All are \
         TOML. An unknown section or key is an error that names the file and the line. `bedplate config` shows each \
         setting, its value, and where it comes from.",
    );
    page.section("SETTINGS");
    let mut section = String::new();
    for setting in documented() {
        let (head, key) = setting.name.split_once('.').unwrap_or_default();
        if head != section {
            head.clone_into(&mut section);
            page.subsection(&format!("[{head}]"));
        }
        let default = setting
            .default
            .map(|default| format!(" Default: `{default}`."));
        page.entry(
            key,
            &format!("{}.{}", setting.meaning, default.unwrap_or_default()),
        );
    }
    page.section("EXAMPLES");
    page.paragraph("Every setting with its default; as it is, this sets nothing:");
    page.example(include_str!("../../../examples/bedplate.toml"));
    page.see_also("bedplate(8), bedplate-config(8), bedplate-doctor(8), bedplate-contract(7)")
}
