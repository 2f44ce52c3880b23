//! A tree of sums over weights: a draw in proportion to them, or a change of one, in O(log n).
//!
//! Every inner node is the rounded sum of its two children, and is computed anew whenever one of them changes. So the
//! tree is a function of the weights alone, to the last bit, whatever happened to it before: a running `+= delta`
//! would drift, and a restored sampler would draw something else than one that ran on.

use crate::error::{Error, Result, check_len};

/// The largest weight: no sum of as many as fit into memory overflows.
pub const LARGEST: f64 = 1e288;
/// Sums below it are drawn from `SCALE` times as large: the product with a share would be subnormal, and lose bits.
const TINY: f64 = 1e-290;
const SCALE: f64 = (1u128 << 120) as f64;

/// Weights that are not negative, with their sums.
#[derive(Debug, Clone)]
pub struct SumTree {
    n: usize,
    /// A power of two. Leaves past `n` are 0, which changes no sum: a tree that grows keeps its draws.
    leaves: usize,
    /// The root is 1, the children of `k` are `2 k` and `2 k + 1`, the leaves come last.
    nodes: Vec<f64>,
    positive: usize,
}

fn check(weights: &[f64]) -> Result<()> {
    match weights.iter().position(|w| !(0.0..=LARGEST).contains(w)) {
        Some(i) => Err(Error::Range {
            arg: "weights",
            expected: format!("between 0 and {LARGEST:e}"),
            got: format!("{} at index {i}", weights[i]),
        }),
        None => Ok(()),
    }
}

impl SumTree {
    /// Of one weight a leaf.
    ///
    /// # Errors
    /// A weight that is negative, NaN or above [`LARGEST`].
    pub fn new(weights: &[f64]) -> Result<Self> {
        check(weights)?;
        let (n, leaves) = (weights.len(), weights.len().next_power_of_two());
        let mut nodes = vec![0.0; 2 * leaves];
        for (node, w) in nodes[leaves..].iter_mut().zip(weights) {
            *node = w + 0.0; // no -0.0
        }
        let mut tree = Self { n, leaves, nodes, positive: weights.iter().filter(|&&w| w > 0.0).count() };
        for k in (1..leaves).rev() {
            tree.sum(k);
        }
        Ok(tree)
    }

    /// Number of weights.
    #[must_use]
    pub fn len(&self) -> usize {
        self.n
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// Sum of the weights.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.nodes[1]
    }

    /// How many weights are not 0.
    #[must_use]
    pub fn positive(&self) -> usize {
        self.positive
    }

    /// All weights.
    #[must_use]
    pub fn weights(&self) -> &[f64] {
        &self.nodes[self.leaves..self.leaves + self.n]
    }

    /// All sums, the root first, then the weights, with zeros up to a power of two.
    #[must_use]
    pub fn nodes(&self) -> &[f64] {
        &self.nodes[1..]
    }

    /// Gives the leaves `at` new weights; of a leaf that is named twice the last counts.
    ///
    /// # Errors
    /// Lengths that differ, leaves that do not exist, wrong weights. Nothing is changed then.
    pub fn set(&mut self, at: &[usize], weights: &[f64]) -> Result<()> {
        check_len("weights", weights.len(), at.len(), "len(at)")?;
        check(weights)?;
        if let Some(&i) = at.iter().find(|&&i| i >= self.n) {
            return Err(Error::Range {
                arg: "at",
                expected: format!("below {}", self.n),
                got: i.to_string(),
            });
        }
        let mut above: Vec<usize> = at.iter().map(|i| (self.leaves + i) >> 1).collect();
        for (&i, &w) in at.iter().zip(weights) {
            self.put(i, w);
        }
        // Level by level, so that a node above several of the leaves is summed once.
        above.sort_unstable();
        above.dedup();
        while above.first().is_some_and(|&k| k > 0) {
            for k in &mut above {
                self.sum(*k);
                *k >>= 1;
            }
            above.dedup();
        }
        Ok(())
    }

    /// The leaf in which the share `u` of the total falls, for `u` in [0, 1); None if all weights are 0.
    ///
    /// No rounding leads to a leaf of weight 0, not at the right end either: a node whose sum is 0 is never entered.
    #[must_use]
    pub fn find(&self, u: f64) -> Option<usize> {
        if self.positive == 0 {
            return None;
        }
        let scale = if self.total() < TINY { SCALE } else { 1.0 };
        let (mut rest, mut k) = (u * (self.total() * scale), 1);
        while k < self.leaves {
            let (left, right) = (self.nodes[2 * k], self.nodes[2 * k + 1]);
            k *= 2;
            if left == 0.0 || (right > 0.0 && rest >= left * scale) {
                rest -= left * scale;
                k += 1;
            }
        }
        Some(k - self.leaves)
    }

    /// Sets one weight to 0, and returns what it was; 0 for a leaf that does not exist.
    pub fn take(&mut self, i: usize) -> f64 {
        if i >= self.n {
            return 0.0;
        }
        let before = self.nodes[self.leaves + i];
        self.put(i, 0.0);
        let mut k = (self.leaves + i) >> 1;
        while k > 0 {
            self.sum(k);
            k >>= 1;
        }
        before
    }

