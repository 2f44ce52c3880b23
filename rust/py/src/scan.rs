//! Reverse scans over the tokens of rows.

use numpy::{Element, PyReadonlyArray1, PyUntypedArray};
use pyo3::prelude::*;
use rollmath_core::layout::Layout as CoreLayout;
use rollmath_core::moments::Part;
use rollmath_core::real::Real;
use rollmath_core::scan::{
    self, Bootstrap, Choices, Clips, Energy, GapReward, Gaps, Outputs, PerRow, Rewards, Rule, Scan,
};

use crate::args::{Floats, array1, array1_mut, floats, mask, slice};
use crate::errors::Call;
use crate::groups::Csr;
use crate::pool;
use crate::rows::{Layout, Parts, parts_of};

/// A number, or one a row.
#[derive(FromPyObject)]
enum Number<'py> {
    // First, because an array of one element would do for a number.
    Rows(Bound<'py, PyUntypedArray>),
    One(f64),
}

struct NumberArg<'py>(Result<f64, PyReadonlyArray1<'py, f64>>);

impl<'py> NumberArg<'py> {
    fn of(call: &Call<'_>, name: &str, number: &Number<'py>) -> PyResult<Self> {
        Ok(Self(match number {
            Number::One(x) => Ok(*x),
            Number::Rows(x) => Err(array1::<f64>(call, name, x.as_any())?),
        }))
    }

    fn view(&self, call: &Call<'_>, name: &str) -> PyResult<PerRow<'_>> {
        Ok(match &self.0 {
            Ok(x) => PerRow::One(*x),
            Err(array) => PerRow::Rows(slice(call, name, array)?),
        })
    }
}

/// `"zero"`, `"last"`, or one value a row.
#[derive(FromPyObject)]
enum End<'py> {
    Name(String),
    Rows(Bound<'py, PyAny>),
}

/// Mask, what gaps are, what becomes of rewards there, value after the last token, rows to which it applies.
#[derive(FromPyObject)]
struct RuleArg<'py>(Option<Bound<'py, PyAny>>, String, String, End<'py>, Option<Bound<'py, PyAny>>);

struct RuleArrays<'py> {
    mask: Option<PyReadonlyArray1<'py, u8>>,
    bootstrap: Option<PyReadonlyArray1<'py, f64>>,
    truncated: Option<PyReadonlyArray1<'py, u8>>,
}

impl<'py> RuleArg<'py> {
    fn arrays(&self, call: &Call<'_>) -> PyResult<RuleArrays<'py>> {
        Ok(RuleArrays {
            mask: mask(call, "mask", self.0.as_ref())?,
            bootstrap: match &self.3 {
                End::Rows(x) => Some(array1::<f64>(call, "bootstrap", x)?),
                End::Name(_) => None,
            },
            truncated: mask(call, "truncated", self.4.as_ref())?,
        })
    }

    fn view<'a>(&self, call: &Call<'_>, arrays: &'a RuleArrays<'py>) -> PyResult<Rule<'a>> {
        let wrong = |name: &str, got: &str| call.value_error(format!("'{name}' has no choice '{got}'"));
        let bytes = |x: &'a Option<PyReadonlyArray1<'py, u8>>, name| {
            x.as_ref().map(|x| slice(call, name, x)).transpose()
        };
        Ok(Rule {
            mask: bytes(&arrays.mask, "mask")?,
            gaps: match self.1.as_str() {
                "carry" => Gaps::Carry,
                "state" => Gaps::State,
                "ignore" => Gaps::Ignore,
                "cut" => Gaps::Cut,
                other => return Err(wrong("gaps", other)),
            },
            gap_reward: match self.2.as_str() {
                "raise" => GapReward::Raise,
                "previous" => GapReward::Previous,
                "drop" => GapReward::Drop,
                other => return Err(wrong("reward_on_gap", other)),
            },
            bootstrap: match (&self.3, &arrays.bootstrap) {
                (_, Some(x)) => Bootstrap::Given(slice(call, "bootstrap", x)?),
                (End::Name(name), None) if name == "last" => Bootstrap::Last,
                (End::Name(name), None) if name != "zero" => return Err(wrong("bootstrap", name)),
                _ => Bootstrap::Zero,
            },
            truncated: bytes(&arrays.truncated, "truncated")?,
        })
    }
}

