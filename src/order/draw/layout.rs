//! Where units stand in a picture: in columns by depth, ordered so that few edges cross.
//!
//! Sugiyama's layered drawing in its plainest form. An edge over several columns passes through each by a
//! bend of its own, which is ordered like a unit but needs less room.

use std::collections::{BTreeMap, BTreeSet};

/// The room of an item of a column, up and down, its distance to the next included.
pub(crate) struct Room {
    pub(crate) unit: f64,
    pub(crate) bend: f64,
}

/// Heights from the top of the picture.
pub(crate) struct Layout {
    /// For each unit, its middle.
    pub(crate) units: Vec<f64>,
    /// For each edge, where it passes the columns between its ends.
    pub(crate) bends: BTreeMap<(usize, usize), Vec<f64>>,
    /// The whole picture's.
    pub(crate) height: f64,
}

/// Rounds of ordering; the result no longer changes long before.
const ROUNDS: usize = 12;

/// Lays out units of these depths with these edges, each from a lesser depth to a greater.
pub(crate) fn layout(depths: &[usize], edges: &BTreeSet<(usize, usize)>, room: &Room) -> Layout {
    let mut columns = Columns::new(depths, room);
    let chains: Vec<_> = edges
        .iter()
        .map(|&edge| (edge, columns.connect(edge, depths, room)))
        .collect();
    columns.stack();
    for _ in 0..ROUNDS {
        columns.settle_by_left();
        columns.settle_by_right();
    }
    columns.settle_by_left();
    let height = columns.move_to_top();
    Layout {
        units: columns.y[..depths.len()].to_vec(),
        bends: chains
            .into_iter()
            .map(|(edge, bends)| (edge, bends.iter().map(|&item| columns.y[item]).collect()))
            .collect(),
        height,
    }
}

/// Items are the units, by their numbers, and behind them the bends.
struct Columns {
    /// The columns from left to right, each from top to bottom.
    stacks: Vec<Vec<usize>>,
    y: Vec<f64>,
    room: Vec<f64>,
    /// For each item those that it is joined to in the column to the left, and to the right.
    left: Vec<Vec<usize>>,
    right: Vec<Vec<usize>>,
}

impl Columns {
    fn new(depths: &[usize], room: &Room) -> Self {
        let mut stacks = vec![Vec::new(); depths.iter().max().map_or(0, |deepest| deepest + 1)];
        for (unit, &depth) in depths.iter().enumerate() {
            stacks[depth].push(unit);
        }
        Self {
            stacks,
            y: vec![0.0; depths.len()],
            room: vec![room.unit; depths.len()],
            left: vec![Vec::new(); depths.len()],
            right: vec![Vec::new(); depths.len()],
        }
    }

    /// Adds an edge, with a bend in each column between its ends; returns the bends.
    fn connect(&mut self, edge: (usize, usize), depths: &[usize], room: &Room) -> Vec<usize> {
        let mut bends = Vec::new();
        let mut last = edge.0;
        for column in depths[edge.0] + 1..depths[edge.1] {
            let bend = self.y.len();
            self.y.push(0.0);
            self.room.push(room.bend);
            self.left.push(vec![last]);
            self.right.push(Vec::new());
            self.right[last].push(bend);
            self.stacks[column].push(bend);
            bends.push(bend);
            last = bend;
        }
        self.left[edge.1].push(last);
        self.right[last].push(edge.1);
        bends
    }

    /// A first place for each item, below the one before it.
    fn stack(&mut self) {
        for stack in &self.stacks {
            let mut top = 0.0;
            for &item in stack {
                self.y[item] = top + self.room[item] / 2.0;
                top += self.room[item];
            }
        }
    }

    fn settle_by_left(&mut self) {
        for column in 0..self.stacks.len() {
            self.settle(column, &self.left.clone());
        }
    }

    fn settle_by_right(&mut self) {
        for column in (0..self.stacks.len()).rev() {
            self.settle(column, &self.right.clone());
        }
    }

    /// Orders a column by where each item would like to be, the middle of those it is joined to, and moves
    /// each as near to that as the others let it.
    fn settle(&mut self, column: usize, joined: &[Vec<usize>]) {
        let mut wishes: Vec<(usize, f64)> = self.stacks[column]
            .iter()
            .map(|&item| (item, mean(&joined[item], &self.y).unwrap_or(self.y[item])))
            .collect();
        wishes.sort_by(|a, b| a.1.total_cmp(&b.1));
        // Without the room in front of them the items need only be in order: then least squares is the mean
        // of each run that is out of order.
        let mut runs: Vec<(f64, Vec<(usize, f64)>)> = Vec::new();
        let mut front = 0.0;
        for (item, wish) in wishes {
            let offset = front + self.room[item] / 2.0;
            front += self.room[item];
            let (mut at, mut run) = (wish - offset, vec![(item, offset)]);
            while let Some((above, mut members)) = runs.pop_if(|(above, _)| *above > at) {
                at = (above * count(&members) + at * count(&run)) / (count(&members) + count(&run));
                members.append(&mut run);
                run = members;
            }
            runs.push((at, run));
        }
        let placed: Vec<(usize, f64)> = runs
            .into_iter()
            .flat_map(|(at, run)| {
                run.into_iter()
                    .map(move |(item, offset)| (item, at + offset))
            })
            .collect();
        self.stacks[column] = placed.iter().map(|(item, _)| *item).collect();
        for (item, y) in placed {
            self.y[item] = y;
        }
    }

    /// Moves everything so that the highest item touches the top; returns the height of all.
    fn move_to_top(&mut self) -> f64 {
        let edges = |sign: f64| {
            let ends = self.y.iter().zip(&self.room);
            ends.map(move |(y, room)| sign * y + room / 2.0)
                .fold(f64::NEG_INFINITY, f64::max)
        };
        if self.y.is_empty() {
            return 0.0;
        }
        let (top, foot) = (-edges(-1.0), edges(1.0));
        for y in &mut self.y {
            *y -= top;
        }
        foot - top
    }
}

fn mean(items: &[usize], y: &[f64]) -> Option<f64> {
    let sum: f64 = items.iter().map(|&item| y[item]).sum();
    (!items.is_empty()).then(|| sum / count(items))
}

/// How many there are, to reckon with.
#[expect(
    clippy::cast_precision_loss,
    reason = "a picture has fewer than 2^52 units"
)]
fn count<T>(items: &[T]) -> f64 {
    items.len() as f64
}
