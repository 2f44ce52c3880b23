//! Rollout budgets: how many rollouts each prompt gets, so that their values add up to the most.
//!
//! Where each rollout of a prompt gains no more than the one before, the best allocation is the `left` largest gains of
//! all prompts. Equal gains go to the prompt that has fewest rollouts, then to the first by `place`: an order of all
//! gains, so that the result depends neither on the order of the prompts nor on how it is found.

use crate::error::{Error, Result, check_len};
use crate::par::Par;
use crate::select::budget_program::program;

/// Rollouts that one call hands out at most: a gain of each is held in memory.
pub const MOST: i64 = 1 << 27;
/// Values up to this size have finite sums.
const LARGEST: f64 = 1e300;

/// Where rollouts go that nobody gains from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spare {
    /// To prompts with a success rate of 0, evenly, and what these cannot take to the rest.
    Unsolved,
    /// To all that can take them, evenly.
    Even,
    /// Nowhere.
    Leave,
}

/// How an allocation is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// By gains where every row is concave, else by the dynamic program.
    Auto,
    /// By gains; a row that is not concave is an error.
    Greedy,
    /// By the dynamic program.
    Program,
}

/// Fewest and most rollouts of each prompt, and its place among prompts with equal gains.
#[derive(Debug, Clone, Copy)]
pub struct Limits<'a> {
    /// Fewest.
    pub low: &'a [i64],
    /// Most.
    pub high: &'a [i64],
    /// Lower first.
    pub place: &'a [i64],
}

impl Limits<'_> {
    /// Rollouts that are left once each prompt has its fewest.
    fn left(&self, n: usize, budget: i64) -> Result<i64> {
        check_len("low", self.low.len(), n, "len(success_rates)")?;
        check_len("high", self.high.len(), n, "len(success_rates)")?;
        check_len("place", self.place.len(), n, "len(success_rates)")?;
        for (i, (&low, &high)) in self.low.iter().zip(self.high).enumerate() {
            if low < 0 || high < low {
                let reason = format!("must be at least 'low', got {high} with low={low} at index {i}");
                return Err(Error::Structure { arg: "high", reason });
            }
        }
        left(budget, sum(self.low), sum(self.high), ("'low'", "'high'"))
    }
}

fn sum(numbers: &[i64]) -> i128 {
    numbers.iter().map(|&n| i128::from(n)).sum()
}

fn left(budget: i64, least: i128, most: i128, names: (&str, &str)) -> Result<i64> {
    let between = || format!("from {least} (= the sum of {}) to {most} (= the sum of {})", names.0, names.1);
    if i128::from(budget) < least || i128::from(budget) > most {
        return Err(Error::Range { arg: "budget", expected: between(), got: budget.to_string() });
    }
    if budget > MOST {
        return Err(Error::Range {
            arg: "budget",
            expected: format!("at most {MOST}"),
            got: budget.to_string(),
        });
    }
    Ok(i64::try_from(i128::from(budget) - least).unwrap_or(0))
}

/// Rollouts of each prompt that maximise `sum (1 - p^n - (1 - p)^n) p (1 - p)^2`, `n` from `low` (at least 1) to `high`.
///
/// # Errors
/// Wrong lengths, rates outside [0, 1], limits that do not fit together or to the budget.
pub fn knapsack(rates: &[f64], limits: Limits<'_>, budget: i64, spare: Spare) -> Result<Vec<i64>> {
    let mut left = limits.left(rates.len(), budget)?;
    for (i, (&p, (&low, &high))) in rates.iter().zip(limits.low.iter().zip(limits.high)).enumerate() {
        if !(0.0..=1.0).contains(&p) {
            let got = format!("{p} at index {i}");
            return Err(Error::Range { arg: "success_rates", expected: "in [0, 1]".into(), got });
        }
        if low < 1 && high > low {
            let got = format!("{low} at index {i}");
            return Err(Error::Range { arg: "low", expected: "at least 1".into(), got });
        }
    }
    let mut counts = limits.low.to_vec();
    let room: Vec<i64> =
        limits.low.iter().zip(limits.high).map(|(&low, &high)| (high - low).min(left)).collect();
    let mut least = reached(rates, limits.low, &room, left);
    let (mut gains, mut ends) = (Vec::new(), Vec::with_capacity(rates.len()));
    loop {
        gains.clear();
        ends.clear();
        for ((&p, &low), &room) in rates.iter().zip(limits.low).zip(&room) {
            extend(&mut gains, p, low, room, least);
            ends.push(gains.len());
        }
        if least == 0.0 || gains.len() as i64 >= left {
            break;
        }
        least *= 0.25;
    }
    left -= cut(&gains, &ends, limits.place, &mut counts, left);
    for unsolved in [true, false] {
        if spare == Spare::Leave || (unsolved && spare == Spare::Even) {
            continue;
        }
        let takes = rates.iter().map(|&p| !unsolved || p == 0.0).zip(limits.high.iter().zip(&counts));
        let room: Vec<i64> =
            takes.map(|(takes, (&high, &n))| if takes { (high - n).min(left) } else { 0 }).collect();
        left -= fill(&mut counts, &room, limits.place, left);
    }
    Ok(counts)
}