/// Token rewards, of the type of the other token arrays, or one float64 a row.
enum RewardsArg<'py, T: Element> {
    Tokens(PyReadonlyArray1<'py, T>),
    Rows(PyReadonlyArray1<'py, f64>),
}

impl<'py, T: Element> RewardsArg<'py, T> {
    fn of(call: &Call<'_>, rewards: &Bound<'py, PyAny>, per_row: bool) -> PyResult<Self> {
        Ok(if per_row {
            Self::Rows(array1(call, "rewards", rewards)?)
        } else {
            Self::Tokens(array1(call, "rewards", rewards)?)
        })
    }

    fn view(&self, call: &Call<'_>) -> PyResult<Rewards<'_, T>> {
        Ok(match self {
            Self::Tokens(x) => Rewards::Tokens(slice(call, "rewards", x)?),
            Self::Rows(x) => Rewards::Rows(slice(call, "rewards", x)?),
        })
    }
}

/// The gamma, lambda and lambda of returns of a scan.
type Decay<'py> = (f64, Number<'py>, Option<Number<'py>>);

#[allow(clippy::too_many_arguments)]
fn gae_as<'py, T: Real + Element>(
    py: Python<'py>,
    call: Call<'_>,
    layout: &CoreLayout,
    (rewards, per_row): (&Bound<'py, PyAny>, bool),
    values: Option<&Bound<'py, PyAny>>,
    rule: &RuleArg<'py>,
    (gamma, lam, lam_returns): &Decay<'py>,
    (advantages, returns): (Option<&Bound<'py, PyAny>>, Option<&Bound<'py, PyAny>>),
    moments: bool,
) -> PyResult<Vec<Part>> {
    let rewards = RewardsArg::<T>::of(&call, rewards, per_row)?;
    let rewards = rewards.view(&call)?;
    let values = values.map(|x| array1::<T>(&call, "values", x)).transpose()?;
    let values = values.as_ref().map(|x| slice(&call, "values", x)).transpose()?;
    let arrays = rule.arrays(&call)?;
    let rule = rule.view(&call, &arrays)?;
    let lam = NumberArg::of(&call, "lam", lam)?;
    let other = lam_returns.as_ref().map(|l| NumberArg::of(&call, "lam_returns", l)).transpose()?;
    let scan = Scan {
        gamma: *gamma,
        lam: lam.view(&call, "lam")?,
        lam_returns: other.as_ref().map(|l| l.view(&call, "lam_returns")).transpose()?,
        moments,
    };
    let mut advantages = advantages.map(|x| array1_mut::<T>(&call, "out", x)).transpose()?;
    let mut returns = returns.map(|x| array1_mut::<T>(&call, "out", x)).transpose()?;
    let contiguous = |_| call.value_error("'out' must be contiguous");
    let advantages = advantages.as_mut().map(|x| x.as_slice_mut()).transpose().map_err(contiguous)?;
    let returns = returns.as_mut().map(|x| x.as_slice_mut()).transpose().map_err(contiguous)?;
    let done = pool::run(py, layout.total(), |par| match (values, advantages, returns) {
        (Some(values), advantages, Some(returns)) => {
            scan::gae(layout, rewards, values, rule, scan, Outputs { advantages, returns }, par)
        }
        (_, Some(out), _) => scan::discounted_returns(layout, rewards, rule, scan, out, par),
        _ => Ok(Vec::new()),
    })?;
    done.map_err(|e| call.core(e))
}

/// Advantages and returns of rows; without `values`, discounted returns as `advantages`. Gives the moments of the
/// advantages of each row if `moments`.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
fn gae<'py>(
    py: Python<'py>,
    who: &str,
    layout: &Layout,
    rewards: &Bound<'py, PyAny>,
    per_row: bool,
    values: Option<&Bound<'py, PyAny>>,
    rule: RuleArg<'py>,
    decay: Decay<'py>,
    advantages: Option<&Bound<'py, PyAny>>,
    returns: Option<&Bound<'py, PyAny>>,
    moments: bool,
) -> PyResult<Option<Parts<'py>>> {
    let call = Call::new(who);
    let Some(like) = advantages.or(returns) else {
        return Err(call.value_error("'out' is missing"));
    };
    let single = matches!(floats(&call, "out", like)?, Floats::F32(_));
    let outs = (advantages, returns);
    let parts = if single {
        gae_as::<f32>(py, call, &layout.0, (rewards, per_row), values, &rule, &decay, outs, moments)?
    } else {
        gae_as::<f64>(py, call, &layout.0, (rewards, per_row), values, &rule, &decay, outs, moments)?
    };
    Ok(moments.then(|| parts_of(py, &parts)))
}

