//! Statistics of the leaves below each node.

use super::Forest;
use super::fold::{Children, fold};
use super::order_stat::{Order, order_stat};
use super::up::{Up, up};
use crate::error::{Error, Result};
use crate::par::Par;
use crate::real::{Real, sort_values};
use crate::reduce::{mean, sum_squares};

/// What is taken of the leaves below a node, of which there are `n`; NaN if one of them is NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub enum LeafStat {
    /// Mean; exactly the common value if all are equal.
    Mean,
    /// Variance with denominator `n - ddof`; NaN if that is not positive. Exactly 0 if all are equal.
    Var { ddof: u32 },
    /// Its square root.
    Std { ddof: u32 },
    /// Quantile `q` in [0, 1], linear between two leaves.
    Quantile { q: f64 },
    /// Mean of the `k` largest, or of all if there are fewer.
    TopMean { k: usize },
}

/// One value a node (to `out`, by id) from one value a rollout; accumulated in float64. Renumbering changes no bit.
///
/// # Errors
/// [`Error::Length`] if `x` is not of one value a rollout, [`Error::Range`] for a bad parameter.
pub fn leaf_stat<T: Real>(forest: &Forest, x: &[T], what: LeafStat, out: &mut [T], par: Par) -> Result<()> {
    forest.check_rollouts("x", x.len())?;
    forest.check_nodes("out", out.len())?;
    let leaf = |rollout: u32| {
        let x = x[rollout as usize].wide();
        // Adding 0 makes -0 and 0 the same; all NaN become one.
        if x.is_nan() { f64::NAN } else { x + 0.0 }
    };
    let range = |arg, expected: &str, got: String| Err(Error::Range { arg, expected: expected.into(), got });
    match what {
        LeafStat::Mean => up(forest, x, Up::LeafMean, None, f64::NAN, out, par)?,
        LeafStat::Var { ddof } => variance(forest, leaf, ddof, |v| v, out, par),
        LeafStat::Std { ddof } => variance(forest, leaf, ddof, f64::sqrt, out, par),
        LeafStat::Quantile { q } if !(0.0..=1.0).contains(&q) => range("q", "in [0, 1]", q.to_string())?,
        LeafStat::Quantile { q } => order_stat(forest, leaf, Order::Quantile(q), out, par),
        LeafStat::TopMean { k: 0 } => range("k", "at least 1", "0".into())?,
        LeafStat::TopMean { k } => order_stat(forest, leaf, Order::TopMean(k), out, par),
    }
    Ok(())
}

/// Number of leaves, their mean, and the sum of their squared deviations from it.
#[derive(Clone, Copy, Default)]
struct Moments {
    n: f64,
    mean: f64,
    squares: f64,
}

fn variance(
    forest: &Forest,
    leaf: impl Fn(u32) -> f64 + Sync,
    ddof: u32,
    last: fn(f64) -> f64,
    out: &mut [impl Real],
    par: Par,
) {
    let at_leaf = |_, rollout| {
        let x = leaf(rollout);
        Moments { n: 1.0, mean: x, squares: if x.is_nan() { x } else { 0.0 } }
    };
    let ddof = f64::from(ddof);
    let one = |m: Moments| if m.n > ddof { last(m.squares / (m.n - ddof)) } else { f64::NAN };
    let join = || {
        let (mut list, mut means) = (Vec::new(), Vec::new());
        move |_: usize, below: Children<'_, Moments>| {
            if let Some(moments) = below.only() {
                return moments;
            }
            means.clear();
            means.extend(below.clone().map(|m| m.mean));
            if below.clone().all(|m| m.n == 1.0) {
                return of_leaves(&mut means);
            }
            list.clear();
            list.extend(below);
            merged(&mut list)
        }
    };
    fold(forest, at_leaf, join, one, out, par);
}

fn of_leaves(x: &mut [f64]) -> Moments {
    let n = x.len() as f64;
    if x.iter().any(|x| x.is_nan()) {
        return Moments { n, mean: f64::NAN, squares: f64::NAN };
    }
    sort_values(x);
    let mean = mean(x);
    Moments { n, mean, squares: sum_squares(x, mean) }
}

/// Those of all leaves below several nodes. Equal means have no spread between them, so that equal leaves give exactly 0.
fn merged(below: &mut [Moments]) -> Moments {
    let n = below.iter().map(|m| m.n).sum();
    if below.iter().any(|m| m.mean.is_nan()) {
        return Moments { n, mean: f64::NAN, squares: f64::NAN };
    }
    below.sort_unstable_by(|a, b| {
        a.mean.total_cmp(&b.mean).then(a.n.total_cmp(&b.n)).then(a.squares.total_cmp(&b.squares))
    });
    let inside: f64 = below.iter().map(|m| m.squares).sum();
    let (low, high) = (below[0].mean, below[below.len() - 1].mean);
    if low == high {
        return Moments { n, mean: low, squares: inside };
    }
    let mean = below.iter().map(|m| m.n * m.mean).sum::<f64>() / n;
    let (mut between, mut rest) = (0.0, 0.0);
    for m in below.iter() {
        let d = m.mean - mean;
        between += m.n * d * d;
        rest += m.n * d;
    }
    // What is left of the deviations tells how far the mean was rounded.
    let between = between - rest * rest / n;
    Moments { n, mean, squares: inside + if between < 0.0 { 0.0 } else { between } }
}

#[cfg(test)]
#[path = "leaf_stat_tests.rs"]
mod tests;
