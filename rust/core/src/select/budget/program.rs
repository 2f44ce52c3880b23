//! The dynamic program for values of any shape: row by row, the best of every number of rollouts handed out so far.

use crate::error::{Error, Result};
use crate::par::{Par, for_ranges};
use crate::select::budget::narrow::narrow;
use crate::select::budget::two_sum;

/// Entries of memory and steps that one call takes on, of what is left to look at: 1 GiB, and about a minute.
const CELLS: usize = 1 << 28;
const STEPS: usize = 1 << 34;
/// Cells that a thread takes at a time.
const BLOCK: usize = 1024;

/// A total in twice the precision, so that totals which differ only in the order of addition are equal.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
struct Total(f64, f64);

impl Total {
    const NONE: Self = Self(f64::NEG_INFINITY, 0.0);

    fn plus(self, v: f64) -> Self {
        let (s, e) = two_sum(self.0, v);
        let (hi, lo) = two_sum(s, e + self.1);
        Self(hi, lo)
    }
}

/// Extra rollouts of each row, `left` in all, `rows[i][k]` the value of `k`; the first rows get the most among equals.
///
/// # Errors
/// [`Error::Structure`] if no allowed numbers add up to `left`, [`Error::Range`] if this is too much work.
pub(super) fn program(rows: &[&[f64]], left: usize, par: Par) -> Result<Vec<u32>> {
    let ranges = narrow(rows, left);
    let fewest: usize = ranges.iter().map(|range| range.start).sum();
    let rows: Vec<&[f64]> = rows.iter().zip(&ranges).map(|(row, range)| &row[range.clone()]).collect();
    let mut extra = solve(&rows, left.saturating_sub(fewest), par)?;
    for (extra, range) in extra.iter_mut().zip(&ranges) {
        *extra += range.start as u32;
    }
    Ok(extra)
}

/// The same, with nothing left out.
pub(super) fn solve(rows: &[&[f64]], left: usize, par: Par) -> Result<Vec<u32>> {
    let cells = rows.len().saturating_mul(left + 1);
    let longest = rows.iter().map(|row| row.len()).max().unwrap_or(0);
    if cells > CELLS || cells.saturating_mul(longest.min(left + 1)) > STEPS {
        let expected = "small enough for the dynamic program, which values that are not concave need".into();
        let got = format!("{left} rollouts to hand out among {} prompts", rows.len());
        return Err(Error::Range { arg: "budget", expected, got });
    }
    // Totals that can neither come about nor be of use are left out.
    let mut after: usize = rows.iter().map(|row| row.len() - 1).sum();
    let mut before = 0;
    let mut best = vec![Total::NONE; left + 1];
    best[0] = Total(0.0, 0.0);
    let mut fresh = vec![(Total::NONE, 0_u32); left + 1];
    let mut taken = Vec::with_capacity(rows.len());
    for row in rows {
        before += row.len() - 1;
        after -= row.len() - 1;
        let (from, to) = (left.saturating_sub(after), before.min(left));
        // What float64 may get wrong of a total.
        let largest = |most: f64, x: f64| if x.is_finite() { most.max(x.abs()) } else { most };
        let slack = best.iter().map(|t| t.0).chain(row.iter().copied()).fold(0.0, largest) * 1e-14;
        for_ranges(par, &mut fresh, BLOCK, |start, part| {
            for (b, cell) in part.iter_mut().enumerate().map(|(i, cell)| (start + i, cell)) {
                *cell =
                    if (from..=to).contains(&b) { choose(row, &best, b, slack) } else { (Total::NONE, 0) };
            }
        });
        for (total, (new, _)) in best.iter_mut().zip(&fresh) {
            *total = *new;
        }
        taken.push(fresh.iter().map(|&(_, k)| k).collect::<Vec<u32>>());
    }
    if best[left] == Total::NONE {
        let reason = "cannot be met: no allowed numbers of rollouts add up to it".into();
        return Err(Error::Structure { arg: "budget", reason });
    }
    let mut rest = left;
    let mut extra: Vec<u32> = taken
        .iter()
        .rev()
        .map(|row| {
            let k = row[rest];
            rest -= k as usize;
            k
        })
        .collect();
    extra.reverse();
    Ok(extra)
}

/// The best total of `b` rollouts if this row may take some, and how many; the fewest among equals.
fn choose(row: &[f64], best: &[Total], b: usize, slack: f64) -> (Total, u32) {
    let mut found = (Total::NONE, 0);
    // Who is below this in float64 is below `found` in twice the precision, too.
    let mut bound = f64::MIN;
    for (k, (&v, before)) in row.iter().zip(best[..=b].iter().rev()).enumerate() {
        // False for NaN and minus infinity.
        if before.0 + v >= bound {
            let total = before.plus(v);
            if total > found.0 {
                found = (total, k as u32);
                bound = total.0 - slack;
            }
        }
    }
    found
}
