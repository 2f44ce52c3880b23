//! Reverse scans over the tokens of each row: generalised advantages, discounted returns, V-trace.
//!
//! A row is scanned by one thread with a float64 carry, from its last token to its first, so nothing depends on the
//! number of threads or on the other rows. Two rows are scanned at a time where there are two: the recurrence has a
//! multiplication and an addition that wait for the token after, and the other row fills the wait.

mod gae;
mod kernel;
mod optimal;
#[cfg(test)]
mod tests;
mod vtrace;

use std::ops::Range;

use crate::error::{Error, Result, check_len};
use crate::layout::Layout;
use crate::moments::not_finite;
use crate::real::Real;
pub use gae::{Outputs, Scan, discounted_returns, gae};
pub use optimal::{Choices, Energy, optimal_token_baseline};
pub use vtrace::{Clips, vtrace};

/// What a position with mask 0 inside a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gaps {
    /// Passed over: the next value and the accumulated advantage are carried across.
    Carry,
    /// A state with value 0 and reward 0.
    State,
    /// A position like any other; only the result there is 0.
    Ignore,
    /// The running return is set to 0.
    Cut,
}

/// What becomes of a reward at a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapReward {
    /// An error.
    Raise,
    /// It is added to that of the last trained token before it.
    Previous,
    /// It is lost.
    Drop,
}

/// Rewards of tokens, or one a row, given at its last trained token.
#[derive(Debug, Clone, Copy)]
pub enum Rewards<'a, T> {
    /// As long as the layout.
    Tokens(&'a [T]),
    /// One a row.
    Rows(&'a [f64]),
}

/// Value after the last token of a row.
#[derive(Debug, Clone, Copy)]
pub enum Bootstrap<'a> {
    /// 0: the row is finished.
    Zero,
    /// The value of its last trained token.
    Last,
    /// One a row.
    Given(&'a [f64]),
}

/// A number for all rows, or one a row.
#[derive(Debug, Clone, Copy)]
pub enum PerRow<'a> {
    /// For all.
    One(f64),
    /// One a row.
    Rows(&'a [f64]),
}

impl PerRow<'_> {
    pub(crate) fn at(self, row: usize) -> f64 {
        match self {
            Self::One(x) => x,
            Self::Rows(x) => x[row],
        }
    }

    fn check(self, arg: &'static str, rows: usize) -> Result<()> {
        let range = |x: f64, at: String| {
            if (0.0..=1.0).contains(&x) {
                Ok(())
            } else {
                Err(Error::Range { arg, expected: "in [0, 1]".into(), got: format!("{x}{at}") })
            }
        };
        match self {
            Self::One(x) => range(x, String::new()),
            Self::Rows(x) => {
                check_len(arg, x.len(), rows, "the number of rows")?;
                x.iter().enumerate().try_for_each(|(i, &x)| range(x, format!(" at row {i}")))
            }
        }
    }
}

/// How rows end and what lies between their trained tokens.
#[derive(Debug, Clone, Copy)]
pub struct Rule<'a> {
    /// Nonzero is trained.
    pub mask: Option<&'a [u8]>,
    /// What a gap is.
    pub gaps: Gaps,
    /// What becomes of a reward there.
    pub gap_reward: GapReward,
    /// Value after the last token.
    pub bootstrap: Bootstrap<'a>,
    /// Rows to which it applies; the others end with 0.
    pub truncated: Option<&'a [u8]>,
}

impl Rule<'_> {
    fn check(&self, layout: &Layout) -> Result<()> {
        self.mask.map_or(Ok(()), |m| layout.check("mask", m.len()))?;
        self.truncated
            .map_or(Ok(()), |t| check_len("truncated", t.len(), layout.rows(), "the number of rows"))?;
        let Bootstrap::Given(values) = self.bootstrap else { return Ok(()) };
        check_len("bootstrap", values.len(), layout.rows(), "the number of rows")?;
        match (0..values.len()).find(|&i| !values[i].is_finite() && self.applies(i)) {
            Some(i) => Err(Error::Structure {
                arg: "bootstrap",
                reason: format!("must be finite, got {} at row {i}", values[i]),
            }),
            None => Ok(()),
        }
    }

    fn applies(&self, row: usize) -> bool {
        self.truncated.is_none_or(|t| t[row] != 0)
    }
}

