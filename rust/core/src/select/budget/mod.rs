//! Rollout budgets: how many rollouts each prompt gets, so that their values add up to the most.
//!
//! Where each rollout of a prompt gains no more than the one before, the best allocation is the `left` largest gains of
//! all prompts. Equal gains go to the prompt that has fewest rollouts, then to the first by `place`: an order of all
//! gains, so that the result depends neither on the order of the prompts nor on how it is found.

use crate::error::{Error, Result, check_len};

mod cut;
mod knapsack;
mod narrow;
mod program;
mod table;
#[cfg(test)]
mod tests;

pub use knapsack::knapsack;
pub use table::allocate;

/// Rollouts that one call hands out at most: a gain of each is held in memory.
pub const MOST: i64 = 1 << 27;

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

/// A sum and what rounding took from it.
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let s = a + b;
    let t = s - a;
    (s, (a - (s - t)) + (b - t))
}
