//! A multiset of leaves that answers for its k-th smallest and for the mean of its k largest in logarithmic time.

use std::ops::Range;

/// Counts and sums over a binary tree whose leaves are the distinct values in ascending order. A sum is made of those of
/// its two halves and never subtracted from, so that it depends on what is in the set alone.
pub(super) struct Tally {
    values: Vec<f64>,
    /// Index in `values` of each leaf; [`NAN`] for NaN.
    rank: Vec<u32>,
    /// Node 1 is the root, those below node `i` are `2 i` and `2 i + 1`, that of value `k` is `size + k`.
    nodes: Vec<(u32, f64)>,
    size: usize,
    n_nan: usize,
}

const NAN: u32 = u32::MAX;

impl Tally {
    /// An empty one of some of these leaves, which are named by their index. There must be no -0.
    pub(super) fn new(leaves: &[f64]) -> Self {
        let mut values: Vec<f64> = leaves.iter().copied().filter(|x| !x.is_nan()).collect();
        values.sort_unstable_by(f64::total_cmp);
        values.dedup();
        let rank = |x: &f64| if x.is_nan() { NAN } else { values.partition_point(|v| v < x) as u32 };
        let rank = leaves.iter().map(rank).collect();
        let size = values.len().next_power_of_two();
        Self { values, rank, nodes: vec![(0, 0.0); 2 * size], size, n_nan: 0 }
    }

    pub(super) fn add(&mut self, leaf: usize) {
        let rank = self.rank[leaf];
        if rank == NAN {
            self.n_nan += 1;
            return;
        }
        let mut i = self.size + rank as usize;
        let count = self.nodes[i].0 + 1;
        self.nodes[i] = (count, f64::from(count) * self.values[rank as usize]);
        while i > 1 {
            let (low, high) = (self.nodes[i & !1], self.nodes[i | 1]);
            let sum = match (low.0, high.0) {
                (0, _) => high.1,
                (_, 0) => low.1,
                _ => low.1 + high.1,
            };
            i /= 2;
            self.nodes[i] = (low.0 + high.0, sum);
        }
    }

    /// Empties it; `leaves` are those that it holds.
    pub(super) fn clear(&mut self, leaves: Range<usize>) {
        self.n_nan = 0;
        for &rank in self.rank[leaves].iter().filter(|&&r| r != NAN) {
            let mut i = self.size + rank as usize;
            while i > 0 && self.nodes[i].0 > 0 {
                self.nodes[i] = (0, 0.0);
                i /= 2;
            }
        }
    }

    pub(super) fn has_nan(&self) -> bool {
        self.n_nan > 0
    }

    /// The `k`-th smallest, from 0.
    pub(super) fn smallest(&self, k: usize) -> f64 {
        let (mut i, mut k) = (1, k as u32);
        while i < self.size {
            let low = self.nodes[2 * i].0;
            i = if k < low { 2 * i } else { 2 * i + 1 };
            k -= if i & 1 == 0 { 0 } else { low };
        }
        self.values[i - self.size]
    }

    /// Mean of the `k` largest; `k` is at least 1 and at most the number of leaves.
    pub(super) fn top_mean(&self, k: usize) -> f64 {
        let (mut i, mut left, mut sum) = (1, k as u32, None);
        while i < self.size {
            let high = self.nodes[2 * i + 1];
            i = if left <= high.0 { 2 * i + 1 } else { 2 * i };
            if i & 1 == 0 && high.0 > 0 {
                left -= high.0;
                sum = Some(sum.unwrap_or(0.0) + high.1);
            }
        }
        let value = self.values[i - self.size];
        // Without larger values all of the k are equal.
        sum.map_or(value, |sum| (sum + f64::from(left) * value) / k as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn against_sorting(
            x in prop::collection::vec(prop::sample::select(vec![0.0, 1.0, 2.0, 2.5, -3.0, f64::INFINITY]), 1..30),
            cut in 0usize..30,
        ) {
            let mut tally = Tally::new(&x);
            let cut = cut % x.len();
            (0..x.len()).for_each(|leaf| tally.add(leaf));
            tally.clear(0..x.len());
            prop_assert!(tally.nodes.iter().all(|n| n.0 == 0));
            (cut..x.len()).for_each(|leaf| tally.add(leaf));
            let mut sorted = x[cut..].to_vec();
            sorted.sort_by(f64::total_cmp);
            for (k, value) in sorted.iter().enumerate() {
                prop_assert_eq!(tally.smallest(k), *value);
                let top = &sorted[k..];
                let mean = top.iter().sum::<f64>() / top.len() as f64;
                let got = tally.top_mean(top.len());
                prop_assert!(got == mean || (got - mean).abs() < 1e-12);
            }
        }
    }
}
