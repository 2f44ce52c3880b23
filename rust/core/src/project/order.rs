//! The order of one group: its edges, checked for cycles, and of each connected part the shape that the first step
//! takes it for.

use super::NONE;

/// Edges `from -> to` with `a[from] + margin <= a[to]` among `n` rows.
#[derive(Debug, Default)]
pub(super) struct Order {
    pub(super) from: Vec<u32>,
    pub(super) to: Vec<u32>,
    pub(super) margin: Vec<f64>,
    /// Rows such that each edge goes from an earlier one to a later one.
    pub(super) sorted: Vec<u32>,
    /// Rows of parts that are nearer to a tree that grows out of its least row than to one that ends in its greatest.
    pub(super) flipped: Vec<bool>,
    starts: Vec<u32>,
    edges: Vec<u32>,
    waiting: Vec<u32>,
    part: Vec<u32>,
    tally: Vec<(u32, u32)>,
    /// No row has two edges to greater ones; to lesser ones.
    single: (bool, bool),
}

impl Order {
    pub(super) fn clear(&mut self) {
        self.from.clear();
        self.to.clear();
        self.margin.clear();
    }

    pub(super) fn push(&mut self, from: u32, to: u32, margin: f64) {
        self.from.push(from);
        self.to.push(to);
        self.margin.push(margin);
    }

    pub(super) fn len(&self) -> usize {
        self.from.len()
    }

    /// Sorts the `n` rows, or returns those of a cycle.
    pub(super) fn sort(&mut self, n: usize) -> Result<(), Vec<u32>> {
        self.starts.clear();
        self.starts.resize(n + 1, 0);
        self.waiting.clear();
        self.waiting.resize(n, 0);
        self.single = (true, true);
        for (&i, &j) in self.from.iter().zip(&self.to) {
            let (out, into) = (&mut self.starts[i as usize + 1], &mut self.waiting[j as usize]);
            self.single = (self.single.0 && *out == 0, self.single.1 && *into == 0);
            *out += 1;
            *into += 1;
        }
        for v in 0..n {
            self.starts[v + 1] += self.starts[v];
        }
        self.edges.clear();
        self.edges.resize(self.len(), 0);
        for (e, &i) in self.from.iter().enumerate().rev() {
            // Filled from the back with `starts` of the next row, which ends up as the start of this one.
            let slot = &mut self.starts[i as usize + 1];
            *slot -= 1;
            self.edges[*slot as usize] = e as u32;
        }
        // Now starts[v + 1] is where v starts; the end of v is where v + 1 starts.
        self.sorted.clear();
        self.sorted.extend((0..n as u32).filter(|&v| self.waiting[v as usize] == 0));
        let mut k = 0;
        while k < self.sorted.len() {
            let v = self.sorted[k] as usize;
            k += 1;
            let end = self.starts.get(v + 2).copied().unwrap_or(self.edges.len() as u32);
            for s in self.starts[v + 1]..end {
                let j = self.to[self.edges[s as usize] as usize];
                let left = &mut self.waiting[j as usize];
                *left -= 1;
                if *left == 0 {
                    self.sorted.push(j);
                }
            }
        }
        if k == n { Ok(()) } else { Err(self.cycle(n)) }
    }

    /// Rows of a cycle, each before the one that it must stay below. What is left waiting has an edge from another such.
    fn cycle(&self, n: usize) -> Vec<u32> {
        let mut before = vec![NONE; n];
        for (&i, &j) in self.from.iter().zip(&self.to) {
            if self.waiting[i as usize] > 0 && self.waiting[j as usize] > 0 {
                before[j as usize] = i;
            }
        }
        let mut at = self.waiting.iter().position(|&w| w > 0).unwrap_or(0) as u32;
        for _ in 0..n {
            at = before[at as usize];
        }
        let mut rows = vec![at];
        let mut next = before[at as usize];
        while next != at {
            rows.push(next);
            next = before[next as usize];
        }
        rows.reverse();
        // The smallest row first, so that the message does not depend on the walk.
        let least = (0..rows.len()).min_by_key(|&k| rows[k]).unwrap_or(0);
        rows.rotate_left(least);
        rows
    }

    /// Decides `flipped`: of each connected part, whether more rows have an edge to a greater row or to a lesser one.
    pub(super) fn orient(&mut self, n: usize) {
        self.flipped.clear();
        if self.single.0 || self.single.1 {
            self.flipped.resize(n, !self.single.0);
            return;
        }
        self.part.clear();
        self.part.extend(0..n as u32);
        for (&i, &j) in self.from.iter().zip(&self.to) {
            let (a, b) = (find(&mut self.part, i), find(&mut self.part, j));
            if a != b {
                self.part[a.max(b) as usize] = a.min(b);
            }
        }
        self.tally.clear();
        self.tally.resize(n, (0, 0));
        // `waiting` counts each row once for edges out of it (1) and once for edges into it (2).
        for (&i, &j) in self.from.iter().zip(&self.to) {
            for (v, bit) in [(i, 1), (j, 2)] {
                if self.waiting[v as usize] & bit == 0 {
                    self.waiting[v as usize] |= bit;
                    let part = find(&mut self.part, v) as usize;
                    let tally = &mut self.tally[part];
                    *(if bit == 1 { &mut tally.0 } else { &mut tally.1 }) += 1;
                }
            }
        }
        for v in 0..n as u32 {
            let (out, into) = self.tally[find(&mut self.part, v) as usize];
            self.flipped.push(into > out);
        }
    }
}

fn find(part: &mut [u32], mut v: u32) -> u32 {
    while part[v as usize] != v {
        part[v as usize] = part[part[v as usize] as usize];
        v = part[v as usize];
    }
    v
}
