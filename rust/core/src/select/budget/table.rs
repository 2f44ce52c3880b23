//! Allocation by a table of values.

use crate::error::{Error, Result, check_len};
use crate::par::Par;
use crate::select::budget::cut::cut;
use crate::select::budget::program::program;
use crate::select::budget::{Method, left, two_sum};

/// Values up to this size have finite sums.
const LARGEST: f64 = 1e300;

/// What a row of values allows: NaN and minus infinity are not.
struct Row<'a> {
    /// Values of `first`, `first + 1`, ... rollouts.
    values: &'a [f64],
    first: usize,
    /// The first number of rollouts whose value is above the mean of its neighbours, or that is not allowed.
    bends: Option<usize>,
}

impl<'a> Row<'a> {
    fn new(values: &'a [f64], low: i64) -> Option<Self> {
        let allowed = |v: &f64| !v.is_nan() && *v != f64::NEG_INFINITY;
        let low = usize::try_from(low).unwrap_or(usize::MAX).min(values.len());
        let first = low + values[low..].iter().position(allowed)?;
        let last = values.iter().rposition(allowed)?;
        let values = &values[first..=last];
        let hole = values.iter().position(|v| !allowed(v));
        let bend = || values.windows(3).position(|w| rises(w[0], w[1], w[2])).map(|k| k + 1);
        Some(Self { values, first, bends: hole.or_else(bend).map(|k| first + k) })
    }
}

/// Whether `a + c > 2 b`, exactly.
pub(super) fn rises(a: f64, b: f64, c: f64) -> bool {
    let (ends, end_error) = two_sum(a, c);
    let (bend, bend_error) = two_sum(ends, -2.0 * b);
    let (small, smaller) = two_sum(bend_error, end_error);
    let (sign, rest) = two_sum(bend, small);
    if sign == 0.0 { rest + smaller > 0.0 } else { sign > 0.0 }
}

/// Rollouts of each prompt whose values, row by row those of 0, 1, ... rollouts, add up to the most; `valid` rows take
/// part. True if the dynamic program found it.
///
/// # Errors
/// Wrong lengths, rows that allow nothing, a budget that cannot be met, a row that is not concave with
/// [`Method::Greedy`], more work than the dynamic program takes on.
#[allow(clippy::too_many_arguments)]
pub fn allocate(
    values: &[f64],
    width: usize,
    low: &[i64],
    place: &[i64],
    valid: &[u8],
    budget: i64,
    method: Method,
    par: Par,
) -> Result<(Vec<i64>, bool)> {
    let n = low.len();
    check_len("values", values.len(), n.saturating_mul(width), "len(low) width")?;
    check_len("place", place.len(), n, "len(values)")?;
    check_len("valid", valid.len(), n, "len(values)")?;
    let mut rows = Vec::with_capacity(n);
    let (mut least, mut most, mut bent) = (0_i128, 0_i128, None);
    for i in (0..n).filter(|&i| valid[i] != 0) {
        let large = |v: &f64| v.abs() > LARGEST && *v != f64::NEG_INFINITY;
        if let Some(k) = values[i * width..(i + 1) * width].iter().position(large) {
            let got = format!("{:e} in row {i} for {k} rollouts", values[i * width + k]);
            let expected = format!("at most {LARGEST:e} in size, or NaN or -inf for what is not allowed");
            return Err(Error::Range { arg: "values", expected, got });
        }
        let Some(row) = Row::new(&values[i * width..(i + 1) * width], low[i]) else {
            let reason = format!(
                "must allow a number of rollouts of at least 'low' (= {}), got none in row {i}",
                low[i]
            );
            return Err(Error::Structure { arg: "values", reason });
        };
        least += row.first as i128;
        most += (row.first + row.values.len() - 1) as i128;
        bent = bent.or(row.bends.map(|k| (i, k)));
        rows.push((i, row));
    }
    let left = left(budget, least, most, ("the fewest allowed", "the most allowed"))?;
    if let (Method::Greedy, Some((i, k))) = (method, bent) {
        let reason = format!(
            "must be concave for method='greedy' (no rollout gains more than the one before, none is left out), but \
             row {i} is not at {k} rollouts; use method='dp'"
        );
        return Err(Error::Structure { arg: "values", reason });
    }
    let mut counts = vec![0; n];
    for (i, row) in &rows {
        counts[*i] = row.first as i64;
    }
    if method == Method::Program || bent.is_some() {
        rows.sort_by_key(|(i, _)| place[*i]);
        let choices: Vec<&[f64]> = rows.iter().map(|(_, row)| row.values).collect();
        let extra = program(&choices, usize::try_from(left).unwrap_or(0), par)?;
        for ((i, _), extra) in rows.iter().zip(extra) {
            counts[*i] += i64::from(extra);
        }
        return Ok((counts, true));
    }
    let (mut gains, mut ends) = (Vec::new(), vec![0; n]);
    let mut rest = rows.iter().peekable();
    for (i, end) in ends.iter_mut().enumerate() {
        if let Some((_, row)) = rest.next_if(|(at, _)| *at == i) {
            let most = usize::try_from(left).unwrap_or(0);
            gains.extend(row.values.windows(2).take(most).map(|w| w[1] - w[0]));
        }
        *end = gains.len();
    }
    cut(&gains, &ends, place, &mut counts, left);
    Ok((counts, false))
}
