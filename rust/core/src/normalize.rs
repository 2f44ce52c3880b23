//! `(x - center) / scale` within groups: the arithmetic behind GRPO, RLOO and their relatives.
//!
//! First one pass over groups takes their statistics, then one pass over rows applies them; both parallelise without
//! changing a bit.

use crate::error::{Error, Result};
use crate::groups::Groups;
use crate::par::{Par, for_ranges};
use crate::real::{Real, sort_values};
use crate::reduce::{check_rows, for_groups, gather, is_valid, mean, sum_squares};

/// What is subtracted.
#[derive(Debug, Clone, Copy)]
pub enum Center<'a> {
    /// Nothing.
    None,
    /// Mean of the group.
    Mean,
    /// Mean of the other members of the group.
    LeaveOneOut,
    /// One number for all rows.
    Value(f64),
    /// One number a row.
    Rows(&'a [f64]),
}

/// What it is divided by, before `eps`.
#[derive(Debug, Clone, Copy)]
pub enum Scale<'a> {
    /// Nothing.
    None,
    /// Standard deviation of the group.
    Std,
    /// Standard deviation of the other members of the group.
    LeaveOneOutStd,
    /// One number for all rows.
    Value(f64),
    /// One number a row.
    Rows(&'a [f64]),
}

/// Where `eps` enters the denominator for a standard deviation `s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpsPlace {
    /// `s + eps`
    Add,
    /// `max(s, eps)`
    Max,
    /// `sqrt(s^2 + eps)`
    Sqrt,
    /// `s + eps` if `s > 0`, else 1
    WherePositive,
}

/// What the only valid member `x` of a group gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Singleton {
    /// 0
    Zero,
    /// Mean 0 and standard deviation 1 are taken for the group.
    Raw,
    /// Mean 0 and standard deviation `|x|` are taken for the group.
    Abs,
    /// NaN
    Nan,
    /// An error.
    Raise,
}

/// What a group of several equal values gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZeroSpread {
    /// Exactly 0.
    Zero,
    /// `x - center`, not divided.
    Unscaled,
    /// NaN
    Nan,
    /// An error.
    Raise,
}

/// What a NaN or an infinite value does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NanPolicy {
    /// Both are errors.
    Raise,
    /// NaN is a missing value: out of the statistics, result 0. Infinity is an error.
    Omit,
    /// Both spread over their group as IEEE arithmetic has it.
    Propagate,
}

/// Everything about the arithmetic that trainers disagree on.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct Rules {
    pub ddof: u32,
    pub eps: f64,
    pub eps_place: EpsPlace,
    pub singleton: Singleton,
    pub zero_spread: ZeroSpread,
    pub nan: NanPolicy,
}

#[derive(Clone, Copy, Default)]
struct Stat {
    n: usize,
    mean: f64,
    squares: f64,
    min: f64,
    max: f64,
    /// The members other than one smallest (largest) are all equal.
    equal_above: bool,
    equal_below: bool,
}

impl Stat {
    fn of(sorted: &[f64]) -> Self {
        let nan = sorted.iter().any(|x| x.is_nan());
        let mean = if nan { f64::NAN } else { mean(sorted) };
        let (n, at) = (sorted.len(), |i: usize| {
            sorted.get(i).copied().unwrap_or(f64::NAN)
        });
        let (min, max) = (at(0), at(n.wrapping_sub(1)));
        let squares = sum_squares(sorted, mean);
        Self {
            n,
            mean,
            squares,
            min,
            max,
            equal_above: at(1) == max,
            equal_below: at(n.wrapping_sub(2)) == min,
        }
    }

    fn std(&self, ddof: u32) -> f64 {
        if self.n > ddof as usize {
            (self.squares / (self.n - ddof as usize) as f64).sqrt()
        } else {
            f64::NAN
        }
    }

    /// Standard deviation of the members other than `x`; 0 for one other member.
    fn loo_std(&self, x: f64, ddof: u32) -> f64 {
        let others_equal = self.min == self.max
            || (x == self.min && self.equal_above)
            || (x == self.max && self.equal_below);
        if others_equal {
            return 0.0;
        }
        let (n, d) = (self.n as f64, x - self.mean);
        let squares = (self.squares - d * d * n / (n - 1.0)).max(0.0);
        (squares / (n - 1.0 - f64::from(ddof))).sqrt()
    }
}

