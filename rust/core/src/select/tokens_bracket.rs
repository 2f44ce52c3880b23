//! One pass over the tokens: a sample says between which scores the threshold lies, and only those inside are compared.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::tokens::{BLOCK, Field, STRIP, Want, blocks};
use super::tokens_score::{Score, Scores};
use crate::par::Par;

/// Positions that are looked at beforehand.
const SAMPLE: usize = 1 << 15;
/// Standard deviations of the rank in the sample on either side of the threshold.
const WIDTH: f64 = 4.0;

/// Between which scores the threshold is thought to lie; the result does not depend on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bracket<S> {
    low: S,
    high: S,
}

impl<S: Score> Bracket<S> {
    const ALL: Self = Self { low: S::LOWEST, high: S::HIGHEST };

    /// From order statistics of a sample.
    pub(crate) fn guess<C: Scores<S = S>>(field: Field<'_>, scores: &C, want: Want) -> Self {
        let n = field.layout.total();
        if n <= 2 * SAMPLE {
            return Self::ALL;
        }
        let stride = n / SAMPLE;
        let mut drawn: Vec<S> = (0..SAMPLE)
            // Somewhere in each stride, so that what repeats with a period is met at all of its phases.
            .filter_map(|j| field.one(scores, j * stride + j.wrapping_mul(0x9E37_79B9) / 64 % stride))
            .filter(|s| s.is_ordered())
            .collect();
        let m = drawn.len() as f64;
        if drawn.len() < 64 {
            return Self::ALL;
        }
        let share = match want {
            Want::Share(share, least) => share.max(least as f64 * SAMPLE as f64 / (m * n as f64)),
            Want::Count(k) => k as f64 * SAMPLE as f64 / (m * n as f64),
        };
        let share = share.clamp(0.0, 1.0);
        let slack = WIDTH * (m * share * (1.0 - share)).sqrt() + 8.0;
        // Ranks from the highest; a cast saturates at 0.
        let (first, last) = ((m * share - slack).floor(), (m * share + slack).ceil());
        let mut nth = |rank: usize| drawn.select_nth_unstable_by_key(rank, |s| Reverse(s.key())).1.to_owned();
        let high = if first < 0.0 { S::HIGHEST } else { nth((first as usize).min(m as usize - 1)) };
        let low = if last >= m { S::LOWEST } else { nth(last as usize) };
        Self { low, high }
    }
}

/// What a pass found.
pub(crate) struct Seen<S> {
    bracket: Bracket<S>,
    pub(crate) nan: bool,
    /// Tokens that may be chosen.
    pub(crate) total: u64,
    /// Of these from `low` on, above it, from `high` on, above it.
    from: [u64; 4],
    /// The places of those strictly inside, and their scores; less of them if there were too many.
    inside: Vec<Vec<(u32, S)>>,
    full: bool,
}

/// Of one block.
struct Tally<S> {
    nan: bool,
    total: u64,
    from: [u64; 4],
    inside: Vec<(u32, S)>,
}

