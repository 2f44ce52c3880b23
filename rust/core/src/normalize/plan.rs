//! What becomes of a group: its center, factor and divisor, degenerate groups included.

use super::rules::{Center, EpsPlace, Rules, Scale, Singleton, ZeroSpread};
use crate::error::{Error, Result};
use crate::groups::Groups;
use crate::par::Par;
use crate::real::Real;
use crate::reduce::{for_groups, gather, is_valid, mean, sum_squares};

/// Statistics of the sorted members of a group.
pub(super) struct Stat {
    n: usize,
    mean: f64,
    squares: f64,
    min: f64,
    max: f64,
}

impl Stat {
    pub(super) fn of(sorted: &[f64]) -> Self {
        let n = sorted.len();
        if n == 0 || sorted.iter().any(|x| x.is_nan()) {
            // NaN among equal values must not look like a group without spread.
            return Self { n, mean: f64::NAN, squares: f64::NAN, min: f64::NAN, max: f64::NAN };
        }
        let mean = mean(sorted);
        Self { n, mean, squares: sum_squares(sorted, mean), min: sorted[0], max: sorted[n - 1] }
    }

    fn std(&self, ddof: u32) -> f64 {
        if self.n > ddof as usize {
            (self.squares / (self.n - ddof as usize) as f64).sqrt()
        } else {
            f64::NAN
        }
    }
}

/// What all members of a group share: `(x - center) * factor / divisor`, and exactly 0 where `factor` is 0.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    pub(super) center: f64,
    pub(super) factor: f64,
    pub(super) divisor: f64,
}

impl Plan {
    #[inline]
    pub(super) fn value(self, x: f64) -> f64 {
        match self.factor {
            0.0 if x.is_finite() => 0.0,
            0.0 => f64::NAN,
            factor => (x - self.center) * factor / self.divisor,
        }
    }
}

/// The choices of a call.
#[derive(Clone, Copy)]
pub(super) struct How<'a> {
    pub(super) center: Center<'a>,
    pub(super) scale: Scale<'a>,
    pub(super) rules: Rules,
}

impl How<'_> {
    /// The scale is the spread of the group.
    fn by_spread(&self) -> bool {
        matches!(self.scale, Scale::Std | Scale::LeaveOneOutStd)
    }

    fn centered_by_group(&self) -> bool {
        matches!(self.center, Center::Mean | Center::LeaveOneOut | Center::Groups(_))
    }

    /// Center or scale is taken from the group, so that a group of one is degenerate.
    fn by_group(&self) -> bool {
        self.centered_by_group() || self.by_spread() || matches!(self.scale, Scale::Groups(_))
    }

    pub(super) fn plan(&self, group: usize, s: &Stat) -> Plan {
        let (n, rules) = (s.n as f64, self.rules);
        let (center, factor) = match self.center {
            Center::Mean => (s.mean, 1.0),
            // x - (n mean - x) / (n - 1), without the cancellation; equal values leave exactly 0.
            Center::LeaveOneOut => (s.mean, n / (n - 1.0)),
            Center::Value(c) => (c, 1.0),
            Center::Groups(c) => (c[group], 1.0),
            Center::None | Center::Rows(_) => (0.0, 1.0),
        };
        let divisor = match self.scale {
            Scale::Std => denominator(s.std(rules.ddof), rules),
            Scale::Value(v) => denominator(v, rules),
            Scale::Groups(v) => denominator(v[group], rules),
            Scale::None | Scale::LeaveOneOutStd | Scale::Rows(_) => 1.0,
        };
        let plan = Plan { center, factor, divisor };
        if s.n == 1 && self.by_group() {
            let from_group = self.by_spread() || matches!(self.scale, Scale::Groups(_));
            let lone = |std: f64| Plan {
                center: if self.centered_by_group() { 0.0 } else { center },
                factor: 1.0,
                divisor: if from_group { denominator(std, rules) } else { divisor },
            };
            return match rules.singleton {
                Singleton::Zero => Plan { factor: 0.0, ..plan },
                Singleton::Nan | Singleton::Raise => Plan { factor: f64::NAN, ..plan },
                Singleton::Raw => lone(1.0),
                // 0 / 0 with eps = 0 is "no signal".
                Singleton::Abs if s.min == 0.0 => Plan { factor: 0.0, ..plan },
                Singleton::Abs => lone(s.min.abs()),
            };
        }
        if s.min == s.max && s.n > 1 {
            if self.by_spread() {
                return match rules.zero_spread {
                    ZeroSpread::Zero => Plan { factor: 0.0, ..plan },
                    ZeroSpread::Unscaled => Plan { divisor: 1.0, ..plan },
                    ZeroSpread::Nan | ZeroSpread::Raise => Plan { factor: f64::NAN, ..plan },
                };
            }
            // x - center is exactly 0 here, and stays so where the scale is 0 too.
            if matches!(self.center, Center::Mean | Center::LeaveOneOut) && s.min.is_finite() {
                return Plan { factor: 0.0, ..plan };
            }
        }
        plan
    }

    /// What a row gets depends on its plan alone.
    pub(super) fn is_plain(&self) -> bool {
        !matches!(self.center, Center::Rows(_))
            && !matches!(self.scale, Scale::Rows(_) | Scale::LeaveOneOutStd)
    }

    pub(super) fn value(&self, row: usize, x: f64, plan: Plan, loo: &[f64]) -> f64 {
        if plan.factor == 0.0 {
            return if x.is_finite() { 0.0 } else { f64::NAN };
        }
        let center = if let Center::Rows(c) = self.center { c[row] } else { plan.center };
        let divisor = match self.scale {
            Scale::Rows(s) => denominator(s[row], self.rules),
            // The others have no spread, though the group has; a group of one has no others.
            Scale::LeaveOneOutStd if loo[row] == 0.0 => match self.rules.zero_spread {
                ZeroSpread::Zero if x.is_finite() => return 0.0,
                ZeroSpread::Zero => return f64::NAN,
                ZeroSpread::Unscaled => 1.0,
                ZeroSpread::Nan | ZeroSpread::Raise => f64::NAN,
            },
            Scale::LeaveOneOutStd if !loo[row].is_infinite() => denominator(loo[row], self.rules),
            _ => plan.divisor,
        };
        (x - center) * plan.factor / divisor
    }

    pub(super) fn check_degenerate<T: Real>(
        &self,
        groups: &Groups,
        x: &[T],
        valid: Option<&[u8]>,
        loo: &[f64],
        par: Par,
    ) -> Result<()> {
        let lone = self.rules.singleton == Singleton::Raise && self.by_group();
        let flat = self.rules.zero_spread == ZeroSpread::Raise && self.by_spread();
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
            Err(Error::Structure { arg: "groups", reason })
        };
        if lone && let Some(g) = seen.iter().position(|s| s.0 == 1) {
            return fail(
                g,
                "a group with one valid member",
                "choose singleton='zero', 'raw', 'abs' or 'nan'",
            );
        }
        let fix = "choose zero_spread='zero', 'unscaled' or 'nan'";
        if flat && let Some(g) = seen.iter().position(|s| s.0 > 1 && s.1) {
            return fail(g, "a group without spread", fix);
        }
        if flat && let Some(row) = (0..loo.len()).find(|&i| loo[i] == 0.0 && is_valid(valid, i)) {
            let reason = format!("has no spread in the group of row {row} without that row; {fix}");
            return Err(Error::Structure { arg: "groups", reason });
        }
        Ok(())
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
