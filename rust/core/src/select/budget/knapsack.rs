//! The allocation of Knapsack RL, whose gains have a closed form.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::error::{Error, Result};
use crate::select::budget::cut::{cut, fill};
use crate::select::budget::{Limits, Spare};

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
    left -= hand_out(rates, limits, &room, &mut counts, left);
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

/// Hands out up to `left` rollouts as long as somebody gains, and returns how many that were.
fn hand_out(rates: &[f64], limits: Limits<'_>, room: &[i64], counts: &mut [i64], left: i64) -> i64 {
    let first = reached(rates, limits.low, room, left);
    let rows = || rates.iter().zip(limits.low.iter().zip(room));
    let (mut gains, mut ends) = (Vec::new(), Vec::with_capacity(rates.len()));
    // Many more than asked for: gains that hardly fall, of very small rates.
    let enough = 4 * (usize::try_from(left).unwrap_or(0) + rates.len()) + 1024;
    for slack in [1e-13, 1e-9, 1e-5, 0.5] {
        let least = first * (1.0 - slack);
        gains.clear();
        ends.clear();
        for (&p, (&low, &room)) in rows() {
            gains.extend(Gains::new(p, low, room).take(enough).take_while(|&gain| gain >= least));
            ends.push(gains.len());
            if gains.len() > enough {
                return one_by_one(
                    rows().map(|(&p, (&low, &room))| Gains::new(p, low, room)),
                    limits,
                    counts,
                    left,
                );
            }
        }
        if least == 0.0 || gains.len() as i64 >= left {
            return cut(&gains, &ends, limits.place, counts, left);
        }
    }
    one_by_one(rows().map(|(&p, (&low, &room))| Gains::new(p, low, room)), limits, counts, left)
}

/// The same, one rollout after another, whatever the gains are like.
fn one_by_one(rows: impl Iterator<Item = Gains>, limits: Limits<'_>, counts: &mut [i64], left: i64) -> i64 {
    let mut rows: Vec<Gains> = rows.collect();
    // Bits of positive numbers are in their order.
    let entry = |i: usize, row: &mut Gains, count: i64| {
        row.next().map(|gain| (gain.to_bits(), Reverse(count), Reverse(limits.place[i]), i))
    };
    let mut heap: BinaryHeap<_> =
        rows.iter_mut().enumerate().filter_map(|(i, row)| entry(i, row, counts[i])).collect();
    for given in 0..left {
        let Some((_, _, _, i)) = heap.pop() else { return given };
        counts[i] += 1;
        heap.extend(entry(i, &mut rows[i], counts[i]));
    }
    left
}

/// Gains `p (1 - p)^2 (p^n (1 - p) + (1 - p)^n p)` of rollout `n + 1`, from `n = low` on, as long as they are positive.
///
/// Powers by one factor after another: these and the gains never rise, whatever is rounded, and prompts of equal rates
/// have equal bits.
struct Gains {
    p: f64,
    q: f64,
    most: f64,
    successes: f64,
    failures: f64,
    room: i64,
}

impl Gains {
    fn new(p: f64, low: i64, room: i64) -> Self {
        let q = 1.0 - p;
        let mut new = Self { p, q, most: p * q * q, successes: p, failures: q, room };
        for _ in 1..if room > 0 && new.most > 0.0 { low } else { 0 } {
            new.step();
        }
        new
    }

    fn step(&mut self) {
        self.successes *= self.p;
        self.failures *= self.q;
    }
}

impl Iterator for Gains {
    type Item = f64;

    fn next(&mut self) -> Option<f64> {
        let gain = self.most * (self.successes * self.q + self.failures * self.p);
        if self.room <= 0 || gain <= 0.0 {
            return None;
        }
        self.room -= 1;
        self.step();
        Some(gain)
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
    under.exp()
}
