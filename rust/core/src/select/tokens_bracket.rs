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
    /// Tokens that may be chosen.
    pub(crate) total: u64,
    /// Of these above `low`, and from `high` on.
    over_low: u64,
    from_high: u64,
    /// The places of those strictly inside, and their scores; less of them if there were too many.
    inside: Vec<Vec<(u32, S)>>,
    full: bool,
}

/// Of one block.
struct Tally<S> {
    total: u64,
    over_low: u64,
    from_high: u64,
    inside: Vec<(u32, S)>,
}

/// Where the k-th highest score is.
pub(crate) enum Settled<S> {
    /// Here, and the marks, so many, are final.
    At(S, u64),
    /// Not below this, which may be it.
    High(S, u64),
    /// Not above this, which may be it.
    Low(S),
    /// Not known.
    Lost,
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
        let mut tally = Tally { total: 0, over_low: 0, from_high: 0, inside: Vec::new() };
        if !field.is_dense() {
            part.fill(0);
        }
        field.strips(scores, (base, base + part.len()), |start, scores, mask| {
            let at = start - base;
            let out = &mut part[at..at + scores.len()];
            let inner = classify(bracket, scores, mask, out, &mut tally);
            if held.load(Ordering::Relaxed) < most {
                let before = tally.inside.len();
                collect(&inner, at, scores, &mut tally.inside);
                held.fetch_add(tally.inside.len() - before, Ordering::Relaxed);
            }
        });
        tally
    });
    let (mut total, mut over_low, mut from_high, mut inside) = (0, 0, 0, Vec::new());
    for tally in tallies {
        total += tally.total;
        over_low += tally.over_low;
        from_high += tally.from_high;
        inside.push(tally.inside);
    }
    Seen { bracket, total, over_low, from_high, inside, full: held.into_inner() >= most }
}

/// Counts a strip, marks it, and says which scores are inside, among them NaN.
fn classify<S: Score>(
    Bracket { low, high }: Bracket<S>,
    scores: &[S],
    mask: Option<&[u8]>,
    out: &mut [u8],
    tally: &mut Tally<S>,
) -> [u8; STRIP] {
    // Loops over one width of number each, which are vector instructions.
    let mut inner = [0; STRIP];
    for ((&s, out), inner) in scores.iter().zip(out.iter_mut()).zip(&mut inner) {
        *out = u8::from(s >= high);
        *inner = u8::from(s.is_over(low));
    }
    tally.total += match mask {
        None => scores.len() as u64,
        Some(mask) => {
            let mut trained = [0; STRIP];
            for ((&m, trained), (out, inner)) in
                mask.iter().zip(&mut trained).zip(out.iter_mut().zip(&mut inner))
            {
                *trained = u8::from(m != 0);
                *out &= *trained;
                *inner &= *trained;
            }
            ones(&trained)
        }
    };
    tally.over_low += ones(&inner);
    tally.from_high += ones(out);
    for (inner, &out) in inner.iter_mut().zip(out.iter()) {
        *inner &= out ^ 1;
    }
    inner
}

/// Number of ones among at most a strip of zeros and ones.
fn ones(x: &[u8]) -> u64 {
    const LANES: usize = 16;
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut sums = [0u8; LANES];
    for chunk in chunks {
        for (sum, &b) in sums.iter_mut().zip(chunk) {
            *sum += b;
        }
    }
    sums.iter().chain(rest).map(|&b| u64::from(b)).sum()
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
    fn inside(&self) -> impl Iterator<Item = S> {
        self.inside.iter().flatten().map(|&(_, s)| s)
    }

    /// Whether a score is NaN, unless that is not known.
    pub(crate) fn has_nan(&self) -> Option<bool> {
        // A NaN is always inside.
        let known = !self.full || self.over_low == self.from_high;
        if self.inside().any(|s| !s.is_ordered()) { Some(true) } else { known.then_some(false) }
    }

    /// The k-th highest score, as far as this pass says.
    pub(crate) fn settle(&self, k: u64, out: &mut [u8]) -> Settled<S> {
        let Bracket { low, high } = self.bracket;
        if k <= self.from_high {
            return Settled::High(high, self.from_high);
        }
        if k > self.over_low {
            return Settled::Low(low);
        }
        if self.full {
            return Settled::Lost;
        }
        let mut values: Vec<S> = self.inside().collect();
        let rank = (k - self.from_high) as usize - 1;
        let threshold = values.select_nth_unstable_by_key(rank, |s| Reverse(s.key())).1.to_owned();
        let mut kept = self.from_high;
        for (block, inside) in self.inside.iter().enumerate() {
            for &(at, s) in inside {
                let chosen = s >= threshold;
                out[block * BLOCK + at as usize] = u8::from(chosen);
                kept += u64::from(chosen);
            }
        }
        Settled::At(threshold, kept)
    }
}
