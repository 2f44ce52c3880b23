//! Segment reductions and normalisation within groups.

use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;
use rollmath_core::normalize::{
    self as core_normalize, Center, EpsPlace, NanPolicy, Rules, Scale, Singleton, ZeroSpread,
};
use rollmath_core::reduce::{self as core_reduce, QuantileMethod, Reduction};

use crate::args::{array1, floats, fresh, mask, slice, with_floats};
use crate::errors::Call;
use crate::groups::Csr;
use crate::pool;

/// Looks `$got` up among named choices; the error lists them.
macro_rules! choose {
    ($call:expr, $arg:expr, $got:expr, { $($name:literal => $value:expr),+ $(,)? }) => {
        match $got {
            $($name => $value,)+
            other => {
                let names = [$($name),+].join("', '");
                return Err($call.value_error(format!("'{}' must be one of '{names}', got '{other}'", $arg)));
            }
        }
    };
}
pub(crate) use choose;

fn quantile_method(call: &Call<'_>, name: &str) -> PyResult<QuantileMethod> {
    use QuantileMethod as Q;
    Ok(choose!(call, "method", name, {
        "linear" => Q::Linear, "lower" => Q::Lower, "higher" => Q::Higher, "nearest" => Q::Nearest,
        "midpoint" => Q::Midpoint, "inverted_cdf" => Q::InvertedCdf, "hazen" => Q::Hazen,
        "weibull" => Q::Weibull, "median_unbiased" => Q::MedianUnbiased, "normal_unbiased" => Q::NormalUnbiased,
    }))
}

/// One float64 a group. `parameter` is ddof, q or beta; `method` is that of the quantile.
#[pyfunction]
#[pyo3(signature = (who, name, groups, x, valid, what, parameter=0.0, method="linear"))]
#[allow(clippy::too_many_arguments)]
fn reduce<'py>(
    py: Python<'py>,
    who: &str,
    name: &str,
    groups: &Csr,
    x: &Bound<'py, PyAny>,
    valid: Option<&Bound<'py, PyAny>>,
    what: &str,
    parameter: f64,
    method: &str,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let call = Call::named(who, name);
    let what = choose!(call, "what", what, {
        "count" => Reduction::Count, "sum" => Reduction::Sum, "mean" => Reduction::Mean,
        "var" => Reduction::Var { ddof: ddof(&call, parameter)? },
        "min" => Reduction::Min, "max" => Reduction::Max,
        "quantile" => Reduction::Quantile { q: parameter, method: quantile_method(&call, method)? },
        "logmeanexp" => Reduction::LogMeanExp { beta: parameter },
    });
    let (x, valid) = (floats(&call, name, x)?, mask(&call, "valid", valid)?);
    let valid = bytes(&call, &valid)?;
    let groups = &groups.0;
    let out = with_floats!(&x, call, name, |x| {
        pool::run(py, groups.len(), |par| core_reduce::reduce(groups, x, valid, what, par))?
    });
    Ok(out.map_err(|e| call.core(e))?.into_pyarray(py))
}

/// Weighted mean of each group (float64).
#[pyfunction]
fn weighted_mean<'py>(
    py: Python<'py>,
    who: &str,
    name: &str,
    groups: &Csr,
    x: &Bound<'py, PyAny>,
    weights: &Bound<'py, PyAny>,
    valid: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let call = Call::named(who, name);
    let (x, valid) = (floats(&call, name, x)?, mask(&call, "valid", valid)?);
    let weights = array1::<f64>(&call, "weights", weights)?;
    let (weights, valid) = (slice(&call, "weights", &weights)?, bytes(&call, &valid)?);
    let groups = &groups.0;
    let out = with_floats!(&x, call, name, |x| {
        pool::run(py, groups.len(), |par| core_reduce::weighted_mean(groups, x, weights, valid, par))?
    });
    Ok(out.map_err(|e| call.core(e))?.into_pyarray(py))
}

/// Mean of the other members of each row's group (float64, one a row).
#[pyfunction]
fn loo_mean<'py>(
    py: Python<'py>,
    who: &str,
    name: &str,
    groups: &Csr,
    x: &Bound<'py, PyAny>,
    valid: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let call = Call::named(who, name);
    let (x, valid) = (floats(&call, name, x)?, mask(&call, "valid", valid)?);
    let valid = bytes(&call, &valid)?;
    let groups = &groups.0;
    let out = with_floats!(&x, call, name, |x| {
        pool::run(py, groups.len(), |par| core_normalize::loo_mean(groups, x, valid, par))?
    });
    Ok(out.map_err(|e| call.core(e))?.into_pyarray(py))
}

fn bytes<'a>(call: &Call<'_>, valid: &'a Option<PyReadonlyArray1<'_, u8>>) -> PyResult<Option<&'a [u8]>> {
    valid.as_ref().map(|v| slice(call, "valid", v)).transpose()
}