#[allow(clippy::too_many_arguments)]
fn vtrace_as<'py, T: Real + Element>(
    py: Python<'py>,
    call: Call<'_>,
    layout: &CoreLayout,
    (rewards, per_row): (&Bound<'py, PyAny>, bool),
    (values, log_ratios): (&Bound<'py, PyAny>, &Bound<'py, PyAny>),
    rule: &RuleArg<'py>,
    (gamma, lam): (f64, &Number<'py>),
    clips: Clips,
    (advantages, returns): (&Bound<'py, PyAny>, &Bound<'py, PyAny>),
) -> PyResult<()> {
    let rewards = RewardsArg::<T>::of(&call, rewards, per_row)?;
    let rewards = rewards.view(&call)?;
    let (values, log_ratios) =
        (array1::<T>(&call, "values", values)?, array1::<T>(&call, "log_ratios", log_ratios)?);
    let (values, log_ratios) = (slice(&call, "values", &values)?, slice(&call, "log_ratios", &log_ratios)?);
    let arrays = rule.arrays(&call)?;
    let rule = rule.view(&call, &arrays)?;
    let lam = NumberArg::of(&call, "lam", lam)?;
    let lam = lam.view(&call, "lam")?;
    let mut advantages = array1_mut::<T>(&call, "out", advantages)?;
    let mut returns = array1_mut::<T>(&call, "out", returns)?;
    let contiguous = |_| call.value_error("'out' must be contiguous");
    let outs = [advantages.as_slice_mut().map_err(contiguous)?, returns.as_slice_mut().map_err(contiguous)?];
    let done = pool::run(py, layout.total(), |par| {
        scan::vtrace(layout, rewards, values, log_ratios, rule, (gamma, lam), clips, outs, par)
    })?;
    done.map_err(|e| call.core(e))
}

/// V-trace advantages and returns. `clips` are those of rho, c and the rho of advantages.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
fn vtrace<'py>(
    py: Python<'py>,
    who: &str,
    layout: &Layout,
    rewards: &Bound<'py, PyAny>,
    per_row: bool,
    values: &Bound<'py, PyAny>,
    log_ratios: &Bound<'py, PyAny>,
    rule: RuleArg<'py>,
    decay: (f64, Number<'py>),
    clips: (f64, f64, f64),
    advantages: &Bound<'py, PyAny>,
    returns: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let call = Call::new(who);
    let clips = Clips { rho: clips.0, c: clips.1, pg_rho: clips.2 };
    let single = matches!(floats(&call, "out", advantages)?, Floats::F32(_));
    let f = if single { vtrace_as::<f32> } else { vtrace_as::<f64> };
    f(
        py,
        call,
        &layout.0,
        (rewards, per_row),
        (values, log_ratios),
        &rule,
        (decay.0, &decay.1),
        clips,
        (advantages, returns),
    )
}

#[allow(clippy::too_many_arguments)]
fn optimal_as<'py, T: Real + Element>(
    py: Python<'py>,
    call: Call<'_>,
    layout: &CoreLayout,
    groups: &rollmath_core::Groups,
    (rewards, per_row): (&Bound<'py, PyAny>, bool),
    [logprobs, sum_pi_squared]: [&Bound<'py, PyAny>; 2],
    importance: Option<&Bound<'py, PyAny>>,
    rule: &RuleArg<'py>,
    choices: Choices,
    out: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let rewards = RewardsArg::<T>::of(&call, rewards, per_row)?;
    let rewards = rewards.view(&call)?;
    let logprobs = array1::<T>(&call, "logprobs", logprobs)?;
    let sum_pi_squared = array1::<T>(&call, "sum_pi_squared", sum_pi_squared)?;
    let importance = importance.map(|x| array1::<T>(&call, "is_weights", x)).transpose()?;
    let energy = Energy {
        logprobs: slice(&call, "logprobs", &logprobs)?,
        sum_pi_squared: slice(&call, "sum_pi_squared", &sum_pi_squared)?,
        importance: importance.as_ref().map(|x| slice(&call, "is_weights", x)).transpose()?,
    };
    let arrays = rule.arrays(&call)?;
    let rule = rule.view(&call, &arrays)?;
    let mut out = array1_mut::<T>(&call, "out", out)?;
    let out = out.as_slice_mut().map_err(|_| call.value_error("'out' must be contiguous"))?;
    let done = pool::run(py, layout.total(), |par| {
        scan::optimal_token_baseline(layout, groups, rewards, energy, rule, choices, out, par)
    })?;
    done.map_err(|e| call.core(e))
}

/// Returns less the optimal token baseline of the group. `choices`: by trained tokens, zero tail, eps, lone keeps.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
fn optimal_token_baseline<'py>(
    py: Python<'py>,
    who: &str,
    layout: &Layout,
    groups: &Csr,
    rewards: &Bound<'py, PyAny>,
    per_row: bool,
    logprobs: &Bound<'py, PyAny>,
    sum_pi_squared: &Bound<'py, PyAny>,
    is_weights: Option<&Bound<'py, PyAny>>,
    rule: RuleArg<'py>,
    choices: (bool, bool, f64, bool),
    out: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let call = Call::new(who);
    let (by_trained, zero_tail, eps, lone_keeps_return) = choices;
    let choices = Choices { by_trained, zero_tail, eps, lone_keeps_return };
    let single = matches!(floats(&call, "out", out)?, Floats::F32(_));
    let f = if single { optimal_as::<f32> } else { optimal_as::<f64> };
    let energy = [logprobs, sum_pi_squared];
    f(py, call, &layout.0, &groups.0, (rewards, per_row), energy, is_weights, &rule, choices, out)
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(gae, m)?)?;
    m.add_function(wrap_pyfunction!(vtrace, m)?)?;
    m.add_function(wrap_pyfunction!(optimal_token_baseline, m)?)
}
