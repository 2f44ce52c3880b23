//! Subsets of the rollouts of a group.

use pyo3::prelude::*;
use rollmath_core::select::{max_variance, places};

use crate::args::{array1, fresh, mask, slice};
use crate::errors::Call;
use crate::groups::Csr;
use crate::pool;

/// Place of each row in its group (or, without groups, among all), by key and preference (int64); -1 if it is not seen.
#[pyfunction]
fn select_places<'py>(
    py: Python<'py>,
    who: &str,
    groups: Option<&Csr>,
    key: &Bound<'py, PyAny>,
    seen: Option<&Bound<'py, PyAny>>,
    preference: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let call = Call::named(who, "key");
    let (key, seen) = (array1::<f64>(&call, "key", key)?, mask(&call, "valid", seen)?);
    let preference = preference.map(|p| array1::<i64>(&call, "preference", p)).transpose()?;
    let key = slice(&call, "key", &key)?;
    let seen = seen.as_ref().map(|a| slice(&call, "valid", a)).transpose()?;
    let preference = preference.as_ref().map(|a| slice(&call, "preference", a)).transpose()?;
    let groups = groups.map(|g| &g.0);
    fresh(py, &call, key.len(), |out| {
        pool::run(py, key.len(), |par| places::places(groups, key, seen, preference, out, par))
    })
}

/// Which rows of each group (or, without groups, of all) have the values of largest variance (bool).
#[pyfunction]
#[allow(clippy::too_many_arguments)]
fn select_max_variance<'py>(
    py: Python<'py>,
    who: &str,
    name: &str,
    groups: Option<&Csr>,
    x: &Bound<'py, PyAny>,
    seen: Option<&Bound<'py, PyAny>>,
    preference: Option<&Bound<'py, PyAny>>,
    keep: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let call = Call::named(who, name);
    let (x, seen) = (array1::<f64>(&call, name, x)?, mask(&call, "valid", seen)?);
    let preference = preference.map(|p| array1::<i64>(&call, "preference", p)).transpose()?;
    let x = slice(&call, name, &x)?;
    let seen = seen.as_ref().map(|a| slice(&call, "valid", a)).transpose()?;
    let preference = preference.as_ref().map(|a| slice(&call, "preference", a)).transpose()?;
    let groups = groups.map(|g| &g.0);
    fresh(py, &call, x.len(), |out| {
        pool::run(py, x.len(), |par| max_variance::max_variance(groups, x, seen, preference, keep, out, par))
    })
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(select_places, m)?)?;
    m.add_function(wrap_pyfunction!(select_max_variance, m)?)
}
