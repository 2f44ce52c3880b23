//! The k tokens of the highest scores, exactly, with their mask.

use rayon::prelude::*;

use super::tokens_bracket::{Bracket, Settled, sweep};
use super::tokens_count::threshold_by_digits;
use super::tokens_score::{Hashes, Score, Scores};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::par::Par;

/// Positions that one thread takes at a time.
pub(crate) const BLOCK: usize = 1 << 16;
/// Scores that are computed at a time, and stay in the first cache.
pub(crate) const STRIP: usize = 256;

/// How many tokens to choose.
#[derive(Debug, Clone, Copy)]
pub enum Want {
    /// `floor(share n)` of n, but at least `least`.
    Share(f64, u64),
    /// This many.
    Count(u64),
}

impl Want {
    /// Of `n`, at most all of them. A product that is whole but for the rounding of the share is taken as whole.
    #[must_use]
    pub fn of(self, n: u64) -> u64 {
        let k = match self {
            Self::Count(k) => k,
            Self::Share(share, least) => {
                let product = share * n as f64;
                let near = product.round();
                let whole = (product - near).abs() <= n as f64 * 2f64.powi(-51);
                (if whole { near } else { product.floor() } as u64).max(least)
            }
        };
        k.min(n)
    }
}

/// Positions with their mask: what may be chosen.
#[derive(Clone, Copy)]
pub struct Field<'a> {
    /// Where the rows lie.
    pub layout: &'a Layout,
    /// Trained positions, nonzero.
    pub mask: Option<&'a [u8]>,
    dense: bool,
}

impl<'a> Field<'a> {
    /// # Errors
    /// [`Error::Length`] for a mask of another length.
    pub fn new(layout: &'a Layout, mask: Option<&'a [u8]>) -> Result<Self> {
        mask.map_or(Ok(()), |m| layout.check("mask", m.len()))?;
        Ok(Self { layout, mask, dense: layout.is_dense() })
    }

    /// True without padding.
    pub(crate) fn is_dense(&self) -> bool {
        self.dense
    }

    /// The same positions with another mask.
    pub(crate) fn with_mask(self, mask: &'a [u8]) -> Self {
        Self { mask: Some(mask), ..self }
    }

    /// Calls `f(start, scores, mask)` for the positions in `from..to` that belong to rows, a strip at a time.
    pub(crate) fn strips<C: Scores>(
        &self,
        scores: &C,
        (from, to): (usize, usize),
        mut f: impl FnMut(usize, &[C::S], Option<&[u8]>),
    ) {
        let mut buffer = [C::S::LOWEST; STRIP];
        let mut run = |row: usize, mut start: usize, end: usize| {
            while start < end {
                let size = STRIP.min(end - start);
                scores.fill(row, start, &mut buffer[..size]);
                f(start, &buffer[..size], self.mask.map(|m| &m[start..start + size]));
                start += size;
            }
        };
        if self.dense && !C::BY_ROW {
            return run(0, from, to);
        }
        let mut row = self.layout.row_at(from);
        while row < self.layout.rows() && self.layout.slot(row).start < to {
            let own = self.layout.row(row);
            run(row, own.start.max(from), own.end.min(to));
            row += 1;
        }
    }

    /// The score of one position, if it may be chosen.
    pub(crate) fn one<C: Scores>(&self, scores: &C, at: usize) -> Option<C::S> {
        let row = if self.dense && !C::BY_ROW { 0 } else { self.layout.row_at(at) };
        let inside = self.dense || self.layout.row(row).contains(&at);
        if !inside || self.mask.is_some_and(|m| m[at] == 0) {
            return None;
        }
        let mut out = [C::S::LOWEST];
        scores.fill(row, at, &mut out);
        Some(out[0])
    }

    /// Says which score is NaN; called where there is one.
    pub(crate) fn blame<C: Scores>(&self, scores: &C) -> Error {
        for row in 0..self.layout.rows() {
            let own = self.layout.row(row);
            for at in own.clone() {
                let mut out = [C::S::LOWEST];
                scores.fill(row, at, &mut out);
                if !out[0].is_ordered() && self.mask.is_none_or(|m| m[at] != 0) {
                    return scores.blame(row, at, at - own.start);
                }
            }
        }
        Error::Structure { arg: "x", reason: "must not be NaN at trained tokens".into() }
    }
}

/// Runs `f(block, its part of out)` for all blocks and gives what they return, in their order.
pub(crate) fn blocks<R: Send>(par: Par, out: &mut [u8], f: impl Fn(usize, &mut [u8]) -> R + Sync) -> Vec<R> {
    match par {
        Par::Serial => out.chunks_mut(BLOCK).enumerate().map(|(b, part)| f(b * BLOCK, part)).collect(),
        Par::Threads => out.par_chunks_mut(BLOCK).enumerate().map(|(b, part)| f(b * BLOCK, part)).collect(),
    }
}

