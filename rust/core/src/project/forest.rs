//! Exact projection where each row has at most one edge to a greater one: pool adjacent violators on trees, by heaps
//! that merge, in O(n log n) and without recursion.
//!
//! Of a tree that grows out of its least row the signs are turned. Potentials take the margins away: along each edge
//! `phi[to] - phi[from]` is its margin, so that `a - phi` is in order without margins.

use super::NONE;
use super::order::Order;
use super::wide::Wide;

/// Pooled blocks below each row, greatest mean first: pairing heaps, each block a node named by its topmost row.
#[derive(Debug, Default)]
pub(super) struct Pools {
    /// Edge by which each row hangs in the forest, or NONE.
    pub(super) edge: Vec<u32>,
    /// The block of the row was pooled with that of the row above: its edge is tight.
    pub(super) tight: Vec<bool>,
    phi: Vec<Wide>,
    sum: Vec<Wide>,
    mean: Vec<Wide>,
    count: Vec<u32>,
    heap: Vec<u32>,
    child: Vec<u32>,
    sibling: Vec<u32>,
    row: Vec<u32>,
}

impl Pools {
    /// Projects `x` onto the forest in which each row keeps the edge that `x` violates most. Margins count `scale` times.
    pub(super) fn solve(&mut self, order: &Order, x: &[f64], scale: f64, value: &mut Vec<Wide>) {
        self.choose(order, x, scale);
        let n = x.len();
        for list in [&mut self.heap, &mut self.child, &mut self.sibling] {
            list.clear();
            list.resize(n, NONE);
        }
        self.tight.clear();
        self.tight.resize(n, false);
        for list in [&mut self.phi, &mut self.sum, &mut self.mean] {
            list.clear();
            list.resize(n, Wide::ZERO);
        }
        self.count.clear();
        self.count.resize(n, 1);

        let sign = |v: usize| if order.flipped[v] { -1.0 } else { 1.0 };
        // Parts that are not flipped from the greatest row down, the others from the least one up.
        let down = |flipped: bool| Downward { order, flipped, k: 0 };
        let ways = || [false, true].into_iter().filter(|way| order.flipped.contains(way));
        for flipped in ways() {
            for v in down(flipped) {
                if let Some(above) = self.above(order, v) {
                    let margin = scale * order.margin[self.edge[v] as usize];
                    self.phi[v] = self.phi[above] - Wide::from(margin);
                }
            }
            for k in 0..n {
                let v = order.sorted[if flipped { n - 1 - k } else { k }] as usize;
                if order.flipped[v] == flipped {
                    self.pool(v, Wide::from(sign(v) * x[v]) - self.phi[v]);
                    if let Some(above) = self.above(order, v) {
                        self.heap[above] = self.meld(self.heap[above], v as u32);
                    }
                }
            }
        }
        value.clear();
        value.resize(n, Wide::ZERO);
        for flipped in ways() {
            for v in down(flipped) {
                if let (true, Some(above)) = (self.tight[v], self.above(order, v)) {
                    (self.sum[v], self.mean[v]) = (self.sum[above], self.mean[above]);
                    self.count[v] = self.count[above];
                }
                let level = self.phi[v] == Wide::ZERO;
                let n = f64::from(self.count[v]);
                let a = if level { self.mean[v] } else { self.sum[v].mean_above(n, self.phi[v]) };
                value[v] = if flipped { -a } else { a };
            }
        }
    }

    fn choose(&mut self, order: &Order, x: &[f64], scale: f64) {
        self.edge.clear();
        self.edge.resize(x.len(), NONE);
        let excess = |e: usize| x[order.from[e] as usize] - x[order.to[e] as usize] + scale * order.margin[e];
        for e in 0..order.len() {
            let (i, j) = (order.from[e] as usize, order.to[e] as usize);
            let slot = &mut self.edge[if order.flipped[i] { j } else { i }];
            if *slot == NONE || excess(e) > excess(*slot as usize) {
                *slot = e as u32;
            }
        }
    }

    fn above(&self, order: &Order, v: usize) -> Option<usize> {
        let e = self.edge[v];
        let end = if order.flipped[v] { &order.from } else { &order.to };
        (e != NONE).then(|| end[e as usize] as usize)
    }

    /// Edge `e` is in the forest, so that it holds.
    pub(super) fn holds(&self, order: &Order, e: usize) -> bool {
        let i = order.from[e] as usize;
        self.edge[if order.flipped[i] { order.to[e] as usize } else { i }] == e as u32
    }

    /// The block of `v`: itself and, greatest first, what lies below it with a greater mean.
    fn pool(&mut self, v: usize, z: Wide) {
        let (mut sum, mut mean, mut heap) = (z, z, self.heap[v]);
        while heap != NONE && self.mean[heap as usize] > mean {
            let top = heap as usize;
            self.tight[top] = true;
            sum = sum + self.sum[top];
            self.count[v] += self.count[top];
            mean = sum.over(f64::from(self.count[v]));
            let rest = self.without(top);
            // The blocks below the one that was taken in are now below this one.
            heap = self.meld(rest, self.heap[top]);
        }
        (self.sum[v], self.mean[v], self.heap[v]) = (sum, mean, heap);
    }

    fn meld(&mut self, a: u32, b: u32) -> u32 {
        if a == NONE || b == NONE {
            return if a == NONE { b } else { a };
        }
        let a_is_top = self.mean[a as usize] >= self.mean[b as usize];
        let (top, under) = if a_is_top { (a, b) } else { (b, a) };
        self.sibling[under as usize] = self.child[top as usize];
        self.child[top as usize] = under;
        top
    }

    /// The heap without its top: neighbours in pairs, then the pairs from the last.
    fn without(&mut self, top: usize) -> u32 {
        let mut row = std::mem::take(&mut self.row);
        row.clear();
        let mut at = std::mem::replace(&mut self.child[top], NONE);
        while at != NONE {
            row.push(at);
            at = std::mem::replace(&mut self.sibling[at as usize], NONE);
        }
        let mut heap = NONE;
        for pair in row.chunks(2).rev() {
            let both = self.meld(pair[0], pair.get(1).copied().unwrap_or(NONE));
            heap = self.meld(heap, both);
        }
        self.row = row;
        heap
    }
}

/// Rows of the parts that are (not) flipped, each after the row that it hangs on.
struct Downward<'a> {
    order: &'a Order,
    flipped: bool,
    k: usize,
}

impl Iterator for Downward<'_> {
    type Item = usize;
    fn next(&mut self) -> Option<usize> {
        let n = self.order.sorted.len();
        while self.k < n {
            let at = if self.flipped { self.k } else { n - 1 - self.k };
            self.k += 1;
            let v = self.order.sorted[at] as usize;
            if self.order.flipped[v] == self.flipped {
                return Some(v);
            }
        }
        None
    }
}
