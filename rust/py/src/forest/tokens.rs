//! Values of tokens.

use numpy::{Element, IntoPyArray, PyArray1, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use rollmath_core::forest::{self, Per};

use super::{Ints, Preorder};
use crate::args::{array1, array1_mut, slice};
use crate::errors::Call;
use crate::pool;
use crate::ragged::by_size;
use crate::reduce::choose;

fn kind_of(call: &Call<'_>, per: &str) -> PyResult<Per> {
    Ok(choose!(call, "per", per, { "rollout" => Per::Rollout, "node" => Per::Node }))
}

/// Where each row of an expansion starts, and the number of its tokens. `per`: "rollout" or "node".
#[pyfunction]
fn forest_rows<'py>(
    py: Python<'py>,
    who: &str,
    forest: &Preorder,
    per: &str,
    include_root: bool,
) -> PyResult<Ints<'py>> {
    let call = Call::new(who);
    let plan = forest.plan(py, &call, kind_of(&call, per)?, include_root)?;
    Ok(PyArray1::from_slice(py, plan.offsets()))
}

/// Writes the value of its node (any unsigned integer, as which other types are viewed) to each token.
#[pyfunction]
fn forest_expand(
    py: Python<'_>,
    who: &str,
    forest: &Preorder,
    x: &Bound<'_, PyAny>,
    per: &str,
    include_root: bool,
    out: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let call = Call::new(who);
    let per = kind_of(&call, per)?;
    by_size!(call, "x", x, expand_as(py, call, forest, x, per, include_root, out))
}

fn expand_as<'py, T: Element + Copy + Send + Sync>(
    py: Python<'py>,
    call: Call<'_>,
    forest: &Preorder,
    x: &Bound<'py, PyAny>,
    per: Per,
    include_root: bool,
    out: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let x = array1::<T>(&call, "x", x)?;
    let mut out = array1_mut::<T>(&call, "out", out)?;
    let plan = forest.plan(py, &call, per, include_root)?;
    let x = slice(&call, "x", &x)?;
    let out = out.as_slice_mut().map_err(|_| call.value_error("'out' must be contiguous"))?;
    let done = pool::run(py, out.len(), |par| plan.write(&forest.forest, x, out, par))?;
    done.map_err(|e| call.core(e))
}

/// Position in the caller's flat tokens of each token that `forest_expand` with "node" yields.
#[pyfunction]
fn forest_token_index<'py>(
    py: Python<'py>,
    who: &str,
    forest: &Preorder,
    include_root: bool,
) -> PyResult<Ints<'py>> {
    let call = Call::new(who);
    let tokens = forest.forest.spans().map_or(0, forest::Spans::n_tokens);
    let index = pool::run(py, tokens, |par| forest::token_index(&forest.forest, include_root, par))?;
    Ok(index.map_err(|e| call.core(e))?.into_pyarray(py))
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(forest_rows, m)?)?;
    m.add_function(wrap_pyfunction!(forest_expand, m)?)?;
    m.add_function(wrap_pyfunction!(forest_token_index, m)?)
}
