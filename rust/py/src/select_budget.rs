//! Rollout budgets.

use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;
use rollmath_core::select::budget::{self, Limits, Method, Spare};

use crate::args::{array1, slice};
use crate::errors::Call;
use crate::pool;
use crate::reduce::choose;

/// Rollouts of each prompt, int64, for rates of success. `limits`: fewest, most and place among equals (int64).
#[pyfunction]
fn knapsack<'py>(
    py: Python<'py>,
    who: &str,
    rates: &Bound<'py, PyAny>,
    limits: (Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>),
    budget: i64,
    spare: &str,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let call = Call::new(who);
    let spare = choose!(call, "spare", spare, {
        "unsolved" => Spare::Unsolved, "even" => Spare::Even, "leave" => Spare::Leave,
    });
    let rates = array1::<f64>(&call, "success_rates", rates)?;
    let rates = slice(&call, "success_rates", &rates)?;
    let low = array1::<i64>(&call, "low", &limits.0)?;
    let high = array1::<i64>(&call, "high", &limits.1)?;
    let place = array1::<i64>(&call, "place", &limits.2)?;
    let limits = Limits {
        low: slice(&call, "low", &low)?,
        high: slice(&call, "high", &high)?,
        place: slice(&call, "place", &place)?,
    };
    let counts = pool::run(py, 0, |_| budget::knapsack(rates, limits, budget, spare))?;
    Ok(counts.map_err(|e| call.core(e))?.into_pyarray(py))
}

/// Rollouts of each prompt, int64, for a table of values (row by row, float64), and whether a dynamic program found
/// them. `prompts`: fewest, place among equals (int64), who takes part (uint8).
#[pyfunction]
#[allow(clippy::too_many_arguments)]
fn allocate<'py>(
    py: Python<'py>,
    who: &str,
    values: &Bound<'py, PyAny>,
    width: usize,
    prompts: (Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>),
    budget: i64,
    method: &str,
) -> PyResult<(Bound<'py, PyArray1<i64>>, bool)> {
    let call = Call::new(who);
    let method = choose!(call, "method", method, {
        "auto" => Method::Auto, "greedy" => Method::Greedy, "dp" => Method::Program,
    });
    let values = array1::<f64>(&call, "values", values)?;
    let values = slice(&call, "values", &values)?;
    let low = array1::<i64>(&call, "low", &prompts.0)?;
    let place = array1::<i64>(&call, "place", &prompts.1)?;
    let valid = array1::<u8>(&call, "valid", &prompts.2)?;
    let (low, place) = (slice(&call, "low", &low)?, slice(&call, "place", &place)?);
    let valid = slice(&call, "valid", &valid)?;
    let work = values.len().saturating_mul(usize::try_from(budget).unwrap_or(0));
    let found =
        pool::run(py, work, |par| budget::allocate(values, width, low, place, valid, budget, method, par))?;
    let (counts, program) = found.map_err(|e| call.core(e))?;
    Ok((counts.into_pyarray(py), program))
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(knapsack, m)?)?;
    m.add_function(wrap_pyfunction!(allocate, m)?)
}
