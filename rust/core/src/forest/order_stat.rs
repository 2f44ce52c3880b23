//! Quantiles and means of the largest leaves below each node.
//!
//! The leaves of a subtree are an interval. Where trees are shallow each node sorts its interval. In a deep tree (a chain with a leaf at every node, say) that would take quadratic time;
//! there a [`Tally`] of the leaves grows along each heavy path, so that each leaf is counted once a path above it, of
//! which there are at most log2 of the number of leaves. Which of the two is taken depends on the shape of the tree
//! alone, and either result on the values alone.

use std::ops::Range;

use super::Forest;
use super::fold::{Pass, by_node};
use super::tally::Tally;
use crate::par::Par;
use crate::real::{Real, sort_values};

/// What is taken of the sorted leaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Order {
    Quantile(f64),
    TopMean(usize),
}

/// One value a node (to `out`, by id); `leaf` has no -0 and one NaN.
pub(super) fn order_stat(
    forest: &Forest,
    leaf: impl Fn(u32) -> f64 + Sync,
    what: Order,
    out: &mut [impl Real],
    par: Par,
) {
    by_node(forest, &Stats { forest, leaf, what }, out, par);
}

struct Stats<'a, L> {
    forest: &'a Forest,
    leaf: L,
    what: Order,
}

impl<O: Real, L: Fn(u32) -> f64> Pass<O> for Stats<'_, L> {
    fn run(&self, trees: Range<usize>, out: &mut [O], slot: impl Fn(usize) -> usize) {
        let forest = self.forest;
        let (mut values, mut before, mut made) = (Vec::new(), Vec::new(), Vec::new());
        for tree in trees {
            let places = forest.trees[tree]..forest.trees[tree + 1];
            let leaves = forest.leaf_ends[tree]..forest.leaf_ends[tree + 1];
            values.clear();
            values.extend(forest.rollouts[leaves].iter().map(|&r| (self.leaf)(r)));
            made.clear();
            made.resize(places.len(), 0.0);
            let tree = Tree::new(&forest.end[places.clone()], places.start, &mut before);
            if tree.is_shallow() {
                sorted(&tree, &mut values, self.what, &mut made);
            } else {
                tallied(&tree, &values, self.what, &mut made);
            }
            for (place, &value) in places.zip(&made) {
                out[slot(place)] = O::narrow(value);
            }
        }
    }
}

/// One tree; places are counted from its root.
struct Tree<'a> {
    end: &'a [u32],
    start: usize,
    /// Number of leaves before each place, and of all.
    before: &'a [u32],
}

impl<'a> Tree<'a> {
    fn new(end: &'a [u32], start: usize, before: &'a mut Vec<u32>) -> Self {
        before.clear();
        let mut n = 0;
        for (place, &end) in end.iter().enumerate() {
            before.push(n);
            n += u32::from(end as usize == start + place + 1);
        }
        before.push(n);
        Self { end, start, before }
    }

    fn end(&self, place: usize) -> usize {
        self.end[place] as usize - self.start
    }

    /// The leaves below a place.
    fn leaves(&self, place: usize) -> Range<usize> {
        self.before[place] as usize..self.before[self.end(place)] as usize
    }

    /// One child, which has the same leaves.
    fn is_link(&self, place: usize) -> bool {
        place + 1 < self.end(place) && self.end(place + 1) == self.end(place)
    }

    /// Sorting at each node costs about as much as the tallies would at most.
    fn is_shallow(&self) -> bool {
        let n = self.leaves(0).len();
        let limit = 8 * n * (n.ilog2() as usize + 1);
        let mut cost = 0;
        for place in 0..self.end.len() {
            if !self.is_link(place) {
                cost += self.leaves(place).len();
            }
            if cost > limit {
                return false;
            }
        }
        true
    }
}

fn sorted(tree: &Tree<'_>, values: &mut [f64], what: Order, out: &mut [f64]) {
    let all_numbers = !values.iter().any(|x| x.is_nan());
    for place in (0..out.len()).rev() {
        if tree.is_link(place) {
            out[place] = out[place + 1];
            continue;
        }
        let leaves = &mut values[tree.leaves(place)];
        if let [value] = leaves {
            out[place] = *value;
            continue;
        }
        if all_numbers {
            sort_values(leaves);
        } else {
            leaves.sort_unstable_by(f64::total_cmp); // NaN comes last.
        }
        out[place] = of_sorted(leaves, what);
    }
}

fn of_sorted(sorted: &[f64], what: Order) -> f64 {
    let n = sorted.len();
    let high = sorted[n - 1];
    if high.is_nan() {
        return f64::NAN;
    }
    match what {
        Order::Quantile(q) => between(n, q, |k| sorted[k]),
        Order::TopMean(k) => {
            let top = &sorted[n - k.min(n)..];
            if top[0] == high { high } else { top.iter().sum::<f64>() / top.len() as f64 }
        }
    }
}

/// The quantile of `n` values of which `at(k)` is the `k`-th smallest, as `numpy.quantile` has it.
fn between(n: usize, q: f64, at: impl Fn(usize) -> f64) -> f64 {
    let place = (n - 1) as f64 * q;
    let below = place as usize;
    let (a, t) = (at(below), place - below as f64);
    if t == 0.0 {
        return a;
    }
    let b = at((below + 1).min(n - 1));
    if a == b { a } else { a + (b - a) * t }
}

fn tallied(tree: &Tree<'_>, values: &[f64], what: Order, out: &mut [f64]) {
    let mut tally = Tally::new(values);
    let mut is_heavy = vec![false; out.len()];
    // Child with the most leaves, of each place.
    let mut heavy = vec![0u32; out.len()];
    for place in 0..out.len() {
        let (end, mut child, mut most) = (tree.end(place), place + 1, 0);
        while child < end {
            if tree.leaves(child).len() > most {
                most = tree.leaves(child).len();
                heavy[place] = child as u32;
            }
            child = tree.end(child);
        }
        if most > 0 {
            is_heavy[heavy[place] as usize] = true;
        }
    }
    let mut path = Vec::new();
    for top in (0..out.len()).filter(|&place| !is_heavy[place]) {
        path.clear();
        path.push(top);
        while heavy[path[path.len() - 1]] > 0 {
            path.push(heavy[path[path.len() - 1]] as usize);
        }
        let mut inner = 0..0;
        for &place in path.iter().rev() {
            let outer = tree.leaves(place);
            if inner.is_empty() {
                outer.clone().for_each(|leaf| tally.add(leaf));
            } else {
                (outer.start..inner.start).chain(inner.end..outer.end).for_each(|leaf| tally.add(leaf));
            }
            inner = outer;
            out[place] = of_tally(&tally, inner.len(), what);
        }
        tally.clear(inner);
    }
}

fn of_tally(tally: &Tally, n: usize, what: Order) -> f64 {
    if tally.has_nan() {
        return f64::NAN;
    }
    match what {
        Order::Quantile(q) => between(n, q, |k| tally.smallest(k)),
        Order::TopMean(k) => tally.top_mean(k.min(n)),
    }
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
