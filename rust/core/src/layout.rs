//! Where the tokens of each row lie in flat arrays: packed one after another, or padded to a width; and which of them
//! are trained.

use std::ops::Range;

use rayon::prelude::*;

use crate::error::{Error, Result, check_len};
use crate::moments::clear_gaps;
use crate::par::{Par, balanced};
use crate::ragged::{check_offsets, offsets_from_lengths};
use crate::real::Real;

/// Rows of tokens in a flat array. Row `i` owns `bounds[i]..bounds[i + 1]` and uses the first `lens[i]` of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    bounds: Vec<usize>,
    lens: Vec<usize>,
}

impl Layout {
    /// Rows one after another.
    ///
    /// # Errors
    /// [`Error::Structure`] for offsets that do not start at 0 or decrease.
    pub fn packed(offsets: &[i64]) -> Result<Self> {
        check_offsets("offsets", offsets, offsets.last().copied().unwrap_or(0).max(0) as usize)?;
        let bounds: Vec<usize> = offsets.iter().map(|&o| o as usize).collect();
        let lens = bounds.windows(2).map(|w| w[1] - w[0]).collect();
        Ok(Self { bounds, lens })
    }

    /// Rows of `width` columns, of which the first `lengths[i]` are used (all, by default).
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::Range`] for lengths that do not fit.
    pub fn padded(rows: usize, width: usize, lengths: Option<&[i64]>) -> Result<Self> {
        if rows.checked_mul(width).is_none() {
            return Err(Error::TooLarge { arg: "values", limit: usize::MAX as u64, got: u64::MAX });
        }
        let lens = match lengths {
            None => vec![width; rows],
            Some(lengths) => {
                check_len("lengths", lengths.len(), rows, "the number of rows")?;
                offsets_from_lengths(lengths, width as i64, "the columns")?;
                lengths.iter().map(|&n| n as usize).collect()
            }
        };
        Ok(Self { bounds: (0..=rows).map(|r| r * width).collect(), lens })
    }

    /// The same, with nothing in the rows that are not `valid`.
    ///
    /// # Errors
    /// [`Error::Length`].
    pub fn only(&self, valid: &[u8]) -> Result<Self> {
        check_len("valid", valid.len(), self.rows(), "the number of rows")?;
        let lens = self.lens.iter().zip(valid).map(|(&n, &v)| if v == 0 { 0 } else { n }).collect();
        Ok(Self { bounds: self.bounds.clone(), lens })
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.lens.len()
    }

    /// The row in whose slot a position lies.
    #[must_use]
    pub(crate) fn row_at(&self, position: usize) -> usize {
        self.bounds.partition_point(|&b| b <= position).saturating_sub(1)
    }

    /// True if every position belongs to a row: there is no padding.
    #[must_use]
    pub(crate) fn is_dense(&self) -> bool {
        self.bounds.windows(2).zip(&self.lens).all(|(w, &n)| w[1] - w[0] == n)
    }

    /// Elements of a flat array, padding included.
    #[must_use]
    pub fn total(&self) -> usize {
        self.bounds[self.bounds.len() - 1]
    }

    /// Where row `row` lies, padding left out.
    #[must_use]
    pub fn row(&self, row: usize) -> Range<usize> {
        self.bounds[row]..self.bounds[row] + self.lens[row]
    }

    /// Where row `row` lies, padding included.
    #[must_use]
    pub fn slot(&self, row: usize) -> Range<usize> {
        self.bounds[row]..self.bounds[row + 1]
    }

    /// A row that cuts some rows into halves of about equal size.
    pub(crate) fn middle(&self, rows: Range<usize>) -> usize {
        let (from, to) = (self.bounds[rows.start], self.bounds[rows.end]);
        let half = from + (to - from) / 2;
        let up = rows.start + self.bounds[rows.start..rows.end].partition_point(|&b| b < half);
        let nearer = up > rows.start && half - self.bounds[up - 1] < self.bounds[up] - half;
        if nearer { up - 1 } else { up }
    }

    /// Checks the length of a flat array.
    ///
    /// # Errors
    /// [`Error::Length`].
    pub fn check(&self, arg: &'static str, got: usize) -> Result<()> {
        check_len(arg, got, self.total(), "the number of positions")
    }

    /// Runs of trained positions of a row (all, without a mask), relative to its start.
    pub fn spans(&self, row: usize, mask: Option<&[u8]>, into: &mut Vec<Range<usize>>) {
        into.clear();
        match mask {
            None if self.lens[row] == 0 => {}
            None => into.push(0..self.lens[row]),
            Some(mask) => spans_of(&mask[self.row(row)], into),
        }
    }

    /// Cuts the rows into pieces of about equal work, one for each call of `f`.
    ///
    /// `outs` are flat arrays (or empty, for none) and `per_row` has an item a row; a piece gets its part of each.
    pub fn for_pieces<T: Send, P: Send, const N: usize>(
        &self,
        par: Par,
        outs: [&mut [T]; N],
        per_row: &mut [P],
        f: impl Fn(Piece<'_, T, P, N>) + Send + Sync,
    ) {
        let pieces = if par == Par::Threads { 8 * rayon::current_num_threads() } else { 1 };
        let bounds = balanced(&self.bounds, pieces);
        let mut made = Vec::with_capacity(bounds.len());
        let (mut outs, mut per_row) = (outs, per_row);
        for w in bounds.windows(2) {
            let (base, size) = (self.bounds[w[0]], self.bounds[w[1]] - self.bounds[w[0]]);
            let cut = outs.map(|out| {
                let size = if out.is_empty() { 0 } else { size };
                out.split_at_mut(size)
            });
            let mut heads = Vec::with_capacity(N);
            outs = cut.map(|(head, tail)| {
                heads.push(head);
                tail
            });
            let (mine, rest) = per_row.split_at_mut(w[1] - w[0]);
            per_row = rest;
            let mut heads = heads.into_iter();
            let heads = std::array::from_fn(|_| heads.next().unwrap_or_default());
            made.push(Piece { rows: w[0]..w[1], base, outs: heads, per_row: mine });
        }
        match par {
            Par::Serial => made.into_iter().for_each(&f),
            Par::Threads => made.into_par_iter().for_each(&f),
        }
    }
}

/// One value a row at each of its trained tokens, 0 elsewhere.
///
/// # Errors
/// [`Error::Length`] for wrong lengths.
pub fn expand<T: Real>(layout: &Layout, x: &[T], mask: Option<&[u8]>, out: &mut [T], par: Par) -> Result<()> {
    check_len("x", x.len(), layout.rows(), "the number of rows")?;
    layout.check("out", out.len())?;
    mask.map_or(Ok(()), |m| layout.check("mask", m.len()))?;
    let mut none = vec![(); layout.rows()];
    layout.for_pieces(par, [out], &mut none, |piece| {
        let [out] = piece.outs;
        let mut spans = Vec::new();
        for row in piece.rows {
            layout.spans(row, mask, &mut spans);
            let slot = layout.slot(row);
            let target = &mut out[slot.start - piece.base..slot.end - piece.base];
            clear_gaps(target, &spans);
            for span in &spans {
                target[span.clone()].fill(x[row]);
            }
        }
    });
    Ok(())
}

/// The part of some flat arrays that belongs to consecutive rows.
pub struct Piece<'a, T, P, const N: usize> {
    /// Which rows.
    pub rows: Range<usize>,
    /// Where `outs` start in the flat arrays.
    pub base: usize,
    /// Parts of the flat arrays.
    pub outs: [&'a mut [T]; N],
    /// One item a row.
    pub per_row: &'a mut [P],
}

/// Runs of nonzero bytes.
fn spans_of(mask: &[u8], into: &mut Vec<Range<usize>>) {
    const STEP: usize = 32;
    let (mut at, mut start) = (0, None);
    let mut single = |at: usize, trained: bool, start: &mut Option<usize>| match (*start, trained) {
        (None, true) => *start = Some(at),
        (Some(from), false) => {
            into.push(from..at);
            *start = None;
        }
        _ => {}
    };
    let (chunks, rest) = mask.as_chunks::<STEP>();
    for chunk in chunks {
        // Most chunks are all trained or all gap; the folds are vector instructions.
        let any = chunk.iter().fold(0, |acc, &b| acc | b) != 0;
        let all = any && chunk.iter().fold(true, |acc, &b| acc & (b != 0));
        if all || !any {
            single(at, all, &mut start);
        } else {
            for (k, &b) in chunk.iter().enumerate() {
                single(at + k, b != 0, &mut start);
            }
        }
        at += STEP;
    }
    for &b in rest {
        single(at, b != 0, &mut start);
        at += 1;
    }
    single(at, false, &mut start);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn layouts_are_checked() {
        assert!(Layout::packed(&[0, 2, 1]).is_err());
        assert!(Layout::packed(&[]).is_err());
        assert!(Layout::padded(2, 3, Some(&[1, 4])).is_err());
        assert!(Layout::padded(2, 3, Some(&[1])).is_err());
        let l = Layout::padded(2, 3, Some(&[1, 3])).unwrap();
        assert_eq!((l.row(0), l.slot(0), l.row(1), l.total()), (0..1, 0..3, 3..6, 6));
    }

    proptest! {
        #[test]
        fn spans_cover_the_mask(mask in prop::collection::vec(prop::sample::select(vec![0u8, 0, 1, 2]), 0..200),
                                runs in prop::collection::vec((any::<bool>(), 0usize..90), 0..8)) {
            let long = runs.iter().flat_map(|&(b, n)| std::iter::repeat_n(u8::from(b), n)).collect::<Vec<u8>>();
            for mask in [mask, long] {
                let mut spans = Vec::new();
                spans_of(&mask, &mut spans);
                let mut back = vec![false; mask.len()];
                for s in &spans {
                    prop_assert!(!s.is_empty());
                    back[s.clone()].fill(true);
                }
                prop_assert!(spans.windows(2).all(|w| w[0].end < w[1].start));
                prop_assert_eq!(back, mask.iter().map(|&b| b != 0).collect::<Vec<_>>());
            }
        }
    }
}