fn check_rewards<T>(layout: &Layout, rewards: Rewards<'_, T>) -> Result<()> {
    match rewards {
        Rewards::Tokens(r) => layout.check("rewards", r.len()),
        Rewards::Rows(r) => check_len("rewards", r.len(), layout.rows(), "the number of rows"),
    }
}

/// What went wrong in a row; the message is made afterwards, for the first such row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Flaw {
    #[default]
    None,
    /// A reward at this gap.
    AtGap(usize),
    /// A reward at this gap, with no trained token before it to move it to.
    NothingBefore(usize),
    /// A reward, but no trained token.
    NoToken,
    /// Something is not finite.
    NotFinite,
}

/// The error for the first row with a flaw. `token_values` are looked through for what is not finite, in order.
fn first_flaw<T: Real>(
    layout: &Layout,
    rewards: Rewards<'_, T>,
    token_values: &[(&'static str, &[T])],
    rule: &Rule<'_>,
    flaws: impl Iterator<Item = Flaw>,
) -> Result<()> {
    let Some((row, flaw)) = flaws.enumerate().find(|(_, flaw)| *flaw != Flaw::None) else {
        return Ok(());
    };
    let at = layout.row(row);
    let reward = |t: usize| match rewards {
        Rewards::Tokens(r) => r[at.start + t].wide(),
        Rewards::Rows(r) => r[row],
    };
    let reason = match flaw {
        Flaw::AtGap(t) => format!(
            "has {} at row {row}, position {t}, where the mask is 0; say where it goes with \
             reward_on_gap='previous' or 'drop'",
            reward(t)
        ),
        Flaw::NothingBefore(t) => format!(
            "has {} at row {row}, position {t}, where the mask is 0, and no trained token before it; \
             reward_on_gap='drop' leaves it out",
            reward(t)
        ),
        Flaw::NoToken => format!(
            "has {} for row {row}, which has no trained token; reward_on_gap='drop' leaves it out",
            reward(0)
        ),
        _ => {
            let mask = if rule.gaps == Gaps::Ignore { None } else { rule.mask };
            if let Rewards::Rows(r) = rewards
                && !r[row].is_finite()
            {
                let reason = format!("must be finite, got {} at row {row}", r[row]);
                return Err(Error::Structure { arg: "rewards", reason });
            }
            let tokens = match rewards {
                Rewards::Tokens(r) => Some(("rewards", r)),
                Rewards::Rows(_) => None,
            };
            let bad =
                |x: &[T]| at.clone().any(|i| mask.is_none_or(|m| m[i] != 0) && !x[i].wide().is_finite());
            for &(arg, x) in tokens.iter().chain(token_values) {
                if bad(x) {
                    return Err(not_finite(layout, arg, x, mask, row));
                }
            }
            format!("and values must be small enough for sums in float64, but are not in row {row}")
        }
    };
    Err(Error::Structure { arg: "rewards", reason })
}

/// Rewards at the gaps of a row, `spans` being its trained runs: `extra[k]` is what the last token of run `k` gets.
fn gap_rewards<T: Real>(
    row_rewards: &[T],
    spans: &[Range<usize>],
    rule: GapReward,
    extra: &mut Vec<f64>,
) -> Flaw {
    extra.clear();
    extra.resize(spans.len(), 0.0);
    if rule == GapReward::Drop {
        return Flaw::None;
    }
    let mut from = 0;
    for k in 0..=spans.len() {
        let to = spans.get(k).map_or(row_rewards.len(), |s| s.start);
        let gap = &row_rewards[from..to];
        if any_nonzero(gap) {
            let place = || from + gap.iter().position(|r| r.is_nonzero()).unwrap_or(0);
            if rule == GapReward::Raise {
                return Flaw::AtGap(place());
            }
            match k.checked_sub(1) {
                Some(before) => extra[before] = gap.iter().fold(0.0, |sum, r| sum + r.wide()),
                None => return Flaw::NothingBefore(place()),
            }
        }
        from = spans.get(k).map_or(from, |s| s.end);
    }
    Flaw::None
}

/// A fold over chunks is faster than looking for the first: padding is mostly zeros.
fn any_nonzero<T: Real>(x: &[T]) -> bool {
    let any = |part: &[T]| part.iter().fold(0u32, |any, r| any | u32::from(r.is_nonzero())) != 0;
    let (chunks, rest) = x.as_chunks::<256>();
    chunks.iter().any(|chunk| any(chunk)) || any(rest)
}