/// `(x - center) / (scale with eps)` for each row. Rows that are not `valid` get 0 and enter no statistic.
///
/// # Errors
/// [`Error::Length`] for wrong lengths, [`Error::NonFinite`] and [`Error::Structure`] as `rules` demand.
pub fn normalize<T: Real>(
    groups: &Groups,
    x: &[T],
    valid: Option<&[u8]>,
    center: Center<'_>,
    scale: Scale<'_>,
    rules: Rules,
    par: Par,
) -> Result<Vec<T>> {
    check_rows(groups, x.len(), valid)?;
    for (arg, rows) in [("center", center_rows(center)), ("scale", scale_rows(scale))] {
        rows.map_or(Ok(()), |r| {
            crate::error::check_len(arg, r.len(), x.len(), "len(groups)")
        })?;
    }
    let mask = check_finite(x, valid, rules.nan)?;
    let valid = mask.as_deref().or(valid);

    check_degenerate(groups, x, valid, rules, par)?;
    let per_row = PerRow {
        x,
        center,
        scale,
        rules,
    };
    let mut out = vec![T::narrow(0.0); x.len()];
    let index = groups.index();
    let mut plans = vec![
        Plan {
            center: 0.0,
            factor: 0.0,
            divisor: 1.0
        };
        groups.n_groups()
    ];
    let mut stats = vec![
        Stat::default();
        if matches!(scale, Scale::LeaveOneOutStd) {
            groups.n_groups()
        } else {
            0
        }
    ];
    if stats.is_empty() {
        for_groups(groups, &mut plans, par, |g, plan, members| {
            gather(groups.rows(g), x, valid, members);
            sort_values(members);
            *plan = Plan::of(&Stat::of(members), center, scale, rules);
        });
    } else {
        for_groups(groups, &mut stats, par, |g, stat, members| {
            gather(groups.rows(g), x, valid, members);
            sort_values(members);
            *stat = Stat::of(members);
        });
        for (plan, stat) in plans.iter_mut().zip(&stats) {
            *plan = Plan::of(stat, center, scale, rules);
        }
    }
    for_ranges(par, &mut out, 16_384, |start, part| {
        for (k, slot) in part.iter_mut().enumerate() {
            let row = start + k;
            if is_valid(valid, row) {
                let g = index[row] as usize;
                *slot = T::narrow(per_row.value(row, plans[g], stats.get(g)));
            }
        }
    });
    Ok(out)
}

/// What all members of a group share: `(x - center) * factor / divisor`, and exactly 0 where `factor` is 0.
#[derive(Clone, Copy)]
struct Plan {
    center: f64,
    factor: f64,
    divisor: f64,
}

impl Plan {
    fn of(s: &Stat, center: Center<'_>, scale: Scale<'_>, rules: Rules) -> Self {
        let by_group = matches!(center, Center::Mean | Center::LeaveOneOut);
        let spread = matches!(scale, Scale::Std | Scale::LeaveOneOutStd);
        let n = s.n as f64;
        let (middle, factor) = match center {
            Center::Mean => (s.mean, 1.0),
            // x - (n mean - x) / (n - 1), without the cancellation; equal values leave exactly 0.
            Center::LeaveOneOut => (s.mean, n / (n - 1.0)),
            Center::Value(c) => (c, 1.0),
            Center::None | Center::Rows(_) => (0.0, 1.0),
        };
        let divisor = match scale {
            Scale::Std => denominator(s.std(rules.ddof), rules),
            Scale::Value(v) => denominator(v, rules),
            Scale::None | Scale::LeaveOneOutStd | Scale::Rows(_) => 1.0,
        };
        let plan = Self {
            center: middle,
            factor,
            divisor,
        };
        if s.n == 1 && (by_group || spread) {
            let lone = |std: f64| Self {
                center: if by_group { 0.0 } else { middle },
                factor: 1.0,
                divisor: if spread { denominator(std, rules) } else { divisor },
            };
            return match rules.singleton {
                Singleton::Zero => Self { factor: 0.0, ..plan },
                Singleton::Nan | Singleton::Raise => Self {
                    factor: f64::NAN,
                    ..plan
                },
                Singleton::Raw => lone(1.0),
                // 0 / 0 with eps = 0 is "no signal".
                Singleton::Abs if s.min == 0.0 => Self { factor: 0.0, ..plan },
                Singleton::Abs => lone(s.min.abs()),
            };
        }
        if spread && s.min == s.max {
            return match rules.zero_spread {
                ZeroSpread::Zero => Self { factor: 0.0, ..plan },
                ZeroSpread::Unscaled => Self { divisor: 1.0, ..plan },
                ZeroSpread::Nan | ZeroSpread::Raise => Self {
                    factor: f64::NAN,
                    ..plan
                },
            };
        }
        plan
    }
}

