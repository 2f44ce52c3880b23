//! `(x - center) / scale` within groups: the arithmetic behind GRPO, RLOO and their relatives.
//!
//! First one pass over groups takes their statistics, then one pass over rows applies them; both parallelise without
//! changing a bit.

mod loo;
mod plan;
mod rules;

use crate::error::{Error, Result, check_len};
use crate::groups::Groups;
use crate::par::{Par, for_ranges};
use crate::real::{Real, sort_values};
use crate::reduce::{check_rows, for_groups, gather, is_valid};
pub use loo::loo_mean;
use loo::loo_std;
use plan::{How, Plan, Stat};
pub use rules::{Center, EpsPlace, NanPolicy, Rules, Scale, Singleton, ZeroSpread};

/// `(x - center) / (scale with eps)` for each row, to `out`. Rows that are not `valid` get 0 and enter no statistic.
///
/// # Errors
/// [`Error::Length`] for wrong lengths, [`Error::NonFinite`] and [`Error::Structure`] as `rules` demand.
#[allow(clippy::too_many_arguments)]
pub fn normalize<T: Real>(
    groups: &Groups,
    x: &[T],
    valid: Option<&[u8]>,
    center: Center<'_>,
    scale: Scale<'_>,
    rules: Rules,
    out: &mut [T],
    par: Par,
) -> Result<()> {
    check_rows(groups, x.len(), valid)?;
    check_len("out", out.len(), x.len(), "len(groups)")?;
    let n_groups = groups.n_groups();
    match center {
        Center::Rows(c) => check_len("center", c.len(), x.len(), "len(groups)")?,
        Center::Groups(c) => check_len("center", c.len(), n_groups, "n_groups")?,
        _ => {}
    }
    match scale {
        Scale::Rows(s) => check_len("scale", s.len(), x.len(), "len(groups)")?,
        Scale::Groups(s) => check_len("scale", s.len(), n_groups, "n_groups")?,
        _ => {}
    }
    let mask = check_finite(x, valid, rules.nan)?;
    let valid = mask.as_deref().or(valid);

    let how = How { center, scale, rules };
    let loo = match scale {
        Scale::LeaveOneOutStd => loo_std(groups, x, valid, rules.ddof, par),
        _ => Vec::new(),
    };
    how.check_degenerate(groups, x, valid, &loo, par)?;
    let mut plans = vec![Plan { center: 0.0, factor: 0.0, divisor: 1.0 }; n_groups];
    for_groups(groups, &mut plans, par, |g, plan, members| {
        gather(groups.rows(g), x, valid, members);
        sort_values(members);
        *plan = how.plan(g, &Stat::of(members));
    });
    let (index, plain) = (groups.index(), how.is_plain());
    for_ranges(par, out, 16_384, |start, part| {
        if plain {
            for ((slot, x), (row, &group)) in
                part.iter_mut().zip(&x[start..]).zip((start..).zip(&index[start..]))
            {
                let value = if is_valid(valid, row) { plans[group as usize].value(x.wide()) } else { 0.0 };
                *slot = T::narrow(value);
            }
            return;
        }
        for (row, slot) in (start..).zip(part) {
            let plan = plans[index[row] as usize];
            let value = if is_valid(valid, row) { how.value(row, x[row].wide(), plan, &loo) } else { 0.0 };
            *slot = T::narrow(value);
        }
    });
    Ok(())
}

/// Applies the NaN policy; returns a new mask if NaN rows are left out.
fn check_finite<T: Real>(x: &[T], valid: Option<&[u8]>, nan: NanPolicy) -> Result<Option<Vec<u8>>> {
    let bad = |want_inf: bool| {
        x.iter().enumerate().position(|(i, v)| {
            let v = v.wide();
            is_valid(valid, i) && if want_inf { v.is_infinite() } else { !v.is_finite() }
        })
    };
    // Nearly always; without an early end this is a vector loop.
    if x.iter().fold(true, |all, v| all & v.wide().is_finite()) {
        return Ok(None);
    }
    let fail = |index: usize, fix| Err(Error::NonFinite { arg: "x", index, value: x[index].wide(), fix });
    match nan {
        NanPolicy::Propagate => Ok(None),
        NanPolicy::Raise => match bad(false) {
            Some(i) => fail(i, "leave the row out with valid=, or choose nan='omit' or nan='propagate'"),
            None => Ok(None),
        },
        NanPolicy::Omit => {
            if let Some(i) = bad(true) {
                return fail(i, "nan='omit' takes NaN for a missing value, but infinity is not one");
            }
            if !x.iter().any(|v| v.wide().is_nan()) {
                return Ok(None);
            }
            let keep = |(i, v): (usize, &T)| u8::from(is_valid(valid, i) && !v.wide().is_nan());
            Ok(Some(x.iter().enumerate().map(keep).collect()))
        }
    }
}

#[cfg(test)]
mod tests;