/// What was chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Top<S> {
    /// The k-th highest score; the highest there is if k is 0.
    pub threshold: S,
    /// How many were chosen.
    pub kept: u64,
    /// How many there were.
    pub total: u64,
}

/// Writes 1 for the tokens of the highest scores and 0 for the others: all that are not below the k-th highest, or, with
/// `ties`, exactly k, of equal ones those of the lowest hash.
///
/// # Errors
/// [`Error::Structure`] for a score that is NaN; [`Error::Length`] for a wrong length of `out`.
pub fn top<C: Scores>(
    field: Field<'_>,
    scores: &C,
    want: Want,
    ties: Option<&Hashes<'_>>,
    out: &mut [u8],
    par: Par,
) -> Result<Top<C::S>> {
    field.layout.check("out", out.len())?;
    let bracket = Bracket::guess(field, scores, want);
    let seen = sweep(field, scores, bracket, out, par);
    if seen.has_nan().unwrap_or_else(|| count(field, scores, par, |s| !s.is_ordered()) > 0) {
        return Err(field.blame(scores));
    }
    let k = want.of(seen.total);
    if k == 0 {
        out.fill(0);
        return Ok(Top { threshold: C::S::HIGHEST, kept: 0, total: seen.total });
    }
    let found = match seen.settle(k, out) {
        Settled::At(threshold, kept) => Some((threshold, kept)),
        // Only if there are less than k above it; many tokens may have the very score of an end of the bracket.
        Settled::High(high, kept) => (count(field, scores, par, |s| s > high) < k).then_some((high, kept)),
        Settled::Low(low) => {
            let kept = mark(field, scores, low, out, par);
            (k <= kept).then_some((low, kept))
        }
        Settled::Lost => None,
    };
    // The sample may mislead: the k-th is outside of the bracket, or too many are inside.
    let (threshold, mut kept) = found.unwrap_or_else(|| {
        let threshold = threshold_by_digits(field, scores, k, par);
        (threshold, mark(field, scores, threshold, out, par))
    });
    if let Some(hashes) = ties
        && kept > k
    {
        let mut tied = vec![0; out.len()];
        let above = kept - equal(field, scores, threshold, &mut tied, par);
        let mut drawn = vec![0; out.len()];
        let of_tied = field.with_mask(&tied);
        kept = above + top(of_tied, hashes, Want::Count(k - above), None, &mut drawn, par)?.kept;
        keep_drawn(out, &tied, &drawn);
    }
    Ok(Top { threshold, kept, total: seen.total })
}

/// Writes 1 where the score is not below the threshold, and counts.
pub fn mark<C: Scores>(field: Field<'_>, scores: &C, threshold: C::S, out: &mut [u8], par: Par) -> u64 {
    write(field, scores, out, par, |s| s >= threshold)
}

/// Writes 1 where the score is the threshold, and counts.
pub fn equal<C: Scores>(field: Field<'_>, scores: &C, threshold: C::S, out: &mut [u8], par: Par) -> u64 {
    write(field, scores, out, par, |s| s == threshold)
}

/// Clears what is tied but not drawn.
pub fn keep_drawn(out: &mut [u8], tied: &[u8], drawn: &[u8]) {
    for (out, (&tied, &drawn)) in out.iter_mut().zip(tied.iter().zip(drawn)) {
        *out &= drawn | (tied ^ 1);
    }
}

/// How many scores are such.
fn count<C: Scores>(field: Field<'_>, scores: &C, par: Par, such: impl Fn(C::S) -> bool + Sync) -> u64 {
    let n = field.layout.total();
    let of_block = |block: usize| {
        let mut count = 0;
        field.strips(scores, (block * BLOCK, n.min((block + 1) * BLOCK)), |_, scores, mask| {
            count += match mask {
                None => scores.iter().map(|&s| u64::from(such(s))).sum::<u64>(),
                Some(mask) => scores.iter().zip(mask).map(|(&s, &m)| u64::from(such(s) && m != 0)).sum(),
            };
        });
        count
    };
    match par {
        Par::Serial => (0..n.div_ceil(BLOCK)).map(of_block).sum(),
        Par::Threads => (0..n.div_ceil(BLOCK)).into_par_iter().map(of_block).sum(),
    }
}

fn write<C: Scores>(
    field: Field<'_>,
    scores: &C,
    out: &mut [u8],
    par: Par,
    chosen: impl Fn(C::S) -> bool + Sync,
) -> u64 {
    let counts = blocks(par, out, |base, part| {
        part.fill(0);
        let mut count = 0;
        field.strips(scores, (base, base + part.len()), |start, scores, mask| {
            let part = &mut part[start - base..start - base + scores.len()];
            for (out, &s) in part.iter_mut().zip(scores) {
                *out = u8::from(chosen(s));
            }
            for (out, &m) in part.iter_mut().zip(mask.unwrap_or_default()) {
                *out &= u8::from(m != 0);
            }
            count += part.iter().map(|&b| u64::from(b)).sum::<u64>();
        });
        count
    });
    counts.into_iter().sum()
}

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;
