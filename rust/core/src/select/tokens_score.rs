//! What tokens are compared by: a number of each, or a random word.

use crate::error::Error;
use crate::layout::Layout;
use crate::real::Real;

/// A number in an order without NaN; zeros have no sign.
pub trait Score: Copy + PartialOrd + Send + Sync + 'static {
    /// Width of the key.
    const BITS: u32;
    /// Not above any.
    const LOWEST: Self;
    /// Not below any.
    const HIGHEST: Self;
    /// An integer that orders as the number does.
    fn key(self) -> u64;
    /// The number of a key.
    fn of_key(key: u64) -> Self;
    /// False for NaN.
    fn is_ordered(self) -> bool;
    /// Greater, or NaN.
    #[allow(clippy::neg_cmp_op_on_partial_ord)]
    fn is_over(self, low: Self) -> bool {
        !(self <= low)
    }
}

/// A float type, of which scores are made.
pub trait Float: Real + Score {
    /// `|a| b`, rounded once.
    fn times(a: Self, b: Self) -> Self;
    /// The number or its negative, a zero without its sign.
    fn signed(self, negative: bool) -> Self;
}

macro_rules! float {
    ($float:ty, $bits:ty, $signed:ty, $width:literal) => {
        impl Score for $float {
            const BITS: u32 = $width;
            const LOWEST: Self = <$float>::NEG_INFINITY;
            const HIGHEST: Self = <$float>::INFINITY;
            fn key(self) -> u64 {
                let bits = self.to_bits();
                let sign = (bits as $signed >> ($width - 1)) as $bits;
                u64::from(bits ^ (sign | 1 << ($width - 1)))
            }
            fn of_key(key: u64) -> Self {
                let key = key as $bits;
                let sign = !((key as $signed >> ($width - 1)) as $bits);
                Self::from_bits(key ^ (sign | 1 << ($width - 1)))
            }
            fn is_ordered(self) -> bool {
                !self.is_nan()
            }
        }
        impl Float for $float {
            fn times(a: Self, b: Self) -> Self {
                a.abs() * b
            }
            fn signed(self, negative: bool) -> Self {
                (if negative { -self } else { self }) + 0.0
            }
        }
    };
}
float!(f32, u32, i32, 32);
float!(f64, u64, i64, 64);

impl Score for u64 {
    const BITS: u32 = 64;
    const LOWEST: Self = Self::MIN;
    const HIGHEST: Self = Self::MAX;
    fn key(self) -> u64 {
        self
    }
    fn of_key(key: u64) -> Self {
        key
    }
    fn is_ordered(self) -> bool {
        true
    }
}

/// The scores of the positions of a layout; the highest are chosen.
pub trait Scores: Sync {
    /// Their type.
    type S: Score;
    /// Whether the score of a position depends on its row.
    const BY_ROW: bool;
    /// Those of the positions from `start` on, which are of one row if [`Self::BY_ROW`].
    fn fill(&self, row: usize, start: usize, out: &mut [Self::S]);
    /// Why the score at `at`, position `t` of a row, is NaN.
    fn blame(&self, row: usize, at: usize, t: usize) -> Error;
}

fn nan(arg: &'static str, row: usize, t: usize) -> Error {
    Error::Structure {
        arg,
        reason: format!("must not be NaN at trained tokens, got NaN at row {row}, position {t}"),
    }
}

/// Numbers as they are, or the lowest of them first.
pub struct Plain<'a, T> {
    /// One a position.
    pub x: &'a [T],
    /// The lowest are chosen.
    pub lowest: bool,
}

impl<T: Float> Scores for Plain<'_, T> {
    type S = T;
    const BY_ROW: bool = false;
    fn fill(&self, _: usize, start: usize, out: &mut [T]) {
        let x = &self.x[start..start + out.len()];
        for (out, &x) in out.iter_mut().zip(x) {
            *out = x.signed(self.lowest);
        }
    }
    fn blame(&self, row: usize, _: usize, t: usize) -> Error {
        nan("x", row, t)
    }
}

