//! The two loops that passes over forests consist of: backward, children before parents, and forward.

use std::marker::PhantomData;
use std::ops::Range;

use super::{Forest, Numbering};
use crate::par::{Par, balanced, for_pieces, for_ranges};

/// What a pass keeps of a node.
pub(super) trait State: Copy + Default + Send + Sync {}
impl<S: Copy + Default + Send + Sync> State for S {}

/// The states of the children of a node, in the order of their places.
///
/// They are lent and not copied: a copy would read fields together that have just been written apart, and wait for that.
#[derive(Clone)]
pub(super) struct Children<'a, S> {
    states: &'a [S],
    /// By place, of all trees; `states[0]` is that of `start`.
    ends: &'a [u32],
    start: usize,
    next: usize,
    end: usize,
}

impl<S: Copy> Children<'_, S> {
    /// The state of an only child.
    #[inline]
    pub(super) fn only(&self) -> Option<S> {
        (self.ends[self.next] as usize == self.end).then(|| self.states[self.next - self.start])
    }
}

impl<'a, S> Iterator for Children<'a, S> {
    type Item = &'a S;

    #[inline]
    fn next(&mut self) -> Option<&'a S> {
        if self.next >= self.end {
            return None;
        }
        let state = &self.states[self.next - self.start];
        self.next = self.ends[self.next] as usize;
        Some(state)
    }
}

/// Folds every subtree into one state: `leaf(place, rollout)` at leaves, `join(place, children)` above. The result is by
/// node id, what `last` makes of the states. `join` is made once for each run of trees, so that it can own memory to
/// work in.
pub(super) fn fold<S: State, O: State, J: FnMut(usize, Children<'_, S>) -> S>(
    forest: &Forest,
    leaf: impl Fn(usize, u32) -> S + Sync,
    join: impl Fn() -> J + Sync,
    last: impl Fn(S) -> O + Sync,
    par: Par,
) -> Vec<O> {
    by_node(forest, &Backward { forest, leaf, join, last, state: PhantomData }, par)
}

/// The same with one float64 a node, and a `join` of the list of the children's; an only child's goes up as it is.
pub(super) fn fold_values(
    forest: &Forest,
    leaf: impl Fn(usize, u32) -> f64 + Sync,
    join: impl Fn(&mut [f64]) -> f64 + Sync,
    par: Par,
) -> Vec<f64> {
    let join = || {
        let mut values = Vec::new();
        let join = &join;
        move |_: usize, below: Children<'_, f64>| {
            if let Some(value) = below.only() {
                return value;
            }
            values.clear();
            values.extend(below);
            join(&mut values)
        }
    };
    fold(forest, leaf, join, |x| x, par)
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

struct Backward<'a, S, L, J, E> {
    forest: &'a Forest,
    leaf: L,
    join: J,
    last: E,
    state: PhantomData<fn() -> S>,
}

impl<S, O, J, L, M, E> Pass<O> for Backward<'_, S, L, M, E>
where
    S: State,
    J: FnMut(usize, Children<'_, S>) -> S,
    L: Fn(usize, u32) -> S,
    M: Fn() -> J,
    E: Fn(S) -> O,
{
    fn run(&self, trees: Range<usize>, out: &mut [O], slot: impl Fn(usize) -> usize) {
        let forest = self.forest;
        let mut next_leaf = forest.leaf_ends[trees.end];
        let mut join = (self.join)();
        // Of one tree at a time, which often fits into the cache.
        let mut states = Vec::new();
        for w in forest.trees[trees.start..=trees.end].windows(2).rev() {
            let start = w[0];
            states.clear();
            states.resize(w[1] - start, S::default());
            for place in (start..w[1]).rev() {
                let end = forest.end[place] as usize;
                // Both ways on their own: a state that either of them may have made would go through memory.
                if end == place + 1 {
                    next_leaf -= 1;
                    let state = (self.leaf)(place, forest.rollouts[next_leaf]);
                    states[place - start] = state;
                    out[slot(place)] = (self.last)(state);
                } else {
                    let below = Children { states: &states, ends: &forest.end, start, next: place + 1, end };
                    let state = join(place, below);
                    states[place - start] = state;
                    out[slot(place)] = (self.last)(state);
                }
            }
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
