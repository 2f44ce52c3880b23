//! The rows of each group whose values have the largest variance: some of the largest values and some of the smallest.

use std::cmp::Ordering;

use rayon::prelude::*;

use super::exact::Exact;
use super::places::check;
use super::slots::for_slots;
use crate::error::{Result, check_len};
use crate::groups::Groups;
use crate::par::Par;
use crate::real::sort_values;
use crate::reduce::is_valid;

/// Marks the `keep` rows of each group whose values have the largest variance, or all where there are not more. Rows
/// that are not `seen` take no part. Of several such subsets it is the one with the fewest of the largest values, and of
/// equal values those first in `preference` (different numbers below 2^32), or without it in the order of the rows.
/// Without groups, all rows are one. Values are finite.
///
/// # Errors
/// [`crate::Error::Length`] for wrong lengths, [`crate::Error::Range`] for a preference that is no number below 2^32.
pub fn max_variance(
    groups: Option<&Groups>,
    x: &[f64],
    seen: Option<&[u8]>,
    preference: Option<&[i64]>,
    keep: usize,
    out: &mut [bool],
    par: Par,
) -> Result<()> {
    check(groups, x.len(), seen, preference)?;
    check_len("out", out.len(), x.len(), "len(groups)")?;
    for_slots(groups, out, par, |rows, kept, scratch: &mut Scratch| {
        let Scratch { values, sorted, class } = scratch;
        values.clear();
        // NaN is below, equal to and above nothing: such a row is not kept.
        values.extend(
            rows.iter().map(
                |&row| {
                    if is_valid(seen, row as usize) { x[row as usize] + 0.0 } else { f64::NAN }
                },
            ),
        );
        sorted.clear();
        match seen {
            None => sorted.extend_from_slice(values),
            Some(_) => sorted.extend(values.iter().filter(|v| !v.is_nan())),
        }
        if sorted.len() <= keep {
            kept.iter_mut().zip(&*values).for_each(|(slot, v)| *slot = !v.is_nan());
            return;
        }
        if groups.is_none() && par == Par::Threads {
            sorted.par_sort_unstable_by(|a, b| a.partial_cmp(b).unwrap_or(Ordering::Equal));
        } else {
            sort_values(sorted);
        }
        let cut = Cut::of(sorted, keep);
        cut.mark(values, kept, class, |slot| preference.map(|p| p[rows[slot] as usize]));
    });
    Ok(())
}

#[derive(Default)]
struct Scratch {
    values: Vec<f64>,
    sorted: Vec<f64>,
    class: Vec<(i64, usize)>,
}

/// Values below `low` and above `high` are kept, and of those equal to one of these so many.
struct Cut {
    low: f64,
    n_low: usize,
    high: f64,
    n_high: usize,
}

impl Cut {
    /// For `keep` of more values, sorted.
    fn of(sorted: &[f64], keep: usize) -> Self {
        let n = sorted.len();
        let top = from_top(sorted, keep);
        let bottom = keep - top;
        let mut cut = Self { low: f64::NEG_INFINITY, n_low: 0, high: f64::INFINITY, n_high: 0 };
        if bottom > 0 {
            cut.low = sorted[bottom - 1];
            cut.n_low = sorted[..bottom].iter().rev().take_while(|&&v| v == cut.low).count();
        }
        if top > 0 {
            cut.high = sorted[n - top];
            cut.n_high = sorted[n - top..].iter().take_while(|&&v| v == cut.high).count();
        }
        if cut.low == cut.high {
            // The ends meet among equal values: these are one class.
            cut.n_low += cut.n_high;
            cut.n_high = 0;
        }
        cut
    }

    fn mark(
        &self,
        values: &[f64],
        kept: &mut [bool],
        class: &mut Vec<(i64, usize)>,
        preference: impl Fn(usize) -> Option<i64>,
    ) {
        for (slot, v) in kept.iter_mut().zip(values) {
            *slot = *v < self.low || *v > self.high;
        }
        for (value, n) in [(self.low, self.n_low), (self.high, self.n_high)] {
            if n == 0 {
                continue;
            }
            let members = values.iter().enumerate().filter(|&(_, &v)| v == value).map(|(slot, _)| slot);
            if preference(0).is_none() {
                members.take(n).for_each(|slot| kept[slot] = true);
                continue;
            }
            class.clear();
            class.extend(members.map(|slot| (preference(slot).unwrap_or(0), slot)));
            if n < class.len() {
                class.select_nth_unstable(n);
            }
            class.iter().take(n).for_each(|&(_, slot)| kept[slot] = true);
        }
    }
}

/// How many of the largest values the subset of `keep` has whose variance is the largest, the fewest if there are several.
///
/// Let `V(k)` be the variance, times `keep^2`, of the `k` largest and the `keep - k` smallest, `S(k)` their sum. A step
/// from `k` to `k + 1` puts the value `t` in the place of `b <= t`, and
/// `V(k + 1) - V(k) = (t - b) ((keep - 1) t + (keep + 1) b - 2 S(k))`. The second factor never grows with `k`, since `t`
/// and `b` never grow and `S` never falls: so `V` rises as long as it is positive, but for steps with `t = b`, and no
/// squares are needed. The factor is computed in doubles, with a bound on its rounding; where that leaves its sign open,
/// without rounding.
fn from_top(sorted: &[f64], keep: usize) -> usize {
    let n = sorted.len();
    let (least, spread) = (sorted[0], sorted[n - 1] - sorted[0]);
    if spread == 0.0 {
        return 0;
    }
    let (top, bottom) = (|k: usize| sorted[n - 1 - k], |k: usize| sorted[keep - 1 - k]);
    let m = keep as f64;
    // The sum of m values up to `spread` is off by at most m^2 roundings of it, and so on; a factor of two to spare.
    let unsure = if (4.0 * m * spread).is_finite() {
        4.0 * f64::EPSILON * (m + 4.0).powi(2) * spread
    } else {
        f64::INFINITY
    };
    let mut sum: f64 = sorted[..keep].iter().map(|v| v - least).sum();
    let (mut rising, mut end) = (0, keep);
    for k in 0..keep {
        let (t, b) = (top(k) - least, bottom(k) - least);
        let slope = (m - 1.0) * t + (m + 1.0) * b - 2.0 * sum;
        if slope > unsure {
            rising = k + 1;
        } else if slope < -unsure {
            end = k;
            break;
        }
        sum += t - b;
    }
    while rising < end {
        let middle = rising.midpoint(end);
        if rises(sorted, keep, middle) {
            rising = middle + 1;
        } else {
            end = middle;
        }
    }
    // Steps between equal values have changed nothing.
    while rising > 0 && top(rising - 1) == bottom(rising - 1) {
        rising -= 1;
    }
    rising
}

/// Whether `(keep - 1) t + (keep + 1) b - 2 S(k)` is positive, exactly.
fn rises(sorted: &[f64], keep: usize, k: usize) -> bool {
    let (n, m) = (sorted.len(), keep as i64);
    let mut slope = Exact::new();
    slope.add(sorted[n - 1 - k], m - 1);
    slope.add(sorted[keep - 1 - k], m + 1);
    sorted[..keep - k].iter().chain(&sorted[n - k..]).for_each(|&v| slope.add(v, -2));
    slope.positive()
}

#[cfg(test)]
#[path = "max_variance_tests.rs"]
mod tests;
