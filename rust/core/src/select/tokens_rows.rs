//! The k tokens of the highest scores of each row.

use std::cmp::Reverse;

use super::tokens::{Field, Top, Want};
use super::tokens_score::{Hashes, Score, Scores};
use crate::error::{Result, check_len};
use crate::par::Par;

/// [`super::tokens::top`] within each row, which takes its share of its own tokens.
///
/// # Errors
/// [`crate::Error::Structure`] for a score that is NaN; [`crate::Error::Length`] for a wrong length.
pub fn top_of_rows<C: Scores>(
    field: Field<'_>,
    scores: &C,
    want: Want,
    ties: Option<&Hashes<'_>>,
    out: &mut [u8],
    par: Par,
) -> Result<Vec<Top<C::S>>> {
    field.layout.check("out", out.len())?;
    ties.map_or(Ok(()), |h| check_len("words", h.words.len(), field.layout.rows(), "the number of rows"))?;
    // None for a row with a NaN.
    let mut found: Vec<Option<Top<C::S>>> = vec![None; field.layout.rows()];
    field.layout.for_pieces(par, [out], &mut found, |piece| {
        let [out] = piece.outs;
        let mut scratch = Scratch { at: Vec::new(), scores: Vec::new(), row: Vec::new() };
        for (slot, row) in piece.per_row.iter_mut().zip(piece.rows) {
            let place = field.layout.slot(row);
            let out = &mut out[place.start - piece.base..place.end - piece.base];
            *slot = of_row(field, scores, want, ties, row, out, &mut scratch);
        }
    });
    match found.into_iter().collect() {
        Some(tops) => Ok(tops),
        None => Err(field.blame(scores)),
    }
}

/// Vectors that rows use one after another.
struct Scratch<S> {
    /// Trained positions of the row.
    at: Vec<usize>,
    /// Their scores, reordered.
    scores: Vec<S>,
    /// The scores of all positions.
    row: Vec<S>,
}

fn of_row<C: Scores>(
    field: Field<'_>,
    scores: &C,
    want: Want,
    ties: Option<&Hashes<'_>>,
    row: usize,
    out: &mut [u8],
    scratch: &mut Scratch<C::S>,
) -> Option<Top<C::S>> {
    let own = field.layout.row(row);
    out.fill(0);
    scratch.row.resize(own.len(), C::S::LOWEST);
    scores.fill(row, own.start, &mut scratch.row);
    scratch.at.clear();
    scratch.at.extend((0..own.len()).filter(|t| field.mask.is_none_or(|m| m[own.start + t] != 0)));
    scratch.scores.clear();
    scratch.scores.extend(scratch.at.iter().map(|&t| scratch.row[t]));
    if !scratch.scores.iter().all(|s| s.is_ordered()) {
        return None;
    }
    let total = scratch.scores.len() as u64;
    let k = want.of(total);
    if k == 0 {
        return Some(Top { threshold: C::S::HIGHEST, kept: 0, total });
    }
    let threshold =
        scratch.scores.select_nth_unstable_by_key(k as usize - 1, |s| Reverse(s.key())).1.to_owned();
    let (mut kept, mut above) = (0, 0);
    for &t in &scratch.at {
        let s = scratch.row[t];
        out[t] = u8::from(s >= threshold);
        kept += u64::from(s >= threshold);
        above += u64::from(s > threshold);
    }
    if let Some(hashes) = ties
        && kept > k
    {
        let mut tied: Vec<(u64, usize)> = scratch
            .at
            .iter()
            .filter(|&&t| scratch.row[t] == threshold)
            .map(|&t| {
                let mut word = [0];
                hashes.fill(row, own.start + t, &mut word);
                (word[0], t)
            })
            .collect();
        tied.sort_unstable_by_key(|&(word, _)| Reverse(word));
        // Equal hashes, which nothing tells apart, are all kept.
        let last = tied[(k - above) as usize - 1].0;
        kept = above;
        for (word, t) in tied {
            out[t] = u8::from(word >= last);
            kept += u64::from(word >= last);
        }
    }
    Some(Top { threshold, kept, total })
}