/// `|a| x`, with `a` one a position.
pub struct Product<'a, T> {
    /// One a position.
    pub a: &'a [T],
    /// One a position.
    pub x: &'a [T],
}

fn product_is_nan<T: Float>(a: T, x: T, row: usize, t: usize) -> Error {
    if !x.is_ordered() {
        return nan("x", row, t);
    }
    if !a.is_ordered() {
        return nan("advantages", row, t);
    }
    let reason = format!("times 'advantages' is 0 times infinity, which is NaN, at row {row}, position {t}");
    Error::Structure { arg: "x", reason }
}

impl<T: Float> Scores for Product<'_, T> {
    type S = T;
    const BY_ROW: bool = false;
    fn fill(&self, _: usize, start: usize, out: &mut [T]) {
        let a = &self.a[start..start + out.len()];
        let x = &self.x[start..start + out.len()];
        for (out, (&a, &x)) in out.iter_mut().zip(a.iter().zip(x)) {
            *out = T::times(a, x).signed(false);
        }
    }
    fn blame(&self, row: usize, at: usize, t: usize) -> Error {
        product_is_nan(self.a[at], self.x[at], row, t)
    }
}

/// `|a| x`, with `a` one a row.
pub struct RowProduct<'a, T> {
    /// One a row.
    pub a: &'a [T],
    /// One a position.
    pub x: &'a [T],
}

impl<T: Float> Scores for RowProduct<'_, T> {
    type S = T;
    const BY_ROW: bool = true;
    fn fill(&self, row: usize, start: usize, out: &mut [T]) {
        let (a, x) = (self.a[row], &self.x[start..start + out.len()]);
        for (out, &x) in out.iter_mut().zip(x) {
            *out = T::times(a, x).signed(false);
        }
    }
    fn blame(&self, row: usize, at: usize, t: usize) -> Error {
        product_is_nan(self.a[row], self.x[at], row, t)
    }
}

/// Random words of row and position, the same whatever batch a row is in; the lowest are chosen.
#[derive(Clone, Copy)]
pub struct Hashes<'a> {
    /// Where the rows lie.
    pub layout: &'a Layout,
    /// A random word of each row.
    pub words: &'a [u64],
    /// The position of each in its row, if it is not the number from its start.
    pub positions: Option<&'a [i64]>,
}

impl Scores for Hashes<'_> {
    type S = u64;
    const BY_ROW: bool = true;
    fn fill(&self, row: usize, start: usize, out: &mut [u64]) {
        let (word, first) = (self.words[row], self.layout.slot(row).start);
        for (k, out) in out.iter_mut().enumerate() {
            let at = start + k;
            let position = self.positions.map_or((at - first) as u64, |p| p[at] as u64);
            *out = !mixed(word.wrapping_add(position.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15)));
        }
    }
    fn blame(&self, row: usize, _: usize, t: usize) -> Error {
        nan("x", row, t)
    }
}

/// The finaliser of splitmix64, a bijection.
fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_order_as_the_numbers() {
        let x = [f32::NEG_INFINITY, -1.5, -1e-45, 0.0, 1e-45, 2.0, f32::INFINITY];
        assert!(x.windows(2).all(|w| w[0].key() < w[1].key()));
        assert!(x.windows(2).all(|w| f64::from(w[0]).key() < f64::from(w[1]).key()));
        assert_eq!((-0.0f32).signed(false).key(), 0.0f32.key());
        assert_eq!(0.0f64.signed(true).key(), 0.0f64.key());
        assert!(f32::MAX.key() <= u64::from(u32::MAX));
        assert!(
            x.iter().all(|&x| f32::of_key(x.key()) == x && f64::of_key(f64::from(x).key()) == f64::from(x))
        );
        // Above all numbers there is nothing that a score would reach.
        assert!(f32::of_key(u64::from(u32::MAX)).is_nan() && f64::of_key(u64::MAX).is_nan());
    }
}
