//! Exact projection onto any acyclic order: the dual active-set method of Goldfarb and Idnani on a graph.
//!
//! The working set is a forest of tight edges; its trees are the blocks, whose values hang together by the margins. At
//! every moment the values are the projection onto the working set alone, with no multiplier negative. A violated edge
//! is added by raising its multiplier from 0: the two blocks move towards each other until the edge is tight, and an
//! edge whose multiplier falls to 0 on the way leaves. The dual objective rises with each edge added, so that this ends.

use super::NONE;
use super::order::Order;
use super::wide::Wide;

/// Trees of tight edges, as doubly linked lists: slot `2 e` of edge `e` is in the list of its lesser end, `2 e + 1` in
/// that of its greater end.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    pub(super) value: Vec<Wide>,
    head: Vec<u32>,
    next: Vec<u32>,
    previous: Vec<u32>,
    linked: Vec<bool>,
    /// The last two trees walked, each row after the one nearer to the root, and the slot by which a row was reached.
    near: Vec<u32>,
    far: Vec<u32>,
    via: Vec<u32>,
    size: Vec<u32>,
    residual: Vec<Wide>,
    seen: Vec<bool>,
    offset: Vec<Wide>,
    /// Rows visited so far.
    pub(super) work: u64,
}

/// The edge that left the working set, or none.
enum Step {
    Drop(usize),
    Full,
}

impl Blocks {
    pub(super) fn clear(&mut self, n: usize, edges: usize) {
        for (list, len) in [(&mut self.head, n), (&mut self.next, 2 * edges), (&mut self.previous, 2 * edges)]
        {
            list.clear();
            list.resize(len, NONE);
        }
        self.via.resize(n, NONE);
        self.size.resize(n, 0);
        self.residual.resize(n, Wide::ZERO);
        self.linked.clear();
        self.linked.resize(edges, false);
    }

    pub(super) fn link(&mut self, order: &Order, e: usize) {
        self.linked[e] = true;
        for (slot, row) in [(2 * e, order.from[e]), (2 * e + 1, order.to[e])] {
            let head = &mut self.head[row as usize];
            self.next[slot] = *head;
            self.previous[slot] = NONE;
            if *head != NONE {
                self.previous[*head as usize] = slot as u32;
            }
            *head = slot as u32;
        }
    }

    fn unlink(&mut self, order: &Order, e: usize) {
        self.linked[e] = false;
        for (slot, row) in [(2 * e, order.from[e]), (2 * e + 1, order.to[e])] {
            let (next, previous) = (self.next[slot], self.previous[slot]);
            if previous == NONE {
                self.head[row as usize] = next;
            } else {
                self.next[previous as usize] = next;
            }
            if next != NONE {
                self.previous[next as usize] = previous;
            }
        }
    }

    /// Walks the tree of `root` into `near` and returns whether `goal` is in it.
    fn walk(&mut self, order: &Order, root: u32, goal: u32) -> bool {
        self.near.clear();
        self.near.push(root);
        self.via[root as usize] = NONE;
        let (mut k, mut met) = (0, root == goal);
        while k < self.near.len() {
            let v = self.near[k] as usize;
            k += 1;
            let mut slot = self.head[v];
            while slot != NONE {
                let e = (slot / 2) as usize;
                if self.via[v] == NONE || self.via[v] / 2 != slot / 2 {
                    let other = if slot.is_multiple_of(2) { order.to[e] } else { order.from[e] };
                    self.via[other as usize] = slot;
                    met |= other == goal;
                    self.near.push(other);
                }
                slot = self.next[slot as usize];
            }
        }
        self.work += self.near.len() as u64;
        met
    }

    /// The row nearer to the root.
    fn above(&self, order: &Order, v: usize) -> Option<usize> {
        let slot = self.via[v];
        let end = if slot.is_multiple_of(2) { &order.from } else { &order.to };
        (slot != NONE).then(|| end[(slot / 2) as usize] as usize)
    }

    /// Number of rows and sum of `value - x` in the part of the walked tree that hangs on each row.
    fn sums(&mut self, order: &Order, rows: &[u32], x: &[f64]) {
        for &v in rows {
            let v = v as usize;
            self.size[v] = 1;
            self.residual[v] = self.value[v] - Wide::from(x[v]);
        }
        for &v in rows.iter().rev() {
            if let Some(above) = self.above(order, v as usize) {
                self.size[above] += self.size[v as usize];
                self.residual[above] = self.residual[above] + self.residual[v as usize];
            }
        }
    }

    pub(super) fn gap(&self, order: &Order, e: usize, scale: f64) -> Wide {
        let (i, j) = (order.from[e] as usize, order.to[e] as usize);
        Wide::product(scale, order.margin[e]) - (self.value[j] - self.value[i])
    }

