//! Counts of scores by the digits of their keys: what parts of a batch add up to find the threshold of all of it.

use rayon::prelude::*;

use super::tokens::{BLOCK, Field};
use super::tokens_score::{Score, Scores};
use crate::error::{Error, Result};
use crate::par::Par;

/// Width of a digit.
pub const DIGIT: u32 = 11;
/// Counts of a round.
pub const BINS: usize = 1 << DIGIT;

/// One digit of the keys, of those that begin with the digits before it.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    /// Number of the digit, the highest first.
    pub number: u32,
    /// The digits before it.
    pub prefix: u64,
}

impl Round {
    /// How many there are.
    #[must_use]
    pub fn of(bits: u32) -> u32 {
        bits.div_ceil(DIGIT)
    }

    /// Bits below the digit, and its width: the last one may be narrower.
    fn place(self, bits: u32) -> (u32, u32) {
        let above = (DIGIT * self.number).min(bits);
        let width = DIGIT.min(bits - above);
        (bits - above - width, width)
    }

    /// Of counts, the round after this one and how many are still wanted of those that begin with its digits.
    fn narrow(self, bits: u32, counts: &[u64], want: u64) -> (Self, u64) {
        let width = self.place(bits).1;
        let (mut digit, mut left) = ((1 << width) - 1, want);
        while digit > 0 && counts[digit] < left {
            left -= counts[digit];
            digit -= 1;
        }
        (Self { number: self.number + 1, prefix: self.prefix << width | digit as u64 }, left)
    }
}

/// How many keys that begin with the prefix have which digit.
///
/// # Errors
/// [`Error::Structure`] for a score that is NaN; [`Error::Range`] for a digit that there is not.
pub fn counts<C: Scores>(field: Field<'_>, scores: &C, round: Round, par: Par) -> Result<Vec<u64>> {
    if round.number >= Round::of(C::S::BITS) {
        let expected = format!("below {}", Round::of(C::S::BITS));
        return Err(Error::Range { arg: "number", expected, got: round.number.to_string() });
    }
    let n = field.layout.total();
    let (shift, width) = round.place(C::S::BITS);
    // Two, in turns: many scores have the same digit, and an addition waits for the one before it at the same place.
    let zero = || (vec![0u64; BINS], vec![0u64; BINS], false);
    let add = |mut sums: (Vec<u64>, Vec<u64>, bool), block: usize| {
        field.strips(scores, (block * BLOCK, n.min((block + 1) * BLOCK)), |_, scores, mask| {
            for (j, &s) in scores.iter().enumerate() {
                if mask.is_some_and(|m| m[j] == 0) {
                    continue;
                }
                sums.2 |= !s.is_ordered();
                let digits = s.key() >> shift;
                if digits >> width == round.prefix {
                    let into = if j & 1 == 0 { &mut sums.0 } else { &mut sums.1 };
                    into[digits as usize & ((1 << width) - 1)] += 1;
                }
            }
        });
        sums
    };
    let join = |mut a: (Vec<u64>, Vec<u64>, bool), b: (Vec<u64>, Vec<u64>, bool)| {
        a.0.iter_mut().zip(b.0).for_each(|(a, b)| *a += b);
        a.1.iter_mut().zip(b.1).for_each(|(a, b)| *a += b);
        a.2 |= b.2;
        a
    };
    let number = n.div_ceil(BLOCK);
    let (mut even, odd, nan) = match par {
        Par::Serial => (0..number).fold(zero(), add),
        Par::Threads => (0..number).into_par_iter().fold(zero, add).reduce(zero, join),
    };
    if nan {
        return Err(field.blame(scores));
    }
    even.iter_mut().zip(odd).for_each(|(a, b)| *a += b);
    Ok(even)
}

/// The k-th highest score, digit by digit; `k` is at least 1 and at most the number of tokens.
pub(crate) fn threshold_by_digits<C: Scores>(field: Field<'_>, scores: &C, k: u64, par: Par) -> C::S {
    let (mut round, mut want) = (Round { number: 0, prefix: 0 }, k);
    while round.number < Round::of(C::S::BITS) {
        // Whoever comes here has seen that no score is NaN.
        let counts = counts(field, scores, round, par).unwrap_or_else(|_| vec![0; BINS]);
        (round, want) = round.narrow(C::S::BITS, &counts, want);
    }
    C::S::of_key(round.prefix)
}
