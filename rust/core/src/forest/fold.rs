//! The two loops that passes over forests consist of: backward, children before parents, and forward.

use std::ops::Range;

use super::{Forest, Numbering};
use crate::par::{Par, balanced, for_pieces, for_ranges};

/// What a pass keeps of a node.
pub(super) trait State: Copy + Default + Send + Sync {}
impl<S: Copy + Default + Send + Sync> State for S {}

/// Folds every subtree into one state, by node id: `leaf(place, rollout)` at leaves, `join(place, children)` above,
/// which may reorder and shorten the list of children.
pub(super) fn fold<S: State>(
    forest: &Forest,
    leaf: impl Fn(usize, u32) -> S + Sync,
    join: impl Fn(usize, &mut Vec<S>) -> S + Sync,
    par: Par,
) -> Vec<S> {
    by_node(forest, &Backward { forest, leaf, join }, par)
}

/// Carries a state from the roots to the leaves, by node id: `root(node)` and then `step(the parent's, node)`.
pub(super) fn carry<S: State>(
    forest: &Forest,
    root: impl Fn(usize) -> S + Sync,
    step: impl Fn(S, usize) -> S + Sync,
    par: Par,
) -> Vec<S> {
    by_node(forest, &Forward { forest, root, step }, par)
}

/// A loop over whole trees. The state of a place goes to `slot(place)` of `out`.
trait Pass<S> {
    fn run(&self, trees: Range<usize>, out: &mut [S], slot: impl Fn(usize) -> usize);
}

struct Backward<'a, L, J> {
    forest: &'a Forest,
    leaf: L,
    join: J,
}

impl<S: State, L: Fn(usize, u32) -> S, J: Fn(usize, &mut Vec<S>) -> S> Pass<S> for Backward<'_, L, J> {
    fn run(&self, trees: Range<usize>, out: &mut [S], slot: impl Fn(usize) -> usize) {
        let forest = self.forest;
        let mut next_leaf = forest.leaf_ends[trees.end];
        let mut below = Vec::new();
        for place in (forest.trees[trees.start]..forest.trees[trees.end]).rev() {
            let end = forest.end[place] as usize;
            out[slot(place)] = if end == place + 1 {
                next_leaf -= 1;
                (self.leaf)(place, forest.rollouts[next_leaf])
            } else {
                below.clear();
                let mut child = place + 1;
                while child < end {
                    below.push(out[slot(child)]);
                    child = forest.end[child] as usize;
                }
                (self.join)(place, &mut below)
            };
        }
    }
}

struct Forward<'a, R, F> {
    forest: &'a Forest,
    root: R,
    step: F,
}

impl<S: State, R: Fn(usize) -> S, F: Fn(S, usize) -> S> Pass<S> for Forward<'_, R, F> {
    fn run(&self, trees: Range<usize>, out: &mut [S], slot: impl Fn(usize) -> usize) {
        let forest = self.forest;
        let node = |place: usize| forest.order[place] as usize;
        for w in forest.trees[trees.start..=trees.end].windows(2) {
            out[slot(w[0])] = (self.root)(node(w[0]));
            for place in w[0]..w[1] {
                let end = forest.end[place] as usize;
                let above = out[slot(place)];
                let mut child = place + 1;
                while child < end {
                    out[slot(child)] = (self.step)(above, node(child));
                    child = forest.end[child] as usize;
                }
            }
        }
    }
}

/// Runs a pass over all trees, in parallel, and gives its states by node id.
fn by_node<S: State>(forest: &Forest, pass: &(impl Pass<S> + Sync), par: Par) -> Vec<S> {
    match forest.numbering {
        Numbering::Preorder => {
            pieces(forest, par, |trees, base, out| pass.run(trees, out, |place| place - base))
        }
        Numbering::TreeByTree => pieces(forest, par, |trees, base, out| {
            pass.run(trees, out, |place| forest.order[place] as usize - base);
        }),
        Numbering::Mixed => {
            let by_place = pieces(forest, par, |trees, base, out| pass.run(trees, out, |place| place - base));
            forest.by_id(&by_place, par)
        }
    }
}

/// Calls `f(trees, their first place, their part of the result)` for runs of trees of about equal size.
pub(super) fn pieces<S: State>(
    forest: &Forest,
    par: Par,
    f: impl Fn(Range<usize>, usize, &mut [S]) + Sync,
) -> Vec<S> {
    let mut out = vec![S::default(); forest.len()];
    let cuts = match par {
        Par::Serial => vec![0, forest.n_trees()],
        Par::Threads => balanced(&forest.trees, 4 * rayon::current_num_threads()),
    };
    let bounds: Vec<usize> = cuts.iter().map(|&t| forest.trees[t]).collect();
    for_pieces(par, &mut out, &bounds, |piece, part| f(cuts[piece]..cuts[piece + 1], bounds[piece], part));
    out
}

impl Forest {
    /// What lies by place in the canonical order, by node id.
    pub(super) fn by_id<S: State>(&self, by_place: &[S], par: Par) -> Vec<S> {
        let mut by_id = vec![S::default(); by_place.len()];
        for_ranges(par, &mut by_id, 16_384, |start, part| {
            for (value, &place) in part.iter_mut().zip(&self.rank[start..]) {
                *value = by_place[place as usize];
            }
        });
        by_id
    }
}