/// Gains `p (1 - p)^2 (p^n (1 - p) + (1 - p)^n p)` of rollout `n + 1`, from `n = low` on, as long as they are positive
/// and at least `least`.
///
/// Powers by one factor after another: these and the gains never rise, whatever is rounded, and prompts of equal rates
/// have equal bits.
fn extend(gains: &mut Vec<f64>, p: f64, low: i64, room: i64, least: f64) {
    let q = 1.0 - p;
    let most = p * q * q;
    if room == 0 || most == 0.0 {
        return;
    }
    let (mut successes, mut failures) = (p, q);
    for _ in 1..low {
        successes *= p;
        failures *= q;
    }
    for _ in 0..room {
        let gain = most * (successes * q + failures * p);
        if gain < least || gain == 0.0 {
            break;
        }
        gains.push(gain);
        successes *= p;
        failures *= q;
    }
}

/// A gain that at least `left` gains reach, and not many more, or 0: where to stop looking. It changes no result.
///
/// The larger of the two terms is a geometric series, which bounds a gain from below and says how often it is reached.
fn reached(rates: &[f64], low: &[i64], room: &[i64], left: i64) -> f64 {
    let rows: Vec<(f64, f64, f64, f64)> = rates
        .iter()
        .zip(low.iter().zip(room))
        .filter(|&(&p, (_, &room))| p > 0.0 && p < 1.0 && room > 0)
        .map(|(&p, (&low, &room))| {
            let rare = p.min(1.0 - p);
            ((p * (1.0 - p) * (1.0 - p) * rare).ln(), 1.0 / -(-rare).ln_1p(), low as f64 - 1.0, room as f64)
        })
        .collect();
    let target = left as f64;
    let count = |log: f64| -> f64 {
        let of = |&(top, per, before, room): &(f64, f64, f64, f64)| {
            ((top - log) * per - before).floor().clamp(0.0, room)
        };
        rows.iter().map(of).sum()
    };
    let (mut under, mut over) = (-746.0, 0.0);
    if count(under) < target {
        return 0.0;
    }
    for _ in 0..64 {
        let middle = 0.5 * (under + over);
        let n = count(middle);
        if n < target {
            over = middle;
            continue;
        }
        under = middle;
        if n <= target + 0.25 * target {
            break;
        }
    }
    under.exp() * (1.0 - 1e-6)
}

/// Adds to `counts` how many gains of each row are among the `take` largest of all, and returns how many that were.
/// Rows end at `ends`; no gain in a row is above the one before.
fn cut(gains: &[f64], ends: &[usize], place: &[i64], counts: &mut [i64], take: i64) -> i64 {
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let rows = starts.zip(ends).map(|(start, &end)| &gains[start..end]);
    let take = usize::try_from(take).unwrap_or(0);
    if take >= gains.len() {
        for (count, row) in counts.iter_mut().zip(rows) {
            *count += row.len() as i64;
        }
        return gains.len() as i64;
    }
    if take == 0 {
        return 0;
    }
    let mut largest = gains.to_vec();
    let (_, &mut last, _) = largest.select_nth_unstable_by(take - 1, |a, b| b.total_cmp(a));
    let mut left = take as i64;
    let equal: Vec<i64> = counts
        .iter_mut()
        .zip(rows)
        .map(|(count, row)| {
            let above = row.partition_point(|&gain| gain > last);
            *count += above as i64;
            left -= above as i64;
            row.partition_point(|&gain| gain >= last).saturating_sub(above) as i64
        })
        .collect();
    fill(counts, &equal, place, left);
    take as i64
}

/// Hands out `left` rollouts one after another to who has fewest, then to the first by place; `room` is how many each
/// can take. Returns how many that were.
fn fill(counts: &mut [i64], room: &[i64], place: &[i64], left: i64) -> i64 {
    let total = sum(room);
    if total <= i128::from(left) {
        for (count, room) in counts.iter_mut().zip(room) {
            *count += room;
        }
        return i64::try_from(total).unwrap_or(left);
    }
    let takes = |count: i64, room: i64, level: i64| (level - count).clamp(0, room);
    let (mut under, mut over) =
        (0, counts.iter().copied().max().unwrap_or(0).saturating_add(left).saturating_add(1));
    while over - under > 1 {
        let level = under + (over - under) / 2;
        let taken: i128 = counts.iter().zip(room).map(|(&n, &room)| i128::from(takes(n, room, level))).sum();
        if taken <= i128::from(left) {
            under = level;
        } else {
            over = level;
        }
    }
    let mut rest = left;
    let mut next = Vec::new();
    for (i, (count, &room)) in counts.iter_mut().zip(room).enumerate() {
        let taken = takes(*count, room, under);
        if taken < room && *count + taken == under {
            next.push((place.get(i).copied().unwrap_or(0), i));
        }
        *count += taken;
        rest -= taken;
    }
    next.sort_unstable();
    for &(_, i) in next.iter().take(usize::try_from(rest).unwrap_or(0)) {
        counts[i] += 1;
    }
    left
}

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
fn rises(a: f64, b: f64, c: f64) -> bool {
    let (ends, end_error) = two_sum(a, c);
    let (bend, bend_error) = two_sum(ends, -2.0 * b);
    let (small, smaller) = two_sum(bend_error, end_error);
    let (sign, rest) = two_sum(bend, small);
    if sign == 0.0 { rest + smaller > 0.0 } else { sign > 0.0 }
}

/// A sum and what rounding took from it.
pub(super) fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let s = a + b;
    let t = s - a;
    (s, (a - (s - t)) + (b - t))
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
