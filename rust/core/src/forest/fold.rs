//! The two loops that passes over forests consist of: backward, children before parents, and forward.

use std::marker::PhantomData;
use std::ops::Range;

use super::{Forest, Numbering};
use crate::par::{Par, balanced, for_pieces, for_ranges};
use crate::real::Real;

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

/// Folds every subtree into one state: `leaf(place, rollout)` at leaves, `join(place, children)` above. What `last` makes of
/// the states goes to `out`, by node id. `join` is made once for each run of trees, so that it can own memory to work in.
pub(super) fn fold<S: State, O: Real, J: FnMut(usize, Children<'_, S>) -> S>(
    forest: &Forest,
    leaf: impl Fn(usize, u32) -> S + Sync,
    join: impl Fn() -> J + Sync,
    last: impl Fn(S) -> f64 + Sync,
    out: &mut [O],
    par: Par,
) {
    by_node(forest, &Backward { forest, leaf, join, last, state: PhantomData }, out, par);
}

/// The same with one float64 a node, and a `join` of the list of the children's; an only child's goes up as it is.
pub(super) fn fold_values<O: Real>(
    forest: &Forest,
    leaf: impl Fn(usize, u32) -> f64 + Sync,
    join: impl Fn(&mut [f64]) -> f64 + Sync,
    out: &mut [O],
    par: Par,
) {
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
    fold(forest, leaf, join, |x| x, out, par);
}

/// Carries a state from the roots to the leaves: `root(node)` and then `step(the parent's, node)`. What `last` makes of
/// them goes to `out`, by node id.
pub(super) fn carry<S: State, O: Real>(
    forest: &Forest,
    root: impl Fn(usize) -> S + Sync,
    step: impl Fn(S, usize) -> S + Sync,
    last: impl Fn(S) -> f64 + Sync,
    out: &mut [O],
    par: Par,
) {
    by_node(forest, &Forward { forest, root, step, last, state: PhantomData }, out, par);
}

/// A loop over whole trees. What is made of a place goes to `slot(place)` of `out`.
pub(super) trait Pass<O> {
    fn run(&self, trees: Range<usize>, out: &mut [O], slot: impl Fn(usize) -> usize);
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
    O: Real,
    J: FnMut(usize, Children<'_, S>) -> S,
    L: Fn(usize, u32) -> S,
    M: Fn() -> J,
    E: Fn(S) -> f64,
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
                    out[slot(place)] = O::narrow((self.last)(state));
                } else {
                    let below = Children { states: &states, ends: &forest.end, start, next: place + 1, end };
                    let state = join(place, below);
                    states[place - start] = state;
                    out[slot(place)] = O::narrow((self.last)(state));
                }
            }
        }
    }
}

struct Forward<'a, S, R, F, E> {
    forest: &'a Forest,
    root: R,
    step: F,
    last: E,
    state: PhantomData<fn() -> S>,
}

impl<S, O, R, F, E> Pass<O> for Forward<'_, S, R, F, E>
where
    S: State,
    O: Real,
    R: Fn(usize) -> S,
    F: Fn(S, usize) -> S,
    E: Fn(S) -> f64,
{
    fn run(&self, trees: Range<usize>, out: &mut [O], slot: impl Fn(usize) -> usize) {
        let forest = self.forest;
        let mut states = Vec::new();
        for w in forest.trees[trees.start..=trees.end].windows(2) {
            let start = w[0];
            states.clear();
            states.resize(w[1] - start, S::default());
            states[0] = (self.root)(forest.order[start] as usize);
            for place in start..w[1] {
                let above = states[place - start];
                out[slot(place)] = O::narrow((self.last)(above));
                let end = forest.end[place] as usize;
                let mut child = place + 1;
                while child < end {
                    states[child - start] = (self.step)(above, forest.order[child] as usize);
                    child = forest.end[child] as usize;
                }
            }
        }
    }
}

/// Runs a pass over all trees, in parallel; `out` has one item a node and is by node id afterwards.
pub(super) fn by_node<O: Copy + Send + Sync>(
    forest: &Forest,
    pass: &(impl Pass<O> + Sync),
    out: &mut [O],
    par: Par,
) {
    let cuts = match par {
        Par::Serial => vec![0, forest.n_trees()],
        Par::Threads => balanced(&forest.trees, 4 * rayon::current_num_threads()),
    };
    let bounds: Vec<usize> = cuts.iter().map(|&t| forest.trees[t]).collect();
    let by_place = |out: &mut [O]| {
        for_pieces(par, out, &bounds, |k, part| {
            pass.run(cuts[k]..cuts[k + 1], part, |place| place - bounds[k]);
        });
    };
    match forest.numbering {
        Numbering::Preorder => by_place(out),
        Numbering::TreeByTree => for_pieces(par, out, &bounds, |k, part| {
            pass.run(cuts[k]..cuts[k + 1], part, |place| forest.order[place] as usize - bounds[k]);
        }),
        Numbering::Mixed => {
            // Of zeros, if they are, which the system gives for nothing.
            let mut made = out.first().map_or_else(Vec::new, |&first| vec![first; out.len()]);
            by_place(&mut made);
            for_ranges(par, out, 16_384, |start, part| {
                for (value, &place) in part.iter_mut().zip(&forest.rank[start..]) {
                    *value = made[place as usize];
                }
            });
        }
    }
}
