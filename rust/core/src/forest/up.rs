//! Upward passes: from the values of rollouts to those of nodes.

use super::Forest;
use super::fold::{Children, fold, fold_values};
use super::weighted;
use crate::error::Result;
use crate::par::Par;
use crate::real::{Real, sort_values};
use crate::reduce::{log_mean_exp, mean};

/// What a node takes from below; a leaf has the value of its rollout.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
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
    /// 1 if a leaf below is not 0, else 0; NaN if one is NaN.
    Any,
    /// 1 if no leaf below is 0, else 0; NaN if one is NaN.
    All,
    /// `beta log(mean(exp(V / beta)))` over the children.
    LogMeanExpOfChildren { beta: f64 },
    /// The same over the leaves below.
    LeafLogMeanExp { beta: f64 },
}

impl Up {
    /// Without a temperature that has reached its limit: the maximum at 0, the mean at infinity.
    fn plain(self) -> Self {
        match self {
            // Smaller ones have no inverse in float64.
            Self::LogMeanExpOfChildren { beta } | Self::LeafLogMeanExp { beta }
                if beta < f64::MIN_POSITIVE =>
            {
                Self::Max
            }
            Self::LogMeanExpOfChildren { beta } if beta.is_infinite() => Self::MeanOfChildren,
            Self::LeafLogMeanExp { beta } if beta.is_infinite() => Self::LeafMean,
            other => other,
        }
    }
}

/// One value a node (to `out`, by id) from one value a rollout; accumulated in float64.
///
/// `weights` has the weight of each node among its siblings; the subtree of a node of weight 0 is left out, whatever
/// it holds. Where leaves are averaged, a leaf counts with the product of the weights between it and the node. A node
/// with nothing left below gets `empty`, and its parent leaves it out.
///
/// Children's values are sorted before they are added, so that renumbering nodes or rollouts changes no bit; the mean
/// of equal values is exactly that value. NaN spreads to all ancestors that do not leave it out.
///
/// # Errors
/// [`Error::Length`](crate::Error::Length) if `x` is not of one value a rollout or `weights` not of one a node,
/// [`Error::Range`](crate::Error::Range) for a weight that is negative or not finite, or a `beta` that is negative or NaN.
pub fn up<T: Real>(
    forest: &Forest,
    x: &[T],
    how: Up,
    weights: Option<&[f64]>,
    empty: f64,
    out: &mut [T],
    par: Par,
) -> Result<()> {
    forest.check_rollouts("x", x.len())?;
    forest.check_nodes("out", out.len())?;
    if let Up::LogMeanExpOfChildren { beta } | Up::LeafLogMeanExp { beta } = how
        && (beta.is_nan() || beta < 0.0)
    {
        return Err(crate::Error::Range {
            arg: "beta",
            expected: "at least 0".into(),
            got: beta.to_string(),
        });
    }
    let how = how.plain();
    let truth = matches!(how, Up::Any | Up::All);
    let leaf = |rollout: u32| {
        let x = x[rollout as usize].wide();
        // Adding 0 makes -0 and 0, which have no order, the same; all NaN become one.
        match x {
            x if x.is_nan() => f64::NAN,
            x if truth => f64::from(x != 0.0),
            x => x + 0.0,
        }
    };
    let weights = weights.map(|w| weighted::check(forest, w)).transpose()?.flatten();
    if let Some(weights) = weights {
        weighted::up(forest, leaf, how, weights, empty, out, par);
        return Ok(());
    }
    let mut run = |f: fn(&mut [f64]) -> f64| fold_values(forest, |_, r| leaf(r), f, out, par);
    match how {
        Up::Sum => run(|x| sorted(x, |x| x.iter().sum())),
        Up::MeanOfChildren => run(|x| sorted(x, mean)),
        Up::Max | Up::Any => run(largest),
        Up::Min | Up::All => run(smallest),
        Up::LeafMean => leaf_mean(forest, leaf, out, par),
        Up::LogMeanExpOfChildren { beta } => {
            let join = |x: &mut [f64]| sorted(x, |x| log_mean_exp(x, 1.0 / beta));
            fold_values(forest, |_, r| leaf(r), join, out, par);
        }
        Up::LeafLogMeanExp { .. } => weighted::up(forest, leaf, how, &[], empty, out, par),
    }
    Ok(())
}

/// Sum of the leaves below, their number, and the value that all of them have, or NaN.
type Leaves = (f64, f64, f64);

fn leaf_mean(forest: &Forest, leaf: impl Fn(u32) -> f64 + Sync, out: &mut [impl Real], par: Par) {
    let at_leaf = |_, rollout| {
        let x = leaf(rollout);
        (x, 1.0, x)
    };
    let join = || {
        let mut sums = Vec::new();
        move |_: usize, below: Children<'_, Leaves>| {
            if let Some(leaves) = below.only() {
                return leaves;
            }
            sums.clear();
            let (mut n, mut first, mut all) = (0.0, f64::NAN, true);
            for b in below {
                first = if sums.is_empty() { b.2 } else { first };
                all &= b.2 == first;
                n += b.1;
                sums.push(b.0);
            }
            (sorted(&mut sums, |x| x.iter().sum()), n, if all { first } else { f64::NAN })
        }
    };
    let mean = |(sum, n, same): Leaves| if same.is_nan() { sum / n } else { same };
    fold(forest, at_leaf, join, mean, out, par);
}

/// `f` of the values in ascending order; NaN if one is NaN.
fn sorted(x: &mut [f64], f: impl Fn(&[f64]) -> f64) -> f64 {
    if x.iter().any(|x| x.is_nan()) {
        return f64::NAN;
    }
    sort_values(x);
    f(x) + 0.0
}

fn largest(x: &mut [f64]) -> f64 {
    x.iter().fold(f64::NEG_INFINITY, |a, &b| if a >= b || a.is_nan() { a } else { b })
}

fn smallest(x: &mut [f64]) -> f64 {
    x.iter().fold(f64::INFINITY, |a, &b| if a <= b || a.is_nan() { a } else { b })
}

#[cfg(test)]
#[path = "up_tests.rs"]
mod tests;
