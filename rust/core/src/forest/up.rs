//! Upward passes: from the values of rollouts to those of nodes; and one step down, from parents to children.

use super::{Forest, NONE, Numbering};
use crate::error::Result;
use crate::par::{Par, balanced, for_pieces, for_ranges};
use crate::real::{Real, sort_values};
use crate::reduce::mean;

/// What a node takes from below; a leaf has the value of its rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Up {
    /// Sum over the leaves below.
    Sum,
    /// Mean of the children's values: every branch counts the same.
    MeanOfChildren,
    /// Mean over the leaves below: every rollout counts the same.
    LeafMean,
    /// Largest leaf below; NaN if one is NaN.
    Max,
    /// Smallest leaf below; NaN if one is NaN.
    Min,
}

/// One value a node (by id) from one value a rollout, in float64.
///
/// Children's values are sorted before they are added, so that renumbering nodes or rollouts changes no bit; the mean
/// of equal values is exactly that value. NaN spreads to all ancestors.
///
/// # Errors
/// [`Error::Length`](crate::Error::Length) if `x` is not of one value a rollout.
pub fn up<T: Real>(forest: &Forest, x: &[T], how: Up, par: Par) -> Result<Vec<f64>> {
    forest.check_rollouts("x", x.len())?;
    // Adding 0 makes -0 and 0, which have no order, the same.
    let leaf = |rollout: u32| x[rollout as usize].wide() + 0.0;
    let run = |f: fn(&[f64]) -> f64| fold(forest, leaf, |below| sorted(below, f), par);
    Ok(match how {
        Up::Sum => run(|x| x.iter().sum()),
        Up::MeanOfChildren => run(mean),
        Up::Max => run(|x| x[x.len() - 1]),
        Up::Min => run(|x| x[0]),
        Up::LeafMean => {
            // NaN unless all leaves below have the same value, which then is their mean.
            let same = |below: &mut [f64]| match below.iter().all(|x| *x == below[0]) {
                true => below[0],
                false => f64::NAN,
            };
            let mut means = fold(forest, leaf, same, par);
            let sums = up(forest, x, Up::Sum, par)?;
            for ((mean, sum), n) in means.iter_mut().zip(sums).zip(leaf_counts(forest)) {
                if mean.is_nan() {
                    *mean = sum / f64::from(n);
                }
            }
            means
        }
    })
}

/// `f` of the values in ascending order; NaN if one is NaN.
fn sorted(x: &mut [f64], f: impl Fn(&[f64]) -> f64) -> f64 {
    if x.iter().any(|x| x.is_nan()) {
        return f64::NAN;
    }
    sort_values(x);
    f(x) + 0.0
}

/// Folds every subtree into one value, by node id: `leaf(rollout)` at leaves, `join(children)` above.
fn fold(
    forest: &Forest,
    leaf: impl Fn(u32) -> f64 + Sync,
    join: impl Fn(&mut [f64]) -> f64 + Sync,
    par: Par,
) -> Vec<f64> {
    match forest.numbering {
        Numbering::Preorder => fold_into(forest, |place| place, leaf, join, par),
        Numbering::TreeByTree => fold_into(forest, |place| forest.order[place] as usize, leaf, join, par),
        Numbering::Mixed => {
            let by_place = fold_into(forest, |place| place, leaf, join, par);
            let mut by_id = vec![0.0; by_place.len()];
            for_ranges(par, &mut by_id, 16_384, |start, part| {
                for (value, &place) in part.iter_mut().zip(&forest.rank[start..]) {
                    *value = by_place[place as usize];
                }
            });
            by_id
        }
    }
}

/// The same with the value of each place in the canonical order at `slot(place)`, which lies in the same tree.
fn fold_into(
    forest: &Forest,
    slot: impl Fn(usize) -> usize + Sync,
    leaf: impl Fn(u32) -> f64 + Sync,
    join: impl Fn(&mut [f64]) -> f64 + Sync,
    par: Par,
) -> Vec<f64> {
    let mut out = vec![0.0; forest.len()];
    let pieces = match par {
        Par::Serial => vec![0, forest.n_trees()],
        Par::Threads => balanced(&forest.trees, 4 * rayon::current_num_threads()),
    };
    let bounds: Vec<usize> = pieces.iter().map(|&t| forest.trees[t]).collect();
    for_pieces(par, &mut out, &bounds, |piece, values| {
        let base = bounds[piece];
        let mut next_leaf = forest.leaf_ends[pieces[piece + 1]];
        let mut below = Vec::new();
        for place in (base..bounds[piece + 1]).rev() {
            let end = forest.end[place] as usize;
            values[slot(place) - base] = if end == place + 1 {
                next_leaf -= 1;
                leaf(forest.rollouts[next_leaf])
            } else {
                below.clear();
                let mut child = place + 1;
                while child < end {
                    below.push(values[slot(child) - base]);
                    child = forest.end[child] as usize;
                }
                join(&mut below)
            };
        }
    });
    out
}