/// Marks all from the high end of the bracket on, and collects those strictly inside.
pub(crate) fn sweep<C: Scores>(
    field: Field<'_>,
    scores: &C,
    bracket: Bracket<C::S>,
    out: &mut [u8],
    par: Par,
) -> Seen<C::S> {
    // More than a sample leaves inside by chance: then the pass goes on without collecting.
    let most = out.len() / 8 + 4 * SAMPLE;
    let held = AtomicUsize::new(0);
    let tallies = blocks(par, out, |base, part| {
        let mut tally = Tally { nan: false, total: 0, from: [0; 4], inside: Vec::new() };
        if !field.is_dense() {
            part.fill(0);
        }
        field.strips(scores, (base, base + part.len()), |start, scores, mask| {
            let at = start - base;
            let out = &mut part[at..at + scores.len()];
            let inner = match mask {
                None => classify(bracket, scores, |_| 1, out, &mut tally),
                Some(mask) => {
                    let mask = &mask[..scores.len()];
                    classify(bracket, scores, |j| u32::from(mask[j] != 0), out, &mut tally)
                }
            };
            if held.load(Ordering::Relaxed) < most {
                let before = tally.inside.len();
                collect(&inner, at, scores, &mut tally.inside);
                held.fetch_add(tally.inside.len() - before, Ordering::Relaxed);
            }
        });
        tally
    });
    let mut seen = Seen { bracket, nan: false, total: 0, from: [0; 4], inside: Vec::new(), full: false };
    for tally in tallies {
        seen.nan |= tally.nan;
        seen.total += tally.total;
        for (sum, part) in seen.from.iter_mut().zip(tally.from) {
            *sum += part;
        }
        seen.inside.push(tally.inside);
    }
    seen.full = held.into_inner() >= most;
    seen
}

/// Counts a strip, marks it, and says which scores are inside.
#[inline(always)]
fn classify<S: Score>(
    Bracket { low, high }: Bracket<S>,
    scores: &[S],
    trained: impl Fn(usize) -> u32,
    out: &mut [u8],
    tally: &mut Tally<S>,
) -> [u8; STRIP] {
    let mut inner = [0; STRIP];
    let n = scores.len().min(STRIP);
    let (scores, out) = (&scores[..n], &mut out[..n]);
    let (mut from, mut total, mut bad) = ([0u32; 4], 0, 0);
    for j in 0..n {
        let (s, m) = (scores[j], trained(j));
        let not_below = u32::from(s >= high) & m;
        let over_low = u32::from(s > low) & m;
        from[0] += u32::from(s >= low) & m;
        from[1] += over_low;
        from[2] += not_below;
        from[3] += u32::from(s > high) & m;
        bad |= u32::from(!s.is_ordered()) & m;
        total += m;
        out[j] = not_below as u8;
        inner[j] = (over_low & (not_below ^ 1)) as u8;
    }
    tally.nan |= bad != 0;
    tally.total += u64::from(total);
    for (sum, part) in tally.from.iter_mut().zip(from) {
        *sum += u64::from(part);
    }
    inner
}

/// Adds what is marked, with its place in the block.
fn collect<S: Score>(inner: &[u8; STRIP], at: usize, scores: &[S], into: &mut Vec<(u32, S)>) {
    for (chunk, word) in inner.as_chunks::<8>().0.iter().enumerate() {
        let mut left = u64::from_le_bytes(*word);
        while left != 0 {
            let j = 8 * chunk + left.trailing_zeros() as usize / 8;
            into.push(((at + j) as u32, scores[j]));
            left &= left - 1;
        }
    }
}

impl<S: Score> Seen<S> {
    /// The k-th highest score, and how many are marked if the marks are final; None if it is not known.
    pub(crate) fn settle(&self, k: u64, out: &mut [u8]) -> Option<(S, Option<u64>)> {
        let Bracket { low, high } = self.bracket;
        let [from_low, over_low, from_high, over_high] = self.from;
        if k <= over_high {
            return None;
        }
        if k <= from_high {
            return Some((high, Some(from_high)));
        }
        if k > over_low {
            return (k <= from_low).then_some((low, None));
        }
        if self.full {
            return None;
        }
        let mut values: Vec<S> = self.inside.iter().flatten().map(|&(_, s)| s).collect();
        let rank = (k - from_high) as usize - 1;
        let threshold = values.select_nth_unstable_by_key(rank, |s| Reverse(s.key())).1.to_owned();
        let mut kept = from_high;
        for (block, inside) in self.inside.iter().enumerate() {
            for &(at, s) in inside {
                let chosen = s >= threshold;
                out[block * BLOCK + at as usize] = u8::from(chosen);
                kept += u64::from(chosen);
            }
        }
        Some((threshold, Some(kept)))
    }
}
