//! Mean and variance of the trained tokens of each row, and the map that whitens with those of a batch.
//!
//! Sums of a row run over its trained tokens in eight interleaved lanes, which depend on their number alone: gaps and
//! padding change no bit.

use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::par::Par;
use crate::real::Real;
use std::ops::Range;

const LANES: usize = 8;

/// Number of trained tokens of a row, their mean, sum of squared deviations, minimum and maximum.
#[allow(missing_docs)]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    pub count: f64,
    pub mean: f64,
    pub squares: f64,
    pub low: f64,
    pub high: f64,
}

impl Default for Part {
    fn default() -> Self {
        Self { count: 0.0, mean: f64::NAN, squares: 0.0, low: f64::INFINITY, high: f64::NEG_INFINITY }
    }
}

/// Folds `f` over the tokens of `spans` in lanes by their number among the trained tokens.
fn lanes<T: Real, const K: usize>(
    row: &[T],
    spans: &[Range<usize>],
    zero: [f64; K],
    f: impl Fn([f64; K], f64) -> [f64; K],
) -> [[f64; K]; LANES] {
    let mut acc = [zero; LANES];
    let mut k = 0;
    for span in spans {
        let mut part = &row[span.clone()];
        while k % LANES != 0 && !part.is_empty() {
            acc[k % LANES] = f(acc[k % LANES], part[0].wide());
            part = &part[1..];
            k += 1;
        }
        let (chunks, rest) = part.as_chunks::<LANES>();
        for chunk in chunks {
            for (lane, x) in acc.iter_mut().zip(chunk) {
                *lane = f(*lane, x.wide());
            }
        }
        for (j, x) in rest.iter().enumerate() {
            acc[j] = f(acc[j], x.wide());
        }
        k += part.len();
    }
    acc
}

/// Those of one row.
pub(crate) fn part<T: Real>(row: &[T], spans: &[Range<usize>]) -> Part {
    let n: usize = spans.iter().map(Range::len).sum();
    if n == 0 {
        return Part::default();
    }
    let start = [0.0, f64::INFINITY, f64::NEG_INFINITY];
    let acc = lanes(row, spans, start, |[sum, low, high], x| {
        [sum + x, if x < low { x } else { low }, if x > high { x } else { high }]
    });
    let [sum, low, high] = acc.iter().fold(start, |a, b| [a[0] + b[0], a[1].min(b[1]), a[2].max(b[2])]);
    let count = n as f64;
    if low == high && sum.is_finite() {
        return Part { count, mean: low, squares: 0.0, low, high };
    }
    let mean = sum / count;
    let acc = lanes(row, spans, [0.0, 0.0], |[squares, rest], x| {
        let d = x - mean;
        [squares + d * d, rest + d]
    });
    let [squares, rest] = acc.iter().fold([0.0, 0.0], |a, b| [a[0] + b[0], a[1] + b[1]]);
    let squares = squares - rest * rest / count;
    Part { count, mean, squares: if squares < 0.0 { 0.0 } else { squares }, low, high }
}

/// Those of every row.
///
/// # Errors
/// [`Error::Length`] for wrong lengths, [`Error::Structure`] for a trained token that is not finite.
pub fn parts<T: Real>(layout: &Layout, x: &[T], mask: Option<&[u8]>, par: Par) -> Result<Vec<Part>> {
    layout.check("x", x.len())?;
    mask.map_or(Ok(()), |m| layout.check("mask", m.len()))?;
    let mut out = vec![Part::default(); layout.rows()];
    layout.for_pieces(par, [] as [&mut [T]; 0], &mut out, |piece| {
        let mut spans = Vec::new();
        for (slot, row) in piece.per_row.iter_mut().zip(piece.rows) {
            layout.spans(row, mask, &mut spans);
            *slot = part(&x[layout.row(row)], &spans);
        }
    });
    match out.iter().position(|p| p.count > 0.0 && !(p.mean.is_finite() && p.squares.is_finite())) {
        Some(row) => Err(not_finite(layout, "x", x, mask, row)),
        None => Ok(out),
    }
}

/// Says which trained token of a row is not finite.
pub(crate) fn not_finite<T: Real>(
    layout: &Layout,
    arg: &'static str,
    x: &[T],
    mask: Option<&[u8]>,
    row: usize,
) -> Error {
    let at = layout.row(row);
    let trained = |t: &usize| mask.is_none_or(|m| m[at.start + t] != 0);
    let bad = (0..at.len()).filter(trained).find(|t| !x[at.start + t].wide().is_finite());
    let reason = match bad {
        Some(t) => {
            let value = x[at.start + t].wide();
            format!("must be finite at trained tokens, got {value} at row {row}, position {t}")
        }
        None => format!("must be small enough for sums in float64, but is not in row {row}"),
    };
    Error::Structure { arg, reason }
}