/// Number of leaves below each node (by id); 1 for a leaf.
#[must_use]
pub fn leaf_counts(forest: &Forest) -> Vec<u32> {
    let mut before = Vec::with_capacity(forest.len() + 1);
    before.push(0u32);
    for (k, &end) in forest.end.iter().enumerate() {
        before.push(before[k] + u32::from(end as usize == k + 1));
    }
    let count = |&place: &u32| before[forest.end[place as usize] as usize] - before[place as usize];
    forest.rank.iter().map(count).collect()
}

/// The value of each node's parent (by id); `root` for roots.
///
/// # Errors
/// [`Error::Length`](crate::Error::Length) if `x` is not of one value a node.
pub fn parent_values<T: Copy + Send + Sync>(forest: &Forest, x: &[T], root: T, par: Par) -> Result<Vec<T>> {
    forest.check_nodes(x.len())?;
    let mut out = vec![root; x.len()];
    for_ranges(par, &mut out, 16_384, |start, part| {
        for (slot, &parent) in part.iter_mut().zip(&forest.parents[start..]) {
            if parent != NONE {
                *slot = x[parent as usize];
            }
        }
    });
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_reference_forest() {
        let f = Forest::from_parents(&[-1, 0, 0, 0, 1, 1, 2, 2, 2], None).unwrap();
        let r = [0.0f32, 1.0, 0.0, 1.0, 1.0, 0.0];
        let run = |how| up(&f, &r, how, Par::Serial).unwrap();
        let third = 2.0 / 3.0;
        let mean = run(Up::MeanOfChildren);
        assert_eq!(mean[1..], [0.5, third, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0]);
        assert!((mean[0] - 0.388_888_888_888_888_9).abs() < 1e-15);
        assert_eq!(run(Up::LeafMean)[..4], [0.5, 0.5, third, 0.0]);
        assert_eq!(run(Up::Sum)[..4], [3.0, 1.0, 2.0, 0.0]);
        assert_eq!(run(Up::Max)[..4], [1.0, 1.0, 1.0, 0.0]);
        assert_eq!(run(Up::Min)[..4], [0.0, 0.0, 0.0, 0.0]);
        assert_eq!(leaf_counts(&f), [6, 2, 3, 1, 1, 1, 1, 1, 1]);
        assert_eq!(
            parent_values(&f, &mean, -1.0, Par::Serial).unwrap()[..4],
            [-1.0, mean[0], mean[0], mean[0]]
        );
    }

    #[test]
    fn equal_values_are_their_own_mean() {
        let parents: Vec<i64> = [-1].into_iter().chain([0; 12]).collect();
        let f = Forest::from_parents(&parents, None).unwrap();
        for how in [Up::MeanOfChildren, Up::LeafMean] {
            assert_eq!(up(&f, &[0.7; 12], how, Par::Serial).unwrap(), [0.7; 13]);
        }
    }

    #[test]
    fn nan_is_seen_by_every_fold() {
        let f = Forest::from_parents(&[-1, 0, 0], None).unwrap();
        for how in [Up::Sum, Up::MeanOfChildren, Up::LeafMean, Up::Max, Up::Min] {
            for x in [[1.0, f64::NAN], [f64::NAN, 1.0]] {
                assert!(up(&f, &x, how, Par::Serial).unwrap()[0].is_nan());
            }
        }
    }

    proptest! {
        #[test]
        fn renumbering_nodes_changes_no_bit(
            seed in prop::collection::vec((0usize..1000, -1e6f64..1e6), 1..80),
            turn in 0usize..80,
        ) {
            let n = seed.len();
            let parents: Vec<i64> = (0..n).map(|i| (seed[i].0 % (i + 1)) as i64 - 1).collect();
            let to = |v: i64| if v < 0 { -1 } else { (v + turn as i64) % n as i64 };
            let mut turned = vec![0; n];
            for v in 0..n {
                turned[to(v as i64) as usize] = to(parents[v]);
            }
            let a = Forest::from_parents(&parents, None).unwrap();
            let b = Forest::from_parents(&turned, None).unwrap();
            let xa: Vec<f64> = a.leaves().iter().map(|&v| seed[v as usize].1).collect();
            let xb: Vec<f64> = b.leaves().iter().map(|&v| seed[(v as usize + n - turn % n) % n].1).collect();
            for how in [Up::Sum, Up::MeanOfChildren, Up::LeafMean, Up::Max, Up::Min] {
                let (p, q) = (up(&a, &xa, how, Par::Serial).unwrap(), up(&b, &xb, how, Par::Threads).unwrap());
                for v in 0..n {
                    prop_assert_eq!(p[v].to_bits(), q[to(v as i64) as usize].to_bits());
                }
            }
        }
    }
}
