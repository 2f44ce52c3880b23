//! The two element types of the core; everything is accumulated in f64.

use std::cmp::Ordering;

/// f32 or f64.
pub trait Real: Copy + Send + Sync + PartialEq + 'static {
    /// Exact widening.
    fn wide(self) -> f64;
    /// Rounding to nearest.
    fn narrow(x: f64) -> Self;
    /// True for anything but zero, NaN too.
    fn is_nonzero(self) -> bool;
}

impl Real for f32 {
    fn wide(self) -> f64 {
        f64::from(self)
    }
    fn narrow(x: f64) -> Self {
        x as f32
    }
    fn is_nonzero(self) -> bool {
        self != 0.0
    }
}

impl Real for f64 {
    fn wide(self) -> f64 {
        self
    }
    fn narrow(x: f64) -> Self {
        x
    }
    fn is_nonzero(self) -> bool {
        self != 0.0
    }
}

/// bfloat16 is the upper half of a float32.
#[must_use]
pub fn widen_bf16(bits: &[u16]) -> Vec<f32> {
    bits.iter().map(|&b| f32::from_bits(u32::from(b) << 16)).collect()
}

/// Sorts `$n` values by the comparators of a network, written out so that the values stay in registers.
macro_rules! network {
    ($x:expr, $n:literal; $($i:literal $j:literal),+) => {
        if let Some(x) = $x.first_chunk_mut::<$n>() {
            let mut lanes = *x;
            $(
                let (a, b) = (lanes[$i], lanes[$j]);
                (lanes[$i], lanes[$j]) = if b < a { (b, a) } else { (a, b) };
            )+
            *x = lanes;
        }
    };
}

/// Sorts by value, so that a sum over the result does not depend on the order in which the values came.
///
/// The usual group has 4 to 16 members; for these a sorting network has no branch to mispredict. Negative zero must
/// have been turned into zero (`x + 0.0`), since the network takes the two for equal. With a NaN among the values the
/// order is unspecified.
#[rustfmt::skip]
pub fn sort_values(x: &mut [f64]) {
    match x.len() {
        0 | 1 => {}
        2 => network!(x, 2; 0 1),
        3 => network!(x, 3; 0 2, 0 1, 1 2),
        4 => network!(x, 4; 0 2, 1 3, 0 1, 2 3, 1 2),
        5 => network!(x, 5; 0 3, 1 4, 0 2, 1 3, 0 1, 2 4, 1 2, 3 4, 2 3),
        6 => network!(x, 6; 0 5, 1 3, 2 4, 1 2, 3 4, 0 3, 2 5, 0 1, 2 3, 4 5, 1 2, 3 4),
        7 => network!(x, 7; 0 6, 2 3, 4 5, 0 2, 1 4, 3 6, 0 1, 2 5, 3 4, 1 2, 4 6, 2 3, 4 5, 1 2, 3 4, 5 6),
        8 => network!(x, 8; 0 2, 1 3, 4 6, 5 7, 0 4, 1 5, 2 6, 3 7, 0 1, 2 3, 4 5, 6 7, 2 4, 3 5, 1 4, 3 6, 1 2, 3 4, 5 6),
        9..=16 => {
            let mut lanes = [f64::INFINITY; 16];
            lanes[..x.len()].copy_from_slice(x);
            // Batcher's odd-even merge sort.
            network!(lanes, 16;
                0 8, 1 9, 2 10, 3 11, 4 12, 5 13, 6 14, 7 15, 0 4, 1 5, 2 6, 3 7, 8 12, 9 13, 10 14, 11 15, 4 8,
                5 9, 6 10, 7 11, 0 2, 1 3, 4 6, 5 7, 8 10, 9 11, 12 14, 13 15, 2 8, 3 9, 6 12, 7 13, 2 4, 3 5,
                6 8, 7 9, 10 12, 11 13, 0 1, 2 3, 4 5, 6 7, 8 9, 10 11, 12 13, 14 15, 1 8, 3 10, 5 12, 7 14,
                1 4, 3 6, 5 8, 7 10, 9 12, 11 14, 1 2, 3 4, 5 6, 7 8, 9 10, 11 12, 13 14
            );
            x.copy_from_slice(&lanes[..x.len()]);
        }
        _ if x.iter().any(|x| x.is_nan()) => x.sort_unstable_by(f64::total_cmp),
        // An instruction instead of the several of `total_cmp`: twice as fast.
        _ => x.sort_unstable_by(|a, b| if a < b { Ordering::Less } else { Ordering::Greater }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_is_exact() {
        assert_eq!(widen_bf16(&[0x3f80, 0xc000, 0x7f80]), vec![1.0, -2.0, f32::INFINITY]);
    }

    /// A network that sorts every 0/1 input sorts everything.
    #[test]
    fn zero_one_principle() {
        for bits in 0u32..1 << 16 {
            for n in 2..=16 {
                let mut x: Vec<f64> = (0..n).map(|i| f64::from(bits >> i & 1)).collect();
                sort_values(&mut x);
                assert!(x.is_sorted());
            }
        }
    }

    #[test]
    fn nan_among_many_does_not_panic() {
        for n in [3usize, 40, 400] {
            let mut x: Vec<f64> = (0..n).map(|i| if i % 7 == 0 { f64::NAN } else { -(i as f64) }).collect();
            sort_values(&mut x);
            assert_eq!(x.iter().filter(|x| x.is_nan()).count(), n.div_ceil(7));
        }
    }

    #[test]
    fn networks_sort() {
        for n in 0..40usize {
            for turn in 1..50 {
                let mut x: Vec<f64> = (0..n).map(|i| ((i * 7919 * turn) % 31) as f64 - 15.0).collect();
                let mut y = x.clone();
                sort_values(&mut x);
                y.sort_by(f64::total_cmp);
                assert_eq!(x, y);
            }
        }
    }
}