pub(crate) fn ddof(call: &Call<'_>, value: f64) -> PyResult<u32> {
    if value.fract() == 0.0 && (0.0..=1000.0).contains(&value) {
        Ok(value as u32)
    } else {
        Err(call.value_error(format!("'ddof' must be a whole number from 0 to 1000, got {value}")))
    }
}

/// The fields of a Python `Convention`, by name.
#[derive(FromPyObject)]
struct Convention {
    ddof: f64,
    eps: f64,
    eps_place: String,
    singleton: String,
    zero_spread: String,
    nan: String,
}

fn rules(call: &Call<'_>, c: &Convention) -> PyResult<Rules> {
    if !c.eps.is_finite() || c.eps < 0.0 {
        return Err(call.value_error(format!("'eps' must be finite and not negative, got {}", c.eps)));
    }
    Ok(Rules {
        ddof: ddof(call, c.ddof)?,
        eps: c.eps,
        eps_place: choose!(call, "eps_place", c.eps_place.as_str(), {
            "add" => EpsPlace::Add, "max" => EpsPlace::Max, "sqrt" => EpsPlace::Sqrt,
            "where_positive" => EpsPlace::WherePositive,
        }),
        singleton: choose!(call, "singleton", c.singleton.as_str(), {
            "zero" => Singleton::Zero, "raw" => Singleton::Raw, "abs" => Singleton::Abs,
            "nan" => Singleton::Nan, "raise" => Singleton::Raise,
        }),
        zero_spread: choose!(call, "zero_spread", c.zero_spread.as_str(), {
            "zero" => ZeroSpread::Zero, "unscaled" => ZeroSpread::Unscaled, "nan" => ZeroSpread::Nan,
            "raise" => ZeroSpread::Raise,
        }),
        nan: choose!(call, "nan", c.nan.as_str(), {
            "raise" => NanPolicy::Raise, "omit" => NanPolicy::Omit, "propagate" => NanPolicy::Propagate,
        }),
    })
}

/// A name, one number, `("groups", one number a group)`, or one number a row.
#[derive(FromPyObject)]
enum Choice<'py> {
    Name(String),
    Number(f64),
    Groups((String, Bound<'py, PyAny>)),
    Rows(Bound<'py, PyAny>),
}

/// `(x - center) / (scale with eps)` within groups; float32 for float32, else float64.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
fn normalize<'py>(
    py: Python<'py>,
    who: &str,
    name: &str,
    groups: &Csr,
    x: &Bound<'py, PyAny>,
    valid: Option<&Bound<'py, PyAny>>,
    center: Choice<'py>,
    scale: Choice<'py>,
    convention: Convention,
) -> PyResult<Bound<'py, PyAny>> {
    let call = Call::named(who, name);
    let rules = rules(&call, &convention)?;
    let (x, valid) = (floats(&call, name, x)?, mask(&call, "valid", valid)?);
    let valid = bytes(&call, &valid)?;
    let (center_values, scale_values) = (values(&call, "center", &center)?, values(&call, "scale", &scale)?);
    let center = match (&center, &center_values) {
        (Choice::Groups(_), Some(values)) => Center::Groups(slice(&call, "center", values)?),
        (_, Some(values)) => Center::Rows(slice(&call, "center", values)?),
        (Choice::Number(c), _) => Center::Value(*c),
        (Choice::Name(c), _) => choose!(call, "center", c.as_str(), {
            "none" => Center::None, "mean" => Center::Mean, "loo" => Center::LeaveOneOut,
        }),
        _ => Center::None,
    };
    let scale = match (&scale, &scale_values) {
        (Choice::Groups(_), Some(values)) => Scale::Groups(slice(&call, "scale", values)?),
        (_, Some(values)) => Scale::Rows(slice(&call, "scale", values)?),
        (Choice::Number(s), _) => Scale::Value(*s),
        (Choice::Name(s), _) => choose!(call, "scale", s.as_str(), {
            "none" => Scale::None, "std" => Scale::Std, "loo_std" => Scale::LeaveOneOutStd,
        }),
        _ => Scale::None,
    };
    let groups = &groups.0;
    with_floats!(&x, call, name, |x| {
        fresh(py, &call, x.len(), |out| {
            pool::run(py, x.len(), |par| {
                core_normalize::normalize(groups, x, valid, center, scale, rules, out, par)
            })
        })
    })
}

fn values<'py>(
    call: &Call<'_>,
    name: &str,
    choice: &Choice<'py>,
) -> PyResult<Option<PyReadonlyArray1<'py, f64>>> {
    match choice {
        Choice::Rows(array) | Choice::Groups((_, array)) => array1::<f64>(call, name, array).map(Some),
        _ => Ok(None),
    }
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(reduce, m)?)?;
    m.add_function(wrap_pyfunction!(weighted_mean, m)?)?;
    m.add_function(wrap_pyfunction!(loo_mean, m)?)?;
    m.add_function(wrap_pyfunction!(normalize, m)?)
}
