//! Weighted draws with a share of uniform ones, with and without replacement.

use super::sum_tree::SumTree;
use crate::error::{Error, Result, check_len};

/// Weights in a tree, and where a share of the draws is uniform, ones and zeros in another.
#[derive(Debug, Clone)]
pub struct Sampler {
    weights: SumTree,
    explore: f64,
    active: Option<SumTree>,
}

/// What was drawn, in the order of the draws.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    /// Leaves.
    pub positions: Vec<usize>,
    /// Probability of each in the first draw.
    pub probability: Vec<f64>,
}

/// A leaf that is out for a while: its weight, and 1 if it was active.
type Taken = (usize, f64, f64);

/// Weights of what is active, and 1 for each of these.
fn split(weights: &[f64], active: &[u8]) -> Result<(Vec<f64>, Vec<f64>)> {
    check_len("active", active.len(), weights.len(), "len(weights)")?;
    let ones: Vec<f64> = active.iter().map(|&a| f64::from(u8::from(a != 0))).collect();
    let kept = weights.iter().zip(&ones).map(|(&w, &one)| if one > 0.0 { w } else { 0.0 }).collect();
    Ok((kept, ones))
}

impl Sampler {
    /// Of one weight a leaf, and whether it is active: others have weight 0, and no uniform share either. In a share
    /// of `explore` of the draws all active leaves are equal.
    ///
    /// # Errors
    /// Lengths that differ; a weight that is negative, NaN or too large; `explore` outside [0, 1].
    pub fn new(weights: &[f64], active: &[u8], explore: f64) -> Result<Self> {
        if !(0.0..=1.0).contains(&explore) {
            let (expected, got) = ("between 0 and 1".to_owned(), explore.to_string());
            return Err(Error::Range { arg: "explore", expected, got });
        }
        let (weights, ones) = split(weights, active)?;
        let active = (explore > 0.0).then(|| SumTree::new(&ones)).transpose()?;
        Ok(Self { weights: SumTree::new(&weights)?, explore, active })
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
        self.active.as_mut().map_or(Ok(()), |tree| tree.set(at, &ones))
    }

    /// At most one leaf for each of the numbers `u` in [0, 1), fewer if no more are left. Where the number of `coin` is
    /// below `explore`, or no weight is left, all active leaves are equal. Leaves of `exclude` are not drawn; without
    /// `replace` none is drawn twice. The sampler is then what it was, to the last bit.
    ///
    /// # Errors
    /// `coin` has another length than `u`.
    pub fn draw(&mut self, u: &[f64], coin: &[f64], replace: bool, exclude: &[usize]) -> Result<Drawn> {
        check_len("coin", coin.len(), u.len(), "len(u)")?;
        let mut removed: Vec<Taken> = exclude.iter().map(|&i| self.take(i)).collect();
        let total = self.weights.total();
        let number = self.active.as_ref().map_or(1.0, SumTree::total);
        let share = if total > 0.0 { self.explore } else { 1.0 };
        let mut out =
            Drawn { positions: Vec::with_capacity(u.len()), probability: Vec::with_capacity(u.len()) };
        for (&u, &coin) in u.iter().zip(coin) {
            let tree = match &self.active {
                Some(active) if coin < self.explore || self.weights.positive() == 0 => active,
                _ => &self.weights,
            };
            let Some(i) = tree.find(u) else { break };
            let w = self.weights.weights()[i];
            let weighted = if share < 1.0 { (1.0 - share) * (w / total) } else { 0.0 };
            out.positions.push(i);
            out.probability.push(weighted + share / number);
            if !replace {
                removed.push(self.take(i));
            }
        }
        self.restore(removed)?;
        Ok(out)
    }

    fn take(&mut self, i: usize) -> Taken {
        (i, self.weights.take(i), self.active.as_mut().map_or(0.0, |tree| tree.take(i)))
    }

    fn restore(&mut self, mut taken: Vec<Taken>) -> Result<()> {
        // Backwards: of a leaf that was excluded twice, the first knew what it was.
        taken.reverse();
        taken.retain(|&(i, ..)| i < self.weights.len());
        let at: Vec<usize> = taken.iter().map(|t| t.0).collect();
        self.weights.set(&at, &taken.iter().map(|t| t.1).collect::<Vec<_>>())?;
        let ones: Vec<f64> = taken.iter().map(|t| t.2).collect();
        self.active.as_mut().map_or(Ok(()), |tree| tree.set(&at, &ones))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bits(s: &Sampler) -> Vec<u64> {
        let active = s.active.iter().flat_map(SumTree::nodes);
        s.weights.nodes().iter().chain(active).map(|x| x.to_bits()).collect()
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
            let mut sampler = Sampler::new(&w, &active, explore).unwrap();
            let before = bits(&sampler);
            let drawn = sampler.draw(&u, &coin, replace, &exclude).unwrap();
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
        let mut sampler = Sampler::new(&[3.0, 1.0, 0.0, 9.0], &[1, 1, 1, 0], 0.3).unwrap();
        let drawn = sampler.draw(&[0.1, 0.9, 0.9], &[0.9, 0.9, 0.1], true, &[]).unwrap();
        assert_eq!(drawn.positions, [0, 1, 2]);
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-15, "{a} {b}");
        close(drawn.probability[0], 0.7 * 0.75 + 0.1);
        close(drawn.probability[1], 0.7 * 0.25 + 0.1);
        close(drawn.probability[2], 0.1);
        assert!(sampler.draw(&[0.1], &[], true, &[]).is_err());
        assert!(sampler.set(&[0], &[1.0], &[]).is_err());
        for explore in [-0.1, 1.1, f64::NAN] {
            assert!(Sampler::new(&[1.0], &[1], explore).is_err());
        }
    }
}
