//! Rows of tokens: where they lie, their moments, whitening, and one number a row expanded to them.

use numpy::{Element, IntoPyArray, PyArray1};
use pyo3::prelude::*;
use rollmath_core::layout::{self, Layout as CoreLayout};
use rollmath_core::moments::{self, Affine, Part};
use rollmath_core::real::Real;

use crate::args::{Floats, array1, array1_mut, floats, slice};
use crate::errors::Call;
use crate::pool;

/// Where the tokens of each row lie.
#[pyclass(frozen)]
pub(crate) struct Layout(pub(crate) CoreLayout);

#[pymethods]
impl Layout {
    #[staticmethod]
    fn packed(who: &str, offsets: &Bound<'_, PyAny>) -> PyResult<Self> {
        let call = Call::new(who);
        let offsets = array1::<i64>(&call, "offsets", offsets)?;
        let made = CoreLayout::packed(slice(&call, "offsets", &offsets)?);
        Ok(Self(made.map_err(|e| call.core(e))?))
    }

    #[staticmethod]
    #[pyo3(signature = (who, rows, width, lengths=None))]
    fn padded(who: &str, rows: usize, width: usize, lengths: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let call = Call::new(who);
        let lengths = lengths.map(|x| array1::<i64>(&call, "lengths", x)).transpose()?;
        let lengths = lengths.as_ref().map(|x| slice(&call, "lengths", x)).transpose()?;
        Ok(Self(CoreLayout::padded(rows, width, lengths).map_err(|e| call.core(e))?))
    }

    /// The same, with nothing in the rows that are not valid.
    fn only(&self, who: &str, valid: &Bound<'_, PyAny>) -> PyResult<Self> {
        let call = Call::new(who);
        let valid = array1::<u8>(&call, "valid", valid)?;
        Ok(Self(self.0.only(slice(&call, "valid", &valid)?).map_err(|e| call.core(e))?))
    }

    #[getter]
    fn rows(&self) -> usize {
        self.0.rows()
    }

    #[getter]
    fn total(&self) -> usize {
        self.0.total()
    }
}

pub(crate) type Parts<'py> = [Bound<'py, PyArray1<f64>>; 5];

pub(crate) fn parts_of<'py>(py: Python<'py>, parts: &[Part]) -> Parts<'py> {
    let column = |f: fn(&Part) -> f64| parts.iter().map(f).collect::<Vec<_>>().into_pyarray(py);
    [column(|p| p.count), column(|p| p.mean), column(|p| p.squares), column(|p| p.low), column(|p| p.high)]
}

/// Moments of the trained tokens of each row: counts, means, sums of squared deviations, minima, maxima (float64).
#[pyfunction]
fn row_moments<'py>(
    py: Python<'py>,
    who: &str,
    name: &str,
    layout: &Layout,
    x: &Bound<'py, PyAny>,
    mask: Option<&Bound<'py, PyAny>>,
) -> PyResult<Parts<'py>> {
    let call = Call::named(who, name);
    let (x, mask) = (floats(&call, name, x)?, crate::args::mask(&call, "mask", mask)?);
    let mask = mask.as_ref().map(|m| slice(&call, "mask", m)).transpose()?;
    let layout = &layout.0;
    let parts = crate::args::with_floats!(&x, call, name, |x| {
        pool::run(py, layout.total(), |par| moments::parts(layout, x, mask, par))?
    });
    Ok(parts_of(py, &parts.map_err(|e| call.core(e))?))
}

fn affine_as<'py, T: Real + Element>(
    py: Python<'py>,
    call: Call<'_>,
    layout: &CoreLayout,
    x: Option<&Bound<'py, PyAny>>,
    mask: Option<&[u8]>,
    map: Affine,
    out: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let x = x.map(|x| array1::<T>(&call, call.x, x)).transpose()?;
    let x = x.as_ref().map(|x| slice(&call, call.x, x)).transpose()?;
    let mut out = array1_mut::<T>(&call, "out", out)?;
    let out = out.as_slice_mut().map_err(|_| call.value_error("'out' must be contiguous"))?;
    let done = pool::run(py, layout.total(), |par| match x {
        Some(x) => moments::apply(layout, x, mask, map, out, par),
        None => moments::apply_in_place(layout, out, mask, map, par),
    })?;
    done.map_err(|e| call.core(e))
}

/// Writes `(x - mean) / divisor + add` at trained tokens and 0 elsewhere; in place without `x`.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
fn affine<'py>(
    py: Python<'py>,
    who: &str,
    name: &str,
    layout: &Layout,
    x: Option<&Bound<'py, PyAny>>,
    mask: Option<&Bound<'py, PyAny>>,
    by: (f64, f64, f64),
    out: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let call = Call::named(who, name);
    let map = Affine { mean: by.0, divisor: by.1, add: by.2 };
    let mask = crate::args::mask(&call, "mask", mask)?;
    let mask = mask.as_ref().map(|m| slice(&call, "mask", m)).transpose()?;
    match floats(&call, "out", out)? {
        Floats::F32(borrowed) => {
            drop(borrowed);
            affine_as::<f32>(py, call, &layout.0, x, mask, map, out)
        }
        Floats::F64(borrowed) => {
            drop(borrowed);
            affine_as::<f64>(py, call, &layout.0, x, mask, map, out)
        }
    }
}

fn expand_as<T: Real + Element>(
    py: Python<'_>,
    call: Call<'_>,
    layout: &CoreLayout,
    x: &Bound<'_, PyAny>,
    mask: Option<&[u8]>,
    out: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let x = array1::<T>(&call, "x", x)?;
    let x = slice(&call, "x", &x)?;
    let mut out = array1_mut::<T>(&call, "out", out)?;
    let out = out.as_slice_mut().map_err(|_| call.value_error("'out' must be contiguous"))?;
    let done = pool::run(py, layout.total(), |par| layout::expand(layout, x, mask, out, par))?;
    done.map_err(|e| call.core(e))
}

/// Writes one value a row at each of its trained tokens and 0 elsewhere.
#[pyfunction]
fn expand<'py>(
    py: Python<'py>,
    who: &str,
    layout: &Layout,
    x: &Bound<'py, PyAny>,
    mask: Option<&Bound<'py, PyAny>>,
    out: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let call = Call::new(who);
    let mask = crate::args::mask(&call, "mask", mask)?;
    let mask = mask.as_ref().map(|m| slice(&call, "mask", m)).transpose()?;
    let f = match floats(&call, "x", x)? {
        Floats::F32(_) => expand_as::<f32>,
        Floats::F64(_) => expand_as::<f64>,
    };
    f(py, call, &layout.0, x, mask, out)
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Layout>()?;
    m.add_function(wrap_pyfunction!(row_moments, m)?)?;
    m.add_function(wrap_pyfunction!(affine, m)?)?;
    m.add_function(wrap_pyfunction!(expand, m)?)
}
