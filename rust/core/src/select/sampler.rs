//! Weighted draws with a share of uniform ones, with and without replacement.

use super::sum_tree::SumTree;
use crate::error::{Result, check_len};

/// Weights in a tree, beside one tree of ones and zeros for the uniform share.
#[derive(Debug, Clone)]
pub struct Sampler {
    weights: SumTree,
    active: SumTree,
}

/// What was drawn, in the order of the draws.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    /// Leaves.
    pub positions: Vec<usize>,
    /// Probability of each in the first draw.
    pub probability: Vec<f64>,
}

/// Weights of what is active, and 1 for each of these.
fn split(weights: &[f64], active: &[u8]) -> Result<(Vec<f64>, Vec<f64>)> {
    check_len("active", active.len(), weights.len(), "len(weights)")?;
    let ones: Vec<f64> = active.iter().map(|&a| f64::from(u8::from(a != 0))).collect();
    let kept = weights.iter().zip(&ones).map(|(&w, &one)| if one > 0.0 { w } else { 0.0 }).collect();
    Ok((kept, ones))
}

impl Sampler {
    /// Of one weight a leaf, and whether it is active: others have weight 0, and no uniform share either.
    ///
    /// # Errors
    /// Lengths that differ; a weight that is negative, NaN or too large.
    pub fn new(weights: &[f64], active: &[u8]) -> Result<Self> {
        let (weights, ones) = split(weights, active)?;
        Ok(Self { weights: SumTree::new(&weights)?, active: SumTree::new(&ones)? })
    }

    /// The weights.
    #[must_use]
    pub fn weights(&self) -> &SumTree {
        &self.weights
    }

    /// New weights and activity of the leaves `at`.
    ///
    /// # Errors
    /// As [`SumTree::set`]. Nothing is changed then.
    pub fn set(&mut self, at: &[usize], weights: &[f64], active: &[u8]) -> Result<()> {
        let (weights, ones) = split(weights, active)?;
        self.weights.set(at, &weights)?;
        self.active.set(at, &ones)
    }

    /// At most one leaf for each of the numbers `u` in [0, 1), fewer if no more are left. Where the number of `coin` is
    /// below `explore`, or no weight is left, all active leaves are equal. Leaves of `exclude` are not drawn; without
    /// `replace` none is drawn twice. The sampler is then what it was, to the last bit.
    ///
    /// # Errors
    /// `coin` has another length than `u`.
    pub fn draw(
        &mut self,
        u: &[f64],
        coin: &[f64],
        explore: f64,
        replace: bool,
        exclude: &[usize],
    ) -> Result<Drawn> {
        check_len("coin", coin.len(), u.len(), "len(u)")?;
        // Leaf, its weight, and whether it was active.
        let mut removed: Vec<(usize, f64, f64)> =
            exclude.iter().map(|&i| (i, self.weights.take(i), self.active.take(i))).collect();
        let (total, number) = (self.weights.total(), self.active.total());
        let share = if total > 0.0 { explore } else { 1.0 };
        let mut out =
            Drawn { positions: Vec::with_capacity(u.len()), probability: Vec::with_capacity(u.len()) };
        for (&u, &coin) in u.iter().zip(coin) {
            let uniform = explore > 0.0 && (coin < explore || self.weights.positive() == 0);
            let tree = if uniform { &self.active } else { &self.weights };
            let Some(i) = tree.find(u) else { break };
            let w = self.weights.weights()[i];
            let weighted = if share < 1.0 { (1.0 - share) * (w / total) } else { 0.0 };
            out.positions.push(i);
            out.probability.push(weighted + share / number);
            if !replace {
                removed.push((i, self.weights.take(i), self.active.take(i)));
            }
        }
        // Backwards: of a leaf that was excluded twice, the first knew what it was.
        let restored: Vec<_> = removed.into_iter().rev().filter(|&(i, ..)| i < self.weights.len()).collect();
        let at: Vec<usize> = restored.iter().map(|r| r.0).collect();
        self.weights.set(&at, &restored.iter().map(|r| r.1).collect::<Vec<_>>())?;
        self.active.set(&at, &restored.iter().map(|r| r.2).collect::<Vec<_>>())?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bits(s: &Sampler) -> Vec<u64> {
        s.weights.nodes().iter().chain(s.active.nodes()).map(|x| x.to_bits()).collect()
    }

    proptest! {
        #[test]
        fn a_draw_leaves_no_trace(
            leaves in prop::collection::vec((prop_oneof![Just(0.0), 0.0..1.0], 0u8..3), 1..30),
            u in prop::collection::vec((0.0..1.0f64, 0.0..1.0f64), 0..40),
            exclude in prop::collection::vec(0usize..35, 0..9),
            explore in prop_oneof![Just(0.0), Just(0.3), Just(1.0)],
            replace in any::<bool>(),
        ) {
            let (w, active): (Vec<f64>, Vec<u8>) = leaves.into_iter().unzip();
            let (u, coin): (Vec<f64>, Vec<f64>) = u.into_iter().unzip();
            let mut sampler = Sampler::new(&w, &active).unwrap();
            let before = bits(&sampler);
            let drawn = sampler.draw(&u, &coin, explore, replace, &exclude).unwrap();
            prop_assert_eq!(bits(&sampler), before);
            let can: Vec<usize> = (0..w.len())
                .filter(|i| active[*i] > 0 && !exclude.contains(i) && (explore > 0.0 || w[*i] > 0.0))
                .collect();
            for (i, p) in drawn.positions.iter().zip(&drawn.probability) {
                prop_assert!(can.contains(i));
                prop_assert!(*p > 0.0 && *p <= 1.0 + 1e-12);
            }
            if replace {
                prop_assert_eq!(drawn.positions.len(), if can.is_empty() { 0 } else { u.len() });
            } else {
                prop_assert_eq!(drawn.positions.len(), u.len().min(can.len()));
                let mut once = drawn.positions.clone();
                once.sort_unstable();
                once.dedup();
                prop_assert_eq!(once.len(), drawn.positions.len());
            }
        }
    }

    #[test]
    fn the_uniform_share() {
        let mut sampler = Sampler::new(&[3.0, 1.0, 0.0, 9.0], &[1, 1, 1, 0]).unwrap();
        let drawn = sampler.draw(&[0.1, 0.9, 0.9], &[0.9, 0.9, 0.1], 0.3, true, &[]).unwrap();
        assert_eq!(drawn.positions, [0, 1, 2]);
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-15, "{a} {b}");
        close(drawn.probability[0], 0.7 * 0.75 + 0.1);
        close(drawn.probability[1], 0.7 * 0.25 + 0.1);
        close(drawn.probability[2], 0.1);
        assert!(sampler.draw(&[0.1], &[], 0.0, true, &[]).is_err());
        assert!(sampler.set(&[0], &[1.0], &[]).is_err());
    }
}
