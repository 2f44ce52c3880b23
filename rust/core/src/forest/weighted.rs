//! Upward passes in which branches count with weights.

use super::Forest;
use super::fold::fold;
use super::up::Up;
use crate::error::{Error, Result, check_len};
use crate::par::Par;

/// What a parent sees of a node.
#[derive(Clone, Copy, Default)]
struct Branch {
    value: f64,
    /// It counts with weight `mass * 2^exponent`: in a chain of a million weights the product leaves the range of
    /// float64, but not the ratios of siblings. A mass of 0 says that it does not count.
    mass: f64,
    exponent: i64,
}

/// The weights, or none if all are 1.
pub(super) fn check<'a>(forest: &Forest, weights: &'a [f64]) -> Result<Option<&'a [f64]>> {
    check_len("weights", weights.len(), forest.len(), "forest.n_nodes")?;
    if let Some(i) = weights.iter().position(|w| !w.is_finite() || *w < 0.0) {
        let got = format!("{} at index {i}", weights[i]);
        return Err(Error::Range { arg: "weights", expected: "finite and not negative".into(), got });
    }
    Ok(if weights.iter().all(|w| *w == 1.0) { None } else { Some(weights) })
}

/// [`super::up`] with weights, of which an empty slice has 1 for every node.
pub(super) fn up(
    forest: &Forest,
    leaf: impl Fn(u32) -> f64 + Sync,
    how: Up,
    weights: &[f64],
    empty: f64,
    par: Par,
) -> Vec<f64> {
    let weight = |place: usize| match weights.get(forest.order[place] as usize) {
        Some(&w) => split(w),
        None => (0.5, 1),
    };
    let by_leaf = matches!(how, Up::LeafMean | Up::LeafLogMeanExp { .. });
    let at_leaf = |place, rollout| {
        let (mass, exponent) = weight(place);
        Branch { value: leaf(rollout), mass, exponent }
    };
    let join = |place, below: &mut Vec<Branch>| {
        below.retain(|b| b.mass > 0.0);
        let (value, total) = joined(below, how);
        let Some((total, shift)) = total else {
            return Branch { value: empty, mass: 0.0, exponent: 0 };
        };
        let (mut mass, mut exponent) = weight(place);
        if by_leaf && mass > 0.0 {
            let (m, e) = split(mass * total);
            (mass, exponent) = (m, exponent + e + shift);
        }
        Branch { value: value + 0.0, mass, exponent }
    };
    let made = fold(forest, at_leaf, join, par);
    made.into_iter().map(|b| b.value).collect()
}

/// The value of a node, and the sum of its children's weights as `mass * 2^exponent`; none without children.
fn joined(below: &mut [Branch], how: Up) -> (f64, Option<(f64, i64)>) {
    let Some(top) = below.iter().map(|b| b.exponent).max() else {
        return (f64::NAN, None);
    };
    if below.iter().any(|b| b.value.is_nan()) {
        let total = below.iter().map(|b| scale(b.mass, b.exponent - top)).sum();
        return (f64::NAN, Some((total, top)));
    }
    below.sort_unstable_by(|a, b| {
        a.value.total_cmp(&b.value).then(a.exponent.cmp(&b.exponent)).then(a.mass.total_cmp(&b.mass))
    });
    let total: f64 = below.iter().map(|b| scale(b.mass, b.exponent - top)).sum();
    let (low, high) = (below[0].value, below[below.len() - 1].value);
    // Of the branches that do not vanish beside the others.
    let sum = |f: &dyn Fn(f64) -> f64| -> f64 {
        let weighted = below.iter().map(|b| (scale(b.mass, b.exponent - top), b.value));
        weighted.filter(|(w, _)| *w > 0.0).map(|(w, x)| w * f(x)).sum()
    };
    let mean = || if low == high { low } else { sum(&|x| x) / total };
    let value = match how {
        Up::Max | Up::Any => high,
        Up::Min | Up::All => low,
        Up::MeanOfChildren | Up::LeafMean => mean(),
        Up::Sum => {
            // Here the weights themselves count, not their ratios.
            let mut terms: Vec<f64> = below.iter().map(|b| scale(b.mass, b.exponent) * b.value).collect();
            terms.sort_unstable_by(f64::total_cmp);
            terms.iter().sum()
        }
        Up::LogMeanExpOfChildren { beta } | Up::LeafLogMeanExp { beta } => {
            let rate = 1.0 / beta;
            let reach = rate * (high - low);
            if low == high || high.is_infinite() {
                high
            } else if reach < 1e-17 {
                mean()
            } else if reach < 0.5 {
                // As in `reduce::log_mean_exp`: a logarithm near 1 would lose what distinguishes this from the mean.
                let center = mean();
                center + (sum(&|x| (rate * (x - center)).exp_m1()) / total).ln_1p() / rate
            } else {
                high + (sum(&|x| (rate * (x - high)).exp()) / total).ln() / rate
            }
        }
    };
    (value, Some((total, top)))
}

/// `(m, e)` with `x = m 2^e` and `m` in [0.5, 1), or (0, 0).
fn split(x: f64) -> (f64, i64) {
    if x == 0.0 {
        return (0.0, 0);
    }
    let (x, shift) = if x < f64::MIN_POSITIVE { (x * 2f64.powi(64), -64) } else { (x, 0) };
    let exponent = (x.to_bits() >> 52) as i64 - 1022;
    (f64::from_bits(x.to_bits() & !(0x7ff << 52) | 1022 << 52), exponent + shift)
}

/// `m 2^e`; exact unless the result is subnormal.
fn scale(m: f64, e: i64) -> f64 {
    let power = |e: i64| f64::from_bits(((1023 + e) as u64) << 52);
    match e {
        -1000..=1000 => m * power(e),
        -1100..=1030 => m * power(e / 2) * power(e - e / 2),
        e if e < 0 => 0.0,
        _ => f64::INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_and_scale_are_inverse() {
        for x in [1.0, 0.5, 3.7, 5e-324, 1e-310, f64::MIN_POSITIVE, f64::MAX, 1e300] {
            let (m, e) = split(x);
            assert!((0.5..1.0).contains(&m), "{x} {m}");
            assert_eq!(scale(m, e), x);
        }
        assert_eq!(split(0.0), (0.0, 0));
        assert_eq!((scale(0.5, -5000), scale(0.5, 5000)), (0.0, f64::INFINITY));
    }
}
