//! The rows as a picture, `bench.svg`: a panel for each scenario, in it a bar for each tool.

use std::fmt::Write as _;
use std::fs;

use anyhow::Result;

use crate::place;
use crate::rows::{Row, Spread};

/// Scenarios, and what a reader is told about them.
const TITLES: [(&str, &str); 9] = [
    ("cold-gzip", "First install: Debian base and etcd, gzip"),
    ("cold-zstd", "First install: the same, zstd"),
    ("cold-small", "First install: 41,000 small files"),
    ("cold-big", "First install: big files, 535 MB compressed"),
    (
        "update-rebuilt",
        "Update: every layer rebuilt, hardly a file changed",
    ),
    ("update-one-layer", "Update: one small layer changed"),
    ("noop", "Install of what is installed already"),
    ("start", "Start of a container, until it is ready"),
    (
        "downtime",
        "Update of a running etcd: time without an answer",
    ),
];

const WIDTH: f64 = 1240.0;
const PANEL: f64 = 605.0;
const BAR: f64 = 34.0;
/// Where bars begin and end in a panel.
const LEFT: f64 = 92.0;
const RIGHT: f64 = 330.0;

const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#222}.title{font-weight:600;font-size:14px}\
    .head{font-weight:600;font-size:20px}.note{fill:#666;font-size:12px}.own{font-weight:600}";

/// Writes the picture.
pub(crate) fn write(rows: &[Row]) -> Result<()> {
    fs::write(place::dir().join("bench.svg"), draw(rows))?;
    Ok(())
}

fn draw(rows: &[Row]) -> String {
    let mut body = String::new();
    let mut top = 92.0;
    for pair in panels(rows).chunks(2) {
        let mut height: f64 = 0.0;
        for (column, (title, rows)) in pair.iter().enumerate() {
            let left = if column == 0 {
                10.0
            } else {
                WIDTH - PANEL - 10.0
            };
            height = height.max(panel(&mut body, (left, top), title, rows));
        }
        top += height;
    }
    let runs = rows.iter().map(|row| row.runs).min().unwrap_or(0);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{top}\" \
         viewBox=\"0 0 {WIDTH} {top}\">\n<style>{STYLE}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text class=\"head\" x=\"10\" y=\"30\">bedplate and its peers: installing and starting the same images</text>\n\
         <text class=\"note\" x=\"10\" y=\"52\">Wide bar: wall time, the median of {runs} or more; the line through it \
         reaches from the fastest to the slowest run. Thin dark bar: CPU time, all processes.</text>\n\
         <text class=\"note\" x=\"10\" y=\"69\">Shorter is better. “floor” is what no install can do without: fetch, \
         inflate, hash, write files. One local registry; a fresh store each time.</text>\n\
         {body}</svg>\n"
    )
}

/// The rows of each scenario that was run, with its title.
fn panels(rows: &[Row]) -> Vec<(&'static str, Vec<&Row>)> {
    let of = |name: &str| rows.iter().filter(|row| row.scenario == name).collect();
    let all = TITLES.iter().map(|(name, title)| (*title, of(name)));
    all.filter(|(_, rows): &(_, Vec<&Row>)| !rows.is_empty())
        .collect()
}

/// Draws a panel; its height.
fn panel(body: &mut String, at: (f64, f64), title: &str, rows: &[&Row]) -> f64 {
    let (left, top) = at;
    text(body, "title", (left, top + 14.0), title);
    let longest = rows.iter().map(|row| row.wall_s.max.max(row.cpu_s.median));
    let longest = longest.fold(f64::MIN_POSITIVE, f64::max);
    let x = |seconds: f64| left + LEFT + (RIGHT - LEFT) * seconds / longest;
    let mut y = top + 26.0;
    for row in rows {
        let own = if row.tool == "bedplate" { "own" } else { "" };
        text(body, own, (left, y + 15.0), &row.tool);
        let fill = color(&row.tool);
        rect(
            body,
            (x(0.0), y),
            (x(row.wall_s.median) - x(0.0), 15.0),
            fill,
        );
        rect(
            body,
            (x(0.0), y + 17.0),
            (x(row.cpu_s.median) - x(0.0), 5.0),
            "#333",
        );
        let middle = y + 7.5;
        let _infallible = writeln!(
            body,
            "<path d=\"M{:.1} {middle:.1}H{:.1}\" stroke=\"#222\" stroke-width=\"1.5\"/>",
            x(row.wall_s.min),
            x(row.wall_s.max)
        );
        text(body, own, (left + RIGHT + 8.0, y + 12.0), &figures(row));
        y += BAR;
    }
    y - top + 14.0
}

/// What is written beside the bars.
fn figures(row: &Row) -> String {
    let mut text = format!("{} · CPU {}", time(row.wall_s), time(row.cpu_s));
    if let Some(helpers) = row.helpers {
        let _infallible = write!(text, " · {} helpers", helpers.median);
    } else if let Some(disk) = row.disk_mb {
        let sign = if row.scenario.starts_with("update") {
            "+"
        } else {
            ""
        };
        let _infallible = write!(text, " · {sign}{} disk", megabytes(disk.median));
    }
    text
}

fn time(spread: Spread) -> String {
    if spread.median < 1.0 {
        format!("{:.0} ms", spread.median * 1e3)
    } else {
        format!("{:.1} s", spread.median)
    }
}

fn megabytes(size: f64) -> String {
    let digits = usize::from(size < 10.0);
    format!("{size:.digits$} MB")
}

fn color(tool: &str) -> &'static str {
    match tool {
        "bedplate" => "#2f7ed8",
        "floor" | "native" | "skopeo" => "#c9ccd1",
        _ => "#e8a24a",
    }
}

fn text(body: &mut String, class: &str, at: (f64, f64), text: &str) {
    let _infallible = writeln!(
        body,
        "<text class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\">{text}</text>",
        at.0, at.1
    );
}

fn rect(body: &mut String, at: (f64, f64), size: (f64, f64), fill: &str) {
    let _infallible = writeln!(
        body,
        "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"1.5\" fill=\"{fill}\"/>",
        at.0,
        at.1,
        size.0.max(1.0),
        size.1
    );
}
