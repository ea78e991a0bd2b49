//! The graph as a picture.
//!
//! Own, since the crate for it (layout-rs 0.1.3) draws lines through its labels, knows one serif font, and
//! asserts where it should return errors; and since a console's users have no graphviz.

use std::fmt::Write as _;

use crate::order::draw::View;
use crate::order::draw::layout::{Layout, Room, layout};
use crate::order::{Node, States};

/// Sizes in pixels.
const MARGIN: f64 = 20.0;
const BOX: f64 = 50.0;
const ROOM: Room = Room {
    unit: 74.0,
    bend: 34.0,
};
const GAP: f64 = 110.0;
const PADDING: f64 = 16.0;
const LEGEND: f64 = 34.0;
/// Mean widths of a character; boxes are wider than their text, so a font that differs a little still fits.
const WIDE: f64 = 8.6;
const SMALL: f64 = 6.6;

const STYLE: &str = "\
<style>
text { font-family: system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #1f2933 }
.name { font-size: 15px; font-weight: 600; text-anchor: middle }
.note { font-size: 11px; fill: #52606d; text-anchor: middle }
.why { font-size: 11px; fill: #3e4c59; text-anchor: middle; stroke: #fff; stroke-width: 4px; paint-order: stroke }
.legend { font-size: 11px; fill: #52606d }
.container { fill: #eaf2fb; stroke: #2f6db0; stroke-width: 1.5 }
.host { fill: #f5f5f3; stroke: #8f8f88; stroke-width: 1.5 }
.failed { stroke: #c0392b }
.edge { fill: none; stroke: #52606d; stroke-width: 1.6 }
.order { stroke-dasharray: 5 4 }
</style>
<defs><marker id=\"tip\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" markerWidth=\"8\" markerHeight=\"8\" orient=\"auto\">\
<path d=\"M0 1 L10 5 L0 9 z\" fill=\"#52606d\"/></marker></defs>
";

/// A stand-alone SVG file: boxes from left to right, an arrow from each unit to those that wait for it, solid
/// where the start is pulled in. A legend below, a tool tip on each arrow.
pub(crate) fn svg(view: &View, states: &States) -> String {
    let depths = view.depths();
    let direct = view.direct();
    let page = Page {
        columns: columns(view, states, &depths),
        layout: layout(&depths, &direct, &ROOM),
        view,
        depths,
    };
    let width = page
        .columns
        .last()
        .map_or(0.0, |column| column.start + column.width)
        .max(MARGIN + LEGEND_WIDTH)
        + MARGIN;
    let height = page.layout.height + 2.0 * MARGIN + LEGEND;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"boot order\">\n{STYLE}\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#fff\"/>\n"
    );
    for &link in &direct {
        page.arrow(&mut out, link);
    }
    for index in 0..view.nodes.len() {
        page.unit(&mut out, index, states);
    }
    // Labels last: nothing runs through them.
    for &link in &direct {
        page.label(&mut out, link);
    }
    legend(&mut out, height - MARGIN);
    out.push_str("</svg>\n");
    out
}

/// A column of boxes, as wide as the widest.
struct Column {
    start: f64,
    width: f64,
}

fn columns(view: &View, states: &States, depths: &[usize]) -> Vec<Column> {
    let mut columns: Vec<Column> = Vec::new();
    for depth in 0..depths.iter().max().map_or(0, |deepest| deepest + 1) {
        let start = columns
            .last()
            .map_or(MARGIN, |before| before.start + before.width + GAP);
        let width = view
            .nodes
            .iter()
            .zip(depths)
            .filter(|(_, at)| **at == depth)
            .map(|(node, _)| {
                let name = text_width(node.name(), WIDE);
                name.max(text_width(&notes(node, states), SMALL)) + 2.0 * PADDING
            })
            .fold(110.0, f64::max);
        columns.push(Column { start, width });
    }
    columns
}

fn text_width(text: &str, character: f64) -> f64 {
    text.chars().map(|_| character).sum()
}

/// The small line of a box.
fn notes(node: &Node, states: &States) -> String {
    let mut notes = Vec::new();
    if node.is_host() {
        notes.push("host unit".to_owned());
    }
    if node.early {
        notes.push("early".to_owned());
    }
    if !node.provides.is_empty() {
        let roles: Vec<_> = node.provides.iter().map(String::as_str).collect();
        notes.push(format!("provides {}", roles.join(", ")));
    }
    notes.extend(states.get(&node.unit).cloned());
    notes.join(" · ")
}

struct Page<'a> {
    view: &'a View<'a>,
    depths: Vec<usize>,
    columns: Vec<Column>,
    layout: Layout,
}

impl Page<'_> {
    fn unit(&self, out: &mut String, index: usize, states: &States) {
        let node = self.view.nodes[index];
        let notes = notes(node, states);
        let failed = states
            .get(&node.unit)
            .is_some_and(|state| state == "failed");
        let Column { start, width } = self.columns[self.depths[index]];
        let (class, middle) = (
            if node.is_host() { "host" } else { "container" },
            start + width / 2.0,
        );
        let y = MARGIN + self.layout.units[index];
        let _ = writeln!(
            out,
            "<rect class=\"{class}{}\" x=\"{start:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{BOX}\" rx=\"7\"/>",
            if failed { " failed" } else { "" },
            y - BOX / 2.0
        );
        let base = if notes.is_empty() { y + 5.0 } else { y - 2.0 };
        let _ = writeln!(
            out,
            "<text class=\"name\" x=\"{middle:.1}\" y=\"{base:.1}\">{}</text>",
            escaped(node.name())
        );
        if !notes.is_empty() {
            let _ = writeln!(
                out,
                "<text class=\"note\" x=\"{middle:.1}\" y=\"{:.1}\">{}</text>",
                y + 15.0,
                escaped(&notes)
            );
        }
    }

    /// Where an arrow leaves and enters each column that it touches.
    fn points(&self, link: (usize, usize)) -> Vec<(f64, f64)> {
        let bends = self.layout.bends.get(&link).map_or(&[][..], Vec::as_slice);
        let first = &self.columns[self.depths[link.0]];
        let mut points = vec![(first.start + first.width, self.layout.units[link.0])];
        for (column, &y) in self.columns[self.depths[link.0] + 1..].iter().zip(bends) {
            points.push((column.start, y));
            points.push((column.start + column.width, y));
        }
        let last = &self.columns[self.depths[link.1]];
        points.push((last.start, self.layout.units[link.1]));
        points.iter().map(|(x, y)| (*x, MARGIN + y)).collect()
    }

    fn arrow(&self, out: &mut String, link: (usize, usize)) {
        let points = self.points(link);
        let mut path = String::new();
        for (at, pair) in points.windows(2).enumerate() {
            let [(x, y), (to_x, to_y)] = pair else {
                continue;
            };
            if at == 0 {
                let _ = write!(path, "M{x:.1} {y:.1}");
            }
            let middle = f64::midpoint(*x, *to_x);
            let _ = write!(
                path,
                " C{middle:.1} {y:.1} {middle:.1} {to_y:.1} {to_x:.1} {to_y:.1}"
            );
        }
        let class = if self.view.pulls(link) {
            "edge"
        } else {
            "edge order"
        };
        let _ = writeln!(
            out,
            "<path class=\"{class}\" marker-end=\"url(#tip)\" d=\"{path}\"><title>{}</title></path>",
            escaped(&self.view.reasons(self.view.edges(link)))
        );
    }

    /// In the gap behind the first unit, where the arrow is at half its way up or down.
    fn label(&self, out: &mut String, link: (usize, usize)) {
        if let [(x, y), (to_x, to_y), ..] = self.points(link)[..] {
            let _ = writeln!(
                out,
                "<text class=\"why\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                f64::midpoint(x, to_x),
                f64::midpoint(y, to_y) - 5.0,
                escaped(&self.view.label(link))
            );
        }
    }
}

const LEGEND_WIDTH: f64 = 440.0;

fn legend(out: &mut String, y: f64) {
    let entries = [
        (MARGIN, "edge", "ready first, and pulled in"),
        (MARGIN + 230.0, "edge order", "ready first, if it is there"),
    ];
    for (x, class, text) in entries {
        let _ = writeln!(
            out,
            "<path class=\"{class}\" marker-end=\"url(#tip)\" d=\"M{x} {y:.1} h34\"/>\
             <text class=\"legend\" x=\"{}\" y=\"{:.1}\">{text}</text>",
            x + 44.0,
            y + 4.0
        );
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
