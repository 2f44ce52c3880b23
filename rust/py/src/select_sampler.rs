//! Weighted draws: a sampler behind a lock, since one object may be drawn from and updated by several threads.

use std::sync::{Mutex, MutexGuard, PoisonError};

use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;
use rollmath_core::select::sampler::Sampler;

use crate::args::{array1, slice};
use crate::errors::Call;

/// Weights in a tree of sums.
#[pyclass(frozen, module = "rollmath._core", name = "Sampler")]
pub(crate) struct PySampler(Mutex<Sampler>);

impl PySampler {
    /// Only while the interpreter is released: a thread that waits for the lock must not hold it.
    fn lock(&self) -> MutexGuard<'_, Sampler> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leaves by number.
fn leaves(call: &Call<'_>, name: &str, at: &[i64]) -> PyResult<Vec<usize>> {
    let read: Result<Vec<usize>, _> = at.iter().map(|&i| usize::try_from(i)).collect();
    read.map_err(|_| call.value_error(format!("'{name}' must not be negative")))
}

#[pymethods]
impl PySampler {
    /// Of one weight (float64) a leaf, whether it is active (bytes), and the share of uniform draws.
    #[new]
    fn new(
        py: Python<'_>,
        who: &str,
        weights: &Bound<'_, PyAny>,
        active: &Bound<'_, PyAny>,
        explore: f64,
    ) -> PyResult<Self> {
        let call = Call::new(who);
        let (weights, active) =
            (array1::<f64>(&call, "weights", weights)?, array1::<u8>(&call, "active", active)?);
        let (weights, active) = (slice(&call, "weights", &weights)?, slice(&call, "active", &active)?);
        let made = py.detach(|| Sampler::new(weights, active, explore)).map_err(|e| call.core(e))?;
        Ok(Self(Mutex::new(made)))
    }

    fn __len__(&self, py: Python<'_>) -> usize {
        py.detach(|| self.lock().weights().len())
    }

    /// All sums of the weights, the root first, the leaves last, with zeros up to a power of two.
    fn nodes<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        py.detach(|| self.lock().weights().nodes().to_vec()).into_pyarray(py)
    }

    /// New weights and activity of the leaves `at`.
    fn set(
        &self,
        py: Python<'_>,
        who: &str,
        at: &Bound<'_, PyAny>,
        weights: &Bound<'_, PyAny>,
        active: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let call = Call::new(who);
        let at = array1::<i64>(&call, "at", at)?;
        let (weights, active) =
            (array1::<f64>(&call, "weights", weights)?, array1::<u8>(&call, "active", active)?);
        let at = leaves(&call, "at", slice(&call, "at", &at)?)?;
        let (weights, active) = (slice(&call, "weights", &weights)?, slice(&call, "active", &active)?);
        py.detach(|| self.lock().set(&at, weights, active)).map_err(|e| call.core(e))
    }

    /// Leaves that the numbers `u` stand for, in this order, and the probability of each in the first draw.
    #[allow(clippy::type_complexity)]
    fn draw<'py>(
        &self,
        py: Python<'py>,
        who: &str,
        u: &Bound<'py, PyAny>,
        coin: &Bound<'py, PyAny>,
        replace: bool,
        exclude: &Bound<'py, PyAny>,
    ) -> PyResult<(Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<f64>>)> {
        let call = Call::new(who);
        let (u, coin) = (array1::<f64>(&call, "u", u)?, array1::<f64>(&call, "coin", coin)?);
        let exclude = array1::<i64>(&call, "exclude", exclude)?;
        let exclude = leaves(&call, "exclude", slice(&call, "exclude", &exclude)?)?;
        let (u, coin) = (slice(&call, "u", &u)?, slice(&call, "coin", &coin)?);
        let drawn = py.detach(|| self.lock().draw(u, coin, replace, &exclude)).map_err(|e| call.core(e))?;
        let positions: Vec<i64> = drawn.positions.iter().map(|&i| i as i64).collect();
        Ok((positions.into_pyarray(py), drawn.probability.into_pyarray(py)))
    }
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PySampler>()
}
