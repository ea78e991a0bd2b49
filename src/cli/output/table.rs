//! Columns for people.

use crate::cli::output::plain;

/// Rows under a header, each column as wide as its widest cell.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = header.map(str::len);
    let rows: Vec<[String; N]> = rows
        .iter()
        .map(|row| row.each_ref().map(|cell| plain::line(cell).into_owned()))
        .collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let header = header.map(str::to_owned);
    for row in std::iter::once(&header).chain(&rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let padding = width - cell.chars().count() + 2;
            line.extend([cell.as_str(), &" ".repeat(padding)]);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The beginning of a digest, as people compare them: `sha256:` and twelve digits.
pub(crate) fn short(digest: &str) -> &str {
    match digest.split_once(':') {
        Some((algorithm, hex)) if hex.len() > 12 => &digest[..=algorithm.len() + 12],
        _ => digest,
    }
}

/// A line of what is known of one thing: its name, in a column of its own, and its value.
pub(crate) fn field(name: &str, value: &str) -> String {
    format!("  {name:<12}{}", plain::line(value))
        .trim_end()
        .to_owned()
}

/// The text, or a dash for none.
pub(crate) fn or_dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [
            ["etcd".to_owned(), "active".to_owned()],
            ["x".to_owned(), String::new()],
        ];
        assert_eq!(
            table(["NAME", "STATE"], &rows),
            "NAME  STATE\netcd  active\nx\n"
        );
        assert_eq!(short("sha256:0123456789abcdef"), "sha256:0123456789ab");
        assert_eq!(short("x"), "x");
    }
}
