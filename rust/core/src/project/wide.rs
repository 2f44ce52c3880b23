//! Numbers of twice the precision: sums of float64 that do not round.
//!
//! Blocks are compared by their means, and a block's mean must not depend on the order in which its members came. With
//! some 106 bits the comparisons are those of exact arithmetic on the given numbers but for differences of 1e-30, and
//! results are rounded once.

use std::cmp::Ordering;
use std::ops::{Add, Neg, Sub};

/// The unevaluated sum of two float64, the second below half a unit in the last place of the first.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Wide {
    hi: f64,
    lo: f64,
}

fn two_sum(a: f64, b: f64) -> Wide {
    let hi = a + b;
    let shadow = hi - a;
    Wide { hi, lo: (a - (hi - shadow)) + (b - shadow) }
}

/// As [`two_sum`] for |a| >= |b|.
fn quick_sum(a: f64, b: f64) -> Wide {
    let hi = a + b;
    Wide { hi, lo: b - (hi - a) }
}

/// Upper and lower half of the digits. Without hardware FMA this is several times faster than `f64::mul_add`.
fn split(a: f64) -> (f64, f64) {
    let t = 134_217_729.0 * a;
    let hi = t - (t - a);
    (hi, a - hi)
}

impl Wide {
    pub(super) const ZERO: Self = Self { hi: 0.0, lo: 0.0 };

    pub(super) fn product(a: f64, b: f64) -> Self {
        let hi = a * b;
        let ((a1, a0), (b1, b0)) = (split(a), split(b));
        Self { hi, lo: ((a1 * b1 - hi) + a1 * b0 + a0 * b1) + a0 * b0 }
    }

    pub(super) fn times(self, b: f64) -> Self {
        let p = Self::product(self.hi, b);
        quick_sum(p.hi, p.lo + self.lo * b)
    }

    pub(super) fn over(self, b: f64) -> Self {
        if b == 1.0 {
            return self;
        }
        let first = self.hi / b;
        let rest = self - Self::product(first, b);
        let second = rest.hi / b;
        let rest = rest - Self::product(second, b);
        quick_sum(first, second) + Self::from(rest.hi / b)
    }

    /// `self / n + offset`, divided last: what cancels does so before anything is rounded.
    pub(super) fn mean_above(self, n: f64, offset: Self) -> Self {
        (self + offset.times(n)).over(n)
    }

    pub(super) fn round(self) -> f64 {
        self.hi
    }
}

impl From<f64> for Wide {
    fn from(x: f64) -> Self {
        Self { hi: x, lo: 0.0 }
    }
}

impl Add for Wide {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        let (high, low) = (two_sum(self.hi, other.hi), two_sum(self.lo, other.lo));
        let sum = quick_sum(high.hi, high.lo + low.hi);
        quick_sum(sum.hi, sum.lo + low.lo)
    }
}

impl Neg for Wide {
    type Output = Self;
    fn neg(self) -> Self {
        Self { hi: -self.hi, lo: -self.lo }
    }
}

impl Sub for Wide {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl PartialOrd for Wide {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.hi.partial_cmp(&other.hi) {
            Some(Ordering::Equal) => self.lo.partial_cmp(&other.lo),
            decided => decided,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost() {
        let sum = Wide::from(1e16) + Wide::from(1.0) + Wide::from(0.125);
        assert_eq!((sum - Wide::from(1e16) - Wide::from(1.0)).round(), 0.125);
        let third = Wide::from(1.0).over(3.0);
        assert!((third.times(3.0) - Wide::from(1.0)).round().abs() < 1e-31);
        assert!(Wide::from(1.0).over(3.0) > Wide::from(1.0 / 3.0));
        assert_eq!(Wide::product(0.1, 0.1).round(), 0.1 * 0.1);
        assert!(Wide::product(0.1, 0.1).lo != 0.0);
    }
}