/// The inputs of a row, with what may differ from row to row inside a group.
struct PerRow<'a, T> {
    x: &'a [T],
    center: Center<'a>,
    scale: Scale<'a>,
    rules: Rules,
}

impl<T: Real> PerRow<'_, T> {
    fn value(&self, row: usize, plan: Plan, stat: Option<&Stat>) -> f64 {
        if plan.factor == 0.0 {
            return 0.0;
        }
        let x = self.x[row].wide();
        let center = if let Center::Rows(c) = self.center {
            c[row]
        } else {
            plan.center
        };
        let divisor = match (self.scale, stat) {
            (Scale::Rows(s), _) => denominator(s[row], self.rules),
            (Scale::LeaveOneOutStd, Some(s)) if s.n > 1 && s.min != s.max => {
                denominator(s.loo_std(x, self.rules.ddof), self.rules)
            }
            _ => plan.divisor,
        };
        (x - center) * plan.factor / divisor
    }
}

fn denominator(std: f64, rules: Rules) -> f64 {
    match rules.eps_place {
        EpsPlace::Add => std + rules.eps,
        EpsPlace::Max if std.is_nan() => std,
        EpsPlace::Max => std.max(rules.eps),
        EpsPlace::Sqrt => (std * std + rules.eps).sqrt(),
        EpsPlace::WherePositive if std <= 0.0 => 1.0,
        EpsPlace::WherePositive => std + rules.eps,
    }
}

fn center_rows<'a>(center: Center<'a>) -> Option<&'a [f64]> {
    if let Center::Rows(rows) = center {
        Some(rows)
    } else {
        None
    }
}

fn scale_rows<'a>(scale: Scale<'a>) -> Option<&'a [f64]> {
    if let Scale::Rows(rows) = scale {
        Some(rows)
    } else {
        None
    }
}

/// Applies the NaN policy; returns a new mask if NaN rows are left out.
fn check_finite<T: Real>(x: &[T], valid: Option<&[u8]>, nan: NanPolicy) -> Result<Option<Vec<u8>>> {
    let bad = |want_inf: bool| {
        x.iter().enumerate().position(|(i, v)| {
            let v = v.wide();
            is_valid(valid, i) && if want_inf { v.is_infinite() } else { !v.is_finite() }
        })
    };
    let fail = |index: usize, fix| {
        Err(Error::NonFinite {
            arg: "x",
            index,
            value: x[index].wide(),
            fix,
        })
    };
    match nan {
        NanPolicy::Propagate => Ok(None),
        NanPolicy::Raise => match bad(false) {
            Some(i) => fail(
                i,
                "leave the row out with valid=, or choose nan='omit' or nan='propagate'",
            ),
            None => Ok(None),
        },
        NanPolicy::Omit => {
            if let Some(i) = bad(true) {
                return fail(
                    i,
                    "nan='omit' takes NaN for a missing value, but infinity is not one",
                );
            }
            if !x.iter().any(|v| v.wide().is_nan()) {
                return Ok(None);
            }
            let keep = |(i, v): (usize, &T)| u8::from(is_valid(valid, i) && !v.wide().is_nan());
            Ok(Some(x.iter().enumerate().map(keep).collect()))
        }
    }
}

fn check_degenerate<T: Real>(
    groups: &Groups,
    x: &[T],
    valid: Option<&[u8]>,
    rules: Rules,
    par: Par,
) -> Result<()> {
    let (lone, flat) = (
        rules.singleton == Singleton::Raise,
        rules.zero_spread == ZeroSpread::Raise,
    );
    if !lone && !flat {
        return Ok(());
    }
    let mut seen = vec![(0, false); groups.n_groups()];
    for_groups(groups, &mut seen, par, |g, slot, members| {
        gather(groups.rows(g), x, valid, members);
        *slot = (members.len(), members.iter().all(|v| *v == members[0]));
    });
    let fail = |g: usize, what: &str, fix: &str| {
        let reason = format!("has {what} (the group of row {}); {fix}", groups.rows(g)[0]);
        Err(Error::Structure {
            arg: "groups",
            reason,
        })
    };
    if lone && let Some(g) = seen.iter().position(|s| s.0 == 1) {
        return fail(
            g,
            "a group with one valid member",
            "choose singleton='zero', 'raw', 'abs' or 'nan'",
        );
    }
    if flat && let Some(g) = seen.iter().position(|s| s.0 > 1 && s.1) {
        return fail(
            g,
            "a group without spread",
            "choose zero_spread='zero', 'unscaled' or 'nan'",
        );
    }
    Ok(())
}

#[cfg(test)]
#[path = "normalize_tests.rs"]
mod tests;