    fn put(&mut self, i: usize, w: f64) {
        let leaf = &mut self.nodes[self.leaves + i];
        self.positive = self.positive + usize::from(w > 0.0) - usize::from(*leaf > 0.0);
        *leaf = w + 0.0;
    }

    fn sum(&mut self, k: usize) {
        self.nodes[k] = self.nodes[2 * k] + self.nodes[2 * k + 1];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn weight() -> impl Strategy<Value = f64> {
        prop_oneof![Just(0.0), Just(-0.0), Just(1.0), 0.0..1.0, Just(5e-324), Just(LARGEST), 1e-300..1e200]
    }

    proptest! {
        #[test]
        fn any_history_gives_the_tree_of_the_weights(
            start in prop::collection::vec(weight(), 1..40),
            changes in prop::collection::vec(prop::collection::vec((0usize..40, weight()), 0..9), 0..9),
        ) {
            let (mut tree, mut plain) = (SumTree::new(&start).unwrap(), start);
            for batch in changes {
                let at: Vec<usize> = batch.iter().map(|(i, _)| i % plain.len()).collect();
                let new: Vec<f64> = batch.iter().map(|(_, w)| *w).collect();
                tree.set(&at, &new).unwrap();
                for (&i, &w) in at.iter().zip(&new) {
                    plain[i] = w;
                }
                if let Some(&i) = at.first() {
                    let was = tree.take(i);
                    prop_assert_eq!(was.to_bits(), (plain[i] + 0.0).to_bits());
                    tree.set(&[i], &[was]).unwrap();
                }
            }
            let fresh = SumTree::new(&plain).unwrap();
            let bits = |t: &SumTree| t.nodes().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&tree), bits(&fresh));
            prop_assert_eq!(tree.positive(), plain.iter().filter(|&&w| w > 0.0).count());
        }

        #[test]
        fn no_zero_is_found(weights in prop::collection::vec(weight(), 1..40), u in 0.0..1.0f64) {
            let tree = SumTree::new(&weights).unwrap();
            for u in [u, 0.0, 1.0 - f64::EPSILON / 2.0, 1.0, f64::NAN] {
                match tree.find(u) {
                    Some(i) => prop_assert!(weights[i] > 0.0),
                    None => prop_assert!(weights.iter().all(|&w| w == 0.0)),
                }
            }
        }
    }

    #[test]
    fn shares_fall_where_they_should() {
        let tree = SumTree::new(&[1.0, 0.0, 2.0, 0.0, 5.0, 0.0]).unwrap();
        let found: Vec<_> = (0..8).map(|k| tree.find(f64::from(k) / 8.0).unwrap()).collect();
        assert_eq!(found, [0, 2, 2, 4, 4, 4, 4, 4]);
        assert_eq!((tree.len(), tree.total(), tree.positive()), (6, 8.0, 3));
    }

    #[test]
    fn the_smallest_weights_have_their_shares() {
        for w in [5e-324, 1e-310, 1e-290, 1.0, LARGEST] {
            let tree = SumTree::new(&[w, 2.0 * w.min(LARGEST / 2.0), 0.0, w]).unwrap();
            let ends = [tree.weights()[0], tree.weights()[0] + tree.weights()[1]].map(|x| x / tree.total());
            for k in 0..64 {
                let u = (f64::from(k) + 0.5) / 64.0;
                let expected = if u < ends[0] {
                    0
                } else if u < ends[1] {
                    1
                } else {
                    3
                };
                assert_eq!(tree.find(u), Some(expected), "{w:e} {u}");
            }
        }
    }

    #[test]
    fn a_tree_that_grows_keeps_its_draws() {
        let few: Vec<f64> = (0..37).map(|i| f64::from(i % 7) / 3.0).collect();
        let mut many = few.clone();
        many.resize(1000, 0.0);
        let (small, large) = (SumTree::new(&few).unwrap(), SumTree::new(&many).unwrap());
        for k in 0..999 {
            assert_eq!(small.find(f64::from(k) / 999.0), large.find(f64::from(k) / 999.0));
        }
    }

    #[test]
    fn what_is_wrong_changes_nothing() {
        let mut tree = SumTree::new(&[1.0, 2.0]).unwrap();
        for bad in [-1.0, f64::NAN, f64::INFINITY, 2e288] {
            assert!(SumTree::new(&[bad]).is_err());
            assert!(tree.set(&[0, 1], &[3.0, bad]).is_err());
        }
        assert!(tree.set(&[2], &[1.0]).is_err());
        assert!(tree.set(&[0, 1], &[1.0]).is_err());
        assert_eq!(tree.take(7), 0.0);
        assert_eq!(tree.weights(), [1.0, 2.0]);
        let none = SumTree::new(&[]).unwrap();
        assert!(none.is_empty() && none.find(0.5).is_none());
    }
}
