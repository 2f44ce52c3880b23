//! Upward passes in which branches count with weights.

use super::Forest;
use super::fold::{Children, fold};
use super::up::Up;
use crate::error::{Error, Result, check_len};
use crate::par::Par;
use crate::real::{Real, sort_values};

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
    let fits = |w: f64| (0.0..f64::INFINITY).contains(&w);
    // Without an early end, so that it is a vector loop.
    let (all_fit, all_one) = weights.iter().fold((true, true), |(a, b), &w| (a & fits(w), b & (w == 1.0)));
    if !all_fit && let Some(i) = weights.iter().position(|&w| !fits(w)) {
        let got = format!("{} at index {i}", weights[i]);
        return Err(Error::Range { arg: "weights", expected: "finite and not negative".into(), got });
    }
    Ok(if all_one { None } else { Some(weights) })
}

/// [`super::up`] with weights, of which an empty slice has 1 for every node.
pub(super) fn up(
    forest: &Forest,
    leaf: impl Fn(u32) -> f64 + Sync,
    how: Up,
    weights: &[f64],
    empty: f64,
    out: &mut [impl Real],
    par: Par,
) {
    let weight = |place: usize| weights.get(forest.order[place] as usize).copied().unwrap_or(1.0);
    let by_leaf = matches!(how, Up::LeafMean | Up::LeafLogMeanExp { .. });
    let branch = |value, place, total: f64, exponent: i64| {
        let own = weight(place);
        if !by_leaf {
            return Branch { value, mass: own, exponent: 0 };
        }
        let (own, shift) = near_one(own);
        let (mass, rest) = near_one(own * total);
        Branch { value, mass, exponent: exponent + shift + rest }
    };
    let at_leaf = |place, rollout| branch(leaf(rollout), place, 1.0, 0);
    let join = || {
        let mut node = Node::default();
        move |place, below: Children<'_, Branch>| {
            node.gather(below, how);
            if node.weights.is_empty() {
                return Branch { value: empty, mass: 0.0, exponent: 0 };
            }
            branch(node.value(how) + 0.0, place, node.total, node.exponent)
        }
    };
    fold(forest, at_leaf, join, |b| b.value, out, par);
}

/// The children that count.
#[derive(Default)]
struct Node {
    values: Vec<f64>,
    /// Times `2^exponent`; of the size of 1, but for sums.
    weights: Vec<f64>,
    total: f64,
    exponent: i64,
    terms: Vec<f64>,
}

impl Node {
    fn gather(&mut self, below: Children<'_, Branch>, how: Up) {
        let mut n = 0;
        let exponents = below.clone().map(|b| if b.mass > 0.0 { b.exponent } else { i64::MIN });
        self.exponent = exponents.max().unwrap_or(0);
        for b in below {
            let shift = b.exponent.wrapping_sub(self.exponent);
            let weight = if shift == 0 || b.mass == 0.0 { b.mass } else { scale(b.mass, shift) };
            if n == self.values.len() {
                self.values.push(0.0);
                self.weights.push(0.0);
            }
            (self.values[n], self.weights[n]) = (b.value, weight);
            // One that does not count is written over. So is one that vanishes beside the others.
            n += usize::from(weight > 0.0);
        }
        self.values.truncate(n);
        self.weights.truncate(n);
        if how == Up::Sum {
            return; // Here the weights themselves count, not their ratios.
        }
        let largest = self.weights.iter().fold(0.0, |a: f64, &b| a.max(b));
        let shift = near_one(largest).1;
        if shift != 0 {
            self.weights.iter_mut().for_each(|w| *w = scale(*w, -shift));
            self.exponent += shift;
        }
        self.total = self.sum(|_| 1.0);
    }

    /// Sum of the weighted `f` of the values, in an order that depends on the terms alone.
    fn sum(&mut self, f: impl Fn(f64) -> f64) -> f64 {
        self.terms.clear();
        let pairs = self.weights.iter().zip(&self.values);
        // A product may underflow to -0, which has no order.
        self.terms.extend(pairs.map(|(w, &x)| w * f(x) + 0.0));
        sort_values(&mut self.terms);
        self.terms.iter().sum()
    }

    fn mean(&mut self) -> f64 {
        self.sum(|x| x) / self.total
    }

    fn value(&mut self, how: Up) -> f64 {
        if self.values.iter().any(|x| x.is_nan()) {
            return f64::NAN;
        }
        if how == Up::Sum {
            return self.sum(|x| x);
        }
        let first = self.values[0];
        let (low, high) = self.values.iter().fold((first, first), |(a, b), &x| (a.min(x), b.max(x)));
        match how {
            Up::Max | Up::Any => high,
            Up::Min | Up::All => low,
            _ if low == high => low,
            Up::LogMeanExpOfChildren { beta } | Up::LeafLogMeanExp { beta } => {
                self.log_mean_exp(low, high, 1.0 / beta)
            }
            _ => self.mean(),
        }
    }

    /// As [`crate::reduce::log_mean_exp`], with weights.
    fn log_mean_exp(&mut self, low: f64, high: f64, rate: f64) -> f64 {
        let reach = rate * (high - low);
        if high.is_infinite() {
            high
        } else if reach < 1e-17 {
            self.mean()
        } else if reach < 0.5 {
            let center = self.mean();
            center + (self.sum(|x| (rate * (x - center)).exp_m1()) / self.total).ln_1p() / rate
        } else {
            high + (self.sum(|x| (rate * (x - high)).exp()) / self.total).ln() / rate
        }
    }
}

/// A positive `x` as `m 2^e`, with `e = 0` unless `x` is far from 1.
fn near_one(x: f64) -> (f64, i64) {
    if (1e-100..1e100).contains(&x) | (x == 0.0) { (x, 0) } else { split(x) }
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
        -1100..=2000 => m * power(e / 2) * power(e - e / 2),
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
            assert_eq!(scale(x, -e), m);
        }
        assert_eq!(split(0.0), (0.0, 0));
        assert_eq!((scale(0.5, -5000), scale(0.5, 5000)), (0.0, f64::INFINITY));
    }
}
