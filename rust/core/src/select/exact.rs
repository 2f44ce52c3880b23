//! The sign of a sum of whole multiples of numbers, without rounding: fixed-point addition over the whole range of f64.

/// Bits of a limb that count; the others take up carries.
const WIDTH: u32 = 32;
/// 2^-1074 is the last bit of the first limb. The largest number, 2^33 times, 2^32 times over, ends in limb 68.
const LIMBS: usize = 70;
/// Additions to a limb before its carry must move on.
const ROOM: u32 = 1 << 30;

/// A sum of doubles times whole numbers below 2^33.
pub(super) struct Exact {
    limbs: [i64; LIMBS],
    additions: u32,
}

impl Exact {
    pub(super) fn new() -> Self {
        Self { limbs: [0; LIMBS], additions: 0 }
    }

    /// Adds `times * x`; `x` is finite.
    pub(super) fn add(&mut self, x: f64, times: i64) {
        let bits = x.to_bits();
        let (exponent, fraction) = ((bits >> 52 & 0x7ff) as u32, bits & ((1 << 52) - 1));
        // |x| = mantissa * 2^(place - 1074)
        let (mantissa, place) =
            if exponent == 0 { (fraction, 0) } else { (fraction | 1 << 52, exponent - 1) };
        let sign = if (x < 0.0) == (times < 0) { 1 } else { -1 };
        let mut rest = (u128::from(mantissa) * u128::from(times.unsigned_abs())) << (place % WIDTH);
        for limb in &mut self.limbs[(place / WIDTH) as usize..] {
            if rest == 0 {
                break;
            }
            *limb += sign * (rest as u32 as i64);
            rest >>= WIDTH;
        }
        self.additions += 1;
        if self.additions == ROOM {
            self.carry();
        }
    }

    /// Every limb but the last between 0 and 2^32; the last has the sign.
    fn carry(&mut self) {
        let mut over = 0;
        for (i, limb) in self.limbs.iter_mut().enumerate() {
            *limb += over;
            if i + 1 < LIMBS {
                over = *limb >> WIDTH;
                *limb -= over << WIDTH;
            }
        }
        self.additions = 0;
    }

    /// Whether the sum is positive.
    pub(super) fn positive(mut self) -> bool {
        self.carry();
        self.limbs[LIMBS - 1] >= 0 && self.limbs.iter().any(|&limb| limb != 0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(terms: &[(f64, i64)]) -> bool {
        let mut exact = Exact::new();
        terms.iter().for_each(|&(x, times)| exact.add(x, times));
        exact.positive()
    }

    #[test]
    fn the_whole_range() {
        let (tiny, huge) = (f64::from_bits(1), f64::MAX);
        assert!(sum(&[(huge, 1), (tiny, 1), (huge, -1)]));
        assert!(!sum(&[(huge, 1), (-tiny, 1), (-huge, 1)]));
        assert!(!sum(&[(huge, 1), (tiny, 1), (huge, -1), (tiny, -1)]));
        assert!(sum(&[(huge, 1 << 33), (huge, -(1 << 33) + 1)]));
        assert!(!sum(&[]));
        assert!(!sum(&[(0.0, 5), (-0.0, 5), (-0.0, -5)]));
        assert!(sum(&[(-tiny, -1)]));
    }

    #[test]
    fn carries_in_the_middle_change_nothing() {
        let mut exact = Exact::new();
        for i in 0..1000 {
            exact.add(f64::from(i), 3);
            if i % 7 == 0 {
                exact.carry();
            }
        }
        exact.add(1.0, -3 * 499_500);
        exact.add(0.5, 1);
        assert!(exact.positive());
    }

    proptest! {
        #[test]
        fn whole_numbers(terms in prop::collection::vec((-1_000_000i64..1_000_000, -1000i64..1000), 0..20)) {
            let expected: i64 = terms.iter().map(|(x, times)| x * times).sum();
            for scale in [1.0, f64::from_bits(1), 2f64.powi(900)] {
                let scaled: Vec<_> = terms.iter().map(|&(x, times)| (x as f64 * scale, times)).collect();
                prop_assert_eq!(sum(&scaled), expected > 0);
                let negated: Vec<_> = scaled.iter().map(|&(x, times)| (-x, times)).collect();
                prop_assert_eq!(sum(&negated), expected < 0);
            }
        }
    }
}