    /// Makes edge `e` tight. False if the budget of work ran out or, which rounding alone could do, no edge can leave.
    pub(super) fn add(&mut self, order: &Order, x: &[f64], e: usize, scale: f64, budget: u64) -> bool {
        let (i, j) = (order.from[e], order.to[e]);
        let mut multiplier = Wide::ZERO;
        loop {
            if self.work > budget {
                return false;
            }
            let step = if self.walk(order, i, j) {
                match self.shift(order, x, j, &mut multiplier) {
                    Some(left) => Step::Drop(left),
                    None => return false,
                }
            } else {
                self.approach(order, x, e, scale, &mut multiplier)
            };
            match step {
                Step::Drop(left) => self.unlink(order, left),
                Step::Full => {
                    self.link(order, e);
                    return true;
                }
            }
        }
    }

    /// Both ends in the walked tree: the multiplier moves from the path between them, which asks for less, to the new
    /// edge, until an edge of the path has none left. Values stay.
    fn shift(&mut self, order: &Order, x: &[f64], j: u32, multiplier: &mut Wide) -> Option<usize> {
        let rows = std::mem::take(&mut self.near);
        self.sums(order, &rows, x);
        self.near = rows;
        let mut least: Option<(Wide, usize)> = None;
        let mut v = j as usize;
        while let Some(above) = self.above(order, v) {
            // An even slot leads from a lesser row to a greater one: the edge points the same way as the new one.
            if self.via[v].is_multiple_of(2) {
                let y = self.residual[v] - *multiplier;
                if least.is_none_or(|(best, _)| y < best) {
                    least = Some((y, (self.via[v] / 2) as usize));
                }
            }
            v = above;
        }
        let (y, left) = least?;
        if y > Wide::ZERO {
            *multiplier = *multiplier + y;
        }
        Some(left)
    }

    /// The ends in two trees, of which `near` is that of the lesser end: they approach by a full or a partial step.
    fn approach(&mut self, order: &Order, x: &[f64], e: usize, scale: f64, multiplier: &mut Wide) -> Step {
        let (i, j) = (order.from[e], order.to[e]);
        std::mem::swap(&mut self.near, &mut self.far);
        self.walk(order, j, i);
        let (upper, lower) = (std::mem::take(&mut self.near), std::mem::take(&mut self.far));
        let (n_lower, n_upper) = (lower.len() as f64, upper.len() as f64);
        let mut step = self.gap(order, e, scale).times(n_lower * n_upper).over(n_lower + n_upper);
        let mut result = Step::Full;
        for (rows, n, falling) in [(&lower, n_lower, 0), (&upper, n_upper, 1)] {
            self.sums(order, rows, x);
            for &v in &rows[1..] {
                let slot = self.via[v as usize];
                if slot % 2 == falling {
                    let r = self.residual[v as usize];
                    let y = if falling == 0 { r } else { -r };
                    let limit = y.times(n).over(f64::from(self.size[v as usize]));
                    if limit < step {
                        step = if limit > Wide::ZERO { limit } else { Wide::ZERO };
                        result = Step::Drop((slot / 2) as usize);
                    }
                }
            }
        }
        *multiplier = *multiplier + step;
        let (fall, rise) = (step.over(n_lower), step.over(n_upper));
        for &v in &lower {
            self.value[v as usize] = self.value[v as usize] - fall;
        }
        for &v in &upper {
            self.value[v as usize] = self.value[v as usize] + rise;
        }
        (self.near, self.far) = (upper, lower);
        result
    }

    /// Calls `f` with the rows of each block and how far each is above the first of them.
    pub(super) fn each(&mut self, order: &Order, scale: f64, mut f: impl FnMut(&[u32], &[Wide])) {
        let n = self.head.len();
        let (mut seen, mut offset) = (std::mem::take(&mut self.seen), std::mem::take(&mut self.offset));
        seen.clear();
        seen.resize(n, false);
        for root in 0..n as u32 {
            if seen[root as usize] {
                continue;
            }
            self.walk(order, root, NONE);
            offset.clear();
            for &v in &self.near {
                let v = v as usize;
                seen[v] = true;
                // `size` holds the place in the walk, to find the offset of the row above.
                self.size[v] = offset.len() as u32;
                offset.push(match self.above(order, v) {
                    None => Wide::ZERO,
                    Some(above) => {
                        let step = Wide::product(scale, order.margin[(self.via[v] / 2) as usize]);
                        let base = offset[self.size[above] as usize];
                        if self.via[v].is_multiple_of(2) { base + step } else { base - step }
                    }
                });
            }
            f(&self.near, &offset);
        }
        (self.seen, self.offset) = (seen, offset);
    }
}