/// `(x - mean) / divisor + add` at trained tokens, 0 elsewhere.
///
/// # Errors
/// [`Error::Length`] for wrong lengths.
pub fn apply<T: Real>(
    layout: &Layout,
    x: &[T],
    mask: Option<&[u8]>,
    map: Affine,
    out: &mut [T],
    par: Par,
) -> Result<()> {
    layout.check("x", x.len())?;
    layout.check("out", out.len())?;
    mask.map_or(Ok(()), |m| layout.check("mask", m.len()))?;
    let mut none = vec![(); layout.rows()];
    layout.for_pieces(par, [out], &mut none, |piece| {
        let [out] = piece.outs;
        let mut spans = Vec::new();
        for row in piece.rows {
            layout.spans(row, mask, &mut spans);
            let slot = layout.slot(row);
            let to = &mut out[slot.start - piece.base..slot.end - piece.base];
            let from = &x[slot];
            clear_gaps(to, &spans);
            for span in &spans {
                for (y, x) in to[span.clone()].iter_mut().zip(&from[span.clone()]) {
                    *y = T::narrow(map.at(x.wide()));
                }
            }
        }
    });
    Ok(())
}

/// The same in place, with gaps and padding 0 already.
///
/// # Errors
/// [`Error::Length`] for wrong lengths.
pub fn apply_in_place<T: Real>(
    layout: &Layout,
    x: &mut [T],
    mask: Option<&[u8]>,
    map: Affine,
    par: Par,
) -> Result<()> {
    layout.check("out", x.len())?;
    mask.map_or(Ok(()), |m| layout.check("mask", m.len()))?;
    let mut none = vec![(); layout.rows()];
    layout.for_pieces(par, [x], &mut none, |piece| {
        let [x] = piece.outs;
        let mut spans = Vec::new();
        for row in piece.rows {
            layout.spans(row, mask, &mut spans);
            let start = layout.slot(row).start - piece.base;
            for span in &spans {
                for v in &mut x[start + span.start..start + span.end] {
                    *v = T::narrow(map.at(v.wide()));
                }
            }
        }
    });
    Ok(())
}

/// A whitening: `(x - mean) / divisor + add`.
#[allow(missing_docs)]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine {
    pub mean: f64,
    pub divisor: f64,
    pub add: f64,
}

impl Affine {
    #[inline]
    fn at(self, x: f64) -> f64 {
        (x - self.mean) / self.divisor + self.add
    }
}

/// Writes 0 wherever no span is.
pub(crate) fn clear_gaps<T: Real>(out: &mut [T], spans: &[Range<usize>]) {
    let mut at = 0;
    for span in spans {
        out[at..span.start].fill(T::narrow(0.0));
        at = span.end;
    }
    out[at..].fill(T::narrow(0.0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn by_hand() {
        let layout = Layout::padded(2, 3, None).unwrap();
        let got =
            parts(&layout, &[1.0, 9.0, 3.0, 0.7, 0.7, 0.7], Some(&[1, 0, 1, 1, 1, 1]), Par::Serial).unwrap();
        assert_eq!(got[0], Part { count: 2.0, mean: 2.0, squares: 2.0, low: 1.0, high: 3.0 });
        assert_eq!(got[1], Part { count: 3.0, mean: 0.7, squares: 0.0, low: 0.7, high: 0.7 });
        let bad = parts(&layout, &[1.0, f64::NAN, 3.0, 0.0, 0.0, 0.0], None, Par::Serial).unwrap_err();
        assert_eq!(bad.to_string(), "'x' must be finite at trained tokens, got NaN at row 0, position 1");
    }

    proptest! {
        #[test]
        fn gaps_change_no_bit(x in prop::collection::vec((-1e3f64..1e3, 0usize..3), 0..90)) {
            let packed: Vec<f64> = x.iter().map(|p| p.0).collect();
            let mut gapped = Vec::new();
            let mut mask = Vec::new();
            for &(v, gaps) in &x {
                gapped.extend(std::iter::repeat_n(f64::NAN, gaps));
                mask.extend(std::iter::repeat_n(0u8, gaps));
                gapped.push(v);
                mask.push(1);
            }
            let one = |v: &[f64], m: Option<&[u8]>| {
                parts(&Layout::packed(&[0, v.len() as i64]).unwrap(), v, m, Par::Serial).unwrap()[0]
            };
            let (a, b) = (one(&packed, None), one(&gapped, Some(&mask)));
            prop_assert_eq!(a.mean.to_bits(), b.mean.to_bits());
            prop_assert_eq!(a.squares.to_bits(), b.squares.to_bits());
        }
    }
}
